//! What does a request notice when a token runs out? 128 tasks send some 4 000 requests a second while tokens are renewed from an
//! endpoint that takes 100 ms.
//!
//! A task's requests are due every 32 ms, whether the one before was held up or not, and a request that was held up before it could
//! begin counts from when it was due: otherwise a peer that stalls would be asked less and look better.
//!
//! A machine that stands still holds up requests like a peer that waits. So a run is done again until the machine did not, or a few
//! times; then the one counts in which it stood still for the shortest time, whatever that run found.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    candidate::{Client, Peer},
    endpoint::Endpoint,
    inner::Gate,
    stops::Watch,
};

/// What came of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Refresh {
    pub requests: u64,
    /// From when a request was begun to when it had reached the inner service with its token, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// The share of requests that took more than 5 ms.
    pub stalled: f64,
    pub fetches: u64,
    /// How often the peer's usable life fits into the run.
    pub needed: Option<u64>,
    pub expired_sent: u64,
    pub failed: u64,
    /// For how long the machine stood still at the most, in microseconds.
    pub stop_us: f64,
    /// The longest of those that begin within a hundredth of a second, in ms: `(from when on, how long)`.
    pub over_time: Vec<(u32, f64)>,
}

/// Runs a peer for so long, several times where the machine stands still.
pub async fn measure<P: Peer>(time: Duration) -> Refresh {
    let mut calmest: Option<Refresh> = None;
    for _ in 0..RUNS {
        let watch = Watch::start();
        let refresh = run::<P>(time).await;
        let refresh = Refresh { stop_us: watch.longest_stop().as_secs_f64() * 1e6, ..refresh };
        let calm = refresh.stop_us < STALLED.as_secs_f64() * 1e6;
        if calmest.as_ref().is_none_or(|known| refresh.stop_us < known.stop_us) {
            calmest = Some(refresh);
        }
        if calm {
            break;
        }
    }
    calmest.expect("at least one run")
}

async fn run<P: Peer>(time: Duration) -> Refresh {
    let endpoint = Arc::new(Endpoint::start(P::ABOUT.life.min(LONGEST), LATENCY).expect("a loopback port"));
    let gate = Gate::default();
    let mut first = P::client(&endpoint, gate.clone()).await;
    // Begins with a token for everybody: a cold start is another matter.
    first.send(P::Client::<Gate>::request()).await.expect("a request is sent");
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let begin = start + EVERY * task / TASKS;
        tasks.spawn(one(first.clone(), begin, start + time));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let (some, more) = task.expect("no panic");
        times.extend(some);
        failed += more;
    }
    let fetches = endpoint.requests();
    let usable = P::ABOUT.usable;
    let needed = (usable < LONGEST).then(|| (time.as_secs_f64() / usable.as_secs_f64()).ceil() as u64);
    summary(
        start,
        &times,
        Refresh { fetches, needed, expired_sent: gate.expired(), failed: failed + gate.missing(), ..EMPTY },
    )
}

/// A task: when each of its requests began, and how long it took.
async fn one<C: Client>(mut client: C, begin: Instant, end: Instant) -> (Vec<(Instant, Duration)>, u64) {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut due = begin;
    while due < end {
        let late = Instant::now() > due;
        if !late {
            sleep_until(due.into()).await;
        }
        let request = C::request();
        // A timer that fires late is nobody's fault; a request that is late because of the one before is the peer's.
        let start = if late { due } else { Instant::now() };
        match client.send(request).await {
            Ok(()) => times.push((start, start.elapsed())),
            Err(_) => failed += 1,
        }
        due += EVERY;
    }
    (times, failed)
}

fn summary(start: Instant, times: &[(Instant, Duration)], counted: Refresh) -> Refresh {
    let mut sorted: Vec<_> = times.iter().map(|(_, took)| took.as_secs_f64() * 1e6).collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get((share * sorted.len().saturating_sub(1) as f64) as usize).copied().unwrap_or_default();
    let stalled = sorted.iter().filter(|took| **took > STALLED.as_secs_f64() * 1e6).count();
    let mut over_time: Vec<(u32, f64)> = Vec::new();
    let mut in_order: Vec<_> = times.iter().collect();
    in_order.sort();
    for (begin, took) in in_order {
        let step = (begin.saturating_duration_since(start).as_millis() / STEP.as_millis() * STEP.as_millis()) as u32;
        let took = (took.as_secs_f64() * 1e6).round() / 1e3;
        match over_time.last_mut().filter(|(last, _)| *last == step) {
            Some((_, longest)) => *longest = longest.max(took),
            None => over_time.push((step, took)),
        }
    }
    Refresh {
        requests: times.len() as u64,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
        stalled: stalled as f64 / times.len().max(1) as f64,
        over_time,
        ..counted
    }
}

pub const TASKS: u32 = 128;
/// How long the token endpoint takes.
pub const LATENCY: Duration = Duration::from_millis(100);
/// Between two requests of a task: some 4 000 a second altogether.
const EVERY: Duration = Duration::from_millis(32);
const STALLED: Duration = Duration::from_millis(5);
/// At most: six times four seconds for each of 14 candidates are six minutes.
const RUNS: usize = 6;
const STEP: Duration = Duration::from_millis(10);
/// The life of a token that never changes.
const LONGEST: Duration = Duration::from_secs(86_400);

const EMPTY: Refresh = Refresh {
    requests: 0,
    p50_us: 0.0,
    p99_us: 0.0,
    p999_us: 0.0,
    max_us: 0.0,
    stalled: 0.0,
    fetches: 0,
    needed: None,
    expired_sent: 0,
    failed: 0,
    stop_us: 0.0,
    over_time: Vec::new(),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_was_held_up_and_keeps_the_longest_of_each_step() {
        let start = Instant::now();
        let took = |begin: u64, took: u64| (start + Duration::from_millis(begin), Duration::from_millis(took));
        let summary = summary(start, &[took(21, 1), took(29, 7), took(3, 2), took(25, 5)], EMPTY);
        assert_eq!((summary.requests, summary.stalled), (4, 0.25));
        assert_eq!((summary.p50_us, summary.max_us), (2_000.0, 7_000.0));
        assert_eq!(summary.over_time, [(0, 2.0), (20, 7.0)]);
    }
}
