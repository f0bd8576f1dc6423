//! Requests whose body is no `http_body::Body`.

use http::{Request, Response};
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::BearerAuthLayer;

type Client = BoxCloneSyncService<Request<Vec<u8>>, Response<Vec<u8>>, BoxError>;

fn authorized(layer: BearerAuthLayer, client: Client) -> impl Service<Request<Vec<u8>>> {
    ServiceBuilder::new().layer(layer).service(client)
}

fn main() {}
