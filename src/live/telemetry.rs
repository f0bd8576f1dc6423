//! What can be seen of tokens from outside: metrics, spans and events, with all of their names.
//!
//! Everything is told under the [name](crate::Builder::name) that a token was given. The token itself is in none of it.
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
//! With the feature `metrics`, a token **that has a name** tells the [`metrics`](https://docs.rs/metrics) facade, and the recorder
//! that the program installs makes Prometheus, OpenTelemetry, StatsD … of it. A token without a name is not measured: one
//! process may hold a million of them. Each metric has the label `token`, the name; no label holds anything that a server or a
//! request said, so that a name costs 28 series at the most, whatever happens. Tokens with the same name add up in counters, and overwrite
//! each other's gauges.
//!
//! | gauge | unit | |
//! |---|---|---|
//! | `tower_bearer_headroom_seconds` | seconds | how long requests go on if no fetch works from now on: 0 without a valid token, `+Inf` if its end isn't known |
//! | `tower_bearer_expiration_timestamp_seconds` | Unix time | when the valid token ends, or when the last one ended: 0 before the first, `+Inf` if the end of a valid one isn't known |
//! | `tower_bearer_generation_age_seconds` | seconds | since when requests carry the token that was fetched last; 0 before the first |
//! | `tower_bearer_state` | 0 or 1 | with the label `state`: 1 for the [state](crate::State) the token is in, 0 for the others (`starting`, `live`, `failing`, `expired`, `rejected`, `reauthorization_required`, `stopped`) |
//! | `tower_bearer_storage` | 0 or 1 | with the label `storage`: 1 for how it is with the [store](crate::Storage) of the source, 0 for the others (`sound`, `unreachable`, `unsaved`) |
//!
//! | counter | |
//! |---|---|
//! | `tower_bearer_fetches_total` | fetches that have ended, with the label `outcome`: `fetched`, `try_again`, `rejected`, `reauthorization_required` (see [`FetchErrorKind`](crate::FetchErrorKind)) |
//! | `tower_bearer_refusals_total` | 401s of the API for this token, those to requests that were sent again included |
//! | `tower_bearer_recoveries_total` | requests that were sent again after a 401, and whose answer shows that the token was accepted: no refusal, no 5xx, no 429, nor what is that in gRPC |
//!
//! | histogram | unit | |
//! |---|---|---|
//! | `tower_bearer_fetch_duration_seconds` | seconds | how long each fetch took, failed ones included |
//! | `tower_bearer_wait_duration_seconds` | seconds | how long each request waited that found no valid token (label `why`: `no_token`) or was answered 401 (`refused`), and how that ended (label `ended`: `token`, a token to send came; `timeout`, none came within `max_wait`; `failed`, waiting was in vain; `cancelled`, the request was given up). A request that is refused several times waits several times |
//!
//! The gauges are **written every second** and with every change, so that `tower_bearer_headroom_seconds` is right to a second
//! when it is scraped, a recorder that is installed late misses nothing for long, and a step of the wall clock is made up for
//! within a second. A number that has to be written goes stale when nobody writes it, in a process that is stopped or starved of
//! processor time. Therefore set the alarm on the timestamp
//! ([Prometheus recommends it](https://prometheus.io/docs/practices/instrumentation/#timestamps-not-time-since)), which goes on
//! by itself:
//!
//! ```text
//! tower_bearer_expiration_timestamp_seconds - time() < 270
//! ```
//!
//! A token that is renewed in time always has 15 % of its life left: half of that, 270 s of an hour, is the time to worry.
//! `examples/operations.rs` has the rules whole, and a service that they fit.
//!
//! When the last handle of a token is gone, its headroom, expiration and age become `NaN`, which no alarm compares true with,
//! and all of its states 0. A token that was shut down is `stopped`, and its headroom is 0 when it has expired. With the end of its
//! runtime a token is `stopped` and its headroom 0 at once. A recorder that panics costs the measurement, nothing else.
//!
//! # Spans and events
//!
//! For [`tracing`](https://docs.rs/tracing), always. A request that finds its token leaves no trace.
//!
//! | level | span or event | fields |
//! |---|---|---|
//! | info | span `token_fetch`: around the source, so that what it and its HTTP client tell is inside | `token`, `reason` |
//! | debug | fetching a token | `token`, `reason` |
//! | debug | fetched a token | `token`, `reason`, `took_seconds`, `generation`, `fingerprint`, `failures` (those before it) |
//! | trace | fetched the same token again | `token`, `reason`, `took_seconds`, `generation` |
//! | warn | could not fetch a token | `token`, `reason`, `took_seconds`, `failures`, `headroom_seconds`, `outcome`, `error` |
//! | warn | the token has expired before another one came | `token`, `generation`, `failures` |
//! | warn | the user must authorize again soon | `token`, `left_seconds` |
//! | warn | what a source keeps is not stored as it should be | `token`, `storage` |
//! | info | what a source keeps is stored as it should be again | `token`, `storage` |
//! | warn | the API refused the token, and this request can't be sent again (once for each token) | `token`, `request` (the type) |
//! | debug | a refusal of a request that came without the token is handed on (reqwest follows redirects) | `token` |
//! | debug | the API doesn't take the new token yet | `token`, `generation` |
//! | debug | the new token is tried again | `token`, `generation` |
//! | debug | a request waited for a token | `token`, `why`, `ended`, `waited_seconds` |
//!
//! How long a request waits is measured if somebody can be told: a subscriber that wants debug events, or a recorder. What goes to
//! `log` without a subscriber, by `tracing`'s feature of that name, can't be asked, and hears of waits only for tokens that are
//! measured.
//!
//! | field | |
//! |---|---|
//! | `token` | the [name](crate::Builder::name); left out if there is none |
//! | `reason` | why a token was fetched: `first`, `due`, `refused`, `asked`, `changed` ([`FetchReason`](crate::FetchReason)) |
//! | `outcome`, `why`, `ended` | as in the metrics |
//! | `generation` | [`Status::generation`](crate::Status::generation) |
//! | `failures` | [`Status::failures`](crate::Status::failures) |
//! | `storage` | as in the metrics |
//! | `headroom_seconds` | [`Status::headroom`](crate::Status::headroom), infinite if the end isn't known |
//! | `error` | the [`FetchError`], free of secrets as far as this crate wrote it |
//! | `fingerprint` | eight hexadecimal digits that are equal for equal tokens within a process and say nothing outside of it: a hash keyed with what the process drew at random, shortened to 32 bits |

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tracing::{Level, Span, debug, enabled, info, info_span, trace, warn};

