//! A storm of 401s: 10 000 requests are on their way when their token is revoked. How many tokens are fetched, does every request
//! succeed in the end, and does any wait longer than one fetch takes?
//!
//! The API is a service in this process that holds all requests until the token is revoked and then looks at what each carries;
//! the token endpoint is a server on loopback that takes its time. Three storms, because 401s that come late are what tempts a
//! client to fetch once more: all at once; half of them while the fetch runs; half of them, for the old token, when it is over.

mod harness;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, FetchError, FetchRequest, IntoTokenSource, LiveToken, Origin, TokenSource,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs, and holds it to no time.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let (requests, rounds, latency) = match bench {
        true => (10_000, 2, Duration::from_secs(1)),
        false => (100, 1, Duration::from_millis(50)),
    };
    println!("{requests} requests on their way, a token endpoint that takes {latency:?}\n");
    println!("| {:<22} | {:>7} | {:>6} | {:>5} | {:>12} |", "401s", "fetches", "failed", "sent", "longest wait");
    let mut worst = Found::default();
    for round in 0..rounds * STORMS.len() {
        let (name, late) = STORMS[round % STORMS.len()];
        let found = storm(requests, latency, late).await;
        println!(
            "| {name:<22} | {:>7} | {:>6} | {:>5} | {:>4.2} fetches |",
            found.fetches, found.failed, found.sent, found.longest_wait_over_fetch
        );
        worst.fetches = worst.fetches.max(found.fetches);
        worst.failed += found.failed;
        worst.sent = worst.sent.max(found.sent);
        worst.longest_wait_over_fetch = worst.longest_wait_over_fetch.max(found.longest_wait_over_fetch);
    }
    println!(
        "\nRESULT {}",
        serde_json::json!({
            "fetches": worst.fetches,
            "failed": worst.failed,
            "sent": worst.sent,
            "longest_wait_over_fetch": worst.longest_wait_over_fetch,
        })
    );
    let in_time = !bench || worst.longest_wait_over_fetch <= ONE_FETCH;
    // No more than twice, as promised; and no less, or the API has not refused what it should have.
    let good = worst.fetches == 1 && worst.failed == 0 && worst.sent == 2 * requests && in_time;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// When the second half of the 401s comes; the first comes at once.
#[derive(Clone, Copy)]
enum Late {
    AtOnce,
    WhileFetching,
    AfterTheFetch,
}

const STORMS: [(&str, Late); 3] = [
    ("all at once", Late::AtOnce),
    ("half during the fetch", Late::WhileFetching),
    ("half after the fetch", Late::AfterTheFetch),
];

/// A wait for one fetch, and what it takes ten thousand tasks on a few busy cores to be told of their 401s before it begins, and
/// to be woken after it: a tenth of a second or two, whatever the fetch takes. Who waits for another fetch as well waits for two.
const ONE_FETCH: f64 = 1.25;

/// More than what lies between two fetches at least, beginning to beginning, and than the pause after one that a 401 caused.
const DISTANCE: Duration = Duration::from_millis(1_100);

const ENOUGH: Duration = Duration::from_secs(10);

/// What a storm cost.
#[derive(Default)]
struct Found {
    /// Token requests that the server has seen since the revocation.
    fetches: u64,
    /// Requests that had another end than 200.
    failed: u32,
    /// Requests that reached the API, first and second attempts.
    sent: u32,
    /// From a request's own 401 to its second sending, to the duration of the fetch.
    longest_wait_over_fetch: f64,
}

