//! A policy that doesn't fit tonic's requests.

use tonic::{Status, body::Body, client::GrpcService, transport::Channel};
use tower::ServiceBuilder;
use tower_bearer::{BearerAuthLayer, replay::Cloned};

fn authorized(layer: BearerAuthLayer, channel: Channel) -> impl GrpcService<Body> {
    ServiceBuilder::new().map_err(Status::from).layer(layer.replay(Cloned)).service(channel)
}

fn main() {}
