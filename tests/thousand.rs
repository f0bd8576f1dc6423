//! A thousand requests through each stack while tokens rotate every second and one is revoked every three: none fails.
#![cfg(all(
    feature = "testing",
    feature = "oauth2",
    feature = "reqwest",
    feature = "reqwest-middleware",
    feature = "tonic"
))]

use std::{convert::Infallible, fmt::Debug, future::Future, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::{Status, body::Body, transport::Endpoint};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::{Auto, Buffered},
    testing::AuthorizationServer,
};

#[path = "../examples/shared/documents.rs"]
mod documents;
#[path = "support/pace.rs"]
mod pace;
#[path = "../examples/shared/reverse_proxy.rs"]
mod reverse_proxy;

use documents::{Documents, DocumentsClient};
use pace::pace;
use reverse_proxy::reverse_proxy;

/// Ten users, each with a request every tenth of a second.
const USERS: usize = 10;
const EACH: usize = 100;

struct Bench {
    server: AuthorizationServer,
    token: LiveToken,
}

impl Bench {
    async fn new() -> Self {
        pace();
        let server = AuthorizationServer::builder().lifetime(Some(Duration::from_secs(1))).start().await.unwrap();
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
        let token = LiveToken::spawn(ClientCredentials::new(endpoint));
        token.ready().await.unwrap();
        Self { server, token }
    }

    /// For the API of the server itself.
    fn layer(&self) -> BearerAuthLayer {
        self.layer_for(&self.server.origin())
    }

    fn layer_for(&self, origin: &str) -> BearerAuthLayer {
        BearerAuthLayer::new(self.token.clone(), Origin::parse(origin).unwrap())
    }

    /// Sends a thousand requests; each has its own body, which must come back.
    async fn thousand<S, F>(&self, send: S)
    where
        S: Fn(Bytes) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Bytes, String>> + Send,
    {
        let mut users = JoinSet::new();
        for user in 0..USERS {
            let send = send.clone();
            users.spawn(async move {
                let mut failed = Vec::new();
                sleep(Duration::from_millis(10 * user as u64)).await;
                let mut ticks = interval(Duration::from_millis(100));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for number in 0..EACH {
                    ticks.tick().await;
                    let body = Bytes::from(format!("request {number} of user {user}"));
                    match send(body.clone()).await {
                        Ok(echo) if echo == body => {}
                        other => failed.push(format!("{body:?}: {other:?}")),
                    }
                }
                failed
            });
        }
        for _ in 0..3 {
            sleep(Duration::from_secs(3)).await;
            assert!(self.server.revoke_all() >= 1);
        }
        let failed = users.join_all().await.concat();
        let counts = self.server.api();
        println!("{} failed; {counts:?}; {} tokens", failed.len(), self.server.tokens_issued());
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(counts.accepted, (USERS * EACH) as u64, "each was accepted once");
        assert_eq!((counts.missing, counts.unknown), (0, 0));
        assert!(counts.revoked >= 1, "nobody noticed the revocations: {counts:?}");
        assert!(self.token.status().generation() >= 9);
    }
}

/// The body of a 200, or what else came.
async fn echo<B: http_body::Body<Error: Debug>>(response: Response<B>) -> Result<Bytes, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    if head.status == StatusCode::OK { Ok(body) } else { Err(format!("{}: {body:?}", head.status)) }
}

/// A body that is sent in two pieces, and that nobody can copy.
fn upload(body: &Bytes) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static {
    let middle = body.len() / 2;
    let pieces = [body.slice(..middle), body.slice(middle..)];
    StreamBody::new(stream::iter(pieces.map(|piece| Ok(Frame::data(piece)))))
}

#[tokio::test(start_paused = true)]
async fn hyper_util_with_auto() {
    let bench = Bench::new().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let service = ServiceBuilder::new().layer(bench.layer().replay(Auto)).service(client);
    let url = bench.server.api_url("/echo");
    bench
        .thousand(move |body| {
            let (service, request) = (service.clone(), Request::post(&url).body(Full::new(body)).unwrap());
            async { echo(service.oneshot(request).await.map_err(|error| format!("{error:?}"))?).await }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn reqwest_with_buffered_uploads() {
    let bench = Bench::new().await;
    let layer = bench.layer().replay(Buffered::new(64 * 1024, reqwest::Body::wrap));
    let service = ServiceBuilder::new().layer(layer).service(reqwest::Client::new());
    let url: reqwest::Url = bench.server.api_url("/echo").parse().unwrap();
    bench
        .thousand(move |body| {
            let mut request = reqwest::Request::new(reqwest::Method::PUT, url.clone());
            *request.body_mut() = Some(reqwest::Body::wrap(upload(&body)));
            let service = service.clone();
            async { echo(service.oneshot(request).await.map_err(|error| format!("{error:?}"))?.into()).await }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn reqwest_middleware_with_buffered_uploads() {
    let bench = Bench::new().await;
    let layer = bench.layer().replay(Buffered::new(64 * 1024, reqwest::Body::wrap));
    let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(layer).build();
    let url = bench.server.api_url("/echo");
    bench
        .thousand(move |body| {
            let request = client.put(&url).body(reqwest::Body::wrap(upload(&body)));
            async { echo(request.send().await.map_err(|error| format!("{error:?}"))?.into()).await }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn tonic_with_buffered_calls() {
    let bench = Bench::new().await;
    let url = format!("http://{}", Documents::serve(bench.server.api_url("/gate")).await.unwrap());
    let layer = bench.layer_for(&url).replay(Buffered::new(64 * 1024, Body::new));
    let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
    let client = DocumentsClient::new(ServiceBuilder::new().map_err(Status::from).layer(layer).service(channel));
    bench
        .thousand(move |body| {
            let mut client = client.clone();
            async move { client.get(body).await.map_err(|error| error.to_string()) }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_axum_proxy_with_buffered_bodies() {
    let bench = Bench::new().await;
    let upstream = bench.server.origin().strip_prefix("http://").unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/echo", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, reverse_proxy(bench.layer(), upstream)).into_future());
    let client = reqwest::Client::new();
    bench
        .thousand(move |body| {
            // With a header that isn't ours: the proxy replaces it.
            let request = client.put(&url).bearer_auth("a stranger's").body(reqwest::Body::wrap(upload(&body)));
            async { echo(request.send().await.map_err(|error| format!("{error:?}"))?.into()).await }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_boxed_service_with_auto() {
    let bench = Bench::new().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let below = BoxCloneSyncService::new(client);
    let service = ServiceBuilder::new().map_err(BoxError::from).layer(bench.layer().replay(Auto)).service(below);
    let service: BoxCloneSyncService<_, Response<_>, BoxError> = BoxCloneSyncService::new(service);
    let url = bench.server.api_url("/echo");
    bench
        .thousand(move |body| {
            let (service, request) = (service.clone(), Request::post(&url).body(Full::new(body)).unwrap());
            async { echo(service.oneshot(request).await.map_err(|error| format!("{error:?}"))?).await }
        })
        .await;
}
