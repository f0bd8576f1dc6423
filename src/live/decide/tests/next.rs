//! What the clock asks for.

use super::*;

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
    for (mut decider, expected) in
        [(first, true), (after(Ok(token("a").expires_in(HOUR))), false), (after(Ok(token("a"))), false), (ended, true)]
    {
        assert_eq!(decider.begin(Moment::EARLY + HOUR, FetchReason::Due).is_urgent(), expected);
    }
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
