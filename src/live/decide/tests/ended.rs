//! What the end of a fetch means.

use super::*;

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
        // It existed before the refusal.
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
    // Also if the previous token was refused as soon: a route may refuse everybody.
    let mut decider = fetched_for_a_401(now, Ok(token("b")));
    let later = now + SECOND * 6;
    decider.demand(later, &Demand { refused: Some(Refused { number: 2, ..refused_once(2) }), ..Demand::default() });
    decider.begin(later, FetchReason::Refused);
    decider.finish(later, wall(), Ok(token("c")));
    assert!(decider.doubt.wants_to_know());
}

/// If this process has waited for a slow fetch of another one, the token counts as new.
#[test]
fn a_token_that_was_waited_for_is_new_however_long_its_exchange_took() {
    for (waited, age, is_new) in [(9, 10, true), (9, 14, false), (0, 4, true), (0, 5, false)] {
        let mut decider = Decider::new(Rng::with_seed(1), Rules::default());
        decider.begin(Moment::EARLY, FetchReason::First);
        let now = Moment::EARLY + SECOND * waited;
        decider.finish(now, wall(), Ok(token("a").expires_in(HOUR).age(SECOND * age)));
        assert_eq!(decider.doubt.wants_to_know(), is_new, "waited {waited} s, {age} s old");
    }
    // The fetch of this process took longer than a token needs to be old. Its token didn't exist before the refusal.
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
        assert_eq!((held.refused_since.is_some(), held.was_ever_refused), (is_refused, is_refused), "{fetched}");
    }
    let mut decider = after(Ok(token("a").expires_in(HOUR)));
    then(&mut decider, now, Ok(token("a").expires_in(HOUR)));
    let held = decider.held.as_ref().unwrap();
    assert!(held.refused_since.is_none() && !held.was_ever_refused);
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
                assert_eq!(doubted, secret == "b" || !is_over, "nobody has seen it accepted, nor used it to its end");
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
