//! What the task does next: all rules of a token's life, without waiting and without reading a clock.
//!
//! What was asked for is in `demands`, when the next fetch begins in `next`, and what a fetch has brought in `ended`.

use std::time::SystemTime;

use fastrand::Rng;

use super::{
    cell::Generation,
    demand::Progress,
    doubt::{Doubt, Turn},
    pace::Paces,
    refusals::Refusals,
    schedule::{Authorization, Retry, Rules},
    status::{Snapshot, State},
};
use crate::{AccessToken, FetchError, FetchErrorKind, FetchReason, Storage, clock::Moment};

mod demands;
mod ended;
mod next;

/// The state behind the decisions. The task tells it what happened and asks what to do.
#[derive(Debug)]
pub(crate) struct Decider {
    rng: Rng,
    rules: Rules,
    held: Option<Held>,
    generation: Generation,
    in_flight: Option<InFlight>,
    /// When the last fetch began.
    last_began: Option<Moment>,
    /// Until then the last fetch that brought a token keeps its distance from the next.
    not_before: Option<Moment>,
    /// The last token was near its end when it came.
    was_late: bool,
    retry: Retry,
    failures: u32,
    failure: Option<FetchError>,
    paces: Paces,
    /// Somebody called `refresh`, and no fetch has begun since.
    wants_refresh: bool,
    /// The source says that it has something new, and no fetch has begun since.
    source_changed: bool,
    /// When the last fetch began that was due to that.
    fetched_change_at: Option<Moment>,
    /// The token in use was refused, and another one is fetched for that.
    refused: bool,
    /// The end of the number of the refusal that was taken in last.
    last_refusal: u32,
    refusals: Refusals,
    doubt: Doubt,
    /// The token before was good for nothing when it was to stand in: this server ends one with the issue of the next.
    ended_by_issue: bool,
    /// What the doubt asks for, not done yet.
    turn: Option<Turn>,
    storage: Storage,
    stopped: bool,
}

/// The token in use.
#[derive(Debug)]
struct Held {
    token: AccessToken,
    /// When it came.
    since: Moment,
    /// When its life began.
    sent: Moment,
    refresh_at: Option<Moment>,
    expires_at: Option<Moment>,
    /// When the user must authorize again.
    authorization: Option<Authorization>,
    /// When it ends by the wall clock.
    wall_end: Option<SystemTime>,
    expired: bool,
    /// And nobody has seen it accepted since.
    was_refused: bool,
    /// At any time.
    was_ever_refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    started: Moment,
    after_refusal: bool,
    reason: FetchReason,
}

/// What a finished fetch means for requests.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Requests carry this from now on, until then; `doubted`: it is news if they are accepted.
    Publish { token: &'a AccessToken, generation: Generation, expires_at: Option<Moment>, doubted: bool },
    /// They go on as before.
    Unchanged,
}

impl Decider {
    pub(crate) fn new(rng: Rng, rules: Rules) -> Self {
        Self {
            rng,
            rules,
            held: None,
            generation: Generation::NONE,
            in_flight: None,
            last_began: None,
            not_before: None,
            was_late: false,
            retry: Retry::Free,
            failures: 0,
            failure: None,
            paces: Paces::default(),
            wants_refresh: false,
            source_changed: false,
            fetched_change_at: None,
            refused: false,
            last_refusal: 0,
            refusals: Refusals::default(),
            doubt: Doubt::default(),
            ended_by_issue: false,
            turn: None,
            storage: Storage::Sound,
            stopped: false,
        }
    }

    /// The source says that it has something new.
    pub(crate) fn source_changed(&mut self) {
        self.source_changed = true;
    }

    /// The source says how it is with its store; whether it said otherwise before.
    pub(crate) fn stored(&mut self, storage: Storage) -> bool {
        std::mem::replace(&mut self.storage, storage) != storage
    }

    /// Whether what the source said has not been acted upon yet.
    pub(crate) fn is_changed(&self) -> bool {
        self.source_changed
    }

    /// Whether nothing is fetched any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Which token there is; it may have expired.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// How many fetches have failed since one worked, and why the last one did.
    pub(crate) fn failures(&self) -> (u32, Option<&FetchError>) {
        (self.failures, self.failure.as_ref())
    }

    /// Whether nothing will ever be done again.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped && self.in_flight.is_none() && self.held.as_ref().is_none_or(|held| held.expired)
    }

    /// What to tell the outside.
    pub(crate) fn snapshot(&self, now: Moment, progress: Progress) -> Snapshot {
        let usable = self.held.as_ref().is_some_and(|held| !held.expired);
        let authorization = self.held.as_ref().and_then(|held| held.authorization);
        let state = match (&self.failure, usable) {
            _ if self.stopped => State::Stopped,
            (Some(failure), _) if failure.kind() == FetchErrorKind::Rejected => State::Rejected,
            (Some(failure), _) if failure.kind() == FetchErrorKind::ReauthorizationRequired => {
                State::ReauthorizationRequired
            }
            (Some(_), true) => State::Failing,
            (None, true) => State::Live,
            (_, false) if self.held.is_some() => State::Expired,
            (_, false) => State::Starting,
        };
        Snapshot {
            state,
            usable,
            generation: self.generation,
            expires_at: self.held.as_ref().and_then(|held| held.expires_at),
            authorization_ends: authorization.map(|authorization| authorization.ends),
            authorization_ending: authorization.is_some_and(|authorization| authorization.warning.is_none()),
            failures: self.failures,
            failure: self.failure.clone(),
            next_fetch: self.next_fetch(now).map(|(at, _)| at),
            fetching: self.in_flight.is_some(),
            storage: self.storage,
            hopeful: self
                .in_flight
                .is_some_and(|flight| matches!(flight.reason, FetchReason::Asked | FetchReason::Changed)),
            in_use: self.in_use(),
            doubting: self.doubt.is_open(),
            tries: self.doubt.tries(),
            progress,
        }
    }
}

#[cfg(test)]
mod tests;
