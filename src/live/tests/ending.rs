//! How a token ends: by its last handle, by `shutdown`, with its runtime.

use std::task::Poll;

use futures_util::{FutureExt, future::join_all};

use super::scene::*;
use crate::live::Attempts;
use crate::{ErrorKind, FetchError, LiveToken, State};

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    for act in [fresh(HOUR), endless(), down(), fails(FetchError::reauthorize("dead"))] {
        let scene = Scene::always(act);
        scene.until(secs(10)).await;
        let Scene { token, driver, .. } = scene;
        let other = token.clone();
        drop(token);
        tokio::time::sleep(secs(100)).await;
        assert!(!driver.is_finished());
        drop(other);
        at_once(driver).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_does_not_keep_the_task_alive() {
    let Scene { token, driver, .. } = Scene::always(fresh(HOUR));
    let mut watch = token.watch();
    settle().await;
    drop(token);
    at_once(driver).await.unwrap();
    while at_once(watch.changed()).await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_finished_before_the_task_ends_with_the_last_handle() {
    let scene = Scene::always(fresh(HOUR).taking(secs(5)));
    scene.until(secs(1)).await;
    let Scene { token, mut driver, script, .. } = scene;
    drop(token);
    assert!(tokio::time::timeout(secs(3), &mut driver).await.is_err());
    within(secs(2), driver).await.unwrap();
    assert_eq!(script.calls()[0].ended, Some(secs(5)), "a spent refresh token must not be lost");
    assert_eq!(script.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_handles_are_gone_before_it_started_fetches_nothing() {
    let Scene { token, driver, script, .. } = Scene::always(fresh(HOUR));
    drop(token);
    at_once(driver).await.unwrap();
    assert_eq!(script.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_the_token_serve_to_its_end_and_fetches_nothing_more() {
    let scene = Scene::always(fresh(secs(100)));
    scene.until(secs(10)).await;
    at_once(scene.token.shutdown()).await;
    at_once(scene.token.shutdown()).await;
    let status = scene.token.status();
    assert_eq!((status.state(), status.is_usable(), status.next_attempt_in()), (State::Stopped, true, None));
    assert_eq!(at_once(scene.token.refresh()).await.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(at_once(scene.token.replace(scene.generation(), secs(10), Attempts::Last)).await.is_none());
    at_once(scene.token.ready()).await.unwrap();
    scene.until(millis(99_990)).await;
    assert_eq!(scene.sent().as_deref(), Some("t1"));
    let waits = acquires(scene.token.clone(), secs(10));
    assert_eq!(at_once(waits).await.unwrap().unwrap().0, "Bearer t1");
    scene.until(millis(100_002)).await;
    assert_eq!(scene.sent(), None);
    assert!(!scene.token.status().is_usable());
    assert_eq!(at_once(scene.token.acquire(secs(10))).await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(at_once(scene.token.ready()).await.unwrap_err().kind(), ErrorKind::Stopped);
    scene.until(DAY).await;
    assert_eq!(scene.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_the_task_ends_when_its_token_does() {
    let scene = Scene::always(fresh(secs(100)));
    scene.until(secs(10)).await;
    at_once(scene.token.shutdown()).await;
    scene.until(secs(99)).await;
    assert!(!scene.driver.is_finished());
    scene.until(millis(100_010)).await;
    assert!(scene.driver.is_finished(), "nothing is left to be done");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_fetch_under_way_and_its_token_serves() {
    let scene = Scene::always(fresh(secs(100)).taking(secs(5)));
    scene.until(secs(1)).await;
    let waiting: Vec<_> = (0..10).map(|_| acquires(scene.token.clone(), secs(10))).collect();
    let ready = tokio::spawn({
        let token = scene.token.clone();
        async move { token.ready().await }
    });
    settle().await;
    assert!(tokio::time::timeout(secs(2), scene.token.shutdown()).await.is_err());
    within(secs(3), scene.token.shutdown()).await;
    assert_eq!((scene.script.now().as_secs(), scene.sent().as_deref()), (5, Some("t1")));
    // The token of that fetch serves those who wait: the shutdown doesn't make them fail.
    assert!(at_once(join_all(waiting)).await.into_iter().all(|found| found.unwrap().unwrap().0 == "Bearer t1"));
    at_once(ready).await.unwrap().unwrap();
    scene.until(secs(101)).await;
    assert_eq!((scene.sent(), scene.count()), (None, 1));
    assert_eq!(at_once(scene.token.acquire(secs(10))).await.unwrap_err().kind(), ErrorKind::Stopped);
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_whatever_the_fetch_under_way_brings() {
    let same = || gives(token("same").expires_in(HOUR).recheck_after(secs(60)));
    for act in [same(), gives(token("same")), fresh(HOUR), down(), panics(), fails(FetchError::reauthorize("dead"))] {
        let scene = Scene::new([same()], act.clone().taking(secs(5)));
        scene.until(secs(62)).await;
        assert!(scene.token.status().is_fetching());
        let began = scene.script.now();
        if tokio::time::timeout(secs(10), scene.token.shutdown()).await.is_err() {
            panic!("shutdown never returned: {act:?}");
        }
        assert_eq!((scene.script.now() - began).as_secs(), 3, "{act:?}");
        assert!(scene.sent().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_in_a_backoff_fails_at_once_who_waits() {
    for act in [down(), fails(FetchError::try_again("busy").retry_after(secs(5)))] {
        let scene = Scene::always(act);
        scene.until(millis(100)).await;
        let waiting = acquires(scene.token.clone(), secs(10));
        settle().await;
        at_once(scene.token.shutdown()).await;
        assert_eq!(at_once(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
        at_once(scene.driver).await.unwrap();
        assert_eq!(scene.token.status().state(), State::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_gives_up_a_source_that_hangs() {
    let scene = Scene::always(hangs());
    scene.until(secs(1)).await;
    within(secs(60), scene.token.shutdown()).await;
    assert_eq!(scene.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_driver_a_token_is_stopped_and_nobody_waits() {
    // The driver ends while the token is in use, before it has started, and during the first fetch.
    for (act, run) in [(fresh(HOUR), secs(10)), (fresh(HOUR), secs(0)), (fresh(HOUR).taking(secs(9)), secs(1))] {
        let Scene { token, driver, .. } = Scene::always(act);
        if !run.is_zero() {
            tokio::time::sleep(run).await;
        }
        let mut watch = token.watch();
        let waiting = acquires(token.clone(), HOUR);
        let asking = tokio::spawn({
            let token = token.clone();
            async move { token.refresh().await }
        });
        driver.abort();
        settle().await;
        assert!(token.authorization().is_none(), "nobody is left to take it away when it ends");
        if let Err(error) = at_once(waiting).await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Stopped);
        }
        at_once(asking).await.unwrap().ok();
        assert_eq!(at_once(token.acquire(HOUR)).await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(at_once(token.ready()).await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(at_once(token.refresh()).await.unwrap_err().kind(), ErrorKind::Stopped);
        assert!(at_once(token.replace(crate::live::Generation(1), HOUR, Attempts::Last)).await.is_none());
        at_once(token.shutdown()).await;
        assert_eq!(at_once(watch.changed()).await.unwrap().state(), State::Stopped);
        let status = token.status();
        assert_eq!((status.is_usable(), status.is_fetching(), status.next_attempt_in()), (false, false, None));
    }
}

/// Although a fetch that `refresh` caused may work whatever failed before.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_fetch_that_has_ended_with_the_task() {
    let scene = Scene::new([fresh(HOUR)], fresh(HOUR).taking(secs(9)));
    scene.until(secs(10)).await;
    let token = scene.token.clone();
    tokio::spawn(async move { token.refresh().await });
    settle().await;
    assert!(scene.token.status().is_fetching());
    scene.driver.abort();
    settle().await;
    assert_eq!(at_once(scene.token.acquire(HOUR)).await.unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn with_its_runtime_a_token_is_stopped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let token = runtime.block_on(async {
        let token = LiveToken::spawn(token("secret"));
        token.ready().await.unwrap();
        token
    });
    assert!(token.authorization().is_some());
    drop(runtime);
    assert!(token.authorization().is_none());
    assert_eq!(token.status().state(), State::Stopped);
    let Some(Err(error)) = token.ready().now_or_never() else { panic!("it waits") };
    assert_eq!(error.kind(), ErrorKind::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_nobody_polls_fetches_nothing_and_stops_the_token_when_dropped() {
    let (token, driver) = LiveToken::builder(token("secret")).pair();
    let mut ready = tokio_test::task::spawn(token.ready());
    assert!(ready.poll().is_pending());
    tokio::time::sleep(DAY).await;
    assert!(ready.poll().is_pending());
    drop(driver);
    let Poll::Ready(Err(error)) = ready.poll() else { panic!("it waits") };
    assert_eq!(error.kind(), ErrorKind::Stopped);
}

/// A source whose store never comes back.
struct Unsaved(std::sync::Arc<std::sync::atomic::AtomicU32>);

impl crate::TokenSource for Unsaved {
    async fn fetch(&mut self, _: crate::FetchRequest) -> Result<crate::AccessToken, FetchError> {
        Ok(token("t"))
    }

    fn storage(&self) -> crate::Storage {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crate::Storage::Unsaved
    }
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_a_store_that_stays_away_is_asked_ever_more_seldom_and_not_for_ever() {
    let asked = std::sync::Arc::default();
    let live = LiveToken::spawn(Unsaved(std::sync::Arc::clone(&asked)));
    live.ready().await.unwrap();
    within(secs(11), live.shutdown()).await;
    tokio::time::sleep(HOUR).await;
    let after_an_hour = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!((5..20).contains(&after_an_hour), "{after_an_hour}");
    tokio::time::sleep(DAY).await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), after_an_hour);
    assert!(live.status().is_usable(), "it serves to its end");
}
