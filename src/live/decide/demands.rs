//! What handles ask for: a fetch, or another token after a 401. And what requests carry while the API may not know the current token yet.

use std::time::Duration;

use super::Decider;
use crate::{
    AccessToken,
    clock::Moment,
    live::{
        cell::Generation,
        demand::Demand,
        doubt::{Turn, YOUNG},
        schedule::Retry,
    },
};

impl Decider {
    /// Takes in what handles ask for.
    pub(crate) fn demand(&mut self, now: Moment, demand: &Demand) {
        if demand.used {
            self.used(now);
        }
        self.stopped |= demand.stop;
        self.wants_refresh = demand.refresh.is_some();
        let is_present = |generation: Option<Generation>| generation == Some(self.generation);
        let (recovered, accepted) = (is_present(demand.recovered), is_present(demand.accepted));
        let refused_since =
            self.held.as_mut().filter(|_| recovered || accepted).and_then(|held| held.refused_since.take());
        if recovered {
            self.refusals.helped();
        }
        if accepted {
            self.refusals.accepted(refused_since.is_some());
        } else if refused_since.is_some() {
            self.refusals.contradict();
        }
        if let Some(stand_in) = self.doubt.doubted_stand_in()
            && [demand.accepted, demand.recovered].contains(&Some(stand_in))
        {
            self.doubt.stand_in_accepted();
        }
        if (recovered || accepted)
            && let Some(turn) = self.doubt.accepted()
        {
            // Requests that were refused meanwhile try it again, and report it if it is refused once more.
            self.turn = Some(turn);
            return;
        }
        let refused = demand.refused.filter(|refused| refused.generation == self.in_use());
        let Some(refused) = refused else {
            self.refused = false;
            return;
        };
        let on_its_way = self.is_another_on_its_way();
        let may_fetch = self.may_fetch_another(now);
        let Some(held) = &mut self.held else { return };
        // While the previous token is carried, `doubt` alone judges its 401s.
        if (!on_its_way || self.doubt.stand_in().is_some())
            // Where no fetch begins soon, there is no other token to get. Those who can try the same token again must not pay for those
            // who can't.
            && let Some(turn) = self.doubt.refused(
                now,
                now.since(held.since),
                refused.wants_another && may_fetch,
            )
        {
            self.turn = turn.or(self.turn);
            if self.doubt.is_contradicted() {
                self.refusals.contradict();
            }
            return;
        }
        // A refusal stays in the demands until it is answered. It counts once.
        if self.last_refusal != refused.number as u32 {
            held.was_ever_refused = true;
            held.refused_since.get_or_insert(now);
            self.last_refusal = refused.number as u32;
        }
        self.refused = !self.stopped && (on_its_way || !self.refusals.are_paused(now));
    }

    /// The generation that requests carry.
    pub(super) fn in_use(&self) -> Generation {
        self.doubt.stand_in().map_or(self.generation, |before| before.generation)
    }

    /// What requests do from now on, because the API doesn't accept the current token yet, or may accept it by now.
    pub(crate) fn turn(&mut self, now: Moment) -> Option<Turn> {
        let age = self.held.as_ref().map_or(Duration::MAX, |held| now.since(held.since));
        let pending = self.turn.take();
        let turn = self.doubt.step(now, age).or(pending);
        if turn == Some(Turn::Forward) {
            self.ended_by_issue = self.doubt.stand_in_served().map_or(self.ended_by_issue, |served| !served);
        }
        turn
    }

    /// What requests carry now.
    pub(crate) fn carried(&self) -> Option<(&AccessToken, Generation, Option<Moment>)> {
        if let Some(before) = self.doubt.stand_in() {
            return Some((&before.token, before.generation, before.expires_at));
        }
        let held = self.held.as_ref().filter(|held| !held.expired)?;
        Some((&held.token, self.generation, held.expires_at))
    }

    /// The generation whose acceptance in a first attempt must be reported.
    pub(crate) fn doubted(&self) -> Generation {
        if let Some(generation) = self.doubt.doubted_stand_in() {
            return generation;
        }
        let was_refused = self.held.as_ref().is_some_and(|held| held.refused_since.is_some());
        let wants_to_know = was_refused || self.refusals.wants_to_know() || self.doubt.wants_to_know();
        if wants_to_know { self.generation } else { Generation::NONE }
    }

    /// Whether the fetch for refused requests answers them, and they don't wait until the current token is tried again.
    pub(crate) fn may_answer_refusals(&self) -> bool {
        !self.doubt.is_open()
    }

    /// Whether all demands are done, so that those who wait for them can be answered.
    pub(crate) fn is_settled(&self) -> bool {
        // After `shutdown` no fetch does it any more.
        let wants_refresh = self.wants_refresh && !self.stopped;
        self.in_flight.is_none() && !wants_refresh && !self.refused && !self.doubt.is_open()
    }

    /// Whether a request that can't try the same token again may wait for another one.
    pub(crate) fn may_wait_for_another(&self, now: Moment) -> bool {
        self.is_another_on_its_way() || self.may_fetch_another(now)
    }

    /// Whether a 401 may cause a fetch while the current token is new.
    fn may_fetch_another(&self, now: Moment) -> bool {
        !self.stopped && !self.refusals.are_paused(now) && !self.backs_off_for_long(now)
    }

    /// Whether no fetch begins while the current token is new.
    fn backs_off_for_long(&self, now: Moment) -> bool {
        match self.retry {
            Retry::At(at) => now + YOUNG <= at,
            Retry::WhenAsked => true,
            Retry::Free | Retry::WhenTokenEnds => false,
        }
    }

    /// Whether another token is being fetched, or will be because this one was refused.
    pub(crate) fn is_another_on_its_way(&self) -> bool {
        self.refused || self.in_flight.is_some()
    }
}
