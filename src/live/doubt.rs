//! What a 401 for a new token does first, while the API may not know that yet, because it has to arrive at every server of the API, whose
//! clocks may be behind (`nbf`): the token before serves once more, or the same is tried again. Pure.

use std::time::Duration;

use super::cell::Generation;
use crate::{AccessToken, clock::Moment};

/// Whether the API takes the present token already.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// The token before the present one, as long as it may be needed: in a box, because that is short.
    before: Option<Box<Before>>,
    /// It is in use.
    back: bool,
    /// When the present one is tried again.
    until: Option<Moment>,
    /// How often that was put off.
    steps: u8,
    /// What is known of the present one.
    trust: Trust,
    /// How often requests that were refused with it may have tried it again.
    tries: u8,
    /// It was refused, and not accepted since. Perhaps nobody tries it again.
    unsettled: bool,
    /// A request with it was seen accepted.
    was_accepted: bool,
}

/// What is known of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is new.
    Untried,
    /// It is new, and was fetched because of a 401: perhaps for one of a server that is late.
    Wary,
    /// It was accepted, though perhaps not by every server yet.
    Arriving,
    /// A 401 means what it says.
    #[default]
    Proven,
}

/// A token that another one has taken the place of.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) token: AccessToken,
    pub(crate) generation: Generation,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) was_refused: bool,
    /// While it stood in.
    pub(crate) was_accepted: bool,
}

/// What requests do from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// They carry the token before the present one.
    Back,
    /// They carry the present one again.
    Forward,
    /// Those that were refused with the present one try it again.
    Again,
    /// What they do, because by now a 401 means what it says.
    Believe,
}

impl Doubt {
    /// Another token has taken the place of this one.
    pub(crate) fn replaced(before: Option<Before>, trust: Trust) -> Self {
        Self { before: before.map(Box::new), trust, ..Self::default() }
    }

    /// The token before the present one, where that was never accepted: it may be needed once more when a third takes their place.
    pub(crate) fn take_proven(&mut self, now: Moment) -> Option<Before> {
        let lives = |before: &Before| !before.was_refused && before.expires_at.is_none_or(|end| now < end);
        let before = self.before.take_if(|before| lives(before))?;
        self.wants_to_know().then_some(*before)
    }

    /// The token that serves in the place of the present one.
    pub(crate) fn stand_in(&self) -> Option<&Before> {
        self.before.as_deref().filter(|_| self.back)
    }

    /// Whether somebody may wait for the present one to be tried again: nothing else is left, or the one before is refused by now, too.
    pub(crate) fn is_open(&self) -> bool {
        self.is_waiting() || self.stand_in().is_some_and(|before| before.was_refused)
    }

    /// The token that stands in, while it is news that it is accepted.
    pub(crate) fn doubted_stand_in(&self) -> Option<Generation> {
        self.stand_in().filter(|before| !before.was_accepted).map(|before| before.generation)
    }

    /// It was accepted: who refuses it refuses all.
    pub(crate) fn stand_in_accepted(&mut self) {
        if let Some(before) = &mut self.before {
            (before.was_accepted, before.was_refused) = (true, false);
        }
    }

    /// Whether the one before has served while it stood in (`true`), or was refused by everybody (`false`).
    pub(crate) fn stand_in_served(&self) -> Option<bool> {
        self.before
            .as_ref()
            .filter(|before| before.was_accepted || before.was_refused)
            .map(|before| before.was_accepted)
    }

    /// Whether it is news that a request with the present one was accepted.
    pub(crate) fn wants_to_know(&self) -> bool {
        matches!(self.trust, Trust::Untried | Trust::Wary)
    }

