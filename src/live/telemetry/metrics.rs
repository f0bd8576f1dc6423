//! The metrics of the live tokens that have a name.
//!
//! Recorders are the user's code. A panic in one must not end the task or fail a request.

use std::{sync::Arc, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::{FETCHED, Gauges, Telemetry, outcome, storage_word};
use crate::{FetchErrorKind, State, Storage, panics::contained};

/// How often the gauges are written that change with time.
pub(super) const BEAT: Option<Duration> = Some(Duration::from_secs(1));

/// Describes the metrics, and writes the counters with 0: if a series began with 1, no rate would count that 1. A recorder that is
/// installed later gets neither.
pub(super) fn begin(telemetry: &Telemetry) {
    measure(telemetry, |name| {
        describe_gauge!(HEADROOM, Unit::Seconds, "How long requests go on if no fetch works from now on.");
        describe_gauge!(EXPIRATION, Unit::Seconds, "When the valid token expires, or the last one expired.");
        describe_gauge!(AGE, Unit::Seconds, "How long ago the current token came.");
        describe_gauge!(STATE, "1 for the state of the live token, 0 for the others.");
        describe_gauge!(STORAGE, "1 for the storage of the source, 0 for the others.");
        describe_counter!(FETCHES, "Fetches that have ended.");
        describe_counter!(REFUSALS, "401s of the API for this token.");
        describe_counter!(RECOVERIES, "Requests that were sent again after a 401, and accepted.");
        describe_histogram!(FETCH_DURATION, Unit::Seconds, "How long fetches took.");
        describe_histogram!(WAIT_DURATION, Unit::Seconds, "How long requests waited for a token.");
        for outcome in OUTCOMES {
            counter!(FETCHES, "token" => name.clone(), "outcome" => outcome).increment(0);
        }
        counter!(REFUSALS, "token" => name.clone()).increment(0);
        counter!(RECOVERIES, "token" => name.clone()).increment(0);
    });
}

pub(super) fn set(telemetry: &Telemetry, gauges: &Gauges) {
    measure(telemetry, |name| {
        write(name, gauges.headroom, gauges.expiration, gauges.age, Some((gauges.state, gauges.storage)))
    });
}

pub(super) fn leave(telemetry: &Telemetry) {
    measure(telemetry, |name| write(name, f64::NAN, f64::NAN, f64::NAN, None));
}

fn write(name: &Arc<str>, headroom: f64, expiration: f64, age: f64, now: Option<(State, Storage)>) {
    gauge!(HEADROOM, "token" => name.clone()).set(headroom);
    gauge!(EXPIRATION, "token" => name.clone()).set(expiration);
    gauge!(AGE, "token" => name.clone()).set(age);
    for state in STATES {
        let is_now = now.is_some_and(|now| now.0 == state);
        gauge!(STATE, "token" => name.clone(), "state" => word(state)).set(f64::from(u8::from(is_now)));
    }
    for storage in STORAGES {
        let is_now = now.is_some_and(|now| now.1 == storage);
        gauge!(STORAGE, "token" => name.clone(), "storage" => storage_word(storage)).set(f64::from(u8::from(is_now)));
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Live => "live",
        State::Failing => "failing",
        State::Expired => "expired",
        State::Asleep => "asleep",
        State::Rejected => "rejected",
        State::ReauthorizationRequired => "reauthorization_required",
        State::Stopped => "stopped",
    }
}

pub(super) fn fetched(telemetry: &Telemetry, outcome: &'static str, took: Duration) {
    measure(telemetry, |name| {
        counter!(FETCHES, "token" => name.clone(), "outcome" => outcome).increment(1);
        histogram!(FETCH_DURATION, "token" => name.clone()).record(took);
    });
}

pub(super) fn waited(telemetry: &Telemetry, why: &'static str, ended: &'static str, waited: Duration) {
    measure(telemetry, |name| {
        histogram!(WAIT_DURATION, "token" => name.clone(), "why" => why, "ended" => ended).record(waited);
    });
}

pub(super) fn refused(telemetry: &Telemetry) {
    measure(telemetry, |name| counter!(REFUSALS, "token" => name.clone()).increment(1));
}

pub(super) fn recovered(telemetry: &Telemetry) {
    measure(telemetry, |name| counter!(RECOVERIES, "token" => name.clone()).increment(1));
}

/// Calls the recorder, if the live token has a name.
fn measure(telemetry: &Telemetry, tell: impl FnOnce(&Arc<str>)) {
    if let Some(name) = &telemetry.name {
        contained(|| tell(name));
    }
}

/// All states. Without a new one `word` doesn't compile; add it here, too.
const STATES: [State; 8] = [
    State::Starting,
    State::Live,
    State::Failing,
    State::Expired,
    State::Asleep,
    State::Rejected,
    State::ReauthorizationRequired,
    State::Stopped,
];

/// All of them. Without a new one `storage_word` doesn't compile; add it here, too.
const STORAGES: [Storage; 3] = [Storage::Sound, Storage::Unreachable, Storage::Unsaved];

const OUTCOMES: [&str; 4] = [
    FETCHED,
    outcome(FetchErrorKind::TryAgain),
    outcome(FetchErrorKind::Rejected),
    outcome(FetchErrorKind::ReauthorizationRequired),
];

const HEADROOM: &str = "tower_bearer_headroom_seconds";
const EXPIRATION: &str = "tower_bearer_expiration_timestamp_seconds";
const AGE: &str = "tower_bearer_generation_age_seconds";
const STATE: &str = "tower_bearer_state";
const STORAGE: &str = "tower_bearer_storage";
const FETCHES: &str = "tower_bearer_fetches_total";
const REFUSALS: &str = "tower_bearer_refusals_total";
const RECOVERIES: &str = "tower_bearer_recoveries_total";
const FETCH_DURATION: &str = "tower_bearer_fetch_duration_seconds";
const WAIT_DURATION: &str = "tower_bearer_wait_duration_seconds";
