//! A path in a store's place.

use tower_bearer::oauth2::{RefreshToken, Stored, TokenEndpoint};

fn source(endpoint: TokenEndpoint) {
    Stored::in_store(RefreshToken::new(endpoint).subject("user/42"), "/var/lib/app/42.token");
}

fn main() {}
