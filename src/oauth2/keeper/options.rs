//! The lease, the grace and the last resort: the options of [`Stored`](crate::oauth2::Stored), and their defaults. `lease` and `plan` read
//! them.

use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// How long a refresh token that may be spent is sent again.
    pub(crate) grace: Duration,
    /// Whether it is sent once more after that, when the access token can no longer be used.
    pub(crate) last_resort: bool,
    /// How long a lease lasts that isn't renewed, at least.
    pub(crate) lease: Duration,
    /// The user chose it, so it isn't longer after stops of the machine.
    pub(crate) is_lease_fixed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { grace: GRACE, last_resort: true, lease: LEASE, is_lease_fixed: false }
    }
}

impl Options {
    pub(crate) fn set_lease(&mut self, time: Duration) {
        self.lease = time.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        self.is_lease_fixed = true;
    }
}

/// Okta's maximum, and twice the time limit of an exchange.
const GRACE: Duration = Duration::from_secs(60);

/// Long enough for a few round trips to a store, and short enough to wait for when the holder dies.
const LEASE: Duration = Duration::from_secs(1);

/// Nobody waits longer for a holder that has died.
const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// A lease is renewed three times in its length, and a timer needs some milliseconds for that.
const SHORTEST_LEASE: Duration = Duration::from_millis(30);
