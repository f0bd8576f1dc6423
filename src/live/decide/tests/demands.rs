//! What handles ask for, and what requests carry meanwhile.

use super::*;

#[test]
fn a_401_that_is_looked_at_late_asks_for_nothing() {
    // The token was the current one when its 401 was reported. Before the task read the report, another token replaced it.
    let mut decider = after(Ok(token("a").expires_in(HOUR)));
    let now = Moment::EARLY + SECOND * 2;
    then(&mut decider, now, Ok(token("b").expires_in(HOUR)));
    let refused = |generation| Demand { refused: Some(refused_once(generation)), ..Demand::default() };
    decider.demand(now, &refused(1));
    assert!(decider.is_settled());
    assert_eq!(decider.next_fetch(now).unwrap().1, FetchReason::Due);
    // A refusal of a new token makes requests carry the previous one.
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
    assert!(decider.held.as_ref().unwrap().refused_since.is_none() && !decider.may_answer_refusals());
    decider.finish(now, wall(), Err(FetchError::try_again("down")));
    let now = now + SECOND;
    assert_eq!((decider.turn(now), decider.in_use()), (Some(Turn::Forward), Generation(2)));
    assert!(decider.may_answer_refusals());
}

/// A decider whose second token was refused as soon as it came: requests carry the first one.
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
    assert!(decider.held.as_ref().unwrap().refused_since.is_some());
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

    // A token of this age isn't new.
    decider.begin(now, FetchReason::Refused);
    decider.finish(now, wall(), Ok(token("b").expires_in(HOUR).age(SECOND * 10)));
    assert_eq!(decider.doubted(), Generation(2), "nobody has seen that the fetch helped");
    decider.demand(now, &acceptance(2));
    assert_eq!(decider.doubted(), Generation::NONE);
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
    // The token is so new that it is tried again.
    let mut unsettled = after(Ok(token("a").expires_in(HOUR)));
    unsettled.demand(Moment::EARLY, &refusal(1));
    assert!(!stands_in(&mut unsettled, Moment::EARLY));
}

/// The acceptance of a request that was sent again counts like any other.
#[test]
fn an_acceptance_ends_the_time_of_refusals_whichever_attempt_it_answers() {
    let now = Moment::EARLY + SECOND * 60;
    let recovery = Demand { recovered: Some(Generation(1)), ..Demand::default() };
    for accepted in [acceptance(1), recovery] {
        let mut decider = after(Ok(token("a").expires_in(HOUR)));
        decider.demand(now, &refusal(1));
        assert!(decider.held.as_ref().unwrap().refused_since.is_some());
        decider.demand(now + SECOND, &accepted);
        assert_eq!(decider.held.as_ref().unwrap().refused_since, None, "{accepted:?}");
    }
}
