//! What the tests of the request path share: a source of tokens that follows orders, and an API that is strict.
//!
//! Time is tokio's paused clock: it moves only when everybody waits, so every duration measured here is exact.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part, and is nobody's library")]

pub mod browser;
pub mod call;
pub mod chromium;
pub mod hasty;
pub mod node;
pub mod web_app;

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use tower::Service;
use tower_bearer::{
    AccessToken, BearerAuthLayer, FetchError, FetchReason, FetchRequest, LiveToken, Origin, TokenSource, clock::Clock,
};

/// The origin that layers are made for here.
pub const API: &str = "https://api.test";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// tokio's clock: the paused one.
#[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// So old are the tokens of an [`Issuer`] when they come: an API may not know a younger one yet, so that a 401 means little.
const SETTLED: Duration = Duration::from_secs(6);

/// Issues the tokens `t1`, `t2`, …, counts, and fails when told to. Clones take the same orders.
#[derive(Clone)]
pub struct Issuer(Arc<Orders>);

struct Orders {
    fetches: AtomicU64,
    finished: AtomicU64,
    issued: AtomicU64,
    orders: Mutex<(Duration, Option<Duration>, Order)>,
    reasons: Mutex<HashMap<FetchReason, u64>>,
    fresh: AtomicBool,
}

#[derive(Clone)]
enum Order {
    Issue,
    Repeat,
    Fail(FetchError),
    Hang,
}

impl Issuer {
    /// Issues at once, tokens without an end.
    pub fn new() -> Self {
        Self(Arc::new(Orders {
            fetches: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            orders: Mutex::new((Duration::ZERO, None, Order::Issue)),
            reasons: Mutex::default(),
            fresh: AtomicBool::new(false),
        }))
    }

    /// From now on tokens are new when they come.
    pub fn fresh(&self) -> Self {
        self.0.fresh.store(true, Ordering::SeqCst);
        self.clone()
    }

    /// How long each fetch takes from now on.
    pub fn takes(&self, delay: Duration) -> Self {
        self.0.orders.lock().unwrap().0 = delay;
        self.clone()
    }

    /// How long tokens live from now on.
    pub fn lifetime(&self, lifetime: Duration) -> Self {
        self.0.orders.lock().unwrap().1 = Some(lifetime);
        self.clone()
    }

    /// From now on every fetch fails with this.
    pub fn fails(&self, error: FetchError) -> Self {
        self.order(Order::Fail(error))
    }

    /// From now on no fetch ends.
    pub fn hangs(&self) -> Self {
        self.order(Order::Hang)
    }

    /// From now on every fetch brings the token issued last.
    pub fn repeats(&self) -> Self {
        self.order(Order::Repeat)
    }

    /// From now on every fetch brings a token.
    pub fn works(&self) -> Self {
        self.order(Order::Issue)
    }

    fn order(&self, order: Order) -> Self {
        self.0.orders.lock().unwrap().2 = order;
        self.clone()
    }

    /// How many fetches have begun.
    pub fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::SeqCst)
    }

    /// How many fetches have come to their end without being dropped.
    pub fn finished(&self) -> u64 {
        self.0.finished.load(Ordering::SeqCst)
    }

    /// How many fetches there were for this reason.
    pub fn fetches_because(&self, reason: FetchReason) -> u64 {
        self.0.reasons.lock().unwrap().get(&reason).copied().unwrap_or(0)
    }

    /// Handles to a token from here, the same every time: seeded, on a wall clock that stands still.
    pub fn live(&self) -> LiveToken {
        LiveToken::builder(self.clone()).seed(1).clock(Still).spawn()
    }

    /// The same, with its first token already there.
    pub async fn ready(&self) -> LiveToken {
        let token = self.live();
        token.ready().await.unwrap();
        token
    }
}

