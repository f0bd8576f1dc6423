//! A grant that needs a refresh token to begin with, spawned without one.

use tower_bearer::{
    LiveToken,
    oauth2::{RefreshToken, TokenEndpoint},
};

fn token(endpoint: TokenEndpoint) -> LiveToken {
    LiveToken::spawn(RefreshToken::new(endpoint))
}

fn main() {}
