//! The layer in the stacks that people build, over real connections on loopback.
#![cfg(all(feature = "testing", feature = "reqwest"))]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use reqwest::header::CONTENT_TYPE;
use tokio::task::JoinSet;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_bearer::{
    AccessToken, BearerAuthLayer, Error, ErrorKind, FetchError, LiveToken, Origin, TokenSource, source_fn,
    testing::{AuthorizationServer, Fault},
};

#[path = "support/settled.rs"]
mod settled;
use settled::Settled;

type Http = Client<HttpConnector, Full<Bytes>>;

fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The `client_credentials` grant (RFC 6749 §4.4) in as few lines as it takes.
fn client_credentials(server: &AuthorizationServer) -> impl TokenSource {
    let (client, url) = (reqwest::Client::new(), server.token_url());
    source_fn(move |_| {
        let request = client
            .post(&url)
            .basic_auth("client", Some("secret"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        async move {
            let response = request.send().await.and_then(reqwest::Response::error_for_status);
            let body = response.map_err(FetchError::try_again)?.bytes().await.map_err(FetchError::try_again)?;
            let answer: serde_json::Value = serde_json::from_slice(&body).map_err(FetchError::try_again)?;
            let token = AccessToken::new(answer["access_token"].as_str().unwrap_or_default())?;
            Ok(match answer["expires_in"].as_f64() {
                Some(seconds) => token.expires_in(Duration::from_secs_f64(seconds)),
                None => token,
            })
        }
    })
}

struct Bench {
    server: AuthorizationServer,
    token: LiveToken,
    layer: BearerAuthLayer,
}

impl Bench {
    async fn new(lifetime: Duration) -> Self {
        let server = AuthorizationServer::builder().lifetime(Some(lifetime)).start().await.unwrap();
        let token = LiveToken::spawn(Settled(client_credentials(&server)));
        token.ready().await.unwrap();
        let layer = BearerAuthLayer::new(token.clone(), Origin::parse(&server.origin()).unwrap());
        Self { server, token, layer }
    }

    fn post(&self, path: &str, body: &'static str) -> Request<Full<Bytes>> {
        Request::post(self.server.api_url(path)).body(Full::from(body)).unwrap()
    }

    fn get(&self, path: &str) -> reqwest::Request {
        reqwest::Request::new(reqwest::Method::GET, self.server.api_url(path).parse().unwrap())
    }
}

const LONG: Duration = Duration::from_secs(3600);

async fn text<B: http_body::Body<Error: std::fmt::Debug>>(response: Response<B>) -> (StatusCode, Bytes) {
    let (head, body) = response.into_parts();
    (head.status, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn hyper_util() {
    let bench = Bench::new(LONG).await;
    let mut service = ServiceBuilder::new().layer(bench.layer.clone()).service(http());
    for round in 1..=3 {
        let response = service.ready().await.unwrap().call(bench.post("/echo", "the whole body")).await.unwrap();
        assert_eq!(text(response).await, (StatusCode::OK, Bytes::from("the whole body")));
        assert_eq!((bench.server.token_requests(), bench.token.status().generation()), (round, round));
        assert_eq!(bench.server.revoke_all(), 1);
    }
    let counts = bench.server.api();
    assert_eq!((counts.accepted, counts.revoked, counts.total()), (3, 2, 5));
}

#[tokio::test]
async fn reqwest_as_a_service() {
    let bench = Bench::new(LONG).await;
    let mut service = ServiceBuilder::new().layer(bench.layer.clone()).service(reqwest::Client::new());
    for _ in 0..2 {
        let mut request = bench.get("/echo");
        *request.method_mut() = reqwest::Method::PUT;
        *request.body_mut() = Some("the whole body".into());
        let response: reqwest::Response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!((response.status(), response.bytes().await.unwrap()), (StatusCode::OK, "the whole body".into()));
        bench.server.revoke_all();
    }
    // The inner error keeps its type.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = format!("http://{closed}");
    let layer = BearerAuthLayer::new(bench.token.clone(), Origin::parse(&origin).unwrap());
    let service = ServiceBuilder::new().layer(layer).service(reqwest::Client::new());
    let request = reqwest::Request::new(reqwest::Method::GET, origin.parse().unwrap());
    let error: reqwest::Error = service.oneshot(request).await.unwrap_err().into_inner().unwrap();
    assert!(error.is_connect());
    // And what is foreign is not sent.
    let service = ServiceBuilder::new().layer(bench.layer.clone()).service(reqwest::Client::new());
    let request = reqwest::Request::new(reqwest::Method::GET, origin.parse().unwrap());
    assert_eq!(service.oneshot(request).await.unwrap_err().kind(), ErrorKind::ForeignOrigin);
}

/// A request of `http`'s doesn't say where it goes in a form that answers could be compared with: a 401 from below counts.
#[tokio::test]
async fn reqwest_below_requests_of_http() {
    let bench = Bench::new(LONG).await;
    let mut service = ServiceBuilder::new()
        .layer(bench.layer.clone())
        .map_request(|request: Request<String>| reqwest::Request::try_from(request).unwrap())
        .service(reqwest::Client::new());
    bench.server.revoke_all();
    let request = Request::post(bench.server.api_url("/echo")).body(String::from("the whole body")).unwrap();
    let response: reqwest::Response = service.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!((response.status(), response.bytes().await.unwrap()), (StatusCode::OK, "the whole body".into()));
    assert_eq!(bench.server.token_requests(), 2);
}

/// reqwest follows redirects inside, where the layer can't see it, and takes the token off on the way to another host. The 401
/// that comes of it says nothing about the token, even where the layer would send the token there if it were asked to.
#[tokio::test]
async fn a_401_from_where_reqwest_was_redirected_to_is_handed_on_and_nothing_else() {
    let (bench, elsewhere) = (Bench::new(LONG).await, AuthorizationServer::start().await.unwrap());
    let both = bench.layer.clone().also_origin(Origin::parse(&elsewhere.origin()).unwrap());
    let never = both.clone().replay(tower_bearer::replay::Never);
    let path = format!("/redirect?to={}", elsewhere.api_url("/documents"));
    let send = async |service: BoxCloneSyncService<reqwest::Request, reqwest::Response, Error<reqwest::Error>>| {
        let response = service.oneshot(bench.get(&path)).await.unwrap();
        assert_eq!(
            (response.status(), response.url().as_str()),
            (StatusCode::UNAUTHORIZED, &*elsewhere.api_url("/documents"))
        );
    };
    let client = reqwest::Client::new();
    send(BoxCloneSyncService::new(ServiceBuilder::new().layer(bench.layer.clone()).service(client.clone()))).await;
    send(BoxCloneSyncService::new(ServiceBuilder::new().layer(both).service(client.clone()))).await;
    send(BoxCloneSyncService::new(ServiceBuilder::new().layer(never).service(client))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let counts = elsewhere.api();
    assert_eq!((counts.missing, counts.total()), (3, 3), "the token doesn't arrive there");
    assert_eq!((bench.server.api().total(), bench.server.token_requests()), (3, 1), "and nothing is fetched");
}

/// There and back: the token is taken off on the way there, and nobody puts it on again.
#[tokio::test]
async fn a_401_after_a_redirect_through_another_origin_counts_for_nothing_where_it_says_that_there_was_no_token() {
    let bench = Bench::new(LONG).await;
    let back = bench.server.api_url("/documents");
    let app = axum::Router::new().fallback(async move || axum::response::Redirect::temporary(&back));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let service = ServiceBuilder::new().layer(bench.layer.clone()).service(reqwest::Client::new());
    let path = format!("/redirect?to={elsewhere}");
    for _ in 0..3 {
        let response = service.clone().oneshot(bench.get(&path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.url().as_str(), bench.server.api_url("/documents"));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((bench.server.api().missing, bench.server.api().accepted), (3, 3), "none is sent again");
    assert_eq!(bench.server.token_requests(), 1, "and nothing is fetched");
    serving.abort();
}

#[tokio::test]
async fn a_401_from_the_origin_itself_after_a_redirect_counts() {
    let bench = Bench::new(LONG).await;
    let service = ServiceBuilder::new().layer(bench.layer.clone()).service(reqwest::Client::new());
    let path = format!("/redirect?to={}", bench.server.api_url("/unauthorized"));
    assert_eq!(service.clone().oneshot(bench.get(&path)).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(bench.server.token_requests(), 2);
    let path = format!("/redirect?to={}", bench.server.api_url("/documents"));
    assert_eq!(service.oneshot(bench.get(&path)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn boxed_below_and_above() {
    let bench = Bench::new(LONG).await;
    let below = BoxCloneSyncService::new(http());
    let service = ServiceBuilder::new().layer(bench.layer.clone()).service(below);
    let above: BoxCloneSyncService<_, Response<_>, Error<_>> = BoxCloneSyncService::new(service);
    for _ in 0..2 {
        let response = above.clone().oneshot(bench.post("/echo", "text")).await.unwrap();
        assert_eq!(text(response).await, (StatusCode::OK, Bytes::from("text")));
        bench.server.revoke_all();
    }
}

/// Tries again, twice at most, what a busy server refused.
#[derive(Clone)]
struct WhenBusy(u32);

impl<B: Clone, C, E> Policy<Request<B>, Response<C>, E> for WhenBusy {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Request<B>, result: &mut Result<Response<C>, E>) -> Option<Self::Future> {
        let busy = result.as_ref().is_ok_and(|response| response.status() == StatusCode::SERVICE_UNAVAILABLE);
        (busy && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn everything_above_and_below_at_once() {
    let bench = Bench::new(LONG).await;
    let service = ServiceBuilder::new()
        .layer(BufferLayer::new(64))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(32))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .layer(RetryLayer::new(WhenBusy(1)))
        .layer(bench.layer.clone())
        .layer(RetryLayer::new(WhenBusy(1)))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .layer(ConcurrencyLimitLayer::new(32))
        .layer(LoadShedLayer::new())
        .layer(BufferLayer::new(64))
        .service(http());
    let all = async || {
        let mut requests = JoinSet::new();
        for _ in 0..20 {
            let (service, request) = (service.clone(), bench.post("/echo", "text"));
            requests.spawn(async move { Ok::<_, BoxError>(text(service.oneshot(request).await?).await) });
        }
        while let Some(result) = requests.join_next().await {
            assert_eq!(result.unwrap().unwrap(), (StatusCode::OK, Bytes::from("text")));
        }
    };
    all().await;
    bench.server.revoke_all();
    all().await;
    assert_eq!(bench.server.token_requests(), 2);
    // Two of three attempts meet a busy server: one is healed below the layer, one above it.
    bench.server.api_faults(3, Fault::status(503));
    assert_eq!(service.clone().oneshot(bench.post("/echo", "text")).await.unwrap().status(), StatusCode::OK);
    assert_eq!(bench.server.api().faulted, 3);
}

/// Without room below for a second attempt at once, all of them still get through.
#[tokio::test]
async fn one_connection_at_a_time() {
    let bench = Bench::new(LONG).await;
    bench.server.revoke_all();
    let service = ServiceBuilder::new().layer(bench.layer.clone()).layer(ConcurrencyLimitLayer::new(1)).service(http());
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        requests.spawn(service.clone().oneshot(bench.post("/echo", "text")));
    }
    while let Some(result) = requests.join_next().await {
        assert_eq!(result.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(bench.server.token_requests(), 2);
}

/// On two threads; all tokens are revoked in the middle of each round, and no request fails. (With tokens that rotate besides:
/// `tests/thousand.rs`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_requests_through_revocations() {
    let bench = Bench::new(LONG).await;
    let service = ServiceBuilder::new().layer(bench.layer.clone()).service(http());
    // A second lies between two fetches.
    for round in 1..=3 {
        let mut requests = JoinSet::new();
        for half in 0..2 {
            for number in 0..50 {
                let (mut service, request) = (service.clone(), bench.post("/echo", "text"));
                requests.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(number / 2)).await;
                    text(service.ready().await.unwrap().call(request).await.unwrap()).await
                });
            }
            if half == 0 {
                tokio::time::sleep(Duration::from_millis(5 * round)).await;
                assert_eq!(bench.server.revoke_all(), 1);
            }
        }
        while let Some(result) = requests.join_next().await {
            assert_eq!(result.unwrap(), (StatusCode::OK, Bytes::from("text")), "round {round}");
        }
        assert_eq!(bench.token.status().generation(), round + 1);
    }
    let counts = bench.server.api();
    println!("{counts:?}, {} tokens", bench.server.tokens_issued());
    assert_eq!((counts.accepted, counts.missing, counts.unknown, counts.expired), (300, 0, 0, 0));
    assert!(counts.revoked >= 3, "{counts:?}");
}
