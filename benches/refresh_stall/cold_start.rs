//! Requests that all wait for the first token: how far apart do they go when it comes? Compared with as many that wait for a tokio
//! `watch`, written by hand around the same client: no time limit, no refusal, no telemetry, the least that it takes. What is sent
//! is touched for the first time in a while, and fetching it from memory is half of that; so tasks that wait for a `watch` and have
//! nothing to send are measured too, as the floor of both.
//!
//! Nothing here depends on how long anything takes: the token endpoint is asked once every request waits, and not before.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower::{Layer, Service};
use tower_bearer::{
    AccessToken, BearerAuthLayer, FetchError, FetchRequest, IntoTokenSource, LiveToken, Origin, TokenSource,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

use crate::harness::{median, request};

/// What was found.
pub(crate) struct ColdStart {
    /// The most that any start needed.
    pub(crate) fetches: u64,
    /// Starts in which a request wasn't sent, or not with a token.
    pub(crate) failed: u64,
    /// From the first request that is sent to the last, as a ratio to the same where they wait for a `watch` by hand.
    pub(crate) spread_ratio: f64,
    /// The same, as a ratio to a `watch` that wakes tasks which do nothing at all.
    pub(crate) over_bare_watch: f64,
}

/// All three in turn, forwards and backwards; what is compared is the median of the ratios within a turn, so that whatever else the
/// machine does disturbs one turn, not the result.
pub(crate) async fn measure(requests: u32, turns: usize) -> ColdStart {
    let mut found = ColdStart { fetches: 0, failed: 0, spread_ratio: 0.0, over_bare_watch: 0.0 };
    let mut turns_taken = Vec::new();
    for turn in 0..turns {
        let mut spreads = [0.0; 3];
        for at in 0..3 {
            let at = if turn % 2 == 0 { at } else { 2 - at };
            let spread = match at {
                0 => cold_start(requests, &mut found).await,
                1 => by_hand(requests).await,
                _ => bare(requests).await,
            };
            spreads[at] = spread.as_secs_f64();
        }
        turns_taken.push(spreads);
    }
    let over = |of: fn(&[f64; 3]) -> f64| median(turns_taken.iter().map(of).collect());
    found.spread_ratio = over(|spreads| spreads[0] / spreads[1]);
    found.over_bare_watch = over(|spreads| spreads[0] / spreads[2]);
    println!("{requests} requests wait for the first token, which takes {} token request(s)", found.fetches);
    println!("| {:<36} | {:>13} |", "", "first to last");
    for (name, spread) in [
        ("live token", over(|spreads| spreads[0])),
        ("requests that wait for a watch", over(|spreads| spreads[1])),
        ("tasks that wait for a watch", over(|spreads| spreads[2])),
    ] {
        println!("| {name:<36} | {:>10.2} ms |", spread * 1e3);
    }
    println!();
    found
}

/// From the first request that is sent to the last.
async fn cold_start(requests: u32, found: &mut ColdStart) -> Duration {
    let server = AuthorizationServer::builder().lifetime(None).start().await.expect("a loopback port");
    let endpoint = TokenEndpoint::new(&server.token_url()).expect("a URL").client_secret_basic("client", "secret");
    let waiting = Arc::new(Semaphore::new(0));
    let source = ClientCredentials::new(endpoint).into_token_source();
    let token = LiveToken::spawn(OnceAllWait { source, requests, waiting: waiting.clone() });
    let sent = Arc::new(Sent::new(requests));
    let origin = Origin::parse("https://api.example.com").expect("an origin");
    let service = BearerAuthLayer::new(token.clone(), origin).layer(Client(sent.clone()));
    let mut tasks = JoinSet::new();
    for _ in 0..requests {
        let (mut service, waiting) = (service.clone(), waiting.clone());
        tasks.spawn(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.expect("the client is always ready");
            wait_once(service.call(request()), &waiting).await.map(drop)
        });
    }
    let all_sent = timeout(ENOUGH, sent.all.acquire()).await;
    // A request that is answered was sent without a token, or failed without being sent.
    let failed = all_sent.is_err() || tasks.try_join_next().is_some();
    // It waits for a fetch that has begun. One that is planned is seen in the status.
    let planned = token.status().next_attempt_in().is_some();
    token.shutdown().await;
    found.fetches = found.fetches.max(server.token_requests() + u64::from(planned));
    found.failed += u64::from(failed);
    sent.spread()
}

