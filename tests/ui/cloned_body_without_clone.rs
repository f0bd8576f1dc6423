//! `Cloned` for bodies that can't be cloned.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::{BearerAuthLayer, replay::Cloned};

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

fn authorized(layer: BearerAuthLayer, client: Client) -> impl Service<Request<Body>> {
    ServiceBuilder::new().layer(layer.replay(Cloned)).service(client)
}

fn main() {}
