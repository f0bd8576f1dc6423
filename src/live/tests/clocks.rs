//! Suspend, and wall clocks that step.

use super::scene::*;
use crate::{FetchReason, State};

#[tokio::test(start_paused = true)]
async fn a_token_that_ended_during_suspend_is_gone_within_half_a_minute_of_waking() {
    let scene = Scene::new([fresh(HOUR)], fresh(HOUR).taking(secs(5)));
    scene.until(secs(100)).await;
    scene.clock.suspend(8 * HOUR);
    let woken = scene.script.now();
    let seen = scene.until_call(2).await;
    assert!(seen - woken <= secs(30) + MILLI, "{woken:?} {seen:?}");
    assert_eq!((scene.sent(), scene.token.status().state()), (None, State::Expired));
    tokio::time::sleep(secs(5) + MILLI).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
    assert_eq!(scene.last().reason, FetchReason::Due);
    // From then on as ever.
    tokio::time::sleep(HOUR).await;
    assert_eq!(scene.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_due_after_suspend_is_renewed_while_it_serves() {
    let scene = Scene::always(fresh(HOUR));
    scene.until(secs(100)).await;
    scene.clock.suspend(secs(3100));
    for _ in 0..31 {
        assert!(scene.sent().is_some());
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_suspend_during_a_fetch_is_gone_too() {
    let scene = Scene::new([fresh(HOUR)], hangs());
    scene.until_call(2).await;
    scene.clock.suspend(HOUR);
    tokio::time::sleep(secs(30) + MILLI).await;
    assert_eq!(scene.sent(), None);
}

#[tokio::test(start_paused = true)]
async fn a_short_suspend_changes_nothing() {
    let scene = Scene::always(fresh(HOUR));
    scene.until(secs(100)).await;
    scene.clock.suspend(secs(600));
    tokio::time::sleep(secs(1000)).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (1, Some("t1")));
    assert_eq!(scene.token.status().time_left(), Some(secs(1900)));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_causes_one_fetch_and_nothing_else() {
    let scene = Scene::new([fresh(HOUR)], fresh(HOUR).taking(secs(5)));
    scene.until(secs(100)).await;
    scene.clock.step_wall(30 * DAY);
    for _ in 0..360 {
        assert!(scene.sent().is_some(), "elapsed time alone ends a token");
        tokio::time::sleep(millis(100)).await;
    }
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));
    scene.until(secs(2000)).await;
    assert_eq!(scene.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_during_an_outage_bypasses_no_backoff() {
    let busy = crate::FetchError::try_again("busy").retry_after(secs(300));
    let scene = Scene::new([fresh(HOUR)], fails(busy));
    scene.until(secs(100)).await;
    scene.clock.step_wall(DAY);
    scene.until(HOUR - secs(1)).await;
    assert_eq!(scene.sent().as_deref(), Some("t1"));
    assert!(scene.count() <= 13, "{:?}", scene.times());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_back_or_a_little_ahead_changes_nothing() {
    let still = Scene::always(fresh(HOUR));
    let moved = Scene::always(fresh(HOUR));
    for n in 1..20 {
        moved.until(n * secs(900)).await;
        moved.clock.set_wall_back(DAY);
        moved.clock.step_wall(secs(60));
    }
    assert!(moved.count() > 5);
    assert_eq!(still.times(), moved.times());
    assert_eq!(still.sent(), moved.sent());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_at_the_end_of_time_breaks_nothing() {
    let scene = Scene::always(fresh(HOUR));
    scene.until(secs(100)).await;
    scene.clock.step_wall(std::time::Duration::from_secs(i64::MAX as u64 - 1_900_000_000));
    scene.until(4 * HOUR).await;
    assert_eq!(scene.token.status().state(), State::Live);
    assert!((4..=8).contains(&scene.count()), "{:?}", scene.times());
}
