//! Whether waiting is in vain: one rule for all who wait. Pure.

use super::status::{Snapshot, State};
use crate::{ErrorKind, FetchError, FetchErrorKind, clock::Moment};

/// Who waits, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// `ready`: waits for the first token, through failures that may pass, however long they last.
    Start,
    /// A request without a token waits for one until this moment.
    Request { until: Moment },
    /// A refused request waits for another token until this moment. The number is that of its demand.
    Refused { number: u64, until: Moment },
}

impl Snapshot {
    /// Why this one waits in vain; `None` if it doesn't.
    pub(super) fn in_vain(&self, waiter: Waiter) -> Option<ErrorKind> {
        let may_bring_one = |until| self.fetching || self.next_fetch.is_some_and(|at| at <= until);
        match waiter {
            // Whatever failed before, a fetch under way may work. After `shutdown`, its token is still used.
            Waiter::Start if self.fetching => None,
            Waiter::Start => Some(self.error_kind()).filter(|kind| *kind != ErrorKind::Unavailable),
            Waiter::Request { until } => match (self.state, &self.failure) {
                (State::Stopped, _) if self.fetching => None,
                _ if self.hopeful => None,
                (State::Stopped, _) => Some(ErrorKind::Stopped),
                (_, Some(failure)) if failure.kind() != FetchErrorKind::TryAgain => Some(self.error_kind()),
                _ if may_bring_one(until) => None,
                _ => Some(ErrorKind::Unavailable),
            },
            Waiter::Refused { number, until } => {
                let is_declined = self.progress.read >= number && !self.doubting && !may_bring_one(until);
                (is_declined || self.progress.refusals_answered >= number).then_some(ErrorKind::Unavailable)
            }
        }
    }

    /// What the last failure means for a caller that needs a token.
    pub(super) fn error_kind(&self) -> ErrorKind {
        match self.state {
            State::Stopped => ErrorKind::Stopped,
            _ => self.failure_kind(),
        }
    }

    /// What the last failure means for a caller that asked for that fetch.
    pub(super) fn failure_kind(&self) -> ErrorKind {
        match self.failure.as_ref().map(FetchError::kind) {
            Some(FetchErrorKind::Rejected) => ErrorKind::Rejected,
            Some(FetchErrorKind::ReauthorizationRequired) => ErrorKind::ReauthorizationRequired,
            _ => ErrorKind::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::FetchError;

    const SOON: Moment = Moment::EARLY;

    fn after(failure: FetchError) -> Snapshot {
        Snapshot { fetching: false, failure: Some(failure), ..Snapshot::starting() }
    }

    #[test]
    fn who_waits_for_the_start_waits_through_what_may_pass_and_while_a_fetch_runs() {
        let rejected = after(FetchError::rejected("401"));
        assert_eq!(after(FetchError::try_again("503")).in_vain(Waiter::Start), None);
        assert_eq!(rejected.in_vain(Waiter::Start), Some(ErrorKind::Rejected));
        assert_eq!(Snapshot { fetching: true, ..rejected }.in_vain(Waiter::Start), None);
        let stopped = Snapshot { state: State::Stopped, ..after(FetchError::try_again("503")) };
        assert_eq!(stopped.in_vain(Waiter::Start), Some(ErrorKind::Stopped));
    }

    #[test]
    fn a_request_waits_for_a_fetch_that_begins_in_time() {
        let later = SOON + Duration::from_secs(10);
        let next = |at| Snapshot { next_fetch: Some(at), ..after(FetchError::try_again("503")) };
        assert_eq!(next(SOON).in_vain(Waiter::Request { until: SOON }), None);
        assert_eq!(next(later).in_vain(Waiter::Request { until: SOON }), Some(ErrorKind::Unavailable));
        assert_eq!(next(later).in_vain(Waiter::Request { until: later }), None);
        // Whatever the schedule says, nobody waits for something that a person must correct.
        let rejected = Snapshot { failure: Some(FetchError::rejected("401")), fetching: true, ..next(SOON) };
        assert_eq!(rejected.in_vain(Waiter::Request { until: later }), Some(ErrorKind::Rejected));
        assert_eq!(Snapshot { hopeful: true, ..rejected }.in_vain(Waiter::Request { until: later }), None);
    }

    #[test]
    fn a_refused_request_waits_until_its_demand_is_answered_or_declined() {
        let waiter = Waiter::Refused { number: 2, until: SOON };
        let mut snapshot = after(FetchError::try_again("503"));
        assert_eq!(snapshot.in_vain(waiter), None, "the task hasn't read it yet");
        snapshot.progress.read = 2;
        assert_eq!(snapshot.in_vain(waiter), Some(ErrorKind::Unavailable), "and nothing is fetched for it");
        snapshot.doubting = true;
        assert_eq!(snapshot.in_vain(waiter), None, "the current token is tried again");
        snapshot.progress.refusals_answered = 2;
        assert_eq!(snapshot.in_vain(waiter), Some(ErrorKind::Unavailable));
    }
}
