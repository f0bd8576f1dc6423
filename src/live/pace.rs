//! How long fetches take: what the schedule and the time of an exchange both follow from.

use std::time::Duration;

use super::schedule::{self, Pace};

/// What is remembered of recent fetches.
#[derive(Debug)]
pub(crate) struct Paces {
    /// Of those that have brought a token, in milliseconds begun, and where the next one is put.
    recent: [u32; RECENT],
    next: usize,
    /// The slowest that has failed since.
    failed: Duration,
    longest: Duration,
}

impl Paces {
    /// An exchange may take so long at the most.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { recent: [0; RECENT], next: 0, failed: Duration::ZERO, longest }
    }

    /// A fetch has brought a token that was exchanged meanwhile.
    pub(crate) fn worked(&mut self, took: Duration) {
        // A suspend during the fetch says nothing about how slow it is.
        let took = took.min(schedule::longest_fetch(self.longest));
        self.recent[self.next] = u32::try_from(took.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % RECENT;
    }

    /// A fetch has brought nothing: the next one gets more time, in case that was too little.
    pub(crate) fn failed(&mut self, took: Duration) {
        self.failed = self.failed.max(took).min(self.longest);
    }

    /// One has worked again.
    pub(crate) fn recovered(&mut self) {
        self.failed = Duration::ZERO;
    }

    pub(crate) fn pace(&self) -> Pace {
        let slowest = self.recent.iter().copied().max().unwrap_or_default();
        Pace { slowest: Duration::from_millis(slowest.into()), failed: self.failed, longest: self.longest }
    }
}

/// How many fetches "recent" are: enough to remember a slow spell for a while, few enough to forget it.
const RECENT: usize = 8;
