//! What does a request notice of a refresh? 128 tasks send requests over loopback with tokens that live for 500 ms, from a token
//! endpoint that takes 100 ms; runs alternate with a control whose token never changes.

mod harness;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::share;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, LiveToken, Origin, TokenSource,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

const TASKS: usize = 128;
const LIFETIME: Duration = Duration::from_millis(500);
const LATENCY: Duration = Duration::from_millis(100);
/// Between two requests of a task: some 4 000 requests a second altogether.
const PAUSE: Duration = Duration::from_millis(32);

#[tokio::main]
async fn main() -> ExitCode {
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 6 } else { 1 };
    let server = AuthorizationServer::builder().lifetime(None).start().await.expect("a loopback port");
    let endpoint = TokenEndpoint::new(&server.token_url()).expect("a URL").client_secret_basic("client", "secret");
    let mut source = tower_bearer::IntoTokenSource::into_token_source(ClientCredentials::new(endpoint.clone()));
    let fixed = source.fetch(tower_bearer::FetchRequest::new(LATENCY * 50)).await.expect("a token");
    let control = LiveToken::spawn(AccessToken::new(fixed.expose_secret()).expect("a token"));

    let slow = AuthorizationServer::builder().lifetime(Some(LIFETIME)).latency(LATENCY).start().await.expect("a port");
    let endpoint = TokenEndpoint::new(&slow.token_url()).expect("a URL").client_secret_basic("client", "secret");
    let started = Instant::now();
    let live = LiveToken::spawn(ClientCredentials::new(endpoint));
    live.ready().await.expect("a token");
    control.ready().await.expect("a token");

    println!("{TASKS} tasks, tokens of {LIFETIME:?}, a token endpoint that takes {LATENCY:?}\n");
    let (mut with_control, mut with_live) = (Run::default(), Run::default());
    for round in 1..=rounds {
        with_control.add(run(&server, &control).await);
        with_live.add(run(&slow, &live).await);
        println!("round {round} of {rounds}: token {}, {} requests", live.status().generation(), with_live.times.len());
    }
    let lifetimes = started.elapsed().as_secs_f64() / LIFETIME.as_secs_f64();
    let fetch_ratio = slow.token_requests() as f64 / lifetimes;
    let expired_sent = slow.api().expired;

    println!("\n| {:<12} | {:>8} | {:>9} | {:>9} | {:>9} | {:>6} |", "", "requests", "p50", "p99", "p99.9", "waited");
    with_control.row("token fixed");
    with_live.row("token live");
    let (control, live) = (with_control.sorted(), with_live.sorted());
    let p99_ratio = share(&live, 0.99).as_secs_f64() / share(&control, 0.99).as_secs_f64();
    let p999_extra = share(&live, 0.999).as_secs_f64() - share(&control, 0.999).as_secs_f64();
    println!(
        "\n{lifetimes:.1} lifetimes, {} token requests, {expired_sent} expired tokens sent",
        slow.token_requests()
    );
    println!(
        "RESULT {}",
        serde_json::json!({
            "p99_ratio": p99_ratio,
            "p999_extra_us": p999_extra * 1e6,
            "waited": with_live.waited,
            "failed": with_live.failed,
            "expired_sent": expired_sent,
            "fetch_ratio": fetch_ratio,
            "requests": live.len(),
        })
    );
    let good = with_live.waited == 0 && with_live.failed == 0 && expired_sent == 0 && fetch_ratio <= 1.5;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Run {
    times: Vec<Duration>,
    waited: u64,
    failed: u64,
}

impl Run {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.waited += other.waited;
        self.failed += other.failed;
    }

    fn sorted(&self) -> Vec<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
    }

    fn row(&self, name: &str) {
        let times = self.sorted();
        let at = |part| format!("{:.0} µs", share(&times, part).as_secs_f64() * 1e6);
        println!(
            "| {name:<12} | {:>8} | {:>9} | {:>9} | {:>9} | {:>6} |",
            times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            self.waited
        );
    }
}

/// A second of traffic.
async fn run(server: &AuthorizationServer, token: &LiveToken) -> Run {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let origin = Origin::parse(&server.origin()).expect("an origin");
    let client = BearerAuthLayer::new(token.clone(), origin).layer(Probe { inner: client });
    let url = server.api_url("/documents");
    let waited = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(1);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (mut client, url, waited) = (client.clone(), url.clone(), waited.clone());
        tasks.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            let called = Arc::new(AtomicBool::new(false));
            tokio::time::sleep(PAUSE * task as u32 / TASKS as u32).await;
            while Instant::now() < end {
                let start = Instant::now();
                called.store(false, Ordering::Relaxed);
                let request =
                    Request::get(&url).extension(Called(called.clone())).body(Empty::new()).expect("a request");
                let response = client.ready().await.expect("the client is always ready").call(request);
                // A request with its token is sent within `call`; one that isn't waits for a token.
                if !called.load(Ordering::Relaxed) {
                    waited.fetch_add(1, Ordering::Relaxed);
                }
                match response.await {
                    Ok(response) if response.status().is_success() => drop(response.into_body().collect().await),
                    _ => failed += 1,
                }
                times.push(start.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            (times, failed)
        });
    }
    let mut run = Run::default();
    while let Some(task) = tasks.join_next().await {
        let (times, failed) = task.expect("no panic");
        // The first of each task pays for its connection.
        run.times.extend(times.into_iter().skip(1));
        run.failed += failed;
    }
    run.waited = waited.load(Ordering::Relaxed);
    run
}

/// Set when the request reaches the client below the layer.
#[derive(Clone)]
struct Called(Arc<AtomicBool>);

/// Notes which requests reach the client.
#[derive(Clone)]
struct Probe {
    inner: Client<HttpConnector, Empty<Bytes>>,
}

impl Service<Request<Empty<Bytes>>> for Probe {
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = hyper_util::client::legacy::ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Empty<Bytes>>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        if let Some(Called(called)) = request.extensions().get() {
            called.store(true, Ordering::Relaxed);
        }
        self.inner.call(request)
    }
}
