//! What the task does next: all of the rules of a token's life, without waiting and without reading a clock.

use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::{
    cell::Generation,
    demand::{Demand, Progress},
    doubt::{Doubt, Turn},
    pace::Paces,
    refusals::Refusals,
    schedule::{self, Authorization, Left, Retry, Rules},
    status::{Snapshot, State},
};
use crate::{AccessToken, FetchError, FetchErrorKind, FetchReason, FetchRequest, Storage, clock::Moment};

mod ended;

/// The state behind the decisions. The task tells it what happened and asks what to do.
#[derive(Debug)]
pub(crate) struct Decider {
    rng: Rng,
    rules: Rules,
    held: Option<Held>,
    generation: Generation,
    in_flight: Option<InFlight>,
    /// When the last fetch began.
    last_began: Option<Moment>,
    /// Until then the last fetch that brought a token keeps its distance from the next.
    not_before: Option<Moment>,
    /// The last token was near its end when it came.
    was_late: bool,
    retry: Retry,
    failures: u32,
    failure: Option<FetchError>,
    paces: Paces,
    /// Somebody called `refresh`, and no fetch has begun since.
    wants_refresh: bool,
    /// The source says that it has something new, and no fetch has begun since.
    source_changed: bool,
    /// When the last fetch began that was due to that.
    fetched_change_at: Option<Moment>,
    /// The token in use was refused, and another one is fetched for that.
    refused: bool,
    /// The end of the number of the refusal that was taken in last.
    last_refusal: u32,
    refusals: Refusals,
    doubt: Doubt,
    /// The token before was good for nothing when it was to stand in: this server ends one with the issue of the next.
    ended_by_issue: bool,
    /// What the doubt asks for, not done yet.
    turn: Option<Turn>,
    storage: Storage,
    stopped: bool,
}

/// The token in use.
#[derive(Debug)]
struct Held {
    token: AccessToken,
    /// When it came.
    since: Moment,
    /// When its life began.
    sent: Moment,
    refresh_at: Option<Moment>,
    expires_at: Option<Moment>,
    /// When the user must authorize again.
    authorization: Option<Authorization>,
    /// When it ends by the wall clock.
    wall_end: Option<SystemTime>,
    expired: bool,
    /// And nobody has seen it accepted since.
    was_refused: bool,
    /// At any time.
    was_ever_refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    started: Moment,
    after_refusal: bool,
    reason: FetchReason,
}

/// What a finished fetch means for requests.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Requests carry this from now on, until then; `doubted`: it is news if they are accepted.
    Publish { token: &'a AccessToken, generation: Generation, expires_at: Option<Moment>, doubted: bool },
    /// They go on as before.
    Unchanged,
}

impl Decider {
    pub(crate) fn new(rng: Rng, rules: Rules) -> Self {
        Self {
            rng,
            rules,
            held: None,
            generation: Generation::NONE,
            in_flight: None,
            last_began: None,
            not_before: None,
            was_late: false,
            retry: Retry::Free,
            failures: 0,
            failure: None,
            paces: Paces::default(),
            wants_refresh: false,
            source_changed: false,
            fetched_change_at: None,
            refused: false,
            last_refusal: 0,
            refusals: Refusals::default(),
            doubt: Doubt::default(),
            ended_by_issue: false,
            turn: None,
            storage: Storage::Sound,
            stopped: false,
        }
    }

    /// Takes in what the outside asks for.
    pub(crate) fn demand(&mut self, now: Moment, demand: &Demand) {
        self.stopped |= demand.stop;
        self.wants_refresh = demand.refresh.is_some() && !self.stopped;
        let is_present = |generation: Option<Generation>| generation == Some(self.generation);
        let (recovered, accepted) = (is_present(demand.recovered), is_present(demand.accepted));
        if recovered {
            self.refusals.helped();
        }
        if accepted {
            let was_refused = self.held.as_mut().is_some_and(|held| std::mem::take(&mut held.was_refused));
            self.refusals.accepted(was_refused);
        }
        if let Some(stand_in) = self.doubt.doubted_stand_in()
            && [demand.accepted, demand.recovered].contains(&Some(stand_in))
        {
            self.doubt.stand_in_accepted();
        }
        if (recovered || accepted)
            && let Some(turn) = self.doubt.accepted()
        {
            // Those that were refused meanwhile try it again, and say so if it is refused once more.
            self.turn = Some(turn);
            return;
        }
        let refused = demand.refused.filter(|refused| refused.generation == self.in_use());
        let Some(refused) = refused else {
            self.refused = false;
            return;
        };
        let on_its_way = self.is_another_on_its_way();
        let Some(held) = &mut self.held else { return };
        // The one before the present token is judged by the doubt alone.
        if (!on_its_way || self.doubt.stand_in().is_some())
            // While none is fetched, another is not to be had, and those who wait must not pay for who can't.
            && let Some(turn) = self.doubt.refused(
                now,
                now.since(held.since),
                refused.wants_another && !self.refusals.are_paused(now),
            )
        {
            self.turn = turn.or(self.turn);
            if self.doubt.is_contradicted() {
                self.refusals.contradict();
            }
            return;
        }
        // The same report stays until it is answered, and says nothing new.
        if self.last_refusal != refused.number as u32 {
            (held.was_refused, held.was_ever_refused) = (true, true);
            self.last_refusal = refused.number as u32;
        }
        self.refused = !self.stopped && (on_its_way || !self.refusals.are_paused(now));
    }

