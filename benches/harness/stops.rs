//! Did the machine stand still? The host of a virtual machine takes its processors away now and then, for a millisecond or for most
//! of a second, and whatever runs on them stands still without being told. No program can renew a token in that time.
//!
//! It is not asked whether a measurement looks odd, which would be choosing among results: for each processor there is a thread that
//! does nothing but sleep for a moment and look at the clock. It is none of tokio's, and a busy program doesn't keep it from its turn for
//! longer than a scheduler's time slice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Looks until it is asked.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..processors)
            .map(|processor| {
                let over = over.clone();
                thread::spawn(move || {
                    stay_on(processor);
                    longest(&over)
                })
            })
            .collect();
        Self { over, threads }
    }

    /// For how long a processor did nothing for somebody who wanted it, at the most.
    pub(crate) fn longest_stop(self) -> Duration {
        self.over.store(true, Ordering::SeqCst);
        let stops = self.threads.into_iter().map(|thread| thread.join().expect("it only sleeps"));
        stops.max().unwrap_or_default()
    }
}

fn longest(over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::SeqCst) {
        let start = Instant::now();
        thread::sleep(MOMENT);
        longest = longest.max(start.elapsed().saturating_sub(MOMENT));
    }
    longest
}

/// Otherwise all of them may sleep on the processor that goes on. Where this isn't possible, that is what may happen.
#[cfg(target_os = "linux")]
fn stay_on(processor: usize) {
    use nix::{
        sched::{CpuSet, sched_setaffinity},
        unistd::Pid,
    };

    let mut only = CpuSet::new();
    if only.set(processor).is_ok() {
        let this_thread = Pid::from_raw(0);
        let _ = sched_setaffinity(this_thread, &only);
    }
}

#[cfg(not(target_os = "linux"))]
fn stay_on(_: usize) {}

const MOMENT: Duration = Duration::from_millis(2);
