//! A text in the origin's place.

use tower_bearer::{BearerAuthLayer, LiveToken};

fn layer(token: LiveToken) -> BearerAuthLayer {
    BearerAuthLayer::new(token, "https://api.example.com")
}

fn main() {}