    /// Which token requests carry.
    fn in_use(&self) -> Generation {
        self.doubt.stand_in().map_or(self.generation, |before| before.generation)
    }

    /// What requests do from now on, because the API doesn't take the present token yet, or may do so now.
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

    /// The token whose acceptance by a first attempt is news.
    pub(crate) fn doubted(&self) -> Generation {
        if let Some(generation) = self.doubt.doubted_stand_in() {
            return generation;
        }
        let was_refused = self.held.as_ref().is_some_and(|held| held.was_refused);
        let wants_to_know = was_refused || self.refusals.wants_to_know() || self.doubt.wants_to_know();
        if wants_to_know { self.generation } else { Generation::NONE }
    }

    /// The source says that it has something new.
    pub(crate) fn source_changed(&mut self) {
        self.source_changed = true;
    }

    /// The source says how it is with its store; whether it said otherwise before.
    pub(crate) fn stored(&mut self, storage: Storage) -> bool {
        std::mem::replace(&mut self.storage, storage) != storage
    }

    /// Whether what the source said has not been acted upon yet.
    pub(crate) fn is_changed(&self) -> bool {
        self.source_changed
    }

    /// Whether refused requests may be told what became of the fetch that they wait for, and don't wait for the present token's turn.
    pub(crate) fn may_answer_refusals(&self) -> bool {
        !self.doubt.is_open()
    }

