//! What is due by the clock: the end of a token, a warning, the next fetch and its reason.

use std::time::{Duration, SystemTime};

use super::{Decider, InFlight};
use crate::{
    FetchReason, FetchRequest,
    clock::Moment,
    live::{
        doubt::Doubt,
        schedule::{self, Left, Retry},
    },
};

impl Decider {
    /// Whether the current token expires now: `true` once.
    pub(crate) fn expire(&mut self, now: Moment) -> bool {
        match &mut self.held {
            Some(held) if !held.expired && held.expires_at.is_some_and(|end| end <= now) => {
                held.expired = true;
                self.doubt = Doubt::default();
                true
            }
            _ => false,
        }
    }

    /// Whether to warn now that the user must authorize again soon, and how soon: once for each end.
    pub(crate) fn warn_of_authorization(&mut self, now: Moment) -> Option<Duration> {
        let authorization = self.held.as_mut()?.authorization.as_mut()?;
        authorization.warns(now).then(|| authorization.ends.since(now))
    }

    /// Compares with the wall clock. If the token has expired by the wall clock but not by elapsed time, the machine may have been
    /// suspended without counting that. The token stays in use, but is renewed. Only once for each token: the wall clock may be wrong.
    pub(crate) fn compare_with_wall(&mut self, now: Moment, wall: SystemTime) {
        if let Some(held) = &mut self.held
            && held.wall_end.is_some_and(|end| end <= wall)
        {
            held.wall_end = None;
            held.refresh_at = held.refresh_at.map(|at| at.min(now));
        }
    }

    /// When the next fetch begins, and why.
    pub(crate) fn next_fetch(&self, now: Moment) -> Option<(Moment, FetchReason)> {
        if self.stopped || self.in_flight.is_some() {
            return None;
        }
        let spaced = |at: Moment| self.not_before.map_or(at, |not_before| not_before.max(at));
        let changed = self.source_changed.then(|| {
            // A person may wait for this, so it begins at once. But a source that reports changes all the time causes only one fetch a
            // second.
            let at = self.fetched_change_at.map_or(now, |last| now.max(last + schedule::gap(None)));
            (at, FetchReason::Changed)
        });
        let asked = self.wants_refresh.then(|| {
            // `refresh` was called. It keeps the gap between fetches, but doesn't wait for the end of a backoff.
            let distance = schedule::gap(self.held_lifetime());
            let at = self.last_began.map_or(now, |began| now.max(began + distance));
            (spaced(at), FetchReason::Asked)
        });
        // Of two at the same moment this is the first. It brings the news as well.
        if let Some(next) = [asked, changed].into_iter().flatten().min_by_key(|(at, _)| *at) {
            return Some(next);
        }
        if self.idle.is_asleep() {
            return None;
        }
        let (at, reason) = match &self.held {
            None => (now, FetchReason::First),
            Some(_) if self.refused => (now, FetchReason::Refused),
            Some(held) => (held.refresh_at?, FetchReason::Due),
        };
        match self.retry {
            Retry::Free => Some((spaced(at), reason)),
            Retry::At(retry) => Some((spaced(at).max(retry), reason)),
            Retry::WhenTokenEnds => match (reason, &self.held) {
                (FetchReason::Due, Some(held)) => Some((spaced(at).max(held.expires_at?), reason)),
                _ => Some((spaced(at), reason)),
            },
            Retry::WhenAsked => None,
        }
    }

    /// When the task must wake up: for the next fetch, the end of the token, a warning, or a step of `doubt`.
    pub(crate) fn wake_at(&self, now: Moment) -> Option<Moment> {
        let end = self.held.as_ref().filter(|held| !held.expired).and_then(|held| held.expires_at);
        let fetch = self.next_fetch(now).map(|(at, _)| at).or_else(|| self.may_sleep_from());
        let warning = self.held.as_ref().and_then(|held| held.authorization?.warning);
        let turn = self.held.as_ref().and_then(|held| self.doubt.wake_at(held.since));
        [end, fetch, warning, turn].into_iter().flatten().min()
    }

    /// How long a fetch may take in all.
    pub(crate) fn longest_fetch(&self) -> Duration {
        schedule::longest_fetch(self.rules.longest_exchange)
    }

    /// Begins a fetch. Returns what the source is told.
    pub(crate) fn begin(&mut self, now: Moment, reason: FetchReason) -> FetchRequest {
        let after_refusal = self.refused;
        if after_refusal {
            self.refusals.fetching();
        }
        self.idle.begin(now);
        self.last_began = Some(now);
        // What is fetched for news may be the same token again, and that is no refresh.
        self.wants_refresh &= reason == FetchReason::Changed;
        self.source_changed = false;
        if reason == FetchReason::Changed {
            self.fetched_change_at = Some(now);
        }
        let after_sleep = self.idle.take_woke();
        self.in_flight = Some(InFlight { after_refusal, reason, after_sleep });
        let left = match &self.held {
            Some(held) if !held.expired => held.expires_at.map_or(Left::Unknown, |end| Left::Some(end.since(now))),
            _ => Left::Nothing,
        };
        let refused = self.held.as_ref().and_then(|held| {
            // After a 401 that is still open the token is named, even if other requests were accepted since.
            let since = held.refused_since.or(after_refusal.then_some(now))?;
            Some((held.token.clone(), now.since(since)))
        });
        let pace = self.paces.pace(self.rules.longest_exchange);
        FetchRequest::because(reason, refused, schedule::timeout(left, &pace), left == Left::Nothing)
            .longest(self.rules.longest_exchange)
    }
}
