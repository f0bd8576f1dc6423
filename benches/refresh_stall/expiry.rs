//! Requests go on while their token is renewed: 128 tasks send over loopback with tokens that live for 500 ms, from a token endpoint
//! that takes 100 ms. The control is the bare client, without any token.
//!
//! What else runs on the machine moves the slowest thousandth by more than any layer does, and it comes and goes. So the two take
//! turns in short runs, now one first and now the other; runs are cut into windows of a lifetime, each window has quantiles of its
//! own, and each is compared with the window of the run beside it, seconds away: what counts is the median of that. A window with
//! a disturbance counts as one, however bad, where among all times together the slowest thousandth would be its requests alone;
//! and load that stays is in both of a pair. Each window has a renewal in it, so that no median hides what all renewals cost; what
//! one costs single requests is for the counts to tell, which forgive nothing.
//!
//! A renewal of such a token ends some 30 ms before its end, and a machine that stands still for longer lets it expire, whoever renews
//! it. So a run in which that has happened is done again, the control's too ([`Watch`]); the number of them is part of the result, and
//! has a limit.
//!
//! One server answers both, over the same connections.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

use crate::harness::{median, share, stops::Watch};

/// What was found.
pub(crate) struct Expiry {
    pub(crate) p99_ratio: f64,
    pub(crate) p999_extra_us: f64,
    /// Requests that weren't sent when they were made, or that were sent twice.
    pub(crate) waited: u64,
    /// Requests that got no answer, or another one than 200; the control's too.
    pub(crate) failed: u64,
    pub(crate) expired_sent: u64,
    /// Token requests after the first, to the lifetimes that have passed meanwhile.
    pub(crate) fetch_ratio: f64,
    pub(crate) requests: usize,
    /// Runs that don't count, because the machine stood still.
    pub(crate) repeated: usize,
}

/// Takes about `pairs` × 2 × `length`, and half as much again at most where the machine stands still.
pub(crate) async fn measure(pairs: usize, length: Duration) -> Expiry {
    let server =
        AuthorizationServer::builder().lifetime(Some(LIFETIME)).latency(LATENCY).start().await.expect("a port");
    let client = Probe { inner: Client::builder(TokioExecutor::new()).build_http() };
    // Connects, so that no run pays for that.
    run(client.clone(), &server.api_url("/open"), length / 4).await;

    println!("{TASKS} tasks, tokens of {LIFETIME:?}, a token endpoint that takes {LATENCY:?}");
    let (mut control, mut live) = (Runs::default(), Runs::default());
    let mut repeated = 0;
    for pair in 1..=pairs {
        for turn in 0..2 {
            loop {
                let watch = Watch::start();
                let is_control = (pair + turn) % 2 == 0;
                let run = match is_control {
                    true => run(client.clone(), &server.api_url("/open"), length).await,
                    false => run_live(client.clone(), &server, length).await,
                };
                let stop = watch.longest_stop();
                // What is left when nothing may be repeated any more counts, disturbed or not.
                if stop > STOP && repeated < pairs {
                    repeated += 1;
                    println!("  the machine stood still for {stop:.0?}: this run is done again");
                    continue;
                }
                let runs = if is_control { &mut control } else { &mut live };
                runs.add(run, length);
                break;
            }
        }
        println!("  pair {pair} of {pairs}: {} and {} requests", control.requests, live.requests);
    }
    println!("| {:<8} | {:>8} | {:>9} | {:>9} | {:>9} | {:>6} |", "", "requests", "p50", "p99", "p99.9", "waited");
    control.row("no token");
    live.row("live");
    let lifetimes = live.renewed_for.as_secs_f64() / LIFETIME.as_secs_f64();
    println!("{} renewals in {lifetimes:.1} lifetimes, {} expired tokens sent\n", live.renewals, live.expired_sent);
    Expiry {
        p99_ratio: live.beside(&control, 0.99, |live, control| live / control),
        p999_extra_us: live.beside(&control, 0.999, |live, control| live - control) * 1e6,
        waited: live.waited,
        failed: live.failed + control.failed,
        expired_sent: live.expired_sent,
        fetch_ratio: live.renewals as f64 / lifetimes,
        requests: live.requests,
        repeated,
    }
}

/// With a token of its own: the control knows of no renewal at all.
async fn run_live(client: Probe, server: &AuthorizationServer, length: Duration) -> Run {
    let (before, expired_before) = (server.recorded().len(), server.api().expired);
    let token = LiveToken::spawn(source(server));
    token.ready().await.expect("a token");
    let origin = Origin::parse(&server.origin()).expect("an origin");
    let layer = BearerAuthLayer::new(token.clone(), origin);
    let mut run = run(layer.layer(client), &server.api_url("/documents"), length).await;
    token.shutdown().await;
    // From the first fetch to the last, so that it doesn't matter at which point of a life the run ends.
    let fetched: Vec<_> = server.recorded()[before..].iter().map(|request| request.received_at()).collect();
    run.renewals = fetched.len() - 1;
    run.renewed_for = fetched[fetched.len() - 1] - fetched[0];
    run.expired_sent = server.api().expired - expired_before;
    run
}

