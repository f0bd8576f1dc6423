//! The lease, the grace and the last resort: the options of an owner, and their defaults.

use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) last_resort: bool,
    pub(crate) lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { grace: GRACE, last_resort: true, lease: LEASE }
    }
}

impl Options {
    pub(crate) fn set_lease(&mut self, time: Duration) {
        self.lease = time.clamp(SHORTEST_LEASE, LONGEST_LEASE);
    }
}

/// What Okta allows at most, and twice what an exchange may take.
const GRACE: Duration = Duration::from_secs(60);

/// Long enough for a few round trips to a store, short enough to wait for when its holder dies.
const LEASE: Duration = Duration::from_secs(1);

/// Nobody waits longer for somebody who is dead.
const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// It is prolonged every third of it.
const SHORTEST_LEASE: Duration = Duration::from_millis(30);
