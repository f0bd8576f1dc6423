//! Which 401s cause a fetch: pure.

use crate::{backoff, clock::Moment};

/// How the fetches fared that 401s caused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// How many in a row, none of which was seen to help.
    streak: u32,
    /// Until then 401s cause no fetch.
    paused_until: Option<Moment>,
    /// A token was accepted after others were refused with it: then it isn't the token that some of them refuse.
    contradicted: bool,
    /// One has brought a token that was there before the refusal.
    was_old: bool,
}

impl Refusals {
    /// A fetch begins because of one.
    pub(crate) fn fetching(&mut self) {
        self.streak = self.streak.saturating_add(1);
    }

    /// It has brought a token.
    pub(crate) fn fetched(&mut self, now: Moment) {
        self.paused_until = Some(now + backoff::after_refusal(self.streak));
    }

    /// It has brought no new token: that says nothing about what one would have helped.
    pub(crate) fn failed(&mut self) {
        self.streak = self.streak.saturating_sub(1);
    }

    /// It has brought a token that was there before, and that may be refused as well: worth another fetch at once, but only once, because
    /// a source may bring nothing else.
    pub(crate) fn fetched_an_old_one(&mut self, now: Moment) {
        match std::mem::replace(&mut self.was_old, true) {
            false => self.failed(),
            true => self.fetched(now),
        }
    }

    pub(crate) fn are_paused(&self, now: Moment) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// A request that had asked for the token was sent again with it, and accepted.
    pub(crate) fn helped(&mut self) {
        (self.streak, self.paused_until, self.was_old) = (0, None, false);
    }

    /// A request was accepted that was sent for the first time. `refused`: with a token that was refused before.
    pub(crate) fn accepted(&mut self, refused: bool) {
        self.contradicted |= refused;
        if !self.contradicted {
            self.helped();
        }
    }

    /// Some accept a token that others refuse.
    pub(crate) fn contradict(&mut self) {
        self.contradicted = true;
    }

    /// A whole life without a 401: whatever was wrong is over.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Whether it is news that a first attempt was accepted.
    pub(crate) fn wants_to_know(&self) -> bool {
        self.streak > 0 && !self.contradicted
    }
}
