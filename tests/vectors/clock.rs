//! The clocks that the client under test reads: tokio's paused one, and what a case does to the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep_until},
};
use tower_bearer::clock::Clock;

/// Clones show the same time.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    start: Instant,
    /// In milliseconds, like the next.
    suspended: Arc<AtomicI64>,
    stepped: Arc<AtomicI64>,
}

impl Hands {
    #[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), suspended: Arc::default(), stepped: Arc::default() }
    }

    /// How long it has been running, in seconds.
    pub(crate) fn running(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// How long it has been, with suspends.
    pub(crate) fn elapsed(&self) -> f64 {
        self.running() + self.suspended().as_secs_f64()
    }

    pub(crate) async fn until(&self, running: f64) {
        sleep_until(self.start + Duration::from_secs_f64(running)).await;
    }

    pub(crate) fn suspend(&self, seconds: f64) {
        self.suspended.fetch_add(millis(seconds), Ordering::Relaxed);
    }

    pub(crate) fn step(&self, seconds: f64) {
        self.stepped.fetch_add(millis(seconds), Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn wall(&self) -> SystemTime {
        let stepped = self.stepped.load(Ordering::Relaxed);
        let time = SystemTime::UNIX_EPOCH + BEGINS + self.start.elapsed() + self.suspended();
        let step = Duration::from_millis(stepped.unsigned_abs());
        if stepped < 0 { time - step } else { time + step }
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.suspended.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// 2027-01-15T08:00:00Z, when every case begins.
const BEGINS: Duration = Duration::from_secs(1_800_000_000);

#[allow(clippy::cast_possible_truncation, reason = "some days")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Runs a case on a clock that moves when everybody waits.
pub(crate) fn paused<T>(run: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(run)
}
