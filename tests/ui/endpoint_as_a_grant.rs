//! An endpoint in a grant's place.

use tower_bearer::oauth2::{Stored, TokenEndpoint};

fn source(endpoint: TokenEndpoint) -> Stored<TokenEndpoint> {
    Stored::new(endpoint)
}

fn main() {}
