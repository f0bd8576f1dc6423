//! A small paired harness: candidates take turns within microseconds, so that whatever else the machine does hits all alike.
#![allow(dead_code, reason = "each bench uses its own part")]

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tower::Service;

pub(crate) mod stops;

pub(crate) type GetRequest = Request<Empty<Bytes>>;

/// The request as users send it: an https URL, five other headers, two of them with names of their own.
pub(crate) fn request() -> GetRequest {
    Request::get("https://api.example.com/v1/documents?page=2")
        .header("accept", "application/json")
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

/// An inner service that does nothing.
#[derive(Clone, Debug)]
pub(crate) struct Static;

impl<B> Service<Request<B>> for Static {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        std::hint::black_box(&request);
        Answer
    }
}

/// The answer, made when it is asked for: as small as the futures of real clients are.
#[derive(Debug)]
pub(crate) struct Answer;

impl Future for Answer {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

/// Sends one request and polls it to its end, which comes at once. Part of its caller for all candidates alike: otherwise those
/// with more code would pay for one more copy of the request, which is the harness's and not theirs.
#[inline(always)]
pub(crate) fn send<S, B>(service: &mut S, request: Request<B>)
where
    S: Service<Request<B>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(request));
    match future.poll(&mut cx) {
        Poll::Ready(Ok(response)) => received(response),
        _ => panic!("the inner service answers at once"),
    }
}

/// Where a response ends: one function for all, or some candidates would have it inline and others not.
#[inline(never)]
fn received<T>(response: T) {
    std::hint::black_box(&response);
}

/// From when to when.
pub(crate) type Span = (Instant, Instant);

/// When this takes place for a batch of requests, made beforehand.
pub(crate) fn time(requests: usize, mut send: impl FnMut(GetRequest)) -> Span {
    let batch: Vec<_> = (0..requests).map(|_| request()).collect();
    let start = Instant::now();
    for request in batch {
        send(request);
    }
    (start, Instant::now())
}

/// What a candidate costs beyond the bare service, as a ratio to what the floor costs beyond it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    /// A quarter of the ratios lie below the first, a quarter above the second.
    pub(crate) quartiles: (f64, f64),
}

impl Ratio {
    pub(crate) fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let at = |share: f64| ratios[(share * (ratios.len() - 1) as f64) as usize];
        Self { median: at(0.5), quartiles: (at(0.25), at(0.75)) }
    }
}

/// Takes `samples` samples of all candidates in turn, forwards and backwards. What comes back is by candidate, then by sample.
pub(crate) fn take_turns(samples: usize, candidates: &mut [&mut dyn FnMut() -> Span]) -> Vec<Vec<Span>> {
    let mut took = vec![Vec::with_capacity(samples); candidates.len()];
    for sample in 0..samples + samples / 10 {
        for turn in 0..candidates.len() {
            let at = if sample % 2 == 0 { turn } else { candidates.len() - 1 - turn };
            let span = candidates[at]();
            // The first tenth warms up.
            if sample >= samples / 10 {
                took[at].push(span);
            }
        }
    }
    took
}

/// Compares what [`take_turns`] took: the first is the bare service, the second the floor. Returns a ratio for each of the others,
/// and the floor's own cost in nanoseconds a request.
pub(crate) fn compare(took: &[Vec<Span>], requests: usize) -> (Vec<Ratio>, f64) {
    let samples = took[0].len();
    let seconds =
        |candidate: usize, sample: usize| (took[candidate][sample].1 - took[candidate][sample].0).as_secs_f64();
    // The median over a block of what each costs beyond the bare service, then the ratio, then the median of the blocks: a ratio
    // of single differences would be mostly noise.
    let beyond = |candidate: usize, block: std::ops::Range<usize>| {
        median(block.map(|sample| seconds(candidate, sample) - seconds(0, sample)).collect())
    };
    let block = (samples / BLOCKS).max(1);
    let blocks = || (0..samples / block).map(|number| number * block..(number + 1) * block);
    let ratios = (2..took.len())
        .map(|candidate| Ratio::of(blocks().map(|block| beyond(candidate, block.clone()) / beyond(1, block)).collect()))
        .collect();
    (ratios, beyond(1, 0..samples) * 1e9 / requests as f64)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const BLOCKS: usize = 50;

/// Durations in order, and the one that this share of them doesn't exceed.
pub(crate) fn share(sorted: &[Duration], share: f64) -> Duration {
    sorted.get((share * (sorted.len().saturating_sub(1)) as f64) as usize).copied().unwrap_or_default()
}
