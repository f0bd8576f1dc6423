//! What 401s do: pure. Which of them cause a fetch, and when the token before serves once more, because the API doesn't take a new one
//! yet: it has to arrive at every server of the API, whose clocks may be behind (`nbf`).

use std::time::Duration;

use super::cell::Generation;
use crate::{AccessToken, backoff, clock::Moment};

/// How the fetches fared that 401s caused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// How many in a row, none of which was seen to help.
    streak: u32,
    /// Until then 401s cause no fetch.
    paused_until: Option<Moment>,
    /// A token was accepted after others were refused with it: then it isn't the token that some of them refuse.
    contradicted: bool,
}

impl Refusals {
    /// A fetch begins because of one.
    pub(crate) fn fetching(&mut self) {
        self.streak = self.streak.saturating_add(1);
    }

    /// It has ended.
    pub(crate) fn fetched(&mut self, now: Moment) {
        self.paused_until = Some(now + backoff::after_refusal(self.streak));
    }

    pub(crate) fn are_paused(&self, now: Moment) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// A request that had asked for the token was sent again with it, and accepted.
    pub(crate) fn helped(&mut self) {
        (self.streak, self.paused_until) = (0, None);
    }

    /// A request was accepted that was sent for the first time. `refused`: with a token that was refused before.
    pub(crate) fn accepted(&mut self, refused: bool) {
        self.contradicted |= refused;
        if !self.contradicted {
            self.helped();
        }
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

/// Whether the API takes the present token already.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// The token before the present one, as long as it may be needed: in a box, because that is short.
    before: Option<Box<Before>>,
    /// It is in use.
    back: bool,
    /// When the present one is tried again.
    until: Option<Moment>,
    /// How often the one before has stepped in.
    steps: u32,
}

/// A token that another one has taken the place of.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) token: AccessToken,
    pub(crate) generation: Generation,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) was_refused: bool,
}

/// What requests do from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// They carry the token before the present one.
    Back,
    /// They carry the present one again.
    Forward,
}

impl Doubt {
    /// Another token has taken the place of this one.
    pub(crate) fn replaced(before: Option<Before>) -> Self {
        Self { before: before.map(Box::new), ..Self::default() }
    }

    /// The token that serves in the place of the present one.
    pub(crate) fn stand_in(&self) -> Option<&Before> {
        self.before.as_deref().filter(|_| self.back)
    }

    /// Whether somebody may wait for the present one to be tried again, because the one before is refused by now, too.
    pub(crate) fn is_open(&self) -> bool {
        self.stand_in().is_some_and(|before| before.was_refused)
    }

    /// A 401 for the token in use, `age` after it came. What to do now, if it is too young to be believed; `None` if it is.
    pub(crate) fn refused(&mut self, now: Moment, age: Duration) -> Option<Option<Turn>> {
        if self.back {
            // The one before isn't taken any more. The present one will be, when it is tried again.
            self.before.as_mut().into_iter().for_each(|before| before.was_refused = true);
            return Some(None);
        }
        if age >= YOUNG {
            return None;
        }
        let lives = |before: &Before| !before.was_refused && before.expires_at.is_none_or(|end| now < end);
        if self.before.as_deref().is_some_and(lives) {
            self.until = Some(now + FIRST_STEP * (1 << self.steps.min(8)));
            self.steps += 1;
            self.back = true;
            return Some(Some(Turn::Back));
        }
        None
    }

    /// What is due now; `age` as above.
    pub(crate) fn step(&mut self, now: Moment, age: Duration) -> Option<Turn> {
        let is_over = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let before_is_over = is_over(self.before.as_ref().and_then(|before| before.expires_at));
        let turn = (self.back && (is_over(self.until) || before_is_over)).then_some(Turn::Forward);
        if turn.is_some() {
            (self.back, self.until) = (false, None);
        }
        if before_is_over || (!self.back && age >= YOUNG) {
            self.before = None;
        }
        turn
    }

    /// When that is; `since`: when the present token came.
    pub(crate) fn wake_at(&self, since: Moment) -> Option<Moment> {
        let before = self.before.as_ref()?;
        let forgotten = if self.back { before.expires_at } else { Some(since + YOUNG) };
        [self.until, forgotten].into_iter().flatten().min()
    }
}

/// So long a new token may need to be valid everywhere: clocks that a few seconds lie between, and a replica that is late.
const YOUNG: Duration = Duration::from_secs(5);

/// How long the token before serves the first time, and each time twice as long.
const FIRST_STEP: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn before(was_refused: bool) -> Option<Before> {
        let (token, expires_at) = (AccessToken::new("t").unwrap(), Some(Moment::EARLY + SECOND * 60));
        Some(Before { token, generation: Generation(1), expires_at, was_refused })
    }

    #[test]
    fn the_token_before_serves_for_a_growing_moment_while_the_new_one_is_young() {
        let mut doubt = Doubt::replaced(before(false));
        let (mut age, mut turns) = (Duration::ZERO, Vec::new());
        while let Some(turn) = doubt.refused(Moment::EARLY + age, age) {
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
        for mut doubt in [Doubt::replaced(None), Doubt::replaced(before(true))] {
            assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO), None);
        }
        assert_eq!(Doubt::replaced(before(false)).refused(Moment::EARLY, YOUNG), None);
    }

    #[test]
    fn one_before_that_is_refused_or_over_gives_the_new_one_its_turn() {
        let mut doubt = Doubt::replaced(before(false));
        doubt.refused(Moment::EARLY, Duration::ZERO);
        assert_eq!(doubt.refused(Moment::EARLY, Duration::ZERO), Some(None));
        let then = Moment::EARLY + SECOND / 2;
        assert_eq!(doubt.step(then, SECOND / 2), Some(Turn::Forward));
        assert_eq!(doubt.refused(then, SECOND / 2), None, "that was once more");

        let mut doubt = Doubt::replaced(before(false));
        doubt.before.as_mut().unwrap().expires_at = Some(Moment::EARLY + SECOND / 4);
        doubt.refused(Moment::EARLY, Duration::ZERO);
        assert_eq!(doubt.step(Moment::EARLY + SECOND / 4, SECOND / 4), Some(Turn::Forward));
    }
}
