//! The rules, in one state each, and in any order.

mod demands;
mod ended;
mod next;

use std::time::Duration;

use super::*;
use crate::live::demand::{Demand, Demands, Refused};

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

fn refusal(generation: u64) -> Demand {
    Demand { refused: Some(refused_once(generation)), ..Demand::default() }
}

fn acceptance(generation: u64) -> Demand {
    Demand { accepted: Some(Generation(generation)), ..Demand::default() }
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

/// One run of a decider, played as the task plays it. Checks everything that must hold at any moment.
fn walk(seed: u64) -> u32 {
    let mut rng = Rng::with_seed(seed);
    let rules = Rules { assumed_lifetime: rng.bool().then_some(HOUR), ..Rules::default() };
    let mut decider = Decider::new(Rng::with_seed(seed), rules);
    let demands = Demands::default();
    let (mut now, mut fetches, mut stuck) = (Moment::EARLY, 0, 0);
    // What requests find, when a fetch may begin at all, and when it may begin if nobody calls `refresh`.
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
        // The same token with the same lifetime: the lifetime goes on.
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
