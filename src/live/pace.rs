//! How long fetches take: what the schedule and the time of an exchange both follow from.

use std::time::Duration;

use super::schedule::Pace;

/// What is remembered of recent fetches, in milliseconds begun.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    /// Of those that have brought a token.
    recent: [u32; RECENT],
    /// Where the next one is put.
    next: u8,
    /// The slowest that has failed since.
    failed: u32,
}

impl Paces {
    /// A fetch has brought a token that was exchanged meanwhile.
    pub(crate) fn worked(&mut self, took: Duration) {
        self.recent[usize::from(self.next)] = millis(took);
        self.next = (self.next + 1) % RECENT as u8;
    }

    /// A fetch has brought nothing: the next one gets more time, in case that was too little.
    pub(crate) fn failed(&mut self, took: Duration) {
        self.failed = self.failed.max(millis(took));
    }

    /// One has worked again.
    pub(crate) fn recovered(&mut self) {
        self.failed = 0;
    }

    /// `longest`: how long an exchange may take at the most.
    pub(crate) fn pace(&self, longest: Duration) -> Pace {
        let slowest = self.recent.iter().copied().max().unwrap_or_default();
        let duration = |millis: u32| Duration::from_millis(millis.into());
        Pace { slowest: duration(slowest), failed: duration(self.failed).min(longest), longest }
    }
}

fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// How many fetches "recent" are: enough to remember a slow spell for a while, few enough to forget it.
const RECENT: usize = 8;
