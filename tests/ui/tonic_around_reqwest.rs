//! The layer for tonic, around a client that isn't tonic's.

use tonic::{body::Body, client::GrpcService};
use tower::ServiceBuilder;
use tower_bearer::BearerAuthLayer;

fn authorized(layer: BearerAuthLayer, client: reqwest::Client) -> impl GrpcService<Body> {
    ServiceBuilder::new().layer(layer.for_tonic()).service(client)
}

fn main() {}