/// The same for requests whose token comes through the `watch`, and nothing else: what somebody would write by hand.
async fn by_hand(requests: u32) -> Duration {
    let (sender, receiver) = watch::channel(None::<HeaderValue>);
    let (sent, waiting) = (Arc::new(Sent::new(requests)), Arc::new(Semaphore::new(0)));
    let client = Client(sent.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..requests {
        let (mut receiver, mut client, waiting) = (receiver.clone(), client.clone(), waiting.clone());
        tasks.spawn(async move {
            let mut request = request();
            wait_once(receiver.changed(), &waiting).await.expect("a value comes");
            let header = receiver.borrow().clone().expect("a header came");
            request.headers_mut().insert(AUTHORIZATION, header);
            client.call(request).await.map(drop)
        });
    }
    // By a task, as the token is published by one: a thread that runs no other tasks would wake them beside those that do.
    tasks.spawn(async move {
        let _all = waiting.acquire_many(requests).await.expect("never closed");
        let header = HeaderValue::from_str(&format!("Bearer {}", "t".repeat(43))).expect("a header");
        sender.send_replace(Some(header));
        pending().await
    });
    let _all = sent.all.acquire().await;
    sent.spread()
}

/// The same for tasks that have nothing to send.
async fn bare(tasks: u32) -> Duration {
    let (sender, receiver) = watch::channel(0);
    let (sent, waiting) = (Arc::new(Sent::new(tasks)), Arc::new(Semaphore::new(0)));
    let mut woken = JoinSet::new();
    for _ in 0..tasks {
        let (mut receiver, sent, waiting) = (receiver.clone(), sent.clone(), waiting.clone());
        woken.spawn(async move {
            wait_once(receiver.changed(), &waiting).await.expect("a value comes");
            sent.note();
            pending::<()>().await;
        });
    }
    woken.spawn(async move {
        let _all = waiting.acquire_many(tasks).await.expect("never closed");
        sender.send_replace(1);
        pending().await
    });
    let _all = sent.all.acquire().await;
    sent.spread()
}

/// Polls a future, says that it waits, and waits for it.
async fn wait_once<F: Future>(future: F, waiting: &Semaphore) -> F::Output {
    let mut future = pin!(future);
    let early = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    waiting.add_permits(1);
    match early {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

/// A source that is asked as soon as that many requests wait.
struct OnceAllWait<S> {
    source: S,
    requests: u32,
    waiting: Arc<Semaphore>,
}

impl<S: TokenSource> TokenSource for OnceAllWait<S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let _all = self.waiting.acquire_many(self.requests).await.expect("never closed");
        self.source.fetch(request).await
    }
}

/// When the first and the last went.
struct Sent {
    start: Instant,
    first: AtomicU64,
    last: AtomicU64,
    missing: AtomicU32,
    all: Semaphore,
}

impl Sent {
    fn new(expected: u32) -> Self {
        let (first, last) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Self { start: Instant::now(), first, last, missing: AtomicU32::new(expected), all: Semaphore::new(0) }
    }

    fn note(&self) {
        let now = self.start.elapsed().as_nanos() as u64;
        self.first.fetch_min(now, Ordering::SeqCst);
        self.last.fetch_max(now, Ordering::SeqCst);
        if self.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.all.add_permits(1);
        }
    }

    fn spread(&self) -> Duration {
        Duration::from_nanos(self.last.load(Ordering::SeqCst).saturating_sub(self.first.load(Ordering::SeqCst)))
    }
}

/// Notes what is sent with a token, keeps it as a client does that writes, and never answers: what follows on sending is no part
/// of this.
#[derive(Clone)]
struct Client(Arc<Sent>);

impl Service<Request<Empty<Bytes>>> for Client {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Unanswered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        if request.headers().contains_key(AUTHORIZATION) {
            self.0.note();
        }
        Unanswered(request)
    }
}

struct Unanswered(#[allow(dead_code, reason = "only kept")] Request<Empty<Bytes>>);

impl Future for Unanswered {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

/// For a round that would take a tenth of a second; the layer gives up a request after ten.
const ENOUGH: Duration = Duration::from_secs(12);
