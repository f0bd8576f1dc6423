//! Which 401s cause a fetch: pure.

use crate::{backoff, clock::Moment};

/// What became of the fetches that 401s caused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// How many fetches in a row were not seen to help.
    streak: u32,
    /// Until then 401s cause no fetch.
    paused_until: Option<Moment>,
    /// The API accepted a token with which it had refused other requests. So those refusals are not about the token.
    contradicted: bool,
    /// One of these fetches brought a token that existed before the refusal.
    was_old: bool,
}

impl Refusals {
    /// A fetch begins because of a 401.
    pub(crate) fn fetching(&mut self) {
        self.streak = self.streak.saturating_add(1);
    }

    /// It has brought a token.
    pub(crate) fn fetched(&mut self, now: Moment) {
        self.paused_until = Some(now + backoff::after_refusal(self.streak));
    }

    /// It has brought no token, which doesn't show whether a token would have helped.
    pub(crate) fn failed(&mut self) {
        self.streak = self.streak.saturating_sub(1);
    }

    /// It has brought a token that existed before the refusal, and that may be refused as well. That is worth another fetch at once, but
    /// only once, because the source may have nothing else.
    pub(crate) fn fetched_an_old_one(&mut self, now: Moment) {
        match std::mem::replace(&mut self.was_old, true) {
            false => self.failed(),
            true => self.fetched(now),
        }
    }

    pub(crate) fn are_paused(&self, now: Moment) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// The API accepted a request that had caused the fetch and was sent again.
    pub(crate) fn helped(&mut self) {
        (self.streak, self.paused_until, self.was_old) = (0, None, false);
    }

    /// The API accepted a request that was sent for the first time. `refused`: with a token that it had refused before.
    pub(crate) fn accepted(&mut self, refused: bool) {
        self.contradicted |= refused;
        if !self.contradicted {
            self.helped();
        }
    }

    /// Some servers or routes of the API accept a token that others refuse.
    pub(crate) fn contradict(&mut self) {
        self.contradicted = true;
    }

    /// A whole lifetime has passed without a 401: whatever was wrong is over.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Whether the acceptance of a first attempt must be reported.
    pub(crate) fn wants_to_know(&self) -> bool {
        self.streak > 0 && !self.contradicted
    }
}