impl TokenSource for Issuer {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        *self.0.reasons.lock().unwrap().entry(request.reason()).or_default() += 1;
        let (delay, lifetime, order) = self.0.orders.lock().unwrap().clone();
        tokio::time::sleep(delay).await;
        let number = match order {
            Order::Hang => std::future::pending().await,
            Order::Fail(error) => {
                self.0.finished.fetch_add(1, Ordering::SeqCst);
                return Err(error);
            }
            Order::Repeat => self.0.issued.load(Ordering::SeqCst),
            Order::Issue => self.0.issued.fetch_add(1, Ordering::SeqCst) + 1,
        };
        self.0.finished.fetch_add(1, Ordering::SeqCst);
        let token = AccessToken::new(format!("t{number}"))?;
        Ok(match lifetime {
            Some(lifetime) if self.0.fresh.load(Ordering::SeqCst) => token.expires_in(lifetime),
            None if self.0.fresh.load(Ordering::SeqCst) => token,
            Some(lifetime) => token.expires_in(lifetime + SETTLED + delay).age(SETTLED + delay),
            None => token.age(SETTLED + delay),
        })
    }
}

/// A wall clock that stands still, on a machine that never sleeps.
pub struct Still;

impl Clock for Still {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// What arrived at the [`Api`].
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: http::Method,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: tokio::time::Instant,
}

impl Seen {
    /// The token that came with it, if it came alone and marked sensitive.
    pub fn token(&self) -> &str {
        let values: Vec<_> = self.headers.get_all(AUTHORIZATION).iter().collect();
        let [value] = values[..] else { panic!("not one Authorization header: {values:?}") };
        assert!(value.is_sensitive());
        value.to_str().unwrap().strip_prefix("Bearer ").expect("the scheme `Bearer`")
    }
}

type Answer = dyn Fn(&Seen) -> Response<String> + Send + Sync;

/// An API in this process. It keeps what arrives, and it is as strict as a service may be: a clone is not ready until it was
/// polled, and a call that was not paid for by `poll_ready` panics.
pub struct Api {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Answer>,
    takes: Duration,
    ready: bool,
}

impl Api {
    pub fn new(answer: impl Fn(&Seen) -> Response<String> + Send + Sync + 'static) -> Self {
        Self { seen: Arc::default(), answer: Arc::new(answer), takes: Duration::ZERO, ready: false }
    }

    /// Answers 200 to these tokens and 401 to others.
    pub fn that_takes(tokens: &'static [&'static str]) -> Self {
        Self::new(|seen| if tokens.contains(&seen.token()) { ok() } else { refused() })
    }

    /// How long each answer takes.
    pub fn after(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }

    /// The tokens of all requests that arrived, in order.
    pub fn tokens(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.token().to_owned()).collect()
    }
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { seen: self.seen.clone(), answer: self.answer.clone(), takes: self.takes, ready: false }
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let (all, answer, takes) = (self.seen.clone(), self.answer.clone(), self.takes);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let at = now();
            let body = body.collect().await.expect("a whole body").to_bytes();
            let seen = Seen { method: head.method, uri: head.uri.to_string(), headers: head.headers, body, at };
            all.lock().unwrap().push(seen.clone());
            // Decided when the request arrives, as a server would.
            let response = answer(&seen);
            tokio::time::sleep(takes).await;
            Ok(response)
        })
    }
}

pub fn ok() -> Response<String> {
    Response::new("fine".into())
}

/// A 401 as RFC 6750 wants it.
pub fn refused() -> Response<String> {
    challenged(401, r#"Bearer realm="api", error="invalid_token""#)
}

pub fn challenged(status: u16, challenge: &str) -> Response<String> {
    Response::builder().status(status).header("www-authenticate", challenge).body("refused".into()).unwrap()
}

pub fn layer(token: &LiveToken) -> BearerAuthLayer {
    BearerAuthLayer::new(token.clone(), Origin::parse(API).unwrap())
}

/// A GET without a body, for a path or a whole URL.
pub fn get(path: &str) -> Request<Empty<Bytes>> {
    let uri = if path.starts_with('/') { format!("{API}{path}") } else { path.to_owned() };
    Request::get(uri).body(Empty::new()).unwrap()
}

/// How long this takes by the paused clock, and what comes of it.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = now();
    let result = future.await;
    (result, start.elapsed())
}

/// Calls a service once it is ready; the future is that of the response.
pub async fn call<S: Service<R>, R>(service: &mut S, request: R) -> S::Future
where
    S::Error: std::fmt::Debug,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("a service that lives");
    service.call(request)
}

/// Sends a request through this very service, not a clone.
pub async fn send<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error>
where
    S::Error: std::fmt::Debug,
{
    call(service, request).await.await
}
