//! What handles ask of the task. Demands are numbered, so that a handle can tell when its demand was answered.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::cell::Generation;

/// The demands of all handles, for the task to read. The lock is taken in rare cases only: a 401, `refresh`, `shutdown`.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    open: Mutex<Demand>,
    wake: Notify,
}

/// What is asked for now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// The number that was assigned last.
    pub(crate) last: u64,
    /// Somebody called `refresh`, and no fetch has begun since.
    pub(crate) refresh: Option<u64>,
    pub(crate) refused: Option<Refused>,
    /// The API accepted a request that was sent again with this generation.
    pub(crate) recovered: Option<Generation>,
    /// The API accepted a request that was sent for the first time with this generation.
    pub(crate) accepted: Option<Generation>,
    /// Somebody uses the token, or waits for one.
    pub(crate) used: bool,
    /// `shutdown` was called.
    pub(crate) stop: bool,
    /// The last handle is gone.
    pub(crate) closed: bool,
}

/// The API refused this generation with a 401. All handles that report it share one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) generation: Generation,
    pub(crate) number: u64,
    /// One of the refused requests can be sent again only once, and wants another token for that.
    pub(crate) wants_another: bool,
}

/// How far the task has come: for each state of a demand, the number of the last one in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Demands that the task has read.
    pub(crate) read: u64,
    /// Refusals that were answered: by a token, by a failure, or because they cause no fetch.
    pub(crate) refusals_answered: u64,
    /// Calls of `refresh` that a fetch has answered.
    pub(crate) refreshes_answered: u64,
    /// Calls of `refresh` for which nothing is fetched any more.
    pub(crate) refreshes_declined: u64,
}

impl Demands {
    /// Asks for a fetch. Returns the number to wait for.
    pub(crate) fn refresh(&self) -> u64 {
        self.put(|demand| {
            demand.used = true;
            let number = *demand.refresh.get_or_insert(demand.last + 1);
            demand.last = demand.last.max(number);
            number
        })
    }

    /// Asks for nothing, except that the task wakes up. Returns the number to wait for.
    pub(crate) fn ping(&self) -> u64 {
        self.put(|demand| {
            demand.last += 1;
            demand.last
        })
    }

    /// Says that somebody uses the token or waits for one. Returns the number to wait for.
    pub(crate) fn want(&self) -> u64 {
        let mut demand = self.lock();
        if !demand.used {
            (demand.used, demand.last) = (true, demand.last + 1);
            self.wake.notify_one();
        }
        demand.last
    }

    /// Reports a 401 for a generation. Returns the number to wait for. `wants_another`: trying the same token again doesn't help.
    pub(crate) fn refuse(&self, generation: Generation, wants_another: bool) -> u64 {
        let mut demand = self.lock();
        let known = demand.refused.filter(|known| known.generation == generation);
        if let Some(known) = known
            && (known.wants_another || !wants_another)
        {
            // Already reported: ten thousand requests that are refused together wake the task once.
            return known.number;
        }
        let number = known.map_or(demand.last + 1, |known| known.number);
        demand.last = demand.last.max(number);
        (demand.refused, demand.used) = (Some(Refused { generation, number, wants_another }), true);
        drop(demand);
        self.wake.notify_one();
        number
    }

    /// Reports that the API accepted a request that was sent again with this generation.
    pub(crate) fn recover(&self, generation: Generation) {
        self.put(|demand| demand.recovered = demand.recovered.max(Some(generation)));
    }

    /// Reports that the API accepted a request that was sent for the first time with this generation.
    pub(crate) fn accept(&self, generation: Generation) {
        self.put(|demand| demand.accepted = demand.accepted.max(Some(generation)));
    }

    pub(crate) fn stop(&self) {
        self.put(|demand| demand.stop = true);
    }

    pub(crate) fn close(&self) {
        self.put(|demand| demand.closed = true);
    }

    /// What is asked for now. Refusals and calls of `refresh` stay until they are answered.
    pub(crate) fn read(&self) -> Demand {
        let mut demand = self.lock();
        let read = *demand;
        (demand.recovered, demand.accepted, demand.used) = (None, None, false);
        read
    }

    /// A fetch that begins now answers the calls of `refresh` up to this number. A later call gets a new number.
    pub(crate) fn answer_refreshes(&self, number: u64) {
        let mut demand = self.lock();
        demand.refresh = demand.refresh.filter(|refresh| *refresh > number);
    }

    /// The refusals up to this number were answered.
    pub(crate) fn answer_refusals(&self, number: u64) {
        let mut demand = self.lock();
        demand.refused = demand.refused.filter(|refused| refused.number > number);
    }

    /// Removes the refusals of requests that try the same token again. The others stay if they `may_wait` for another one.
    pub(crate) fn try_again(&self, may_wait: bool) {
        let mut demand = self.lock();
        demand.refused = demand.refused.filter(|refused| refused.wants_another && may_wait);
    }

    /// Waits for a new demand.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    fn put<T>(&self, change: impl FnOnce(&mut Demand) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Demand> {
        // Nothing here panics while it holds the lock, and a demand is consistent at any time.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_ask_for_the_same_share_a_number_until_it_is_answered() {
        let demands = Demands::default();
        let first = demands.refuse(Generation(1), false);
        assert_eq!(demands.refuse(Generation(1), false), first);
        let asked = demands.refresh();
        assert_eq!(demands.refresh(), asked);
        assert!(asked > first);

        demands.answer_refusals(first);
        demands.answer_refreshes(first);
        let demand = demands.read();
        assert_eq!((demand.refused, demand.refresh), (None, Some(asked)));
        assert!(demands.refuse(Generation(1), false) > asked, "a report after the answer is a new one");
        demands.answer_refreshes(asked);
        assert!(demands.refresh() > asked, "who asks when a fetch has begun wants another one");
    }

    /// The previous token may be in use again.
    #[test]
    fn a_report_for_another_token_has_a_number_of_its_own() {
        let demands = Demands::default();
        let number = demands.refuse(Generation(5), false);
        let other = demands.refuse(Generation(4), false);
        assert!(other > number);
        assert_eq!(
            demands.read().refused.map(|refused| (refused.generation, refused.number)),
            Some((Generation(4), other))
        );
    }

    #[test]
    fn who_wants_another_token_shares_the_number_and_is_heard() {
        let demands = Demands::default();
        let wants_another = || demands.read().refused.is_some_and(|refused| refused.wants_another);
        let number = demands.refuse(Generation(1), false);
        assert!(!wants_another());
        assert_eq!(demands.refuse(Generation(1), true), number);
        assert!(wants_another());
        assert_eq!(demands.refuse(Generation(1), false), number);
        assert!(wants_another(), "it still does");
    }
}
