//! What the task does next: all rules for the life of a token. Nothing here waits or reads a clock.
//!
//! `demands` takes in what handles ask for, `next` says when the next fetch begins, and `ended` what a fetch has brought.

use std::time::SystemTime;

use fastrand::Rng;

use super::{
    cell::Generation,
    demand::Progress,
    doubt::{Doubt, Turn},
    idle::Idle,
    pace::Paces,
    refusals::Refusals,
    schedule::{Authorization, Retry, Rules},
    status::{Snapshot, State},
};
use crate::{AccessToken, FetchError, FetchErrorKind, FetchReason, Storage, clock::Moment};

mod demands;
mod ended;
mod next;

/// The state behind the decisions. The task reports what has happened and asks what to do.
#[derive(Debug)]
pub(crate) struct Decider {
    rng: Rng,
    rules: Rules,
    held: Option<Held>,
    generation: Generation,
    in_flight: Option<InFlight>,
    /// When the last fetch began.
    last_began: Option<Moment>,
    /// The end of the gap after the last fetch that brought a token.
    not_before: Option<Moment>,
    /// The last token was near its end when it arrived.
    was_late: bool,
    retry: Retry,
    failures: u32,
    failure: Option<FetchError>,
    paces: Paces,
    /// `refresh` was called, and no fetch has begun since.
    wants_refresh: bool,
    /// The source has changed, and no fetch has begun since.
    source_changed: bool,
    /// When the last fetch began that this caused.
    fetched_change_at: Option<Moment>,
    /// The token that requests carry was refused, and another one is fetched for that.
    refused: bool,
    /// The low bits of the number of the last refusal that was taken in.
    last_refusal: u32,
    refusals: Refusals,
    doubt: Doubt,
    /// The API refused the previous token when it was carried again: this server ends a token when it issues the next one.
    ended_by_issue: bool,
    /// What `doubt` asks for and nobody has done yet.
    turn: Option<Turn>,
    storage: Storage,
    idle: Idle,
    stopped: bool,
}

/// The current token. It may have expired.
#[derive(Debug)]
struct Held {
    token: AccessToken,
    /// When it arrived.
    since: Moment,
    /// When its lifetime began.
    sent: Moment,
    refresh_at: Option<Moment>,
    expires_at: Option<Moment>,
    /// When the user must authorize again.
    authorization: Option<Authorization>,
    /// When it expires by the wall clock.
    wall_end: Option<SystemTime>,
    expired: bool,
    /// Since when the API refuses it. An acceptance ends that.
    refused_since: Option<Moment>,
    /// The API has ever refused it.
    was_ever_refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    after_refusal: bool,
    reason: FetchReason,
    /// The token was asleep before.
    after_sleep: bool,
}

/// What requests carry after a fetch.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Requests carry this from now on, until it expires. `doubted`: its first acceptance must be reported.
    Publish { token: &'a AccessToken, generation: Generation, expires_at: Option<Moment>, doubted: bool },
    /// The same as before.
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
            idle: Idle::after(rules.idle_after),
            stopped: false,
        }
    }

    /// The source has changed.
    pub(crate) fn source_changed(&mut self) {
        self.source_changed = true;
    }

    /// The source says whether its tokens are stored. Returns whether that has changed.
    pub(crate) fn stored(&mut self, storage: Storage) -> bool {
        std::mem::replace(&mut self.storage, storage) != storage
    }

    /// Whether the source has changed and no fetch has begun since.
    pub(crate) fn is_changed(&self) -> bool {
        self.source_changed
    }

    /// Whether `refresh` was called, and no fetch has done that since.
    pub(crate) fn wants_refresh(&self) -> bool {
        self.wants_refresh
    }

    /// Somebody uses the token, or waits for one.
    pub(crate) fn used(&mut self, now: Moment) {
        let woken = self.idle.used(now);
        if woken && matches!(self.retry, Retry::WhenAsked) {
            // While it was asleep, its source was not heard. Whatever failed before, it may have got something new.
            self.source_changed = true;
        }
    }

    /// The source has changed while the token was asleep. Nobody uses it for that.
    pub(crate) fn rouse(&mut self) -> bool {
        self.idle.rouse()
    }

    /// Whether the token may fall asleep now, unless somebody has used it since: instead of a fetch that is due, or because no token is
    /// valid and nothing is planned.
    pub(crate) fn may_sleep(&self, now: Moment) -> bool {
        let from = match self.next_fetch(now) {
            Some((at, reason)) => self.idle.may_sleep_from(Some(self.unattended(reason))).map(|from| from.max(at)),
            None => self.may_sleep_from(),
        };
        from.is_some_and(|from| from <= now)
    }

    /// A token that was refused and has expired since is one that has expired: who still waits for another one is counted.
    fn unattended(&self, reason: FetchReason) -> FetchReason {
        let is_over = self.held.as_ref().is_some_and(|held| held.expired);
        if reason == FetchReason::Refused && is_over { FetchReason::Due } else { reason }
    }

    /// From when it may sleep if no fetch is planned.
    fn may_sleep_from(&self) -> Option<Moment> {
        let is_usable = self.held.as_ref().is_some_and(|held| !held.expired);
        let has_nothing_to_do = !self.stopped && self.in_flight.is_none() && !is_usable;
        has_nothing_to_do.then(|| self.idle.may_sleep_from(None)).flatten()
    }

    /// The token isn't renewed until somebody uses it.
    pub(crate) fn sleep(&mut self) {
        self.idle.sleep();
    }

    /// Whether the token isn't renewed because nobody uses it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.idle.is_asleep()
    }

    /// Whether nothing is fetched any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The generation of the current token. It may have expired.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// How many fetches have failed since the last one that worked, and why the last one failed.
    pub(crate) fn failures(&self) -> (u32, Option<&FetchError>) {
        (self.failures, self.failure.as_ref())
    }

    /// Whether the task has nothing left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped && self.in_flight.is_none() && self.held.as_ref().is_none_or(|held| held.expired)
    }

    /// What handles see.
    pub(crate) fn snapshot(&self, now: Moment, progress: Progress) -> Snapshot {
        let usable = self.held.as_ref().is_some_and(|held| !held.expired);
        let authorization = self.held.as_ref().and_then(|held| held.authorization);
        let state = match (&self.failure, usable) {
            _ if self.stopped => State::Stopped,
            (Some(failure), _) if failure.kind() == FetchErrorKind::Rejected => State::Rejected,
            (Some(failure), _) if failure.kind() == FetchErrorKind::ReauthorizationRequired => {
                State::ReauthorizationRequired
            }
            _ if self.idle.is_asleep() => State::Asleep,
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
            hopeful: self.in_flight.is_some_and(|flight| {
                flight.after_sleep || matches!(flight.reason, FetchReason::Asked | FetchReason::Changed)
            }),
            in_use: self.in_use(),
            doubting: self.doubt.is_open(),
            tries: self.doubt.tries(),
            progress,
        }
    }
}

#[cfg(test)]
mod tests;
