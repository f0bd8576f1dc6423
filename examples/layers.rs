//! In which order do a queue, a limit, timeouts, retries and the layer belong, and how is the whole stack boxed?
//!
//! `cargo run --example layers` sends requests through all of them. Meanwhile the API is busy now and then, and the token is revoked. The
//! exit code is 0 only if every request succeeded.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::task::JoinSet;
use tower::{BoxError, ServiceBuilder, ServiceExt, retry::Policy, util::BoxCloneSyncService};
use tower_bearer::{
    LiveToken, Origin, ServiceBuilderExt as _,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::{AuthorizationServer, Fault},
};

/// The type that a program passes around. It doesn't name the layers.
type Api = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, BoxError>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::start().await?;
    let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));

    // From the outside to the inside.
    let api: Api = BoxCloneSyncService::new(
        ServiceBuilder::new()
            .buffer(64) //                         queues above: a request that leaves them gets the token of that moment
            .concurrency_limit(16)
            .timeout(Duration::from_secs(30)) //   above, for the whole: the wait for a token, and all attempts
            .retry(WhenBusy(3)) //                 above: each try gets the token of its moment
            .map_err(BoxError::from)
            .bearer_auth(token.clone(), Origin::parse(&server.origin())?)
            .timeout(Duration::from_secs(10)) //   below, for each attempt alone
            .service(Client::builder(TokioExecutor::new()).build_http()),
    );
    token.ready().await?;

    let mut requests = JoinSet::new();
    for number in 0..200 {
        match number {
            50 => server.api_faults(10, Fault::status(503)),
            100 => drop(server.revoke_all()),
            _ => {}
        }
        let (api, request) = (api.clone(), Request::post(server.api_url("/echo")).body(Full::default())?);
        requests.spawn(async move { Ok::<_, BoxError>(api.oneshot(request).await?.status()) });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut succeeded = 0;
    while let Some(status) = requests.join_next().await {
        succeeded += u32::from(status??.is_success());
    }
    let counts = server.api();
    println!("{succeeded} of 200 succeeded; {} met a busy API, {} a revoked token", counts.faulted, counts.revoked);
    if succeeded == 200 { Ok(()) } else { Err("some failed".into()) }
}

/// Tries again what a busy server refused.
#[derive(Clone)]
struct WhenBusy(u32);

impl<B: Clone, C, E> Policy<Request<B>, Response<C>, E> for WhenBusy {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut Request<B>, result: &mut Result<Response<C>, E>) -> Option<Self::Future> {
        let busy = result.as_ref().is_ok_and(|response| response.status() == StatusCode::SERVICE_UNAVAILABLE);
        self.0 = self.0.checked_sub(1).filter(|_| busy)?;
        Some(tokio::time::sleep(Duration::from_millis(50)))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}
