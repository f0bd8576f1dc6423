//! What a 401 for a new token does first. The API may not know the token yet: the token has to reach all of its servers, and their clocks
//! may be behind (`nbf`). So requests carry the previous token for a while, or try the new one again. Pure.

use std::time::Duration;

use super::cell::Generation;
use crate::{AccessToken, clock::Moment};

/// Whether the API accepts the current token yet.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// The previous token, while it may be needed: in a box, because that time is short.
    before: Option<Box<Before>>,
    /// Requests carry the previous token.
    back: bool,
    /// When the current token is tried again.
    until: Option<Moment>,
    /// How often the current token was put off in this way.
    steps: u8,
    /// What is known of the current token.
    trust: Trust,
    /// How often requests that were refused with the current token may have tried it again.
    tries: u8,
    /// The current token was refused, and not accepted since. Perhaps no request tries it again.
    unsettled: bool,
    /// The API accepted a request with the current token.
    was_accepted: bool,
}

/// What is known of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is new.
    Untried,
    /// It is new, and was fetched because of a 401: perhaps the 401 of a server that gets new tokens late.
    Wary,
    /// It was accepted, but perhaps not by every server yet.
    Arriving,
    /// Proven: a 401 is believed at once.
    #[default]
    Proven,
}

/// A token that was replaced by another one.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) token: AccessToken,
    pub(crate) generation: Generation,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) was_refused: bool,
    /// The API accepted it while it was carried in place of the current token.
    pub(crate) was_accepted: bool,
}

/// What requests do from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// They carry the previous token.
    Back,
    /// They carry the current token again.
    Forward,
    /// Those that were refused with the current token try it again.
    Again,
    /// They go on as before. But a refusal that was put off is believed by now.
    Believe,
}

impl Doubt {
    /// A new token has replaced the previous one.
    pub(crate) fn replaced(before: Option<Before>, trust: Trust) -> Self {
        Self { before: before.map(Box::new), trust, ..Self::default() }
    }

    /// Takes the previous token, if the current one was never accepted: it may be needed again when a third token replaces the current one.
    pub(crate) fn take_proven(&mut self, now: Moment) -> Option<Before> {
        let lives = |before: &Before| !before.was_refused && before.expires_at.is_none_or(|end| now < end);
        let before = self.before.take_if(|before| lives(before))?;
        self.wants_to_know().then_some(*before)
    }

    /// The previous token, if requests carry it in place of the current one.
    pub(crate) fn stand_in(&self) -> Option<&Before> {
        self.before.as_deref().filter(|_| self.back)
    }

    /// Whether requests may wait until the current token is tried again: there is no other token, or the previous one is refused by now,
    /// too.
    pub(crate) fn is_open(&self) -> bool {
        self.is_waiting() || self.stand_in().is_some_and(|before| before.was_refused)
    }

    /// The previous token, while it is carried and its first acceptance must still be reported.
    pub(crate) fn doubted_stand_in(&self) -> Option<Generation> {
        self.stand_in().filter(|before| !before.was_accepted).map(|before| before.generation)
    }

    /// The API accepted the previous token while it was carried. A route that still refuses it refuses every token.
    pub(crate) fn stand_in_accepted(&mut self) {
        if let Some(before) = &mut self.before {
            (before.was_accepted, before.was_refused) = (true, false);
        }
    }

    /// Whether the API accepted the previous token while it was carried (`true`), or refused it (`false`).
    pub(crate) fn stand_in_served(&self) -> Option<bool> {
        self.before
            .as_ref()
            .filter(|before| before.was_accepted || before.was_refused)
            .map(|before| before.was_accepted)
    }

    /// Whether the acceptance of a request with the current token must be reported.
    pub(crate) fn wants_to_know(&self) -> bool {
        matches!(self.trust, Trust::Untried | Trust::Wary)
    }

    /// Whether the current token was accepted while it was new, and refused after that: then some servers or routes accept it and others
    /// don't.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.trust == Trust::Arriving && self.unsettled
    }

    /// Whether the current token was refused and never accepted. In the end this is believed, even if no request tries the token again.
    fn awaits_belief(&self) -> bool {
        self.unsettled && self.wants_to_know()
    }

    /// Whether the current token was refused, and not accepted since.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Whether refused requests wait until the current token is tried again, because there is no other token.
    fn is_waiting(&self) -> bool {
        !self.back && self.until.is_some()
    }

    /// How often requests that were refused with the current token may have tried it again, and whether it was accepted.
    pub(crate) fn tries(&self) -> (u8, bool) {
        (self.tries, matches!(self.trust, Trust::Arriving | Trust::Proven))
    }

    /// The API accepted a request with the current token.
    pub(crate) fn accepted(&mut self) -> Option<Turn> {
        let is_first = self.wants_to_know();
        self.was_accepted = true;
        self.trust = match self.trust {
            Trust::Untried if self.steps == 0 => Trust::Proven,
            Trust::Untried | Trust::Wary | Trust::Arriving => Trust::Arriving,
            Trust::Proven => Trust::Proven,
        };
        // Only the first acceptance ends the wait. If some servers accept the token and others don't, refused requests wait all the same.
        if !is_first {
            return None;
        }
        self.unsettled = false;
        self.steps = 0;
        self.is_waiting().then(|| self.try_again())
    }

    /// Takes a 401 for the token that requests carry, `age` after the current token came. Returns what requests do now, if the token is too
    /// new to believe the 401. `None` if the 401 is believed, or if requests could only try the same token again although `wants_another`.
    pub(crate) fn refused(&mut self, now: Moment, age: Duration, wants_another: bool) -> Option<Option<Turn>> {
        if self.back {
            if self.before.as_ref().is_some_and(|before| before.was_accepted) {
                return Some(None);
            }
            // The API doesn't accept the previous token any more. The current one may be accepted when it is tried again: at once, if it
            // was accepted already.
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

    /// What is due now. `age` as above.
    pub(crate) fn step(&mut self, now: Moment, age: Duration) -> Option<Turn> {
        let is_over = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let before_is_over = is_over(self.before.as_ref().and_then(|before| before.expires_at));
        let turn = match self.back {
            true if is_over(self.until) || before_is_over => Some(self.forward()),
            false if is_over(self.until) => {
                // If the token is no longer new, a request that is refused with it now reports that.
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
        // This is compared, not counted, so it may wrap.
        self.tries = self.tries.wrapping_add(1);
        Turn::Again
    }

    /// When the next step is due. `since`: when the current token came.
    pub(crate) fn wake_at(&self, since: Moment) -> Option<Moment> {
        let forgotten = match &self.before {
            Some(before) if self.back => before.expires_at,
            None if self.until.is_some() || !self.awaits_belief() => None,
            _ => Some(since + YOUNG),
        };
        [self.until, forgotten].into_iter().flatten().min()
    }
}

/// For how long a token is new: its servers' clocks may differ by a few seconds, and a replica may be late.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);

/// For how long the current token isn't tried the first time. Each further time is twice as long.
pub(crate) const FIRST_STEP: Duration = Duration::from_millis(500);

/// How often a new token is tried again if there is no other token: within 3.5 s. After that a request is sent once more, with the token
/// that is fetched then.
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
