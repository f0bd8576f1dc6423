//! What does the layer cost a request that has its token? The programs that are asked, one for each candidate, in `src/bin`: in one
//! program with the others, what the compiler puts inline for one depends on what the others call. All else is alike, and here: what is
//! set up before, the requests, the service below, and the one function that is measured, in two ways:
//!
//! - Counted by callgrind, so that the same code gives the same number on a busy machine and an idle one: what a stopwatch can't
//!   promise, CI can hold to 2 %. `benches/count.rs` runs the programs, `judge.mjs` compares what they cost with `ratios.json`;
//!   `scripts/instructions` does both.
//! - Timed, taking turns with each other: `benches/hot_path` of the crate runs them and says what comes out.
//!
//! Compiled as users compile by default, in the profile `release`, but for two things that are otherwise luck, and moved ratios by a
//! tenth and more: the crate and the programs are one codegen unit each (`Cargo.toml` has the reason), and `HeaderMap::insert`, two
//! thirds of what the floor costs, is called by all alike and inline in none.

use std::{
    convert::Infallible,
    env,
    future::Future,
    hint::black_box,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::ACCEPT};
use http_body_util::Empty;
use tower::Service;
use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
use tower_http::auth::AddAuthorizationLayer;

/// What is sent: a request without a body.
pub type GetRequest = Request<Empty<Bytes>>;

/// The two layers that are compared, with the same token of 1 KiB. Every program makes both, so that memory looks alike in all.
#[derive(Debug)]
pub struct Layers {
    /// This crate's layer with its defaults.
    pub live: BearerAuthLayer,
    /// The least that a user can have today: a header that never changes.
    pub fixed: AddAuthorizationLayer,
}

impl Layers {
    async fn new() -> Self {
        let secret = "t".repeat(1024);
        let token = LiveToken::spawn(AccessToken::new(&secret).expect("a token"));
        token.ready().await.expect("a fixed token is always there");
        Self {
            live: BearerAuthLayer::new(token, Origin::parse("https://api.example.com").expect("an origin")),
            fixed: AddAuthorizationLayer::bearer(&secret).as_sensitive(true),
        }
    }
}

/// Sends requests through what `candidate` makes of the layers: so many that callgrind sees a steady state, or, started with the
/// argument `timed` and a number of bytes, as many as it is asked to.
pub fn run<F: FnMut(GetRequest)>(candidate: impl FnOnce(&Layers) -> F) {
    let mut arguments = env::args().skip(1);
    let timed = arguments.next().is_some_and(|argument| argument == "timed");
    // All that follows lies so much further on: where things lie in memory moves ratios by a tenth, so each start is another sample.
    let displaced = arguments.next().map_or(0, |bytes| bytes.parse().expect("a number of bytes"));
    let _displaced = black_box(vec![0_u8; displaced]);
    // Without its runtime a token is gone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let layers = runtime.block_on(Layers::new());
    let mut send = candidate(&layers);
    if timed {
        take_turns(&mut send);
    } else {
        for _ in 0..REQUESTS {
            measured_request(&mut send, accept(request()));
        }
    }
}

/// Each line says how many batches to send; the answer is a line with the median of the nanoseconds that a request took.
fn take_turns(send: &mut impl FnMut(GetRequest)) {
    for line in io::stdin().lines() {
        let batches: usize = line.expect("lines").parse().expect("a number of batches");
        let mut took: Vec<_> = (0..batches)
            .map(|_| {
                let batch: Vec<_> = (0..BATCH).map(|_| accept(request())).collect();
                let start = Instant::now();
                for request in batch {
                    measured_request(send, request);
                }
                start.elapsed().as_nanos() as f64 / BATCH as f64
            })
            .collect();
        // The others had the processor's caches before.
        let warm = &mut took[batches / 5..];
        warm.sort_by(f64::total_cmp);
        println!("{}", warm[warm.len() / 2]);
    }
}

/// Sends one request and polls it to its end, which comes at once. Part of its caller for all candidates alike: otherwise those
/// with more code would pay for one more copy of the request.
#[inline(always)]
pub fn send<S: Service<GetRequest, Response = Response<()>>>(service: &mut S, request: GetRequest) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(request));
    match future.poll(&mut cx) {
        Poll::Ready(Ok(response)) => received(response),
        _ => panic!("the inner service answers at once"),
    }
}

/// The inner service, which does nothing.
#[derive(Clone, Debug)]
pub struct Inner;

impl Service<GetRequest> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, request: GetRequest) -> Answer {
        black_box(&request);
        Answer
    }
}

/// The answer, made when it is asked for: as small as the futures of real clients are.
#[derive(Debug)]
pub struct Answer;

impl Future for Answer {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

/// What is measured, and nothing else: `benches/count.rs` knows it by its name. For callgrind a request ends in it before the next is
/// made, so that the allocator is in the same state every time: freeing many, it tidies up now and then, for some and not for others.
#[inline(never)]
fn measured_request(send: &mut impl FnMut(GetRequest), request: GetRequest) {
    send(request);
}

/// Where a response ends: one function for all, or some programs would have it inline and others not.
#[inline(never)]
fn received(response: Response<()>) {
    black_box(&response);
}

/// A request as users send it: an https URL, five other headers, two of them with names of their own, and an extension.
fn request() -> GetRequest {
    Request::get("https://api.example.com/v1/documents?page=2")
        .header("accept-encoding", "gzip")
        .header("user-agent", "bench/1.0")
        .header("x-request-id", "0af7651916cd43dd8448eb211c80319c")
        .header("x-tenant", "example")
        .extension(Tenant(7))
        .body(Empty::new())
        .expect("a request")
}

/// Programs call `insert` in more places than one: where one call is the only one, it is put inline. `#[inline]`, so that this one is in
/// the program and not in the library.
#[inline]
fn accept(mut request: GetRequest) -> GetRequest {
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

#[derive(Clone)]
struct Tenant(#[allow(dead_code, reason = "only carried")] u64);

/// Requests in a batch: it takes so long that reading the clock doesn't count.
const BATCH: usize = 10;

/// So many that what only the first ones pay for doesn't show. `judge.mjs` needs no number: it divides by what the floor costs.
const REQUESTS: usize = 1000;