fn source(server: &AuthorizationServer) -> ClientCredentials {
    let endpoint = TokenEndpoint::new(&server.token_url()).expect("a URL");
    ClientCredentials::new(endpoint.client_secret_basic("client", "secret"))
}

/// Some runs of the same.
#[derive(Default)]
struct Runs {
    /// In order, for each window.
    windows: Vec<Vec<Duration>>,
    requests: usize,
    waited: u64,
    failed: u64,
    expired_sent: u64,
    renewals: usize,
    renewed_for: Duration,
}

impl Runs {
    fn add(&mut self, run: Run, length: Duration) {
        let window = |begun: Duration| (begun.as_nanos() / LIFETIME.as_nanos()) as usize;
        let mut windows = vec![Vec::new(); window(length)];
        for (begun, took) in &run.times {
            // What begins after the last whole window belongs to none.
            if let Some(times) = windows.get_mut(window(*begun)) {
                times.push(*took);
            }
        }
        windows.iter_mut().for_each(|times| times.sort_unstable());
        self.windows.append(&mut windows);
        self.requests += run.times.len();
        self.waited += run.waited;
        self.failed += run.failed;
        self.expired_sent += run.expired_sent;
        self.renewals += run.renewals;
        self.renewed_for += run.renewed_for;
    }

    /// The median of the windows' quantiles, in seconds.
    fn quantile(&self, part: f64) -> f64 {
        median(self.windows.iter().map(|times| share(times, part).as_secs_f64()).collect())
    }

    /// The median of what a window is to that of the other beside it.
    fn beside(&self, other: &Self, part: f64, compare: fn(f64, f64) -> f64) -> f64 {
        let quantile = |times: &[Duration]| share(times, part).as_secs_f64();
        let windows = self.windows.iter().zip(&other.windows);
        median(windows.map(|(ours, others)| compare(quantile(ours), quantile(others))).collect())
    }

    fn row(&self, name: &str) {
        let at = |part| format!("{:.0} µs", self.quantile(part) * 1e6);
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        println!("| {name:<8} | {:>8} | {p50:>9} | {p99:>9} | {p999:>9} | {:>6} |", self.requests, self.waited);
    }
}

#[derive(Default)]
struct Run {
    /// When each request was begun, from the run's beginning, and how long it took.
    times: Vec<(Duration, Duration)>,
    waited: u64,
    failed: u64,
    expired_sent: u64,
    /// Token requests after the first, and for how long they went on.
    renewals: usize,
    renewed_for: Duration,
}

/// Traffic for this long.
async fn run<S>(client: S, url: &str, length: Duration) -> Run
where
    S: Service<Request<Empty<Bytes>>, Response = Response<Incoming>> + Clone + Send + 'static,
    S::Error: Debug + Send,
    S::Future: Send,
{
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (mut client, url) = (client.clone(), url.to_owned());
        tasks.spawn(async move {
            let mut run = Run::default();
            let sends = Sends::default();
            tokio::time::sleep(PAUSE * task / TASKS).await;
            while begin.elapsed() < length {
                sends.0.store(0, Ordering::SeqCst);
                let request = Request::get(&url).extension(sends.clone()).body(Empty::new()).expect("a request");
                let start = Instant::now();
                let response = client.ready().await.expect("the client is always ready").call(request);
                // A request with its token is sent within `call`; one that isn't waits for a token.
                let sent_at_once = sends.0.load(Ordering::SeqCst) == 1;
                match response.await {
                    Ok(response) if response.status().is_success() => drop(response.into_body().collect().await),
                    _ => run.failed += 1,
                }
                run.times.push((start - begin, start.elapsed()));
                // One that was refused and sent again has waited too, but for the token after.
                let sent_once = sends.0.load(Ordering::SeqCst) == 1;
                run.waited += u64::from(!sent_at_once || !sent_once);
                tokio::time::sleep(PAUSE).await;
            }
            run
        });
    }
    let mut all = Run::default();
    for run in tasks.join_all().await {
        all.times.extend(run.times);
        all.waited += run.waited;
        all.failed += run.failed;
    }
    all
}

/// How often a request was given to the client.
#[derive(Clone, Default)]
struct Sends(Arc<AtomicU32>);

/// The client, below whatever layer there is.
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
        if let Some(Sends(sends)) = request.extensions().get() {
            sends.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.call(request)
    }
}

const TASKS: u32 = 128;
const LIFETIME: Duration = Duration::from_millis(500);
const LATENCY: Duration = Duration::from_millis(100);
/// What a renewal can stand: it begins at three quarters of the life or with a quarter more than the slowest fetch left, and takes
/// that fetch's 100 ms.
const STOP: Duration = Duration::from_millis(20);
/// Between two requests of a task: some 4 000 requests a second altogether.
const PAUSE: Duration = Duration::from_millis(32);
