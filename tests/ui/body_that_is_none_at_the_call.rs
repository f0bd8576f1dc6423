//! The same, noticed only where a request is sent: there the compiler doesn't say what is missing. The crate's documentation says how to make
//! it (under "Stacks").

use http::{Request, Response};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::BearerAuthLayer;

type Client = BoxCloneSyncService<Request<Vec<u8>>, Response<Vec<u8>>, BoxError>;

async fn send(layer: BearerAuthLayer, client: Client, request: Request<Vec<u8>>) {
    let service = ServiceBuilder::new().layer(layer).service(client);
    let _ = service.oneshot(request).await;
}

fn main() {}
