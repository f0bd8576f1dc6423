//! The token in the layer's place.

use tower::ServiceBuilder;
use tower_bearer::LiveToken;

fn client(token: LiveToken) {
    ServiceBuilder::new().layer(token).service(reqwest::Client::new());
}

fn main() {}
