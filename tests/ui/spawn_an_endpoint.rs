//! An endpoint without a grant.

use tower_bearer::{LiveToken, oauth2::TokenEndpoint};

fn token(endpoint: TokenEndpoint) -> LiveToken {
    LiveToken::spawn(endpoint)
}

fn main() {}
