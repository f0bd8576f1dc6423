//! How long fetches take. The schedule and the timeout of an exchange both follow from it.

use std::time::Duration;

use super::schedule::Pace;

/// How long recent fetches took, in milliseconds, rounded up.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    /// Those that brought a token.
    recent: [u32; RECENT],
    /// The index of the next one.
    next: u8,
    /// The slowest that has failed since.
    failed: u32,
}

impl Paces {
    /// A fetch has brought a token, by an exchange of its own.
    pub(crate) fn worked(&mut self, took: Duration) {
        self.recent[usize::from(self.next)] = millis(took);
        self.next = (self.next + 1) % RECENT as u8;
    }

    /// A fetch has failed. The next one gets more time, in case the timeout was too short.
    pub(crate) fn failed(&mut self, took: Duration) {
        self.failed = self.failed.max(millis(took));
    }

    /// A fetch has worked again.
    pub(crate) fn recovered(&mut self) {
        self.failed = 0;
    }

    /// `longest`: how long an exchange may take at most.
    pub(crate) fn pace(&self, longest: Duration) -> Pace {
        let slowest = self.recent.iter().copied().max().unwrap_or_default();
        let duration = |millis: u32| Duration::from_millis(millis.into());
        Pace { slowest: duration(slowest), failed: duration(self.failed).min(longest), longest }
    }
}

fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// How many fetches are recent: enough to remember a slow phase for a while, few enough to forget it.
const RECENT: usize = 8;
