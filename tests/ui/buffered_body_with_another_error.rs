//! `Buffered`, and bodies whose error isn't `BoxError`.

use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::{BearerAuthLayer, replay::Buffered};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

fn authorized(layer: BearerAuthLayer, client: Client) -> impl Service<Request<Body>> {
    let policy = Buffered::new(64 * 1024, BodyExt::boxed_unsync);
    ServiceBuilder::new().layer(layer.replay(policy)).service(client)
}

fn main() {}