    /// Whether the present one was accepted while it is young, and refused after it: then some take it and some don't.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.trust == Trust::Arriving && self.unsettled
    }

    /// Whether the present one was refused, and never accepted: in the end that is believed, though nobody tries it again.
    fn awaits_belief(&self) -> bool {
        self.unsettled && self.wants_to_know()
    }

    /// Whether the present one was refused, and not accepted since.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Whether refused requests wait for the present one to be tried again, with nothing else to carry.
    fn is_waiting(&self) -> bool {
        !self.back && self.until.is_some()
    }

    /// How often whoever was refused with the present one may have tried it again, and whether it was accepted.
    pub(crate) fn tries(&self) -> (u8, bool) {
        (self.tries, matches!(self.trust, Trust::Arriving | Trust::Proven))
    }

    /// A request with the present one was accepted.
    pub(crate) fn accepted(&mut self) -> Option<Turn> {
        let is_first = self.wants_to_know();
        self.was_accepted = true;
        self.trust = match self.trust {
            Trust::Untried if self.steps == 0 => Trust::Proven,
            Trust::Untried | Trust::Wary | Trust::Arriving => Trust::Arriving,
            Trust::Proven => Trust::Proven,
        };
        // Once: where some take it and some don't, those that are refused wait all the same.
        if !is_first {
            return None;
        }
        self.unsettled = false;
        self.steps = 0;
        self.is_waiting().then(|| self.try_again())
    }

    /// A 401 for the token in use, `age` after it came. What to do now, if it is too young to be believed; `None` if it is, or if nothing can be
    /// done but what somebody doesn't want: `wants_another`.
    pub(crate) fn refused(&mut self, now: Moment, age: Duration, wants_another: bool) -> Option<Option<Turn>> {
        if self.back {
            if self.before.as_ref().is_some_and(|before| before.was_accepted) {
                return Some(None);
            }
            // The one before isn't taken any more. The present one will be, when it is tried again: at once if it was accepted already.
            self.before.as_mut().into_iter().for_each(|before| before.was_refused = true);
            return Some(self.was_accepted.then(|| self.forward()));
        }
        if wants_another {
            self.until = None;
        } else if self.until.is_some() {
            return Some(None);
        }
        if age >= YOUNG {
            return None;
        }
        let lives = |before: &Before| !before.was_refused && before.expires_at.is_none_or(|end| now < end);
        let before_lives = self.before.as_deref().is_some_and(lives);
        if !before_lives && (wants_another || self.trust == Trust::Proven || self.steps >= TRIES) {
            return None;
        }
        self.until = Some(now + FIRST_STEP * (1 << self.steps.min(8)));
        self.steps += 1;
        self.back = before_lives;
        self.unsettled |= !before_lives;
        Some(before_lives.then_some(Turn::Back))
    }

    /// What is due now; `age` as above.
    pub(crate) fn step(&mut self, now: Moment, age: Duration) -> Option<Turn> {
        let is_over = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let before_is_over = is_over(self.before.as_ref().and_then(|before| before.expires_at));
        let turn = match self.back {
            true if is_over(self.until) || before_is_over => Some(self.forward()),
            false if is_over(self.until) => {
                // Otherwise whoever is refused with it now says so.
                self.unsettled &= age < YOUNG;
                Some(self.try_again())
            }
            false if self.until.is_none() && self.awaits_belief() && age >= YOUNG => {
                self.unsettled = false;
                Some(Turn::Believe)
            }
            _ => None,
        };
        if before_is_over || (!self.back && age >= YOUNG) {
            self.before = None;
        }
        turn
    }

    fn forward(&mut self) -> Turn {
        (self.back, self.until) = (false, None);
        Turn::Forward
    }

    fn try_again(&mut self) -> Turn {
        self.until = None;
        // Compared, not counted.
        self.tries = self.tries.wrapping_add(1);
        Turn::Again
    }

    /// When that is; `since`: when the present token came.
    pub(crate) fn wake_at(&self, since: Moment) -> Option<Moment> {
        let forgotten = match &self.before {
            Some(before) if self.back => before.expires_at,
            None if self.until.is_some() || !self.awaits_belief() => None,
            _ => Some(since + YOUNG),
        };
        [self.until, forgotten].into_iter().flatten().min()
    }
}

/// So long a new token may need to be valid everywhere: clocks that a few seconds lie between, and a replica that is late.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);

/// How long the present token isn't tried the first time, and each time twice as long.
pub(crate) const FIRST_STEP: Duration = Duration::from_millis(500);