use super::{
    Shared,
    cell::Generation,
    doubt::Turn,
    status::{Snapshot, State},
};
use crate::{
    AccessToken, FetchError, FetchErrorKind, FetchReason, Storage,
    clock::{Moment, Timeline},
};

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "telemetry/unmeasured.rs"]
mod metrics;

/// Under which name a token is told of, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry {
    name: Option<Arc<str>>,
}

/// How things are, in numbers.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "written for metrics"))]
struct Gauges {
    state: State,
    storage: Storage,
    /// Seconds; infinite if the end isn't known.
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

    /// How often to [`refresh`](Self::refresh), if at all.
    pub(super) fn beat(&self) -> Option<Duration> {
        metrics::BEAT.filter(|_| self.name.is_some())
    }

    /// How things are now; `since` is when the present generation came. Called without any lock held: what is told of it may ask
    /// the token in turn.
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

    /// Nobody has the token any more.
    pub(super) fn leave(&self) {
        metrics::leave(self);
    }

    /// A fetch begins; what happens in it belongs into the span.
    pub(super) fn fetching(&self, reason: FetchReason) -> Span {
        let (token, reason) = (self.name(), reason_word(reason));
        let span = info_span!("token_fetch", token, reason);
        span.in_scope(|| debug!(token, reason, "fetching a token"));
        span
    }

    /// A fetch has ended, after `failures` others that failed, and requests carry this now.
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

    /// A fetch has failed, the last of so many.
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

    /// The API doesn't take the present token yet.
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

    /// It has become another with the source's store.
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
            "the API refused the token, and this request can't be sent again: the 401 is handed on; the replay policy \
             doesn't keep bodies of this type, or this one was beyond its limit (`replay::Buffered` keeps any up to a limit, \
             and `BearerAuthLayer::for_tonic` chooses it)"
        );
    }

    /// A request was answered 401 by somebody to whom it was not sent.
    pub(super) fn refused_elsewhere(&self) {
        let token = self.name();
        debug!(token, "a refusal of a request that came without the token is handed on");
    }

    /// Whether anybody is told how long a request waits.
    fn tells_of_waits(&self) -> bool {
        self.beat().is_some() || enabled!(Level::DEBUG)
    }

    /// A request was answered 401.
    pub(super) fn refused(&self) {
        metrics::refused(self);
    }

    /// A request that was answered 401 was sent again and accepted.
    pub(super) fn recovered(&self) {
        metrics::recovered(self);
    }
}

/// A request that waits: tells how long it did and how that ended when it is dropped, so that one that was given up counts too.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    why: &'static str,
    ended: &'static str,
    /// `None` if nobody is told: ten thousand that wait together are sent sooner without two looks at the clock each.
    began: Option<Moment>,
}

impl<'a> Waiting<'a> {
    /// It found no valid token.
    pub(super) fn without_token(shared: &'a Shared) -> Self {
        Self::new(shared, "no_token")
    }

    /// It was answered 401.
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

    /// It was too long.
    pub(super) fn timed_out(mut self) {
        self.ended = "timeout";
    }

    /// It was in vain.
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

/// Tells tokens apart within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u32);

impl Fingerprint {
    pub(crate) fn of(token: &AccessToken) -> Self {
        // SipHash under a key of 128 bits that never leaves the process: whoever knows neither can't test guesses.
        static SALT: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        #[allow(clippy::cast_possible_truncation, reason = "shortened on purpose")]
        Self(SALT.hash_one(token.expose_secret()) as u32)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The outcome of a fetch that brought a token.
const FETCHED: &str = "fetched";

/// The outcome of another.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_token_only_and_shows_none_of_it() {
        let fingerprint = |secret: &str| Fingerprint::of(&AccessToken::new(secret).unwrap()).to_string();
        assert_eq!(fingerprint("a-token"), fingerprint("a-token"));
        assert_ne!(fingerprint("a-token"), fingerprint("b-token"));
        assert_eq!(fingerprint("a-token").len(), 8);
        // Salted: what a plain hash with a known key would give is not what is shown.
        let unsalted = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
        assert_ne!(fingerprint("a-token"), format!("{:08x}", unsalted.hash_one("a-token") as u32));
    }
}
