//! 401s among acceptances: one route refuses what others accept. And 401s that no fetch can answer.

use super::scene::*;
use crate::{
    FetchError, FetchReason, LiveToken,
    live::{Attempts, With},
};

const WAIT: std::time::Duration = secs(10);

/// One route refuses the token and another one accepts it, while the source waits for the end of the token.
#[tokio::test(start_paused = true)]
async fn one_route_of_401s_keeps_to_the_backoff_of_a_source_that_waits_for_the_end_of_the_token() {
    let later = fails(FetchError::try_again("later").until_token_ends()).taking(millis(20));
    let scene = Scene::new([fresh(HOUR)], later);
    scene.until(secs(60)).await;
    for _ in 0..6_000 {
        scene.token.report_refused(scene.generation());
        tokio::time::sleep(millis(5)).await;
        scene.token.report_accepted(scene.generation());
        tokio::time::sleep(millis(5)).await;
    }
    let calls = scene.count() - 1;
    assert!((1..=20).contains(&calls), "{calls} fetches in a minute, and all of them failed");
}

/// The token is refused in a backoff, and accepted by another route before the next fetch.
#[tokio::test(start_paused = true)]
async fn a_fetch_for_a_401_names_the_refused_token_though_others_accept_it() {
    let busy = fails(FetchError::try_again("busy").retry_after(secs(30)));
    let scene = Scene::new([fresh(HOUR), busy], fresh(HOUR));
    scene.until(secs(60)).await;
    at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await;
    scene.until(secs(70)).await;
    scene.token.report_refused(scene.generation());
    settle().await;
    scene.token.report_accepted(scene.generation());
    scene.until_call(3).await;
    let call = scene.last();
    assert_eq!((call.reason, call.refused.as_deref()), (FetchReason::Refused, Some("t1")));
}

/// After a shutdown there is no other token to get, as in a pause.
#[tokio::test(start_paused = true)]
async fn after_a_shutdown_who_can_try_the_same_token_again_does_not_pay_for_who_can_not() {
    let scene = Scene::always(fresh(HOUR));
    scene.until(secs(1)).await;
    at_once(scene.token.shutdown()).await;
    let generation = scene.generation();
    let replace = |token: LiveToken, attempts| async move { token.replace(generation, WAIT, attempts).await };
    let first = tokio::spawn(replace(scene.token.clone(), Attempts::More));
    settle().await;
    let last = within(secs(1), replace(scene.token.clone(), Attempts::Last)).await;
    let first = within(secs(1), first).await.unwrap().map(|(_, with)| with);
    assert_eq!((first, last), (Some(With::TheSame), None));
}