/// How often it is tried again where no other token serves meanwhile: within 3.5 s. A request is sent again once more, with what is fetched
/// then.
const TRIES: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn before(was_refused: bool) -> Option<Before> {
        let (token, expires_at) = (AccessToken::new("t").unwrap(), Some(Moment::EARLY + SECOND * 60));
        Some(Before { token, generation: Generation(1), expires_at, was_refused, was_accepted: false })
    }

    #[test]
    fn the_token_before_serves_for_a_growing_moment_while_the_new_one_is_young() {
        let mut doubt = Doubt::replaced(before(false), Trust::Proven);
        let (mut age, mut turns) = (Duration::ZERO, Vec::new());
        while let Some(turn) = doubt.refused(Moment::EARLY + age, age, false) {
            assert_eq!(turn, Some(Turn::Back));
            let until = doubt.until.unwrap().since(Moment::EARLY);
            turns.push((until - age).as_millis());
            assert_eq!(doubt.step(Moment::EARLY + age, age), None);
            age = until;
            assert_eq!(doubt.step(Moment::EARLY + age, age), Some(Turn::Forward));
        }
        assert_eq!(turns, [500, 1000, 2000, 4000]);
        assert!(doubt.before.is_none(), "then it is believed");
    }

    #[test]
    fn without_one_before_or_when_it_is_older_it_is_believed() {
        for mut doubt in [Doubt::replaced(None, Trust::Proven), Doubt::replaced(before(true), Trust::Proven)] {
            assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), None);
        }
        assert_eq!(Doubt::replaced(before(false), Trust::Proven).refused(Moment::EARLY, YOUNG, false), None);
    }

    #[test]
    fn one_before_that_is_refused_or_over_gives_the_new_one_its_turn() {
        let mut doubt = Doubt::replaced(before(false), Trust::Proven);
        doubt.refused(Moment::EARLY, Duration::ZERO, false);
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), Some(None));
        let then = Moment::EARLY + SECOND / 2;
        assert_eq!(doubt.step(then, SECOND / 2), Some(Turn::Forward));
        assert_eq!(doubt.refused(then, SECOND / 2, false), None, "that was once more");

        let mut doubt = Doubt::replaced(before(false), Trust::Proven);
        doubt.before.as_mut().unwrap().expires_at = Some(Moment::EARLY + SECOND / 4);
        doubt.refused(Moment::EARLY, Duration::ZERO, false);
        assert_eq!(doubt.step(Moment::EARLY + SECOND / 4, SECOND / 4), Some(Turn::Forward));
    }

    #[test]
    fn without_another_token_one_that_was_never_accepted_is_tried_again_after_growing_pauses() {
        for before in [None, before(true)] {
            let mut doubt = Doubt::replaced(before, Trust::Untried);
            let (mut age, mut tried) = (Duration::ZERO, Vec::new());
            while let Some(turn) = doubt.refused(Moment::EARLY + age, age, false) {
                assert_eq!((turn, doubt.is_open()), (None, true));
                assert_eq!(doubt.refused(Moment::EARLY + age, age, false), Some(None), "one more 401 changes nothing");
                assert_eq!(doubt.step(Moment::EARLY + age, age), None);
                age = doubt.wake_at(Moment::EARLY + age).unwrap().since(Moment::EARLY);
                assert_eq!(doubt.step(Moment::EARLY + age, age), Some(Turn::Again));
                assert!(!doubt.is_open());
                tried.push(age.as_millis());
            }
            assert_eq!(tried, [500, 1500, 3500]);
        }
    }

    #[test]
    fn the_first_acceptance_ends_the_pause_and_later_ones_do_not() {
        let at = |age: Duration| Moment::EARLY + age;
        for trust in [Trust::Untried, Trust::Wary] {
            let mut doubt = Doubt::replaced(None, trust);
            assert!(doubt.wants_to_know());
            doubt.refused(at(Duration::ZERO), Duration::ZERO, false);
            assert_eq!((doubt.accepted(), doubt.is_contradicted()), (Some(Turn::Again), false));
            assert_eq!((doubt.tries(), doubt.wants_to_know()), ((1, true), false));
            // Perhaps not by every server.
            assert_eq!(doubt.refused(at(Duration::ZERO), Duration::ZERO, false), Some(None));
            assert!(doubt.is_contradicted());
            assert_eq!((doubt.accepted(), doubt.wake_at(at(Duration::ZERO))), (None, Some(at(FIRST_STEP))));
            assert_eq!(doubt.step(at(FIRST_STEP), FIRST_STEP), Some(Turn::Again));
            assert_eq!(doubt.refused(at(YOUNG), YOUNG, false), None);
        }
    }

    #[test]
    fn one_that_is_accepted_before_it_is_refused_is_believed_unless_a_refusal_has_brought_it() {
        let mut doubt = Doubt::replaced(None, Trust::Untried);
        assert_eq!((doubt.accepted(), doubt.wants_to_know()), (None, false));
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), None);
        let mut doubt = Doubt::replaced(before(true), Trust::Wary);
        assert_eq!((doubt.accepted(), doubt.wants_to_know()), (None, false));
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), Some(None));
    }

    #[test]
    fn what_nobody_tries_again_is_believed_when_it_is_no_longer_young() {
        let mut doubt = Doubt::replaced(None, Trust::Untried);
        doubt.refused(Moment::EARLY, Duration::ZERO, false);
        let half = SECOND / 2;
        assert_eq!(doubt.step(Moment::EARLY + half, half), Some(Turn::Again));
        assert_eq!(doubt.wake_at(Moment::EARLY), Some(Moment::EARLY + YOUNG));
        assert_eq!(doubt.step(Moment::EARLY + YOUNG, YOUNG), Some(Turn::Believe));
        assert_eq!((doubt.step(Moment::EARLY + YOUNG, YOUNG), doubt.wake_at(Moment::EARLY)), (None, None));

        let mut doubt = Doubt::replaced(None, Trust::Untried);
        doubt.refused(Moment::EARLY, Duration::ZERO, false);
        doubt.step(Moment::EARLY + half, half);
        doubt.accepted();
        assert_eq!(doubt.step(Moment::EARLY + YOUNG, YOUNG), None);
    }

    #[test]
    fn one_before_that_has_ended_with_the_issue_of_the_present_one_gives_way_at_once() {
        let mut doubt = Doubt::replaced(before(false), Trust::Untried);
        doubt.accepted();
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), Some(Some(Turn::Back)));
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, false), Some(Some(Turn::Forward)));
        assert!(!doubt.is_open());
    }

    #[test]
    fn whoever_can_only_use_another_token_is_not_kept_waiting() {
        let mut doubt = Doubt::replaced(None, Trust::Untried);
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, true), None);
        doubt.refused(Moment::EARLY, Duration::ZERO, false);
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, true), None, "and the others get it as well");
        assert!(!doubt.is_open());
        let mut doubt = Doubt::replaced(before(false), Trust::Untried);
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO, true), Some(Some(Turn::Back)));
    }
}