    /// Whether nothing is asked for any more, so that whoever asked can be told.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && !self.wants_refresh && !self.refused && !self.doubt.is_open()
    }

    /// Whether the token in use ends now: `true` once.
    pub(crate) fn expire(&mut self, now: Moment) -> bool {
        match &mut self.held {
            Some(held) if !held.expired && held.expires_at.is_some_and(|end| end <= now) => {
                held.expired = true;
                self.doubt = Doubt::default();
                true
            }
            _ => false,
        }
    }

    /// Whether it is time to say that the user must authorize again soon, and how soon that is: once for each token.
    pub(crate) fn warn_of_authorization(&mut self, now: Moment) -> Option<Duration> {
        let authorization = self.held.as_mut()?.authorization.as_mut()?;
        authorization.warns(now).then(|| authorization.ends.since(now))
    }

    /// Looks at the wall clock: where the token is over by it, although by elapsed time it isn't, the machine was perhaps
    /// suspended without counting it. The token stays in use, but is renewed. Once per token: the wall clock may be wrong.
    pub(crate) fn compare_with_wall(&mut self, now: Moment, wall: SystemTime) {
        if let Some(held) = &mut self.held
            && held.wall_end.is_some_and(|end| end <= wall)
        {
            held.wall_end = None;
            held.refresh_at = held.refresh_at.map(|at| at.min(now));
        }
    }

    /// When the next fetch is to begin, and why.
    pub(crate) fn next_fetch(&self, now: Moment) -> Option<(Moment, FetchReason)> {
        if self.stopped || self.in_flight.is_some() {
            return None;
        }
        let spaced = |at: Moment| self.not_before.map_or(at, |not_before| not_before.max(at));
        if self.source_changed {
            // A person may wait for it, so that it waits for nothing; but a source that says it all the time is not believed.
            let at = self.fetched_change_at.map_or(now, |last| now.max(last + schedule::gap(None)));
            return Some((at, FetchReason::Changed));
        }
        if self.wants_refresh {
            // Somebody asked: that waits for the distance between fetches, but not for the end of a backoff.
            let distance = schedule::gap(self.held_lifetime());
            let at = self.last_began.map_or(now, |began| now.max(began + distance));
            return Some((spaced(at), FetchReason::Asked));
        }
        let (at, reason) = match &self.held {
            None => (now, FetchReason::First),
            Some(_) if self.refused => (now, FetchReason::Refused),
            Some(held) => (held.refresh_at?, FetchReason::Due),
        };
        match self.retry {
            Retry::Free => Some((spaced(at), reason)),
            Retry::At(retry) => Some((spaced(at).max(retry), reason)),
            Retry::WhenTokenEnds => match (reason, &self.held) {
                (FetchReason::Due, Some(held)) => Some((spaced(at).max(held.expires_at?), reason)),
                _ => Some((spaced(at), reason)),
            },
            Retry::WhenAsked => None,
        }
    }

    /// When something is to be done: the next fetch, or the end of the token.
    pub(crate) fn wake_at(&self, now: Moment) -> Option<Moment> {
        let end = self.held.as_ref().filter(|held| !held.expired).and_then(|held| held.expires_at);
        let fetch = self.next_fetch(now).map(|(at, _)| at);
        let warning = self.held.as_ref().and_then(|held| held.authorization?.warning);
        let turn = self.held.as_ref().and_then(|held| self.doubt.wake_at(held.since));
        [end, fetch, warning, turn].into_iter().flatten().min()
    }

    /// How long a fetch may take altogether.
    pub(crate) fn longest_fetch(&self) -> Duration {
        schedule::longest_fetch(self.rules.longest_exchange)
    }

    /// Whether a request that can't try the same token again may wait for another one.
    pub(crate) fn may_wait_for_another(&self, now: Moment) -> bool {
        self.is_another_on_its_way() || !self.refusals.are_paused(now)
    }

    /// Whether another token is being fetched, or will be because this one was refused.
    pub(crate) fn is_another_on_its_way(&self) -> bool {
        self.refused || self.in_flight.is_some()
    }

    /// Whether nothing is fetched any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Which token there is; it may have expired.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// How many fetches have failed since one worked, and why the last one did.
    pub(crate) fn failures(&self) -> (u32, Option<&FetchError>) {
        (self.failures, self.failure.as_ref())
    }

    /// Whether nothing will ever be done again.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped && self.in_flight.is_none() && self.held.as_ref().is_none_or(|held| held.expired)
    }

    /// A fetch begins.
    pub(crate) fn begin(&mut self, now: Moment, reason: FetchReason) -> FetchRequest {
        let after_refusal = self.refused;
        if after_refusal {
            self.refusals.fetching();
        }
        self.last_began = Some(now);
        self.wants_refresh = false;
        self.source_changed = false;
        if reason == FetchReason::Changed {
            self.fetched_change_at = Some(now);
        }
        self.in_flight = Some(InFlight { started: now, after_refusal, reason });
        let left = match &self.held {
            Some(held) if !held.expired => held.expires_at.map_or(Left::Unknown, |end| Left::Some(end.since(now))),
            _ => Left::Nothing,
        };
        let refused = self.held.as_ref().filter(|held| held.was_refused).map(|held| held.token.clone());
        let pace = self.paces.pace(self.rules.longest_exchange);
        FetchRequest::because(reason, refused, schedule::timeout(left, &pace), left == Left::Nothing)
            .longest(self.rules.longest_exchange)
    }

    /// What to tell the outside.
    pub(crate) fn snapshot(&self, now: Moment, progress: Progress) -> Snapshot {
        let usable = self.held.as_ref().is_some_and(|held| !held.expired);
        let authorization = self.held.as_ref().and_then(|held| held.authorization);
        let state = match (&self.failure, usable) {
            _ if self.stopped => State::Stopped,
            (Some(failure), _) if failure.kind() == FetchErrorKind::Rejected => State::Rejected,
            (Some(failure), _) if failure.kind() == FetchErrorKind::ReauthorizationRequired => {
                State::ReauthorizationRequired
            }
            (Some(_), true) => State::Failing,
            (None, true) => State::Live,
            (_, false) if self.held.is_some() => State::Expired,
            (_, false) => State::Starting,
        };
        Snapshot {
            state,
            usable,
            generation: self.generation,
            expires_at: self.held.as_ref().and_then(|held| held.expires_at),
            authorization_ends: authorization.map(|authorization| authorization.ends),
            authorization_ending: authorization.is_some_and(|authorization| authorization.warning.is_none()),
            failures: self.failures,
            failure: self.failure.clone(),
            next_fetch: self.next_fetch(now).map(|(at, _)| at),
            fetching: self.in_flight.is_some(),
            storage: self.storage,
            hopeful: self
                .in_flight
                .is_some_and(|flight| matches!(flight.reason, FetchReason::Asked | FetchReason::Changed)),
            in_use: self.in_use(),
            doubting: self.doubt.is_open(),
            tries: self.doubt.tries(),
            progress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::demand::{Demands, Refused};

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn token(secret: &str) -> AccessToken {
        AccessToken::new(secret).unwrap()
    }

    fn refused_once(generation: u64) -> Refused {
        Refused { generation: Generation(generation), number: 1, wants_another: false }
    }

    /// A decider after one fetch that ended like this.
    fn after(fetched: Result<AccessToken, FetchError>) -> Decider {
        let mut decider = Decider::new(Rng::with_seed(1), Rules::default());
        then(&mut decider, Moment::EARLY, fetched);
        decider
    }

    fn then(decider: &mut Decider, now: Moment, fetched: Result<AccessToken, FetchError>) {
        decider.begin(now, FetchReason::Due);
        decider.finish(now, wall(), fetched);
    }

    #[test]
    fn what_failed_and_whether_a_token_is_left_make_the_state() {
        let live = || Ok(token("a").expires_in(HOUR));
        let again = || FetchError::try_again("down");
        let rejected = || FetchError::rejected("secret");
        let dead = || FetchError::reauthorize("dead");
        for (first, second, at_first, at_last) in [
            (live(), live(), State::Live, State::Expired),
            (live(), Err(again()), State::Failing, State::Expired),
            (live(), Err(rejected()), State::Rejected, State::Rejected),
            (live(), Err(dead()), State::ReauthorizationRequired, State::ReauthorizationRequired),
            (Err(rejected()), Err(again()), State::Starting, State::Starting),
            (Err(again()), Err(rejected()), State::Rejected, State::Rejected),
            (Err(dead()), live(), State::Live, State::Expired),
            (Err(again()), Ok(token("a")), State::Live, State::Live),
        ] {
            let what = format!("{first:?} {second:?}");
            let mut decider = after(first);
            then(&mut decider, Moment::EARLY + SECOND, second);
            assert_eq!(decider.snapshot(Moment::EARLY + SECOND, Progress::default()).state, at_first, "{what}");
            let end = Moment::EARLY + SECOND + HOUR;
            decider.expire(end);
            assert_eq!(decider.snapshot(end, Progress::default()).state, at_last, "{what}");
            decider.demand(end, &Demand { stop: true, ..Demand::default() });
            assert_eq!(decider.snapshot(end, Progress::default()).state, State::Stopped, "{what}");
            assert_eq!(decider.next_fetch(end), None);
        }
    }

    #[test]
    fn a_token_ends_once() {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let end = Moment::EARLY + HOUR;
        assert!(!decider.expire(end.back(Duration::from_nanos(1))));
        assert!(decider.expire(end));
        assert!(!decider.expire(end));
    }

    #[test]
    fn a_wall_clock_counts_once_for_each_token() {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let now = Moment::EARLY + SECOND * 60;
        let due = |decider: &Decider| decider.next_fetch(now).is_some_and(|(at, _)| at <= now);
        decider.compare_with_wall(now, wall() + HOUR - SECOND);
        assert!(!due(&decider));
        decider.compare_with_wall(now, wall() + HOUR);
        assert!(due(&decider));
        // The same token comes back with its old life: the clock that stays wrong may ask once for it, not for ever.
        then(&mut decider, now, Ok(token("a").expires_in(HOUR)));
        for step in 1..10 {
            decider.compare_with_wall(now + SECOND * step, wall() + HOUR - SECOND);
        }
        assert!(!due(&decider));
    }

    #[test]
    fn a_401_that_is_looked_at_late_asks_for_nothing() {
        // Its token was the current one when it was reported; before the task looked, another took its place.
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let now = Moment::EARLY + SECOND * 2;
        then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
        let refused = |generation| Demand { refused: Some(refused_once(generation)), ..Demand::default() };
        decider.demand(now, &refused(1));
        assert!(decider.is_settled());
        assert_eq!(decider.next_fetch(now).unwrap().1, FetchReason::Due);
        // One that is too young to be believed has the one before it.
        decider.demand(now, &refused(2));
        assert_eq!((decider.turn(now), decider.in_use()), (Some(Turn::Back), Generation(1)));
        assert_eq!(decider.next_fetch(now).unwrap().1, FetchReason::Due);
        let now = now + SECOND * 6;
        assert_eq!((decider.turn(now), decider.in_use()), (Some(Turn::Forward), Generation(2)));
        decider.demand(now, &refused(2));
        assert!(!decider.is_settled());
        assert_eq!(decider.next_fetch(now), Some((now, FetchReason::Refused)));
    }

    #[test]
    fn a_401_for_the_token_before_during_a_fetch_says_nothing_of_the_present_one() {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let now = Moment::EARLY + SECOND * 60;
        then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
        let refused = |generation| Demand { refused: Some(refused_once(generation)), ..Demand::default() };
        decider.demand(now, &refused(2));
        assert_eq!((decider.turn(now), decider.in_use()), (Some(Turn::Back), Generation(1)));
        decider.begin(now, FetchReason::Asked);
        decider.demand(now, &refused(1));
        assert!(!decider.held.as_ref().unwrap().was_refused && !decider.may_answer_refusals());
        decider.finish(now, wall(), Err(FetchError::try_again("down")));
        let now = now + SECOND;
        assert_eq!((decider.turn(now), decider.in_use()), (Some(Turn::Forward), Generation(2)));
        assert!(decider.may_answer_refusals());
    }

    fn refusal(generation: u64) -> Demand {
        Demand { refused: Some(refused_once(generation)), ..Demand::default() }
    }

    fn acceptance(generation: u64) -> Demand {
        Demand { accepted: Some(Generation(generation)), ..Demand::default() }
    }

    /// A decider whose second token was refused as soon as it came: the first one stands in.
    fn standing_in(now: Moment) -> Decider {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
        decider.demand(now, &refusal(2));
        assert_eq!(decider.turn(now), Some(Turn::Back));
        decider
    }

    #[test]
    fn that_the_token_before_is_accepted_is_news_once() {
        let now = Moment::EARLY + SECOND * 60;
        let mut decider = standing_in(now);
        assert_eq!(decider.doubted(), Generation(1));
        decider.demand(now, &acceptance(2));
        assert_eq!(decider.doubted(), Generation(1), "that was the other one");
        decider.demand(now, &acceptance(1));
        assert_ne!(decider.doubted(), Generation(1));
    }

    #[test]
    fn one_that_is_accepted_is_tried_again_by_those_who_were_refused() {
        let now = Moment::EARLY;
        let recovery = Demand { recovered: Some(Generation(1)), ..Demand::default() };
        for accepted in [acceptance(1), recovery] {
            let mut decider = after(Ok(token("a").expires_in(HOUR)));
            decider.demand(now, &refusal(1));
            assert_eq!(decider.turn(now), None);
            decider.demand(now, &accepted);
            assert_eq!(decider.turn(now), Some(Turn::Again), "{accepted:?}");
        }
    }

    #[test]
    fn a_401_for_a_young_token_during_a_fetch_waits_for_that() {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let now = Moment::EARLY + SECOND * 60;
        then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
        decider.begin(now, FetchReason::Asked);
        decider.demand(now, &refusal(2));
        assert_eq!((decider.turn(now), decider.in_use()), (None, Generation(2)));
        assert!(decider.held.as_ref().unwrap().was_refused);
    }

    #[test]
    fn where_a_token_ends_with_the_issue_of_the_next_none_stands_in_again() {
        let now = Moment::EARLY + SECOND * 60;
        for (is_accepted, is_over, stands_in) in
            [(false, true, false), (true, true, true), (false, false, true), (true, false, true)]
        {
            let mut decider = standing_in(now);
            decider.demand(now, &if is_accepted { acceptance(1) } else { refusal(1) });
            assert_eq!(decider.turn(now), None);
            let later = now + SECOND;
            if is_over {
                assert_eq!(decider.turn(later), Some(Turn::Forward));
            }
            decider.begin(later, FetchReason::Asked);
            decider.finish(later, wall(), Ok(token("c").expires_in(HOUR)));
            decider.demand(later, &refusal(3));
            let turn = decider.turn(later);
            assert_eq!(turn, stands_in.then_some(Turn::Back), "accepted: {is_accepted}, over: {is_over}");
        }
    }

    #[test]
    fn acceptance_is_news_of_a_new_token_of_one_that_was_refused_and_after_a_fetch_for_a_401() {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        assert_eq!(decider.doubted(), Generation(1), "it is new");
        decider.demand(Moment::EARLY, &acceptance(1));
        assert_eq!(decider.doubted(), Generation::NONE);

        let now = Moment::EARLY + SECOND * 60;
        decider.demand(now, &refusal(1));
        assert_eq!(decider.doubted(), Generation(1), "it was refused");

        // As old as this it isn't new.
        decider.begin(now, FetchReason::Refused);
        decider.finish(now, wall(), Ok(token("b").expires_in(HOUR).age(SECOND * 10)));
        assert_eq!(decider.doubted(), Generation(2), "nobody has seen that the fetch helped");
        decider.demand(now, &acceptance(2));
        assert_eq!(decider.doubted(), Generation::NONE);
    }

    #[test]
    fn what_a_source_has_new_is_fetched_at_once_and_then_once_a_second() {
        let now = Moment::EARLY + SECOND * 60;
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        assert!(!decider.is_changed());
        for at in [now, now + SECOND] {
            decider.source_changed();
            assert!(decider.is_changed());
            assert_eq!(decider.next_fetch(now), Some((at, FetchReason::Changed)));
            decider.begin(at, FetchReason::Changed);
            decider.finish(at, wall(), Ok(token("a").expires_in(HOUR)));
        }
    }

    #[test]
    fn a_fetch_is_urgent_while_no_token_serves() {
        let first = Decider::new(Rng::with_seed(1), Rules::default());
        let mut ended = after(Ok(token("a").expires_in(HOUR)));
        ended.expire(Moment::EARLY + HOUR);
        for (mut decider, expected) in [
            (first, true),
            (after(Ok(token("a").expires_in(HOUR))), false),
            (after(Ok(token("a"))), false),
            (ended, true),
        ] {
            assert_eq!(decider.begin(Moment::EARLY + HOUR, FetchReason::Due).is_urgent(), expected);
        }
    }

    #[test]
    fn what_a_source_says_of_its_store_is_news_when_it_is_another_thing() {
        let mut decider = after(Ok(token("a")));
        for (storage, is_news) in [
            (Storage::Sound, false),
            (Storage::Unsaved, true),
            (Storage::Unsaved, false),
            (Storage::Unreachable, true),
            (Storage::Sound, true),
        ] {
            assert_eq!(decider.stored(storage), is_news, "{storage:?}");
            assert_eq!(decider.snapshot(Moment::EARLY, Progress::default()).storage, storage);
        }
    }

    /// A decider whose token was refused at this time, when it was a minute old, and a fetch for that has ended like this.
    fn fetched_for_a_401(now: Moment, fetched: Result<AccessToken, FetchError>) -> Decider {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        decider.demand(now, &refusal(1));
        decider.begin(now, FetchReason::Refused);
        decider.finish(now, wall(), fetched);
        decider
    }

    #[test]
    fn what_a_fetch_for_a_401_has_brought_decides_how_soon_the_next_may_follow() {
        let now = Moment::EARLY + SECOND * 60;
        for (fetched, pauses) in [
            (Ok(token("a")), true),
            (Ok(token("a").age(SECOND * 60)), true),
            (Ok(token("b")), true),
            (Ok(token("b").age(SECOND * 29)), true),
            // It was there before the refusal.
            (Ok(token("b").age(SECOND * 30)), false),
            (Err(FetchError::try_again("down")), false),
        ] {
            let what = format!("{fetched:?}");
            let refusals = fetched_for_a_401(now, fetched).refusals;
            assert_eq!((refusals.are_paused(now), refusals.wants_to_know()), (pauses, pauses), "{what}");
        }
        // Other fetches say nothing about it.
        for fetched in [Ok(token("c")), Err(FetchError::try_again("down"))] {
            let what = format!("{fetched:?}");
            let mut decider = fetched_for_a_401(now, Ok(token("b")));
            let later = now + SECOND * 2;
            decider.begin(later, FetchReason::Asked);
            decider.finish(later, wall(), fetched);
            assert!(!decider.refusals.are_paused(later) && decider.refusals.wants_to_know(), "{what}");
        }
    }

    #[test]
    fn a_401_means_what_it_says_where_the_token_is_not_new() {
        let now = Moment::EARLY + SECOND * 60;
        for (age, is_believed) in [(0, false), (4, false), (5, true)] {
            let decider = fetched_for_a_401(now, Ok(token("b").age(SECOND * age)));
            assert_eq!(!decider.doubt.wants_to_know(), is_believed, "{age}");
        }
        // Also where the one before was refused as soon: a route may do that to everybody.
        let mut decider = fetched_for_a_401(now, Ok(token("b")));
        let later = now + SECOND * 6;
        decider.demand(later, &Demand { refused: Some(Refused { number: 2, ..refused_once(2) }), ..Demand::default() });
        decider.begin(later, FetchReason::Refused);
        decider.finish(later, wall(), Ok(token("c")));
        assert!(decider.doubt.wants_to_know());
    }

    /// What another process fetches slowly is as young as it can be when this one has waited for it.
    #[test]
    fn a_token_that_was_waited_for_is_new_however_long_its_exchange_took() {
        for (waited, age, is_new) in [(9, 10, true), (9, 14, false), (0, 4, true), (0, 5, false)] {
            let mut decider = Decider::new(Rng::with_seed(1), Rules::default());
            decider.begin(Moment::EARLY, FetchReason::First);
            let now = Moment::EARLY + SECOND * waited;
            decider.finish(now, wall(), Ok(token("a").expires_in(HOUR).age(SECOND * age)));
            assert_eq!(decider.doubt.wants_to_know(), is_new, "waited {waited} s, {age} s old");
        }
        // A fetch of its own that took longer than what counts as old is none that was there before the refusal.
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        let began = Moment::EARLY + SECOND * 60;
        decider.demand(began, &refusal(1));
        decider.begin(began, FetchReason::Refused);
        let now = began + SECOND * 40;
        decider.finish(now, wall(), Ok(token("b").expires_in(HOUR).age(SECOND * 40)));
        assert!(decider.refusals.are_paused(now + SECOND / 2));
    }

    #[test]
    fn a_token_that_came_late_is_followed_sooner_once_until_one_comes_in_time() {
        let mut decider = Decider::new(Rng::with_seed(1), Rules::default());
        let mut now = Moment::EARLY;
        for (left, expected) in [(1_900, 950), (300, 1_000), (300, 1_000), (3_000, 1_000), (300, 150)] {
            let left = Duration::from_millis(left);
            decider.begin(now, FetchReason::Due);
            let secret = format!("{left:?} at {now:?}");
            let late = token(&secret.replace([' ', ':', '{', '}'], "")).expires_in(SECOND * 3).age(SECOND * 3 - left);
            decider.finish(now, wall(), Ok(late));
            assert_eq!(decider.not_before.unwrap().since(now), Duration::from_millis(expected), "{left:?}");
            now = now + SECOND * 2;
        }
    }

    #[test]
    fn that_the_token_before_was_accepted_counts_whoever_it_was_sent_with_first() {
        let now = Moment::EARLY + SECOND * 60;
        for demand in [
            Demand { accepted: Some(Generation(1)), ..Demand::default() },
            Demand { recovered: Some(Generation(1)), ..Demand::default() },
        ] {
            let mut decider = after(Ok(token("a").expires_in(HOUR)));
            then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
            decider.demand(now, &refusal(2));
            assert_eq!(decider.turn(now), Some(Turn::Back));
            decider.demand(now, &demand);
            assert_eq!(decider.doubt.stand_in_served(), Some(true), "{demand:?}");
        }
    }

    #[test]
    fn a_whole_life_without_a_401_makes_the_next_one_the_first() {
        let now = Moment::EARLY + SECOND * 60;
        for (fetched, refused, reason, is_first) in [
            ("b", false, FetchReason::Due, true),
            ("b", false, FetchReason::Asked, false),
            ("b", true, FetchReason::Due, false),
            ("a", false, FetchReason::Due, false),
        ] {
            let mut decider = fetched_for_a_401(now, Ok(token(fetched).age(SECOND * 10)));
            let later = now + SECOND * 60;
            if refused {
                decider.demand(
                    later,
                    &Demand { refused: Some(Refused { number: 2, ..refused_once(2) }), ..Demand::default() },
                );
            }
            decider.refused = false;
            decider.begin(later, reason);
            decider.finish(later, wall(), Ok(token("c").age(SECOND * 10)));
            let what = format!("{fetched} {refused} {reason:?}");
            assert_eq!(!decider.refusals.wants_to_know(), is_first, "{what}");
        }
    }

    #[test]
    fn a_refusal_is_one_of_its_token_and_no_other() {
        let now = Moment::EARLY + SECOND * 60;
        for (fetched, is_refused) in [("a", true), ("b", false)] {
            let decider = fetched_for_a_401(now, Ok(token(fetched).expires_in(HOUR)));
            let held = decider.held.as_ref().unwrap();
            assert_eq!((held.was_refused, held.was_ever_refused), (is_refused, is_refused), "{fetched}");
        }
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        then(&mut decider, now, Ok(token("a").expires_in(HOUR)));
        let held = decider.held.as_ref().unwrap();
        assert!(!held.was_refused && !held.was_ever_refused);
    }

    #[test]
    fn the_same_token_is_published_again_only_with_another_end() {
        let now = Moment::EARLY + SECOND * 60;
        for (secret, lifetime, is_over, expected) in [
            ("a", HOUR, false, None),
            ("a", HOUR * 2, false, Some(Generation(1))),
            ("a", HOUR * 2, true, Some(Generation(1))),
            ("b", HOUR, false, Some(Generation(2))),
            ("b", HOUR, true, Some(Generation(2))),
        ] {
            let mut decider = after(Ok(token("a").expires_in(HOUR)));
            let now = if is_over { Moment::EARLY + HOUR } else { now };
            assert_eq!(decider.expire(now), is_over);
            decider.begin(now, FetchReason::Due);
            let published = match decider.finish(now, wall(), Ok(token(secret).expires_in(lifetime))) {
                Outcome::Publish { generation, doubted, .. } => {
                    assert_eq!(
                        doubted,
                        secret == "b" || !is_over,
                        "nobody has seen it accepted, nor used it to its end"
                    );
                    Some(generation)
                }
                Outcome::Unchanged => None,
            };
            assert_eq!(published, expected, "{secret} {lifetime:?} {is_over}");
        }
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        decider.demand(now, &acceptance(1));
        decider.begin(now, FetchReason::Due);
        let outcome = decider.finish(now, wall(), Ok(token("a").expires_in(HOUR * 2)));
        assert!(matches!(outcome, Outcome::Publish { doubted: false, .. }), "{outcome:?}");
    }

    #[test]
    fn only_one_that_serves_and_was_not_refused_stands_in() {
        let now = Moment::EARLY + SECOND * 60;
        let stands_in = |decider: &mut Decider, now| {
            decider.begin(now, FetchReason::Asked);
            decider.finish(now, wall(), Ok(token("next").expires_in(HOUR)));
            decider.demand(now, &refusal(decider.generation.0));
            decider.turn(now) == Some(Turn::Back)
        };
        assert!(stands_in(&mut after(Ok(token("a").expires_in(HOUR))), now));
        let mut ended = after(Ok(token("a").expires_in(HOUR)));
        ended.expire(Moment::EARLY + HOUR);
        assert!(!stands_in(&mut ended, Moment::EARLY + HOUR));
        let mut refused = after(Ok(token("a").expires_in(HOUR)));
        refused.demand(now, &refusal(1));
        assert!(!stands_in(&mut refused, now));
        // So young that it is tried again.
        let mut unsettled = after(Ok(token("a").expires_in(HOUR)));
        unsettled.demand(Moment::EARLY, &refusal(1));
        assert!(!stands_in(&mut unsettled, Moment::EARLY));
    }

    #[test]
    fn what_waits_for_the_end_of_a_token_waits_only_for_one_that_serves() {
        let end = Moment::EARLY + HOUR;
        let now = Moment::EARLY + SECOND * 60;
        let retry = |mut decider: Decider, now, error| {
            decider.begin(now, FetchReason::Due);
            decider.finish(now, wall(), Err(error));
            decider.next_fetch(now).unwrap().0
        };
        let live = || after(Ok(token("a").expires_in(HOUR)));
        let waits = || FetchError::try_again("later").until_token_ends();
        assert_eq!(retry(live(), now, waits()), end);
        assert!(retry(live(), now, FetchError::try_again("down")) <= now + SECOND);
        let mut refused = live();
        refused.demand(now, &refusal(1));
        assert!(retry(refused, now, waits()) <= now + SECOND);
        let mut ended = live();
        ended.expire(end);
        let at = retry(ended, end, waits());
        assert!(at > end && at <= end + SECOND);
    }

    /// One life of a decider, played as the task plays it, with everything checked that must hold at any moment.
    fn walk(seed: u64) -> u32 {
        let mut rng = Rng::with_seed(seed);
        let rules = Rules { assumed_lifetime: rng.bool().then_some(HOUR), ..Rules::default() };
        let mut decider = Decider::new(Rng::with_seed(seed), rules);
        let demands = Demands::default();
        let (mut now, mut fetches, mut stuck) = (Moment::EARLY, 0, 0);
        // What requests see, when a fetch may begin at all, when it may unless somebody asks for it.
        let (mut cell, mut spaced, mut backed_off) = (None, now, Some(now));
        for step in 0..500_u64 {
            match rng.u32(..12) {
                0 => drop(demands.refresh()),
                1 => drop(demands.refuse(decider.generation, false)),
                2 => drop(demands.refuse(decider.generation, true)),
                3 => drop(demands.refuse(Generation(decider.generation.0.saturating_sub(1)), false)),
                4 => demands.recover(decider.generation),
                _ => {}
            }
            let read = demands.read();
            decider.demand(now, &read);
            if let Some(turn) = decider.turn(now) {
                let carried = decider.carried().map(|(_, generation, _)| generation);
                assert!(carried.is_some() || cell.is_none(), "{turn:?}");
                cell = cell.and(carried);
                demands.answer_refusals(read.last);
            }
            if decider.is_settled() {
                demands.answer_refusals(read.last);
                demands.answer_refreshes(read.last);
            }
            decider.compare_with_wall(now, wall() + Duration::from_secs(rng.u64(..10_000)));
            if decider.expire(now) {
                cell = None;
            }
            let snapshot = decider.snapshot(now, Progress::default());
            assert_eq!(snapshot.usable, cell.is_some());
            assert!(cell.is_none_or(|generation| generation == snapshot.in_use));

            let Some((_, reason)) = decider.next_fetch(now).filter(|(at, _)| *at <= now) else {
                let wake = decider.wake_at(now);
                assert!(wake.is_none_or(|at| at > now), "it would spin");
                now = match wake {
                    Some(at) if rng.bool() => at,
                    _ => now + Duration::from_millis(rng.u64(..60_000)),
                };
                continue;
            };
            fetches += 1;
            stuck = if now > spaced { 0 } else { stuck + 1 };
            assert!(stuck < 500, "time stands still");
            assert!(now >= spaced, "seed {seed}, step {step}: {reason:?} too soon after a success");
            let may = reason == FetchReason::Asked || backed_off.is_some_and(|at| now >= at);
            assert!(may, "seed {seed}, step {step}: {reason:?} bypasses the backoff");

            let began = now;
            let request = decider.begin(now, reason);
            demands.answer_refreshes(read.last);
            assert!(request.timeout() >= SECOND * 2 && request.timeout() <= SECOND * 30);
            assert_eq!(decider.next_fetch(now), None, "one at a time");
            now = now + Duration::from_millis(rng.u64(..3_000));
            if decider.expire(now) {
                cell = None;
            }
            let lifetime = Duration::from_millis([1, 900, 5_000, 600_000][rng.usize(..4)]);
            let asked = Duration::from_secs(rng.u64(..5_000));
            let fetched = match rng.u32(..8) {
                0 => Err(FetchError::try_again("busy").retry_after(asked)),
                1 => Err(FetchError::rejected("secret")),
                2 => Err(FetchError::reauthorize("dead")),
                3 => Ok(token("same").expires_in(lifetime)),
                4 => Ok(token("file").recheck_after(lifetime)),
                _ => Ok(token(&format!("t{step}")).expires_in(lifetime)),
            };
            // The same token again, with the same life, is as old as it is.
            let sent = match (&decider.held, &fetched) {
                (Some(held), Ok(token))
                    if held.token.is_same_secret(token)
                        && token.lifetime().is_some()
                        && held.token.lifetime() == token.lifetime() =>
                {
                    held.sent
                }
                _ => began,
            };
            let dead = fetched.as_ref().is_ok_and(|token| token.lifetime().is_some_and(|life| sent + life <= now));
            (spaced, backed_off) = match &fetched {
                Ok(_) if dead => (spaced, Some(now)),
                Ok(token) => {
                    let life = token.lifetime().or(rules.assumed_lifetime);
                    (began + life.map_or(SECOND, |life| (life / 2).min(SECOND)), Some(now))
                }
                Err(error) if error.kind() == FetchErrorKind::TryAgain => (spaced, Some(now + asked.min(HOUR))),
                Err(error) if error.kind() == FetchErrorKind::Rejected => (spaced, Some(now + SECOND * 300)),
                Err(_) => (spaced, None),
            };
            let last = demands.read();
            decider.demand(now, &last);
            let before = decider.generation;
            match decider.finish(now, wall(), fetched) {
                Outcome::Publish { generation, .. } => {
                    assert!(generation >= before && !dead);
                    cell = Some(generation);
                }
                Outcome::Unchanged => {}
            }
            demands.answer_refusals(last.last);
        }
        fetches
    }

    #[test]
    fn whatever_comes_in_whatever_order_the_rules_hold() {
        let fetches: u32 = (0..300).map(walk).sum();
        assert!(fetches > 10_000, "{fetches}: nothing was tried");
    }
}
