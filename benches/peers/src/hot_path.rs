//! What does a request pay that finds its token there? As a ratio to tower-http's static header, both beyond the bare service that
//! takes the same kind of request; on one thread, and on two that share the token.
//!
//! A sample is a batch of requests through each of four: the floor's bare service, the floor, the peer's bare service, the peer,
//! within microseconds of each other, so that whatever else the machine does hits all alike.

use std::{
    future::Future,
    hint::spin_loop,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::{
    candidate::{Client, Peer},
    endpoint::Endpoint,
    inner::Nowhere,
    peers::tower_http::TowerHttp,
};

/// The cost of a request, as a ratio to the floor's in the same run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Cost {
    pub one_thread: Ratio,
    /// None if hardly any sample had both threads at work together: then there is nothing that they shared.
    pub two_threads: Option<Ratio>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Ratio {
    pub median: f64,
    /// A quarter of the blocks lies below the first, a quarter above the second.
    pub quartiles: (f64, f64),
    /// What the floor itself cost a request, in nanoseconds, by the median.
    pub floor_ns: f64,
    pub samples: usize,
}

/// Measures a peer, with so many samples.
pub async fn measure<P: Peer>(samples: usize) -> Cost {
    let endpoint = Endpoint::start(Duration::from_secs(3_600), Duration::ZERO).expect("a loopback port");
    let mut four = Four {
        floor_bare: TowerHttp::bare(Nowhere),
        floor: TowerHttp::client(&endpoint, Nowhere).await,
        bare: P::bare(Nowhere),
        peer: P::client(&endpoint, Nowhere).await,
    };
    // The first request fetches the token where a peer is lazy.
    four.peer.send(P::Client::<Nowhere>::request()).await.expect("a request is sent");
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let one_thread = ratio(&run(four.clone(), samples, None, &handle));
        let barrier = Barrier::default();
        let (ours, other) = (four.clone(), four);
        let (ours, other) = thread::scope(|scope| {
            // Both are new, like the workers of a pool: this crate gives threads their copies of the header in the order in which
            // they first ask, and with an older one in between the two might share one.
            let ours = scope.spawn(|| run(ours, samples, Some(&barrier), &handle));
            let other = scope.spawn(|| run(other, samples, Some(&barrier), &handle));
            (ours.join().expect("no panic"), other.join().expect("no panic"))
        });
        Cost { one_thread, two_threads: at_the_same_time(&ours, &other).map(|together| ratio(&together)) }
    })
    .await
    .expect("no panic")
}

#[derive(Clone)]
struct Four<FloorBare, Floor, Bare, Peer> {
    floor_bare: FloorBare,
    floor: Floor,
    bare: Bare,
    peer: Peer,
}

/// When the batches of the four began and ended.
type Sample = [(Instant, Instant); 4];

fn run<A: Client, B: Client, C: Client, D: Client>(
    mut four: Four<A, B, C, D>,
    samples: usize,
    barrier: Option<&Barrier>,
    handle: &Handle,
) -> Vec<Sample> {
    // Some peers make a timer for each request. A thread of its own is in no task, which tokio would want to yield after a while.
    let _runtime = handle.enter();
    let warm_up = samples / 10;
    let all = (0..samples + warm_up).map(|sample| {
        if sample % 2 == 0 {
            let a = batch(&mut four.floor_bare, barrier);
            let b = batch(&mut four.floor, barrier);
            let c = batch(&mut four.bare, barrier);
            [a, b, c, batch(&mut four.peer, barrier)]
        } else {
            let d = batch(&mut four.peer, barrier);
            let c = batch(&mut four.bare, barrier);
            let b = batch(&mut four.floor, barrier);
            [batch(&mut four.floor_bare, barrier), b, c, d]
        }
    });
    all.skip(warm_up).collect()
}

/// A batch of requests made beforehand.
fn batch<C: Client>(client: &mut C, barrier: Option<&Barrier>) -> (Instant, Instant) {
    let requests: Vec<_> = (0..REQUESTS).map(|_| C::request()).collect();
    if let Some(barrier) = barrier {
        barrier.wait();
    }
    let start = Instant::now();
    for request in requests {
        send_now(client, request);
    }
    (start, Instant::now())
}

