//! Metrics, spans and events, with all of their names.
//!
//! Each of them carries the [name](crate::Builder::name) of the live token. None contains the token itself.
//!
//! ```
//! use std::time::Duration;
//! use tower_bearer::{AccessToken, LiveToken};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = AccessToken::new("secret")?.expires_in(Duration::from_secs(60));
//! let token = LiveToken::builder(source).name("agrello").spawn();
//! # let _ = token;
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! With the feature `metrics`, a live token **that has a name** is measured through the [`metrics`](https://docs.rs/metrics) facade. The
//! recorder that the program installs passes that on to Prometheus, OpenTelemetry, StatsD … A live token without a name is not measured,
//! because one process may hold a million of them. Each metric has the label `token`, the name. No label contains anything that a server or
//! a request said, so a name costs at most 29 series. Tokens with the same name add up in counters, and overwrite each other's gauges.
//!
//! | Gauge | Unit | |
//! |---|---|---|
//! | `tower_bearer_headroom_seconds` | seconds | how long requests go on if no fetch works from now on: 0 without a valid token, `+Inf` if its lifetime isn't known |
//! | `tower_bearer_expiration_timestamp_seconds` | Unix time | when the valid token expires, or when the last one expired: 0 before the first, `+Inf` if the lifetime of a valid one isn't known |
//! | `tower_bearer_generation_age_seconds` | seconds | how long ago the current token came; 0 before the first |
//! | `tower_bearer_state` | 0 or 1 | with the label `state`: 1 for the [state](crate::State) of the live token, 0 for the others (`starting`, `live`, `failing`, `expired`, `asleep`, `rejected`, `reauthorization_required`, `stopped`) |
//! | `tower_bearer_storage` | 0 or 1 | with the label `storage`: 1 for the [storage](crate::Storage) of the source, 0 for the others (`sound`, `unreachable`, `unsaved`) |
//!
//! | Counter | |
//! |---|---|
//! | `tower_bearer_fetches_total` | fetches that have ended, with the label `outcome`: `fetched`, `try_again`, `rejected`, `reauthorization_required` (see [`FetchErrorKind`](crate::FetchErrorKind)) |
//! | `tower_bearer_refusals_total` | 401s of the API for this token, also for requests that were sent again |
//! | `tower_bearer_recoveries_total` | requests that were sent again after a 401, and whose response shows that the API accepted the token: no 401, no 5xx, no 429, and nothing that means the same in gRPC |
//!
//! | Histogram | Unit | |
//! |---|---|---|
//! | `tower_bearer_fetch_duration_seconds` | seconds | how long each fetch took, failed ones included |
//! | `tower_bearer_wait_duration_seconds` | seconds | how long each request waited that found no valid token (label `why`: `no_token`) or got a 401 (`refused`), and how the wait ended (label `ended`: `token`, there was a token to send; `timeout`, there was none within `max_wait`; `failed`, waiting was in vain; `cancelled`, the request was dropped). A request that is refused several times waits several times |
//!
//! The gauges are **written every second** and with every change. So `tower_bearer_headroom_seconds` is right to a second when it is
//! scraped, a recorder that is installed late soon has all of them, and a step of the wall clock is corrected within a second. But a number
//! that has to be written goes stale if the process is stopped or gets no processor time. Therefore set alerts on the timestamp, which is
//! right without being written ([Prometheus recommends
//! it](https://prometheus.io/docs/practices/instrumentation/#timestamps-not-time-since)):
//!
//! ```text
//! tower_bearer_expiration_timestamp_seconds - time() < 270
//! ```
//!
//! A token that is renewed in time has at least 15 % of its lifetime left. Alert at half of that: 270 s for a token of an hour.
//! `examples/operations.rs` has all rules, and a service for them.
//!
//! When the last handle is gone, headroom, expiration and age become `NaN`, for which no comparison in an alert is true, and all states
//! become 0. After `shutdown` the state is `stopped`, and the headroom is 0 once the token has expired. When its runtime ends, the state is
//! `stopped` and the headroom is 0 at once. A recorder that panics loses the measurement, and nothing else happens.
//!
//! # Spans and events
//!
//! For [`tracing`](https://docs.rs/tracing), always. A request that finds a token leaves no trace.
//!
//! | level | span or event | fields |
//! |---|---|---|
//! | info | span `token_fetch`: around the source, so that it contains what the source and its HTTP client log | `token`, `reason` |
//! | debug | fetching a token | `token`, `reason` |
//! | debug | fetched a token | `token`, `reason`, `took_seconds`, `generation`, `fingerprint`, `failures` (before it) |
//! | trace | fetched the same token again | `token`, `reason`, `took_seconds`, `generation` |
//! | warn | could not fetch a token | `token`, `reason`, `took_seconds`, `failures`, `headroom_seconds`, `outcome`, `error` |
//! | warn | the token has expired before another one came | `token`, `generation`, `failures` |
//! | warn | the user must authorize again soon | `token`, `left_seconds` |
//! | warn | what a source keeps is not stored as it should be | `token`, `storage` |
//! | info | what a source keeps is stored as it should be again | `token`, `storage` |
//! | warn | the API refused the token, and this request can't be sent again (once for each live token) | `token`, `request` (the type) |
//! | warn | options of single requests can't be read from requests of this type (once for each live token) | `token`, `request` (the type) |
//! | debug | a 401 for a request that arrived without the token is returned (reqwest follows redirects) | `token` |
//! | debug | the API doesn't take the new token yet | `token`, `generation` |
//! | debug | the new token is tried again | `token`, `generation` |
//! | debug | a request waited for a token | `token`, `why`, `ended`, `waited_seconds` |
//!
//! A wait is measured only if somebody reads it: a recorder, or a subscriber that wants debug events. Without a subscriber, `tracing` can
//! pass events on to `log` (its feature `log`). Then waits are logged only for live tokens that are measured.
//!
//! | Field | |
//! |---|---|
//! | `token` | the [name](crate::Builder::name); left out if there is none |
//! | `reason` | why a token was fetched: `first`, `due`, `refused`, `asked`, `changed` ([`FetchReason`](crate::FetchReason)) |
//! | `outcome`, `why`, `ended` | as in the metrics |
//! | `generation` | [`Status::generation`](crate::Status::generation) |
//! | `failures` | [`Status::failures`](crate::Status::failures) |
//! | `storage` | as in the metrics |
//! | `headroom_seconds` | [`Status::headroom`](crate::Status::headroom), infinite if the lifetime isn't known |
//! | `error` | the [`FetchError`]. What this crate writes into it contains no secret |
//! | `fingerprint` | eight hexadecimal digits. They are equal for equal tokens within a process, and mean nothing outside of it: a hash with a random key of the process, shortened to 32 bits |

use std::{sync::Arc, time::Duration};

use tracing::{Level, Span, debug, enabled, info, info_span, trace, warn};

use super::{
    Shared,
    cell::Generation,
    doubt::Turn,
    status::{Snapshot, State},
};
use crate::{
    FetchError, FetchErrorKind, FetchReason, Storage,
    clock::{Moment, Timeline},
};

mod fingerprint;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "telemetry/unmeasured.rs"]
mod metrics;

