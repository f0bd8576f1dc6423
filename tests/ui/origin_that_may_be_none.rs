//! An origin without the `?`: it may be none.

use tower_bearer::{BearerAuthLayer, InvalidOrigin, LiveToken, Origin};

fn layer(token: LiveToken) -> Result<BearerAuthLayer, InvalidOrigin> {
    Ok(BearerAuthLayer::new(token, Origin::parse("https://api.example.com")))
}

fn main() {}
