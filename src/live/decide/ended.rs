//! What the end of a fetch means: for requests, for the schedule, for the next fetch.

use std::time::{Duration, SystemTime};

use super::{Decider, Held, InFlight, Outcome};
use crate::{
    AccessToken, FetchError, FetchReason, backoff,
    clock::Moment,
    live::{
        doubt::{Before, Doubt, Trust, YOUNG},
        schedule::{self, Authorization, Retry},
    },
};

/// A token this old existed before the refusal for which it was fetched.
const OLD: Duration = Duration::from_secs(30);

impl Decider {
    /// Takes in the result of a fetch.
    pub(crate) fn finish(
        &mut self,
        now: Moment,
        wall: SystemTime,
        fetched: Result<AccessToken, FetchError>,
    ) -> Outcome<'_> {
        let Some(flight) = self.in_flight.take() else { return Outcome::Unchanged };
        self.refused = false;
        let fetched = fetched.and_then(|token| self.judge(token, now));
        let known_for = self.slowest_exchange().max(now.since(self.began(now)));
        let is_old = |token: &AccessToken| {
            let is_same = self.held.as_ref().is_some_and(|held| held.token.is_same_secret(token));
            !is_same && !token.is_younger_than(known_for + OLD)
        };
        match &fetched {
            // Another process has stored it, perhaps before the API began to refuse such tokens. If it is refused too, that is worth a
            // fetch at once.
            Ok((token, _)) if flight.after_refusal && is_old(token) => self.refusals.fetched_an_old_one(now),
            Ok(_) if flight.after_refusal => self.refusals.fetched(now),
            Err(_) if flight.after_refusal => self.refusals.failed(),
            _ => {}
        }
        match fetched {
            Ok((token, sent)) => self.accept(token, sent, flight, now, wall),
            Err(error) => {
                self.fail(error, flight, now);
                Outcome::Unchanged
            }
        }
    }

    /// The token, and when its lifetime began. An error if it has expired already.
    fn judge(&self, token: AccessToken, now: Moment) -> Result<(AccessToken, Moment), FetchError> {
        let sent = match (token.age_when_fetched(), &self.held) {
            (Some(age), _) => now.back(age),
            // The same token with the same lifetime: the lifetime goes on and doesn't begin again.
            (None, Some(held))
                if held.token.is_same_secret(&token)
                    && token
                        .lifetime()
                        .is_some_and(|lifetime| !lifetime.is_zero() && held.token.lifetime() == Some(lifetime)) =>
            {
                held.sent
            }
            (None, _) => self.began(now),
        };
        match self.lifetime(&token) {
            Some(lifetime) if sent + lifetime <= now => Err(FetchError::try_again(format!(
                "the token had expired when it arrived: its lifetime of {lifetime:?} began {:?} before",
                now.since(sent)
            ))),
            _ => Ok((token, sent)),
        }
    }

    /// The lifetime of the token, known or assumed; `None` if it gets no timer.
    fn lifetime(&self, token: &AccessToken) -> Option<Duration> {
        let known = token.lifetime().filter(|lifetime| !lifetime.is_zero());
        schedule::timed(known.or(self.rules.assumed_lifetime))
    }

    /// When the fetch began that ends now.
    fn began(&self, now: Moment) -> Moment {
        self.last_began.unwrap_or(now)
    }

    fn slowest_exchange(&self) -> Duration {
        self.paces.pace(self.rules.longest_exchange).slowest
    }

    pub(super) fn held_lifetime(&self) -> Option<Duration> {
        self.held.as_ref().and_then(|held| self.lifetime(&held.token))
    }

    fn accept(
        &mut self,
        token: AccessToken,
        sent: Moment,
        flight: InFlight,
        now: Moment,
        wall: SystemTime,
    ) -> Outcome<'_> {
        let began = self.began(now);
        // If the exchange was an earlier one, this fetch doesn't show how slow exchanges are.
        if sent >= began {
            // A suspend during the fetch doesn't make exchanges slow.
            self.paces.worked(now.since(began).min(self.longest_fetch()));
        }
        self.paces.recovered();
        let pace = self.paces.pace(self.rules.longest_exchange);

        let lifetime = self.lifetime(&token);
        let renewal = self.rules.renewal;
        let plan = lifetime.map(|lifetime| schedule::plan(sent, lifetime, renewal, &pace, &mut self.rng));
        let recheck = token.recheck_period().map(|period| now + period);
        let authorization = token.authorization_left().map(|left| {
            let before = self.held.as_ref().and_then(|held| held.authorization);
            Authorization::plan(now, now.since(began), left, token.authorization_whole(), before)
        });
        let expires_at = plan.map(|plan| plan.expires_at);
        let mut refresh_at = plan.map(|plan| plan.refresh_at);

        let previous = self.held.as_ref();
        let same = previous.is_some_and(|held| held.token.is_same_secret(&token));
        if !same || flight.reason == FetchReason::Asked {
            // Calls of `refresh` while it was under way wanted another token, and this is one. A look at the store that brings the same one
            // is no refresh.
            self.wants_refresh = false;
        }
        let unchanged = same && previous.is_some_and(|held| !held.expired && held.expires_at == expires_at);
        let refused_since = previous.filter(|_| same).and_then(|held| held.refused_since);
        let was_ever_refused = same && previous.is_some_and(|held| held.was_ever_refused);
        if flight.reason == FetchReason::Due && previous.is_none_or(|held| !held.was_ever_refused) {
            self.refusals.over();
            self.ended_by_issue = false;
        }
        let since = previous.filter(|_| same).map_or(now, |held| held.since);
        if !same {
            let proven = self.doubt.take_proven(now);
            let present = self.held.take().filter(|held| !held.expired).map(|held| Before {
                was_refused: held.refused_since.is_some() || self.doubt.is_unsettled(),
                token: held.token,
                generation: self.generation,
                expires_at: held.expires_at,
                was_accepted: false,
            });
            let before = proven.or(present).filter(|_| !self.ended_by_issue);
            // Its age counts from the token request. A slow exchange, of this process or of another that this one waited for, must not make
            // it old.
            let known_for = pace.slowest.max(now.since(began));
            let is_fresh = token.is_younger_than(known_for + YOUNG);
            let trust = match flight.after_refusal {
                _ if !is_fresh => Trust::Proven,
                true => Trust::Wary,
                false => Trust::Untried,
            };
            (self.doubt, self.turn) = (Doubt::replaced(before, trust), None);
            self.generation.0 += 1;
        } else if let (Some(end), Some(lifetime)) = (expires_at, lifetime)
            && previous.and_then(|held| held.expires_at).is_some_and(|before| end <= before)
        {
            refresh_at = Some(now + schedule::again(end.since(now), lifetime, &mut self.rng));
        }
        let gap = schedule::gap(lifetime);
        let left = expires_at.filter(|_| !same && sent < began).map(|end| end.since(now));
        let sooner = left.map(|left| schedule::gap_after(lifetime, left)).filter(|sooner| *sooner < gap);
        // Only once until a token arrives that isn't near its end: a source may have no others.
        let was_late = std::mem::replace(&mut self.was_late, sooner.is_some());
        self.not_before = Some(began + sooner.filter(|_| !was_late).unwrap_or(gap));
        self.retry = Retry::Free;
        self.failures = 0;
        self.failure = None;
        let doubted = self.doubted() == self.generation;
        let held = self.held.insert(Held {
            token,
            since,
            sent,
            refresh_at: [refresh_at, recheck].into_iter().flatten().min(),
            expires_at,
            authorization,
            wall_end: expires_at.and_then(|end| wall.checked_add(end.since(now))),
            expired: false,
            refused_since,
            was_ever_refused,
        });
        // While the previous token is carried in its place, it isn't published.
        if unchanged || self.doubt.stand_in().is_some() {
            Outcome::Unchanged
        } else {
            let (token, expires_at) = (&held.token, held.expires_at);
            Outcome::Publish { token, generation: self.generation, expires_at, doubted }
        }
    }

    fn fail(&mut self, error: FetchError, flight: InFlight, now: Moment) {
        let started = self.began(now);
        self.failures = self.failures.saturating_add(1);
        self.paces.failed(now.since(started));
        if let Some(held) = &mut self.held {
            // Another token is wanted, whatever the schedule of this one says. So a fetch stays due until one works.
            held.refresh_at = Some(held.refresh_at.map_or(now, |at| at.min(now)));
        }
        let lifetime = self.held_lifetime();
        // After a 401 there is a backoff, even if other requests were accepted meanwhile. Otherwise the next 401 would cause a fetch at once.
        let in_use = !flight.after_refusal
            && self.held.as_ref().is_some_and(|held| !held.expired && held.refused_since.is_none());
        self.retry = match backoff::after_failure(&error, self.failures, lifetime, &mut self.rng) {
            Some(_) if error.waits_for_token_end() && in_use => Retry::WhenTokenEnds,
            Some(wait) => Retry::At(now + backoff::left(&error, wait, now.since(started))),
            None => Retry::WhenAsked,
        };
        self.failure = Some(error);
    }
}
