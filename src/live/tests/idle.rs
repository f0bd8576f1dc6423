//! A token that is renewed only while somebody uses it.

use std::time::Duration;

use http::HeaderMap;

use super::scene::*;
use crate::{
    ErrorKind, FetchError, FetchReason, State,
    live::{CellView, Generation, Reader},
};

const LIFE: Duration = secs(100);

/// A token that rests after this long without use.
fn resting(limit: Duration, queue: impl IntoIterator<Item = Act>, rest: Act) -> Scene {
    Scene::with(1, queue, rest, |options| options.renew_while_used(limit))
}

fn state(scene: &Scene) -> (State, bool) {
    let status = scene.token.status();
    (status.state(), status.is_usable())
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_uses_is_fetched_once_and_then_nothing_wakes_the_task() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(secs(50)).await;
    assert_eq!(state(&scene), (State::Live, true));
    scene.until(secs(90)).await;
    assert_eq!(state(&scene), (State::Asleep, true));
    assert_eq!(scene.token.status().next_attempt_in(), None);
    scene.until(LIFE + MILLI).await;
    assert_eq!(state(&scene), (State::Asleep, false));
    assert_eq!(scene.token.status().to_string(), "asleep, no valid token");
    scene.until(100 * LIFE).await;
    assert_eq!(scene.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_wakes_a_token_that_has_expired_in_its_sleep() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE).taking(millis(200)));
    scene.until(50 * LIFE).await;
    let (first, second) = (acquires(scene.token.clone(), secs(10)), acquires(scene.token.clone(), secs(10)));
    for waits in [first, second] {
        assert_eq!(within(millis(210), waits).await.unwrap().unwrap().0, "Bearer t2");
    }
    assert_eq!((scene.count(), scene.last().reason), (2, FetchReason::Due));
    assert_eq!(state(&scene), (State::Live, true));
    // It was used, so it is renewed; that one isn't.
    scene.until(60 * LIFE).await;
    assert_eq!((scene.count(), scene.sent()), (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_still_valid_is_sent_at_once_and_renewed_meanwhile() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE).taking(secs(1)));
    scene.until(secs(90)).await;
    assert_eq!(state(&scene), (State::Asleep, true));
    assert_eq!(scene.sent().as_deref(), Some("t1"));
    settle().await;
    assert!(scene.token.status().is_fetching());
    scene.until(secs(92)).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_keeps_its_header_counts_as_use_of_each_token() {
    for clones in [false, true] {
        let scene = resting(Duration::ZERO, [], fresh(LIFE).taking(secs(2)));
        scene.token.ready().await.unwrap();
        let view = CellView::of(scene.token.cell());
        let mut reader = Reader::new();
        for _ in 0..400 {
            if clones {
                reader = Reader::new();
            }
            let carried = reader.authorize(&view, &mut HeaderMap::new());
            assert_ne!(carried, Generation::NONE, "at {:?}", scene.script.now());
            tokio::time::sleep(secs(10)).await;
        }
        assert!((40..=56).contains(&scene.count()), "{}", scene.count());
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_for_the_lifetimes_that_begin_within_the_limit() {
    let scene = resting(secs(250), [], fresh(LIFE));
    scene.until(secs(10)).await;
    scene.sent().unwrap();
    scene.until(secs(2000)).await;
    // Used until the renewal at about 80 s, as far as anybody knows. So the last renewal is the one before about 330 s.
    assert_eq!(scene.count(), 5, "{:?}", scene.times());
    assert_eq!(state(&scene), (State::Asleep, false));
}

#[tokio::test(start_paused = true)]
async fn who_waits_keeps_it_awake_through_an_outage_and_without_anybody_it_is_not_tried_again() {
    let scene = resting(Duration::ZERO, [down(), down(), down(), down()], fresh(LIFE));
    scene.until(secs(30)).await;
    assert_eq!((scene.count(), state(&scene)), (1, (State::Asleep, false)));
    let waits = acquires(scene.token.clone(), secs(60));
    assert_eq!(within(secs(30), waits).await.unwrap().unwrap().0, "Bearer t1");
}

/// A program whose requests never wait gets no token for the first, but for the next ones.
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_wait_has_a_token_fetched_for_the_next() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(5 * LIFE).await;
    at_once(scene.token.acquire(Duration::ZERO)).await.unwrap_err();
    settle().await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn ready_and_refresh_wake_it() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(5 * LIFE).await;
    at_once(scene.token.ready()).await.unwrap();
    assert_eq!(scene.count(), 2);
    scene.until(10 * LIFE).await;
    assert_eq!(state(&scene), (State::Asleep, false));
    at_once(scene.token.refresh()).await.unwrap();
    assert_eq!((scene.count(), scene.last().reason), (3, FetchReason::Asked));
}

#[tokio::test(start_paused = true)]
async fn after_the_end_of_an_authorization_the_source_is_asked_once_more_for_each_that_wakes_it() {
    let ended = fails(FetchError::reauthorize("invalid_grant"));
    let scene = resting(secs(20), [fresh(LIFE), ended.clone(), ended], fresh(LIFE));
    scene.sent();
    scene.until(secs(50)).await;
    scene.sent().unwrap();
    scene.until(LIFE + secs(30)).await;
    assert_eq!((scene.count(), state(&scene)), (2, (State::ReauthorizationRequired, false)));
    let error = at_once(scene.token.acquire(secs(10))).await.unwrap_err();
    assert_eq!((error.kind(), scene.count()), (ErrorKind::ReauthorizationRequired, 3), "a look at what is stored");
    assert_eq!(scene.last().reason, FetchReason::Changed);
    // Awake, it is told of changes. Nobody asks for each request.
    let error = at_once(scene.token.acquire(secs(10))).await.unwrap_err();
    assert_eq!((error.kind(), scene.count()), (ErrorKind::ReauthorizationRequired, 3));
    scene.until(3 * LIFE).await;
    // Meanwhile the user has authorized again.
    assert_eq!(at_once(scene.token.acquire(secs(10))).await.unwrap().0, "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_rejected_before_the_sleep_are_tried_for_the_request_that_ends_it() {
    let scene = resting(secs(10), [fails(FetchError::rejected("invalid_client"))], fresh(LIFE).taking(secs(1)));
    scene.until(secs(500)).await;
    assert_eq!((scene.count(), state(&scene)), (1, (State::Rejected, false)));
    // Meanwhile somebody has corrected the secret.
    assert_eq!(within(secs(2), scene.token.acquire(secs(10))).await.unwrap().0, "Bearer t1");
    assert_eq!(scene.last().reason, FetchReason::First);
}

/// Nobody waits for another token any more, and this one has expired.
#[tokio::test(start_paused = true)]
async fn a_401_of_long_ago_is_no_use() {
    let scene =
        resting(Duration::ZERO, [fresh(LIFE), fails(FetchError::try_again("429").retry_after(secs(900)))], fresh(LIFE));
    scene.until(secs(10)).await;
    scene.sent().unwrap();
    assert!(!within(secs(20), scene.token.replaced(Generation(1), secs(10))).await);
    assert_eq!(scene.count(), 2);
    scene.until(50 * LIFE).await;
    assert_eq!((scene.count(), state(&scene)), (2, (State::Asleep, false)));
}

#[tokio::test(start_paused = true)]
async fn a_401_is_a_use() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(secs(90)).await;
    assert_eq!(state(&scene), (State::Asleep, true));
    assert!(within(secs(2), scene.token.replaced(Generation(1), secs(10))).await);
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn asleep_it_can_be_shut_down_and_dropped() {
    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(5 * LIFE).await;
    at_once(scene.token.shutdown()).await;
    assert_eq!(state(&scene), (State::Stopped, false));

    let scene = resting(Duration::ZERO, [], fresh(LIFE));
    scene.until(5 * LIFE).await;
    drop(scene.token);
    at_once(scene.driver).await.unwrap();
}

/// The same token with more lifetime keeps its version, so nobody would notice its use.
#[tokio::test(start_paused = true)]
async fn a_token_that_its_source_prolongs_stays_awake_once_it_was_used() {
    let same = || gives(token("same").expires_in(LIFE).age(Duration::ZERO));
    let scene = resting(Duration::ZERO, [], same());
    scene.until(secs(10)).await;
    let view = CellView::of(scene.token.cell());
    let mut reader = Reader::new();
    for _ in 0..100 {
        assert_ne!(reader.authorize(&view, &mut HeaderMap::new()), Generation::NONE, "at {:?}", scene.script.now());
        tokio::time::sleep(secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_option_it_never_sleeps() {
    let scene = Scene::always(fresh(LIFE));
    scene.until(10 * LIFE).await;
    assert_eq!(state(&scene), (State::Live, true));
    assert!(scene.count() >= 12);
}