pub(super) use fingerprint::Fingerprint;

/// The name of a live token, and how to report on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry {
    name: Option<Arc<str>>,
}

/// The status in numbers.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "written for metrics"))]
struct Gauges {
    state: State,
    storage: Storage,
    /// Seconds; infinite if the lifetime isn't known.
    headroom: f64,
    /// Unix time.
    expiration: f64,
    age: f64,
}

impl Telemetry {
    pub(super) fn new(name: Option<Arc<str>>) -> Self {
        let telemetry = Self { name };
        metrics::begin(&telemetry);
        telemetry
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn shared_name(&self) -> Option<Arc<str>> {
        self.name.clone()
    }

    /// How often to call [`refresh`](Self::refresh), if at all.
    pub(super) fn beat(&self) -> Option<Duration> {
        metrics::BEAT.filter(|_| self.name.is_some())
    }

    /// Writes the status now. `since`: when the current token came. Call it without any lock held, because a recorder may use the live
    /// token.
    pub(super) fn refresh(&self, snapshot: &Snapshot, since: Option<Moment>, time: &Timeline) {
        if self.beat().is_none() {
            return;
        }
        let now = time.now();
        let left = snapshot.expires_at.map_or(f64::INFINITY, |end| end.since(now).as_secs_f64());
        let over_for = snapshot.expires_at.map_or(0.0, |end| now.since(end).as_secs_f64());
        let wall = time.wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        metrics::set(
            self,
            &Gauges {
                state: snapshot.state,
                storage: snapshot.storage,
                headroom: if snapshot.usable { left } else { 0.0 },
                expiration: match (snapshot.usable, since) {
                    (true, _) => wall + left,
                    (false, Some(_)) => wall - over_for,
                    (false, None) => 0.0,
                },
                age: since.map_or(0.0, |since| now.since(since).as_secs_f64()),
            },
        );
    }

    /// The last handle is gone.
    pub(super) fn leave(&self) {
        metrics::leave(self);
    }

    /// A fetch begins. Everything that happens in it belongs into the span.
    pub(super) fn fetching(&self, reason: FetchReason) -> Span {
        let (token, reason) = (self.name(), reason_word(reason));
        let span = info_span!("token_fetch", token, reason);
        span.in_scope(|| debug!(token, reason, "fetching a token"));
        span
    }

    /// A fetch has worked, after `failures` others that failed.
    pub(super) fn fetched(
        &self,
        reason: FetchReason,
        took: Duration,
        generation: Generation,
        new: Option<Fingerprint>,
        failures: u32,
    ) {
        let (token, reason, took_seconds) = (self.name(), reason_word(reason), took.as_secs_f64());
        let generation = generation.0;
        match new {
            Some(fingerprint) => {
                debug!(token, reason, took_seconds, generation, %fingerprint, failures, "fetched a token");
            }
            None => trace!(token, reason, took_seconds, generation, "fetched the same token again"),
        }
        metrics::fetched(self, FETCHED, took);
    }

    /// A fetch has failed. `failures`: how many in a row.
    pub(super) fn failed(
        &self,
        reason: FetchReason,
        took: Duration,
        failures: u32,
        headroom: Duration,
        error: &FetchError,
    ) {
        let outcome = outcome(error.kind());
        let (token, reason, took_seconds) = (self.name(), reason_word(reason), took.as_secs_f64());
        let headroom_seconds = if headroom == Duration::MAX { f64::INFINITY } else { headroom.as_secs_f64() };
        warn!(token, reason, took_seconds, failures, headroom_seconds, outcome, %error, "could not fetch a token");
        metrics::fetched(self, outcome, took);
    }

    pub(super) fn expired(&self, generation: Generation, failures: u32) {
        let generation = generation.0;
        warn!(token = self.name(), generation, failures, "the token has expired before another one came");
    }

    /// The API doesn't accept the current token yet.
    pub(super) fn turned(&self, turn: Turn, generation: Generation) {
        let generation = generation.0;
        if turn == Turn::Back {
            debug!(token = self.name(), generation, "the API doesn't take the new token yet");
        } else {
            debug!(token = self.name(), generation, "the new token is tried again");
        }
    }

    pub(super) fn authorization_ends(&self, left: Duration) {
        let left_seconds = left.as_secs_f64();
        warn!(token = self.name(), left_seconds, "the user must authorize again soon");
    }

    /// The storage of the source has changed.
    pub(super) fn stored(&self, storage: Storage) {
        let token = self.name();
        let word = storage_word(storage);
        match storage {
            Storage::Sound => info!(token, storage = word, "what a source keeps is stored as it should be again"),
            _ => warn!(token, storage = word, "what a source keeps is not stored as it should be"),
        }
    }

    pub(super) fn not_replayed<R>(&self) {
        warn!(
            token = self.name(),
            request = std::any::type_name::<R>(),
            "the API refused the token, and this request can't be sent again: the 401 is returned; the replay policy \
             doesn't keep bodies of this type, or this one was longer than its limit (`replay::Buffered` keeps bodies of any type \
             up to a limit, and `BearerAuthLayer::for_tonic` chooses it)"
        );
    }

    pub(super) fn not_asked<R>(&self) {
        warn!(
            token = self.name(),
            request = std::any::type_name::<R>(),
            "options of single requests can't be read from requests of this type, so `ask_requests` has no effect: use reqwest-middleware, \
             or a second layer with other options"
        );
    }

    /// A 401 came from another server than the one that the request was sent to.
    pub(super) fn refused_elsewhere(&self) {
        let token = self.name();
        debug!(token, "a 401 for a request that arrived without the token is returned");
    }

    /// Whether anybody reads how long a request waits.
    fn tells_of_waits(&self) -> bool {
        self.beat().is_some() || enabled!(Level::DEBUG)
    }

    /// The API refused a request with a 401.
    pub(super) fn refused(&self) {
        metrics::refused(self);
    }

    /// The API accepted a request that was sent again after a 401.
    pub(super) fn recovered(&self) {
        metrics::recovered(self);
    }
}

/// A request that waits. When it is dropped, it reports how long the wait was and how it ended, so that cancelled requests count too.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    why: &'static str,
    ended: &'static str,
    /// `None` if nobody reads it: ten thousand requests that wait together are sent sooner if each doesn't read the clock twice.
    began: Option<Moment>,
}

