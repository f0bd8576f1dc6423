//! What a 401 does.

use std::time::Duration;

use futures_util::future::join_all;

use super::scene::*;
use crate::live::Attempts;
use crate::{FetchReason, live::Generation};

const WAIT: Duration = secs(10);

/// A token that has been in use for a while.
async fn settled(act: Act) -> Scene {
    let scene = Scene::new([fresh(HOUR)], act);
    scene.until(secs(60)).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_401_for_an_older_token_finds_the_newer_one_at_once() {
    let scene = settled(fresh(HOUR)).await;
    let old = scene.generation();
    at_once(scene.token.refresh()).await.unwrap();
    for _ in 0..1000 {
        assert!(at_once(scene.token.replace(old, WAIT, Attempts::Last)).await.is_some());
        scene.token.report_refused(old);
    }
    scene.until(secs(600)).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")), "the fresh one is not evicted");
    assert_eq!(scene.last().refused, None);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_401s_for_the_current_token_cost_one_fetch() {
    let scene = settled(fresh(HOUR).taking(secs(2))).await;
    let refused = scene.generation();
    let waiting = tokio::spawn(join_all((0..1000).map(|n| {
        let token = scene.token.clone();
        async move {
            tokio::time::sleep(millis(n)).await;
            token.replace(refused, WAIT, Attempts::Last).await
        }
    })));
    scene.until(millis(61_500)).await;
    assert_eq!(scene.sent().as_deref(), Some("t1"), "who saw no 401 goes on");
    let replaced = within(secs(1), waiting).await.unwrap();
    assert!(replaced.into_iter().all(|replaced| replaced.is_some()));
    assert_eq!(scene.count(), 2);
    let call = scene.last();
    assert_eq!((call.reason, call.refused.as_deref(), call.at), (FetchReason::Refused, Some("t1"), secs(60)));
    assert_eq!(scene.sent().as_deref(), Some("t2"));
}

#[tokio::test(start_paused = true)]
async fn a_401_renews_a_token_that_has_no_timer() {
    let scene = Scene::always(endless());
    scene.until(30 * DAY).await;
    assert!(at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await.is_some());
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_401_that_nobody_waits_for_renews_the_token_too() {
    let scene = settled(fresh(HOUR)).await;
    scene.token.report_refused(scene.generation());
    settle().await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_after_a_401_hands_it_on_and_keeps_the_token() {
    for act in [down(), panics(), fails(crate::FetchError::rejected("secret"))] {
        let scene = settled(act.taking(secs(1))).await;
        let replaced =
            within(secs(2), join_all((0..100).map(|_| scene.token.replace(Generation(1), WAIT, Attempts::Last)))).await;
        assert!(replaced.into_iter().all(|replaced| replaced.is_none()));
        assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t1")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hands_out_the_refused_token_again_replaces_nothing() {
    let scene = Scene::always(gives(token("same")));
    scene.until(secs(60)).await;
    assert!(at_once(scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.is_none());
    assert_eq!((scene.count(), scene.generation().0, scene.sent().as_deref()), (2, 1, Some("same")));
}

#[tokio::test(start_paused = true)]
async fn a_401_waits_no_longer_than_it_may_and_the_fetch_goes_on() {
    let scene = settled(fresh(HOUR).taking(secs(20))).await;
    assert!(within(secs(11), scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.is_none());
    assert_eq!(scene.script.now().as_secs(), 70);
    scene.until(secs(81)).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_away_after_its_401_takes_no_fetch_with_it() {
    let scene = settled(fresh(HOUR).taking(secs(5))).await;
    let token = scene.token.clone();
    let patient = tokio::spawn(async move { token.replace(Generation(1), WAIT, Attempts::Last).await });
    tokio::time::timeout(secs(1), scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.unwrap_err();
    let (left, _) = within(secs(5), patient).await.unwrap().expect("another token");
    assert!(left <= WAIT - secs(5) && left >= WAIT - secs(5) - millis(3), "{left:?} of {WAIT:?}");
    assert_eq!(scene.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_during_a_fetch_shares_it() {
    let scene = Scene::new([fresh(secs(1000))], fresh(HOUR).taking(secs(5)));
    scene.until_call(2).await;
    tokio::time::sleep(secs(1)).await;
    assert!(within(secs(5), scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.is_some());
    tokio::time::sleep(secs(60)).await;
    assert_eq!(scene.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_right_after_a_fetch_keeps_the_distance() {
    let scene = Scene::always(fresh(HOUR));
    scene.until(millis(100)).await;
    assert!(within(secs(1), scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.is_some());
    let at = scene.last().at;
    assert!(at >= secs(1) && at <= millis(1_002), "{at:?}");
    assert_eq!(scene.count(), 2);
}

/// Refuses every token, four times a second. Returns the times between fetches, in seconds.
async fn refuse_everything(scene: &Scene, time: Duration) -> Vec<f64> {
    let end = scene.script.now() + time;
    let before = scene.count();
    while scene.script.now() < end {
        if let Some((_, generation)) = scene.token.current()
            && within(WAIT + secs(1), scene.token.replace(generation, WAIT, Attempts::Last)).await.is_some()
        {
            // The second attempt is refused as well.
            scene.token.report_refused(scene.generation());
        }
        tokio::time::sleep(millis(250)).await;
    }
    let times = &scene.times()[before..];
    times.windows(2).map(|two| two[1] - two[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_every_token_costs_a_fetch_a_minute_in_the_end() {
    // Whether the source brings another token each time, or the same.
    for act in [fresh(30 * DAY), gives(token("t1").expires_in(30 * DAY))] {
        let scene = Scene::new([fresh(30 * DAY)], act.clone());
        scene.until(secs(60)).await;
        let pauses = refuse_everything(&scene, secs(900)).await;
        for (pause, wanted) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]) {
            assert!((wanted..wanted * 2.0).contains(pause), "{act:?}: {pauses:?}");
        }
        assert!(pauses[6..].iter().all(|pause| (60.0..121.0).contains(pause)), "{act:?}: {pauses:?}");
        assert!(scene.sent().is_some(), "everybody else goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_as_soon_as_the_source_can_and_401s_make_that_no_faster() {
    let scene = Scene::new([fresh(30 * DAY)], down());
    scene.until(secs(60)).await;
    let pauses = refuse_everything(&scene, secs(900)).await;
    for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]) {
        assert!((longest / 2.0..=longest + 0.01).contains(pause), "{pauses:?}");
    }
    assert!(pauses[6..].iter().all(|pause| (30.0..=60.01).contains(pause)), "{pauses:?}");
    assert!(scene.sent().is_some(), "everybody else goes on");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_every_token_gains_nothing_by_tokens_that_live_shortly() {
    let scene = Scene::always(fresh(secs(20)));
    settle().await;
    refuse_everything(&scene, secs(600)).await;
    let refused = scene.script.calls().iter().filter(|call| call.reason == FetchReason::Refused).count();
    assert!((6..=16).contains(&refused), "{refused} fetches, scheduled ones not counted");
}

#[tokio::test(start_paused = true)]
async fn during_the_pause_a_401_is_handed_on_at_once() {
    let scene = settled(fresh(HOUR)).await;
    refuse_everything(&scene, secs(100)).await;
    let calls = scene.count();
    assert!(at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await.is_none());
    assert_eq!(scene.count(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_succeeds_ends_the_pause() {
    let scene = settled(fresh(30 * DAY)).await;
    refuse_everything(&scene, secs(300)).await;
    let generation = scene.generation();
    scene.token.report_recovered(generation, true);
    settle().await;
    assert!(
        at_once(scene.token.replace(generation, WAIT, Attempts::Last)).await.is_some(),
        "a second revocation is answered at once"
    );
    let pauses = refuse_everything(&scene, secs(10)).await;
    assert!(pauses[0] < 3.0, "the pause grows from the start again: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn success_with_an_older_token_says_nothing_of_the_current_one() {
    let scene = settled(fresh(30 * DAY)).await;
    refuse_everything(&scene, secs(100)).await;
    let calls = scene.count();
    scene.token.report_recovered(Generation(1), true);
    settle().await;
    assert!(at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await.is_none());
    assert_eq!(scene.count(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_whole_life_without_a_401_ends_the_pause() {
    let scene = settled(fresh(secs(200))).await;
    refuse_everything(&scene, secs(100)).await;
    at_once(scene.token.refresh()).await.unwrap();
    let calls = scene.count();
    // Nobody refuses this token. The next one is refused once.
    scene.until_call(calls + 1).await;
    tokio::time::sleep(secs(2)).await;
    assert!(at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await.is_some());
    tokio::time::sleep(secs(2)).await;
    assert!(
        at_once(scene.token.replace(scene.generation(), WAIT, Attempts::Last)).await.is_some(),
        "the first pause is a second"
    );
}

#[tokio::test(start_paused = true)]
async fn the_refused_token_is_named_until_another_one_is_there() {
    let scene = Scene::new([fresh(secs(1000)), down(), gives(token("t1").expires_in(HOUR))], fresh(HOUR));
    scene.until(secs(60)).await;
    assert!(at_once(scene.token.replace(Generation(1), WAIT, Attempts::Last)).await.is_none());
    // The next attempt brings the same token, which must still be replaced.
    scene.until(secs(70)).await;
    assert_eq!(scene.last().refused.as_deref(), Some("t1"), "{:?}", scene.script.calls());
    for named in [Some("t1"), None] {
        at_once(scene.token.refresh()).await.unwrap();
        assert_eq!(scene.last().refused.as_deref(), named, "{:?}", scene.script.calls());
        tokio::time::sleep(secs(2)).await;
    }
}

/// A new token is refused during a backoff: by a request that can try it again, and by one that can't.
#[tokio::test(start_paused = true)]
async fn in_a_backoff_nobody_waits_for_a_fetch_that_comes_too_late() {
    let busy = || fails(crate::FetchError::try_again("busy").retry_after(secs(60)));
    let scene = Scene::new([fresh(HOUR)], busy());
    scene.until(secs(1)).await;
    at_once(scene.token.refresh()).await.unwrap_err();
    scene.until(millis(1500)).await;
    let generation = scene.generation();
    let patient =
        |token: crate::LiveToken| tokio::spawn(async move { token.replace(generation, WAIT, Attempts::More).await });
    let first = patient(scene.token.clone());
    settle().await;
    let began = scene.script.now();
    let last = scene.token.replace(generation, WAIT, Attempts::Last).await;
    let waited = scene.script.now() - began;
    let first = first.await.unwrap().map(|(_, with)| with);
    let until = scene.script.now();
    assert!(
        last.is_none() && waited < secs(1) && first.is_some() && until < secs(3),
        "the one that can't: {last:?} after {waited:?}; the one that can: {first:?} at {until:?}, and the next fetch begins at 61 s"
    );
}