/// Where a machine has something else to do, two threads aren't always at work at the same time, and then they share nothing: such
/// samples are left out.
fn at_the_same_time(ours: &[Sample], other: &[Sample]) -> Option<Vec<Sample>> {
    let together = |(ours, other): (&Sample, &Sample)| {
        ours.iter().zip(other).all(|((begin, end), (other_begin, other_end))| {
            let overlap = end.min(other_end).saturating_duration_since(*begin.max(other_begin));
            overlap * 2 >= *end - *begin
        })
    };
    let kept: Vec<_> = ours.iter().zip(other).filter(|&both| together(both)).map(|(ours, _)| *ours).collect();
    (kept.len() >= BLOCKS * 4).then_some(kept)
}

/// Sends a request whose token is there. Where two threads contend for a lock, the loser would be put to sleep and woken; here it
/// tries again at once, which is in its favour.
pub fn send_now<C: Client>(client: &mut C, request: C::Request) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut future = pin!(client.send(request));
    let mut tries = 0_u64;
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(sent) => return sent.expect("the inner service takes every request"),
            Poll::Pending => relax(&mut tries),
        }
    }
}

/// Two threads meet here.
#[derive(Debug, Default)]
struct Barrier(AtomicU64);

impl Barrier {
    /// Twice: who came first may have been put aside while it waited, and is back when it comes again.
    fn wait(&self) {
        self.meet();
        self.meet();
    }

    fn meet(&self) {
        let turn = self.0.fetch_add(1, Ordering::AcqRel) / 2;
        let mut tries = 0;
        while self.0.load(Ordering::Acquire) / 2 <= turn {
            relax(&mut tries);
        }
    }
}

/// The other thread may have been put aside: then this one mustn't keep it from coming back. But not too soon, for whoever yields is
/// put aside itself.
fn relax(tries: &mut u64) {
    *tries += 1;
    if tries.is_multiple_of(SPINS) {
        thread::yield_now();
    }
    spin_loop();
}

/// About a millisecond.
const SPINS: u64 = 20_000;

/// The median over a block of what each costs beyond its bare service, then the ratio, then the median of the blocks: a ratio of
/// single differences would be mostly noise.
fn ratio(samples: &[Sample]) -> Ratio {
    let beyond = |bare: usize, samples: &[Sample]| {
        let seconds = |sample: &Sample, at: usize| (sample[at].1 - sample[at].0).as_secs_f64() / REQUESTS as f64;
        median(samples.iter().map(|sample| seconds(sample, bare + 1) - seconds(sample, bare)).collect())
    };
    let blocks = samples.chunks((samples.len() / BLOCKS).max(1));
    let mut ratios: Vec<_> =
        blocks.map(|block| beyond(2, block) / beyond(0, block)).filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[(share * (ratios.len() - 1) as f64) as usize];
    Ratio {
        median: at(0.5),
        quartiles: (at(0.25), at(0.75)),
        floor_ns: beyond(0, samples) * 1e9,
        samples: samples.len(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const REQUESTS: usize = 100;
const BLOCKS: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample whose batches take that long, in µs, the first of them from here on.
    fn sample(start: Instant, took: [u64; 4]) -> Sample {
        took.map(|took| (start, start + Duration::from_micros(took)))
    }

    #[test]
    fn a_ratio_is_of_what_each_costs_beyond_its_own_bare_service() {
        let ratio = ratio(&vec![sample(Instant::now(), [1_000, 1_200, 3_000, 3_300]); 200]);
        assert!((ratio.median - 1.5).abs() < 1e-9, "{ratio:?}");
        assert!((ratio.floor_ns - 2_000.0).abs() < 1e-3, "{ratio:?}");
    }

    #[test]
    fn threads_that_were_not_at_work_together_are_left_out() {
        let now = Instant::now();
        let (together, apart) = (sample(now, [100; 4]), sample(now + Duration::from_micros(60), [100; 4]));
        let ours = vec![sample(now, [100; 4]); 300];
        let other: Vec<_> = (0..300).map(|at| if at < 120 { together } else { apart }).collect();
        assert_eq!(at_the_same_time(&ours, &other).unwrap().len(), 120);
        assert!(at_the_same_time(&ours, &vec![apart; 300]).is_none());
    }
}
