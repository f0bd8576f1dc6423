//! What `status` and `watch` show.

use super::scene::*;
use crate::{FetchError, FetchErrorKind, State};

#[tokio::test(start_paused = true)]
async fn the_numbers_are_those_of_the_moment_they_are_asked_for() {
    let scene = Scene::new([fresh(secs(1000)).taking(secs(5)), down(), down()], hangs());
    let status = scene.token.status();
    assert_eq!((status.state(), status.is_usable(), status.generation()), (State::Starting, false, 0));
    assert_eq!((status.time_left(), status.headroom(), status.is_fetching()), (None, secs(0), true));

    scene.until(secs(100)).await;
    let status = scene.token.status();
    assert_eq!((status.state(), status.is_usable(), status.generation()), (State::Live, true, 1));
    assert_eq!((status.time_left(), status.headroom()), (Some(secs(900)), secs(900)));
    assert_eq!((status.failures(), status.is_fetching()), (0, false));
    let next = scene.script.now() + status.next_attempt_in().unwrap();
    let at = scene.until_call(2).await;
    assert!(at >= next && at - next <= MILLI, "{at:?} {next:?}");

    settle().await;
    let status = scene.token.status();
    assert_eq!((status.state(), status.failures(), status.is_usable()), (State::Failing, 1, true));
    assert_eq!(status.last_error().unwrap().kind(), FetchErrorKind::TryAgain);
    assert_eq!(status.headroom(), secs(1000) - scene.script.now());
    assert!(status.next_attempt_in().unwrap() <= secs(1));

    scene.until_call(4).await;
    settle().await;
    let status = scene.token.status();
    assert_eq!((status.failures(), status.is_fetching(), status.next_attempt_in()), (2, true, None));

    scene.until(secs(1001)).await;
    let status = scene.token.status();
    assert_eq!((status.state(), status.is_usable(), status.generation()), (State::Expired, false, 1));
    assert_eq!((status.time_left(), status.headroom()), (None, secs(0)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_every_change_that_lasts_and_ends_with_the_last_handle() {
    let rejected = fails(FetchError::rejected("secret"));
    let scene = Scene::new([down().taking(secs(1)), fresh(secs(100)), rejected, fresh(secs(200)), down()], hangs());
    let mut watch = scene.token.watch();
    let seeing = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(status) = watch.changed().await {
            seen.push((status.state(), status.is_usable(), status.generation(), status.failures()));
        }
        seen
    });
    scene.until(secs(1000)).await;
    drop(scene);
    let seen = within(secs(61), seeing).await.unwrap();
    assert_eq!(
        seen,
        [
            (State::Starting, false, 0, 0),
            (State::Starting, false, 0, 1),
            (State::Live, true, 1, 0),
            (State::Rejected, true, 1, 1),
            (State::Rejected, false, 1, 1),
            (State::Live, true, 2, 0),
            (State::Failing, true, 2, 1),
            (State::Expired, false, 2, 1),
            // The last attempts hang, a minute each.
            (State::Expired, false, 2, 2),
            (State::Expired, false, 2, 3),
        ]
        .into_iter()
        .chain((4..).map(|n| (State::Expired, false, 2, n)))
        .take(seen.len())
        .collect::<Vec<_>>()
    );
    assert!(seen.len() > 12);
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_that_a_token_ended_after_shutdown_or_for_want_of_a_person() {
    for stop in [true, false] {
        let scene = Scene::new([fresh(secs(100))], fails(FetchError::reauthorize("dead")));
        scene.until(secs(90)).await;
        if stop {
            scene.token.shutdown().await;
        }
        let mut watch = scene.token.watch();
        assert!(watch.changed().await.unwrap().is_usable());
        assert!(!within(secs(11), watch.changed()).await.unwrap().is_usable());
        assert_eq!(scene.script.now().as_secs(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_not_woken_when_nothing_changes() {
    let scene = Scene::always(gives(token("same").expires_in(HOUR).age(secs(0))));
    settle().await;
    let mut watch = scene.token.watch();
    watch.changed().await.unwrap();
    tokio::time::timeout(DAY, watch.changed()).await.unwrap_err();
    assert!(scene.count() > 20);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_authorization_is_told_ahead_of_it() {
    for (left, warned_before) in [(DAY * 60, DAY * 3), (DAY * 10, DAY), (secs(600), secs(60))] {
        // A token without a timer: nothing else wakes the task.
        let scene = Scene::always(gives(token("t1").authorization_ends_in(left)));
        settle().await;
        let status = scene.token.status();
        assert!(left - status.authorization_left().unwrap() <= MILLI * 5 && !status.is_authorization_ending());
        let mut watch = scene.token.watch();
        while !watch.changed().await.unwrap().is_authorization_ending() {}
        let told = scene.token.status().authorization_left().unwrap();
        assert!(told <= warned_before && warned_before - told <= MILLI * 2, "{told:?} of {left:?}");
        assert_eq!(scene.count(), 1, "telling fetches nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_extends_the_authorization_takes_the_warning_back() {
    let short = gives(token("t1").expires_in(DAY).authorization_ends_in(secs(10)));
    let scene = Scene::new([short], gives(token("t2").expires_in(DAY).authorization_ends_in(DAY * 30)));
    scene.until(secs(9) + MILLI * 2).await;
    assert!(scene.token.status().is_authorization_ending());
    at_once(scene.token.refresh()).await.unwrap();
    assert!(!scene.token.status().is_authorization_ending());
}

#[tokio::test(start_paused = true)]
async fn the_warning_is_planned_once_for_an_end_that_stays_and_anew_when_it_moves_later() {
    // For each source: the time left that it tells after it has run for so long, and how long before the end the warning comes.
    type Left = fn(std::time::Duration) -> std::time::Duration;
    let stays: Left = |run| DAY * 30 - run;
    let trembles: Left = |run| DAY * 30 - run - secs(run.as_secs() % 7);
    let comes_earlier: Left = |run| if run < DAY { DAY * 30 - run } else { DAY * 10 - run };
    for (left, end, before) in
        [(stays, DAY * 30, DAY * 3), (trembles, DAY * 30, DAY * 3), (comes_earlier, DAY * 10, HOUR * 21)]
    {
        #[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
        let began = tokio::time::Instant::now();
        let source = crate::source_fn(move |_: crate::FetchRequest| async move {
            let run = began.elapsed();
            Ok(token(&format!("t{}", run.as_nanos())).expires_in(HOUR).authorization_ends_in(left(run)))
        });
        let live = crate::LiveToken::spawn(source);
        live.ready().await.unwrap();
        let mut told = 0;
        let mut was = false;
        while began.elapsed() < end - secs(60) {
            tokio::time::sleep(secs(600)).await;
            let is = live.status().is_authorization_ending();
            if is && !was {
                told += 1;
                let told_before = end - began.elapsed();
                assert!(
                    told_before > before - HOUR * 2 && told_before < before + HOUR * 2,
                    "{told_before:?} for {before:?}"
                );
            }
            assert!(is || !was, "it isn't taken back");
            was = is;
        }
        assert_eq!(told, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_slides_in_small_steps_is_not_told() {
    // Each renewal moves the end by less than what two clocks may differ by.
    let source = crate::source_fn(|request: crate::FetchRequest| async move {
        _ = request;
        Ok(token(&format!("{}", fastrand::u64(..))).expires_in(secs(2)).authorization_ends_in(secs(1_800)))
    });
    let live = crate::LiveToken::spawn(source);
    live.ready().await.unwrap();
    for _ in 0..3_600 {
        tokio::time::sleep(secs(1)).await;
        assert!(!live.status().is_authorization_ending());
        let left = live.status().authorization_left().unwrap();
        // A hundredth, a second, and what has passed since the last renewal.
        assert!(left > secs(1_800 - 18 - 1 - 2) && left <= secs(1_800), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_starts_near_the_end_of_a_known_authorization_is_told_at_once() {
    let near = token("t").expires_in(HOUR).authorization_ends_in(DAY * 2).authorization_lasts(Some(DAY * 30));
    let scene = Scene::always(gives(near));
    settle().await;
    assert!(scene.token.status().is_authorization_ending());
}

#[test]
fn between_two_block_ons_a_token_that_has_ended_is_neither_live_nor_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let live = runtime.block_on(async {
        let live = crate::LiveToken::spawn(token("t").expires_in(millis(50)));
        live.ready().await.unwrap();
        live
    });
    assert!(live.status().is_usable() && live.authorization().is_some());
    std::thread::sleep(millis(60));
    let status = live.status();
    assert_eq!((status.state(), status.is_usable(), status.headroom()), (State::Expired, false, secs(0)));
    assert!(live.authorization().is_none());
    // The first thing that is polled is the request, before the task has run.
    let found = runtime.block_on(async { live.acquire(millis(1)).await });
    found.unwrap_err();
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_time_says_so_where_the_token_is_spawned() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { crate::LiveToken::spawn(token("t")) });
}

#[tokio::test(start_paused = true)]
async fn a_status_says_for_people_how_it_is() {
    let down = || fails(FetchError::try_again("down"));
    let scene = Scene::new([down(), fresh(secs(100))], down());
    settle().await;
    let said = |scene: &Scene| scene.token.status().to_string();
    let first = said(&scene);
    assert!(first.starts_with("starting, no valid token, next fetch in 0."), "{first}");
    assert!(first.ends_with(" s, 1 failed: no token this time: down"), "{first}");
    within(secs(2), scene.token.ready()).await.unwrap();
    let live = said(&scene);
    assert!(live.starts_with("live, token 1, 1 min left, next fetch in "), "{live}");
    scene.until(secs(90)).await;
    assert!(said(&scene).starts_with("failing, token 1, "), "{}", said(&scene));
    scene.until(secs(110)).await;
    assert!(said(&scene).starts_with("expired, no valid token, "), "{}", said(&scene));
    scene.token.shutdown().await;
    let stopped = said(&scene);
    assert!(stopped.starts_with("stopped, no valid token, "), "{stopped}");
    assert!(!format!("{:?}", scene.token.status()).contains("snapshot"));
    let endless = Scene::always(endless());
    settle().await;
    assert_eq!(said(&endless), "live, token 1 of unknown lifetime");
}
