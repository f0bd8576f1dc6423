//! Whether a token is renewed that nobody may need: pure. The cell notices that a request carries a token; the task asks here whether it
//! may let the token rest.

use std::time::Duration;

use crate::{FetchReason, clock::Moment};

/// When the token was used, and whether it is asleep: whether it isn't renewed because nobody uses it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    /// After this long without use it isn't renewed. `None`: it is always renewed.
    limit: Option<Duration>,
    /// When it was used last, or later: of each token only the first use is noticed.
    used_at: Option<Moment>,
    asleep: bool,
    /// It has woken, and no fetch has begun since.
    woke: bool,
}

impl Idle {
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The first fetch begins: somebody made the live token in order to use it.
    pub(crate) fn begin(&mut self, now: Moment) {
        self.used_at.get_or_insert(now);
    }

    /// Whether the fetch that begins now is the first since the token woke.
    pub(crate) fn take_woke(&mut self) -> bool {
        std::mem::take(&mut self.woke)
    }

    /// Somebody uses the token, or waits for one. Returns whether that ends its sleep.
    pub(crate) fn used(&mut self, now: Moment) -> bool {
        self.used_at = Some(now);
        self.rouse()
    }

    /// Something has happened to the source. Nobody uses the token for that, but a fetch must follow. Returns whether it was asleep.
    pub(crate) fn rouse(&mut self) -> bool {
        let woke = std::mem::take(&mut self.asleep);
        self.woke |= woke;
        woke
    }

    /// From when a fetch for this reason may be left out, unless somebody uses the token before. `None` as the reason: no token is valid,
    /// and nothing is planned.
    pub(crate) fn may_sleep_from(&self, reason: Option<FetchReason>) -> Option<Moment> {
        // Whoever woke it wanted a token, even if it waits no more.
        let (limit, used_at) = (self.limit.filter(|_| !self.asleep && !self.woke)?, self.used_at?);
        match reason {
            None => Some(used_at + limit.max(LEAST)),
            Some(FetchReason::First | FetchReason::Due) => Some(used_at + limit),
            // Somebody asks for these.
            Some(_) => None,
        }
    }

    pub(crate) fn sleep(&mut self) {
        self.asleep = true;
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }
}

/// So that the task doesn't turn in a circle while somebody waits in vain.
const LEAST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn only_a_fetch_that_nobody_asks_for_is_left_out_and_only_after_the_limit() {
        let start = Moment::EARLY;
        let mut idle = Idle::after(Some(LIMIT));
        assert_eq!(idle.may_sleep_from(Some(FetchReason::First)), None, "the first fetch always begins");
        idle.begin(start);
        idle.begin(start + LIMIT);
        for (reason, may) in [
            (None, true),
            (Some(FetchReason::First), true),
            (Some(FetchReason::Due), true),
            (Some(FetchReason::Refused), false),
            (Some(FetchReason::Asked), false),
            (Some(FetchReason::Changed), false),
        ] {
            assert_eq!(idle.may_sleep_from(reason), may.then_some(start + LIMIT), "{reason:?}");
        }
        let mut always = Idle::after(None);
        always.begin(start);
        assert_eq!(always.may_sleep_from(Some(FetchReason::Due)), None);
    }

    #[test]
    fn a_use_ends_the_sleep_once() {
        let mut idle = Idle::after(Some(LIMIT));
        idle.begin(Moment::EARLY);
        idle.sleep();
        assert!(idle.is_asleep());
        assert_eq!(idle.may_sleep_from(None), None, "it sleeps");
        assert!(idle.used(Moment::EARLY + LIMIT) && !idle.is_asleep());
        assert_eq!(idle.may_sleep_from(None), None, "a fetch comes first");
        assert!(idle.take_woke() && !idle.take_woke());
        assert!(!idle.used(Moment::EARLY + LIMIT));
        assert_eq!(idle.may_sleep_from(None), Some(Moment::EARLY + 2 * LIMIT));
    }
}
