//! How many instructions does the layer cost a request that has its token? Counted by callgrind, so that the same code gives the
//! same number on a busy machine and an idle one: what a stopwatch can't promise (`benches/hot_path.rs`), CI can hold to 2 %.
//!
//! Each candidate is a program of its own, in `src/bin`: in one program with the others, what the compiler puts inline for one
//! depends on what the others call. All else is alike, and here: what is set up before, the requests, the service below, and the one
//! function whose instructions count. `benches/count.rs` runs them, `judge.mjs` compares what they cost with `ratios.json`;
//! `scripts/instructions` does both.
//!
//! Compiled as users compile by default, in the profile `release`, but for two things that are otherwise luck, and moved ratios by a
//! tenth and more: the crate and the programs are one codegen unit each (`Cargo.toml` has the reason), and `HeaderMap::insert`, two
//! thirds of what the floor costs, is called by all alike and inline in none.

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
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

/// Sends requests through what `candidate` makes of the layers.
pub fn count<F: FnMut(GetRequest)>(candidate: impl FnOnce(&Layers) -> F) {
    // Without its runtime a token is gone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let layers = runtime.block_on(Layers::new());
    let mut send = candidate(&layers);
    for _ in 0..REQUESTS {
        let mut request = request();
        // Programs call `insert` in more places than one. Where one call is the only one, it is put inline.
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        counted_request(&mut send, request);
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

/// What callgrind counts, and nothing else: `benches/count.rs` knows it by its name. A request ends in it before the next is made,
/// so that the allocator is in the same state every time: freeing many, it tidies up now and then, for some and not for others.
#[inline(never)]
fn counted_request(send: &mut impl FnMut(GetRequest), request: GetRequest) {
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

#[derive(Clone)]
struct Tenant(#[allow(dead_code, reason = "only carried")] u64);

/// So many that what only the first ones pay for doesn't show. `judge.mjs` needs no number: it divides by what the floor costs.
const REQUESTS: usize = 1000;
