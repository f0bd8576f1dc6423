//! Around a client whose requests are those of another version of reqwest.

use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::BearerAuthLayer;

/// Stands for reqwest 0.12, whose types have the same names.
mod reqwest {
    pub struct Request;
    pub struct Response;
}

type Client = BoxCloneSyncService<reqwest::Request, http::Response<reqwest::Response>, BoxError>;

fn authorized(layer: BearerAuthLayer, client: Client) -> impl Service<reqwest::Request> {
    ServiceBuilder::new().layer(layer).service(client)
}

fn main() {}
