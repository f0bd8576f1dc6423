//! Around a client that can't be cloned.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, ServiceBuilder, util::BoxService};
use tower_bearer::BearerAuthLayer;

fn stack(layer: BearerAuthLayer, client: BoxService<Request<Full<Bytes>>, Response<()>, BoxError>) {
    ServiceBuilder::new().layer(layer).service(client);
}

fn main() {}