async fn storm(requests: u32, latency: Duration, late: Late) -> Found {
    let server = AuthorizationServer::builder().lifetime(None).latency(latency).start().await.expect("a loopback port");
    let endpoint = TokenEndpoint::new(&server.token_url()).expect("a URL").client_secret_basic("client", "secret");
    let api = Arc::new(ApiState::default());
    let source = ClientCredentials::new(endpoint).into_token_source();
    let token = LiveToken::spawn(Issuer { source, api: api.clone() });
    let origin = Origin::parse("https://api.example.com").expect("an origin");
    let service = BearerAuthLayer::new(token.clone(), origin).layer(Api(api.clone()));
    token.ready().await.expect("a token");
    // A token that was fetched a moment ago isn't fetched again at once, revoked or not: that would be waited for too.
    sleep(DISTANCE).await;

    let tracks: Vec<_> = (0..requests).map(|number| Arc::new(Track::new(number % 2 == 1))).collect();
    let mut tasks = JoinSet::new();
    for track in &tracks {
        let mut request = harness::request();
        request.extensions_mut().insert(track.clone());
        tasks.spawn(service.clone().oneshot(request));
    }
    let _all = api.arrived.acquire_many(requests).await.expect("never closed");
    let before = server.token_requests();
    api.accept(None);
    api.answered.send_replace(Answered::First);
    let turn = async {
        match late {
            Late::AtOnce => {}
            Late::WhileFetching => {
                server.wait_for_token_requests(before + 1).await;
                sleep(latency / 2).await;
            }
            Late::AfterTheFetch => {
                let mut status = token.watch();
                while status.changed().await.is_some_and(|status| status.generation() < 2) {}
            }
        }
    };
    // Without a fetch there is no turn: then they fail, rather than the bench hangs.
    let _ = timeout(ENOUGH, turn).await;
    api.answered.send_replace(Answered::All);
    let results = tasks.join_all().await;
    // A fetch too many would begin by then.
    sleep(DISTANCE).await;

    let served = results.into_iter().filter(|result| result.as_ref().is_ok_and(|answer| answer.status().is_success()));
    let fetch = api.fetches.lock().expect("no panic").last().copied().unwrap_or_default();
    let longest = tracks.iter().map(|track| track.wait()).max().unwrap_or_default();
    Found {
        fetches: server.token_requests() - before,
        failed: requests - served.count() as u32,
        sent: tracks.iter().map(|track| track.sent.load(Ordering::SeqCst)).sum(),
        longest_wait_over_fetch: longest.as_secs_f64() / fetch.as_secs_f64(),
    }
}

/// What happened to a request.
struct Track {
    late: bool,
    sent: AtomicU32,
    refused: OnceLock<Instant>,
    sent_again: OnceLock<Instant>,
}

impl Track {
    fn new(late: bool) -> Self {
        Self { late, sent: AtomicU32::new(0), refused: OnceLock::new(), sent_again: OnceLock::new() }
    }

    /// From its own 401 to its second sending. (Without the latter it has failed, which counts elsewhere.)
    fn wait(&self) -> Duration {
        let times = self.sent_again.get().zip(self.refused.get());
        times.map_or(Duration::ZERO, |(again, refused)| again.duration_since(*refused))
    }
}

/// Fetches from the server, times it, and tells the API which token is good.
struct Issuer<S> {
    source: S,
    api: Arc<ApiState>,
}

impl<S: TokenSource> TokenSource for Issuer<S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let start = Instant::now();
        let token = self.source.fetch(request).await?;
        self.api.fetches.lock().expect("no panic").push(start.elapsed());
        let header = format!("Bearer {}", token.expose_secret());
        self.api.accept(Some(HeaderValue::try_from(header).expect("a header value")));
        Ok(token)
    }
}

struct ApiState {
    accepted: Mutex<Option<HeaderValue>>,
    /// How long they took.
    fetches: Mutex<Vec<Duration>>,
    /// A permit for each request that is on its way.
    arrived: Semaphore,
    answered: watch::Sender<Answered>,
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Answered {
    Nobody,
    /// Those that aren't late.
    First,
    All,
}

impl Default for ApiState {
    fn default() -> Self {
        Self {
            accepted: Mutex::default(),
            fetches: Mutex::default(),
            arrived: Semaphore::new(0),
            answered: watch::Sender::new(Answered::Nobody),
        }
    }
}

impl ApiState {
    fn accept(&self, header: Option<HeaderValue>) {
        *self.accepted.lock().expect("no panic") = header;
    }

    fn accepts(&self, header: Option<&HeaderValue>) -> bool {
        header.is_some() && self.accepted.lock().expect("no panic").as_ref() == header
    }
}

#[derive(Clone)]
struct Api(Arc<ApiState>);

impl Service<Request<Empty<Bytes>>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let api = self.0.clone();
        let track = request.extensions().get::<Arc<Track>>().expect("every request has one").clone();
        let is_first = track.sent.fetch_add(1, Ordering::SeqCst) == 0;
        if !is_first {
            let _ = track.sent_again.set(Instant::now());
        }
        Box::pin(async move {
            if is_first {
                api.arrived.add_permits(1);
                let turn = if track.late { Answered::All } else { Answered::First };
                api.answered.subscribe().wait_for(|answered| *answered >= turn).await.expect("never closed");
            }
            let mut response = Response::new(());
            if !api.accepts(request.headers().get(AUTHORIZATION)) {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let _ = track.refused.set(Instant::now());
            }
            Ok(response)
        })
    }
}
