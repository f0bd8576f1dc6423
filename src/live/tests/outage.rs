//! What happens when fetching fails.

use super::scene::*;
use crate::live::Attempts;
use crate::{ErrorKind, FetchError, FetchReason, State};

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_the_token_that_works() {
    let errors = [
        FetchError::try_again("down"),
        FetchError::try_again("busy").retry_after(secs(120)),
        FetchError::rejected("secret"),
        FetchError::rejected_for_good("password"),
        FetchError::reauthorize("dead"),
    ];
    for error in errors {
        let scene = Scene::new([fresh(secs(1000))], fails(error.clone()));
        scene.until_call(2).await;
        while scene.script.now() < millis(999_990) {
            assert_eq!(scene.sent().as_deref(), Some("t1"), "{error:?} at {:?}", scene.script.now());
            tokio::time::sleep(secs(1).min(millis(999_995) - scene.script.now())).await;
        }
        assert!(scene.token.status().is_usable());
        scene.until(millis(1_000_002)).await;
        assert_eq!(scene.sent(), None, "{error:?}");
        assert!(!scene.token.status().is_usable());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_asked_ever_more_slowly_and_each_time_at_random() {
    // The lifetime, and the longest first wait.
    for (lifetime, first) in [(HOUR, 1.0), (secs(2), 0.1), (secs(10), 0.5)] {
        let mut shares = Vec::new();
        for seed in 0..20 {
            let scene = Scene::with(seed, [fresh(lifetime)], down(), |options| options);
            scene.until(lifetime + secs(600)).await;
            let times = scene.times();
            for (n, two) in times[1..].windows(2).enumerate() {
                let whole = (first * 2_f64.powi(i32::try_from(n).unwrap())).min(60.0);
                let wait = two[1] - two[0];
                assert!(wait >= whole / 2.0 - 0.001, "{lifetime:?}, pause {n} of {wait}: {times:?}");
                assert!(wait <= whole + 0.002, "{lifetime:?}, pause {n} of {wait}: {times:?}");
                shares.push(wait / whole);
            }
        }
        let (low, high) = (shares.iter().copied().fold(1.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
        assert!(low < 0.55 && high > 0.95, "{low} to {high}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_any_length_service_is_back_within_a_minute() {
    for outage in [secs(90), HOUR, 2 * DAY] {
        let scene = Scene::always(down());
        scene.until(outage).await;
        scene.script.play([], fresh(HOUR));
        within(secs(61), scene.token.ready()).await.unwrap();
        assert_eq!(scene.token.status().failures(), 0);
        let most = outage.as_secs_f64() / 30.0 + 8.0;
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let fetches = scene.count() as f64;
        assert!(fetches <= most, "{fetches} fetches in {outage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_backoff_starts_anew_after_a_success() {
    let scene = Scene::new([down(), down(), down(), down(), down(), endless()], down());
    within(secs(60), scene.token.ready()).await.unwrap();
    tokio::time::sleep(secs(5)).await;
    at_once(scene.token.refresh()).await.unwrap_err();
    assert_eq!(scene.token.status().failures(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_up_to_an_hour_whoever_waits() {
    for (asked, obeyed) in [(30, 30.0), (600, 600.0), (3600, 3600.0), (1_000_000, 3600.0)] {
        let busy = fails(FetchError::try_again("busy").retry_after(secs(asked)));
        let scene = Scene::new([busy], fresh(HOUR));
        // Requests that wait, all the time, and that would wait for long.
        for _ in 0..20 {
            let token = scene.token.clone();
            acquires(token, secs(7200));
            tokio::time::sleep(secs(1)).await;
        }
        let at = scene.until_call(2).await.as_secs_f64();
        assert!((obeyed..=obeyed + 1.01).contains(&at), "{asked}: {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_bypasses_no_backoff() {
    let busy = fails(FetchError::try_again("busy").retry_after(secs(100)));
    let scene = Scene::new([fresh(HOUR), busy], fresh(HOUR));
    let failed = scene.until_call(2).await;
    settle().await;
    for _ in 0..90 {
        let generation = scene.generation();
        scene.token.report_refused(generation);
        let replaced = at_once(scene.token.replace(generation, millis(500), Attempts::Last)).await;
        assert!(replaced.is_none(), "the next attempt is too far away to wait for");
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(scene.count(), 2);
    let next = scene.until_call(3).await;
    assert!(next >= failed + secs(100), "{failed:?} {next:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_refresh_needs_not_wait_for_a_backoff() {
    let busy = fails(FetchError::try_again("busy").retry_after(HOUR));
    let scene = Scene::new([busy], fresh(HOUR));
    scene.until(secs(10)).await;
    at_once(scene.token.refresh()).await.unwrap();
    assert_eq!((scene.count(), scene.last().reason), (2, FetchReason::Asked));
    assert_eq!(scene.sent().as_deref(), Some("t1"));
}

#[tokio::test(start_paused = true)]
async fn refreshing_in_a_loop_keeps_the_distance_between_fetches() {
    for (act, distance) in [(down(), 1.0), (fresh(HOUR), 1.0), (fresh(millis(500)), 0.25), (panics(), 1.0)] {
        let scene = Scene::always(act);
        while scene.script.now() < secs(20) {
            let _ = within(secs(2), scene.token.refresh()).await;
        }
        let times = scene.times();
        assert!(times.len() >= 20);
        // The first fetch is shared with the first refresh.
        assert!(times.windows(2).all(|two| two[1] - two[0] >= distance - 1e-9), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_fail_at_once_and_are_tried_every_five_minutes() {
    let scene = Scene::always(fails(FetchError::rejected("unknown client")));
    scene.until(secs(1)).await;
    for _ in 0..3300 {
        let error = at_once(scene.token.acquire(HOUR)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.cause().unwrap().to_string().contains("unknown client"));
        tokio::time::sleep(secs(1)).await;
    }
    let times = scene.times();
    assert_eq!(times.len(), 12, "{times:?}");
    assert!(times.windows(2).all(|two| (300.0..301.0).contains(&(two[1] - two[0]))), "{times:?}");
    assert_eq!(scene.token.status().state(), State::Rejected);
    assert_eq!(at_once(scene.token.ready()).await.unwrap_err().kind(), ErrorKind::Rejected);

    // The secret is corrected without a restart.
    scene.script.play([], fresh(HOUR));
    tokio::time::sleep(secs(301)).await;
    assert_eq!((scene.sent().as_deref(), scene.token.status().state()), (Some("t1"), State::Live));
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_are_tried_every_five_minutes_while_the_token_serves_too() {
    let scene = Scene::new([fresh(4 * HOUR)], fails(FetchError::rejected("unknown client")));
    scene.until(4 * HOUR - secs(1)).await;
    let times = scene.times();
    assert!((7..=13).contains(&times.len()), "{times:?}");
    assert!(times[1..].windows(2).all(|two| (300.0..301.0).contains(&(two[1] - two[0]))), "{times:?}");
    assert_eq!((scene.sent().as_deref(), scene.token.status().state()), (Some("t1"), State::Rejected));
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_person_is_tried_only_when_asked_and_then_lives_again() {
    for (error, kind, state) in [
        (FetchError::reauthorize("dead"), ErrorKind::ReauthorizationRequired, State::ReauthorizationRequired),
        (FetchError::rejected_for_good("password"), ErrorKind::Rejected, State::Rejected),
    ] {
        for lifetime in [None, Some(HOUR)] {
            let scene = Scene::new(lifetime.map(fresh), fails(error.clone()));
            scene.until(30 * DAY).await;
            let tried = 1 + usize::from(lifetime.is_some());
            assert_eq!(scene.count(), tried, "{state:?}: a locked account: {:?}", scene.times());
            let status = scene.token.status();
            assert_eq!((status.state(), status.next_attempt_in(), status.failures()), (state, None, 1));
            assert_eq!(at_once(scene.token.acquire(HOUR)).await.unwrap_err().kind(), kind);
            assert_eq!(at_once(scene.token.ready()).await.unwrap_err().kind(), kind);

            assert_eq!(at_once(scene.token.refresh()).await.unwrap_err().kind(), kind);
            assert_eq!(scene.count(), tried + 1);
            scene.until(40 * DAY).await;
            assert_eq!(scene.count(), tried + 1);

            scene.script.play([], fresh(HOUR));
            at_once(scene.token.refresh()).await.unwrap();
            assert_eq!((scene.sent().is_some(), scene.token.status().state()), (true, State::Live));
            scene.until(40 * DAY + HOUR).await;
            assert_eq!(scene.count(), tried + 3, "the schedule goes on");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_for_a_token_that_needs_a_person_asks_nobody() {
    for error in [FetchError::reauthorize("dead"), FetchError::rejected_for_good("password")] {
        let scene = Scene::new([fresh(HOUR)], fails(error));
        scene.until_call(2).await;
        settle().await;
        for _ in 0..100 {
            let generation = scene.generation();
            assert!(at_once(scene.token.replace(generation, secs(10), Attempts::Last)).await.is_none());
            tokio::time::sleep(secs(5)).await;
        }
        assert_eq!(scene.count(), 2);
        assert_eq!(scene.sent().as_deref(), Some("t1"));
    }
}