impl<'a> Waiting<'a> {
    /// It found no valid token.
    pub(super) fn without_token(shared: &'a Shared) -> Self {
        Self::new(shared, "no_token")
    }

    /// It was refused with a 401.
    pub(super) fn after_refusal(shared: &'a Shared) -> Self {
        Self::new(shared, "refused")
    }

    fn new(shared: &'a Shared, why: &'static str) -> Self {
        let began = shared.telemetry.tells_of_waits().then(|| shared.time.now());
        Self { shared, why, ended: "cancelled", began }
    }

    /// There is a token to send.
    pub(super) fn with_token(mut self) {
        self.ended = "token";
    }

    /// The wait took too long.
    pub(super) fn timed_out(mut self) {
        self.ended = "timeout";
    }

    /// The wait was in vain.
    pub(super) fn failed(mut self) {
        self.ended = "failed";
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self { shared, why, ended, began: Some(began) } = *self else { return };
        let waited = shared.time.now().since(began);
        let token = shared.telemetry.name();
        debug!(token, why, ended, waited_seconds = waited.as_secs_f64(), "a request waited for a token");
        metrics::waited(&shared.telemetry, why, ended, waited);
    }
}

/// The outcome of a fetch that brought a token.
const FETCHED: &str = "fetched";

/// The outcome of a fetch that failed.
const fn outcome(kind: FetchErrorKind) -> &'static str {
    match kind {
        FetchErrorKind::TryAgain => "try_again",
        FetchErrorKind::Rejected => "rejected",
        FetchErrorKind::ReauthorizationRequired => "reauthorization_required",
    }
}

fn storage_word(storage: Storage) -> &'static str {
    match storage {
        Storage::Sound => "sound",
        Storage::Unreachable => "unreachable",
        Storage::Unsaved => "unsaved",
    }
}

fn reason_word(reason: FetchReason) -> &'static str {
    match reason {
        FetchReason::First => "first",
        FetchReason::Due => "due",
        FetchReason::Refused => "refused",
        FetchReason::Asked => "asked",
        FetchReason::Changed => "changed",
    }
}
