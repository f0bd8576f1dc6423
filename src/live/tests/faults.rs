//! Sources that misbehave.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::time;

use super::scene::*;
use crate::{
    AccessToken, ErrorKind, FetchError, FetchReason, FetchRequest, LiveToken, State, TokenSource, live::Generation,
    source_fn,
};

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_source_is_a_failure_like_others() {
    for act in [panics(), panics().taking(secs(1)), panics_at_once()] {
        let scene = Scene::new([act.clone(), act.clone(), fresh(secs(1000)), act.clone()], fresh(HOUR));
        within(secs(10), scene.token.ready()).await.unwrap();
        assert_eq!(scene.count(), 3);
        scene.until_call(4).await;
        tokio::time::sleep(millis(1_100)).await;
        let status = scene.token.status();
        assert!(status.failures() == 1 || scene.count() == 5, "{act:?}: {status:?}");
        scene.until(secs(1000)).await;
        assert_eq!((scene.count(), scene.sent().as_deref()), (5, Some("t2")), "{act:?}");
        assert_eq!(scene.token.status().state(), State::Live);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_tells_nobody_what_it_said() {
    let source = source_fn(|_: FetchRequest| async { panic!("marked-secret, which the test wants") });
    let token = LiveToken::spawn(source);
    let error = token.refresh().await.unwrap_err();
    let status = token.status();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error} {error:?} {status:?} {token:?}").contains("marked"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up_after_a_minute_while_the_token_serves_to_its_end() {
    let scene = Scene::new([fresh(secs(100)), hangs(), hangs()], fresh(secs(100)));
    let began = scene.until_call(2).await;
    scene.until(millis(99_990)).await;
    assert_eq!((scene.sent().as_deref(), scene.token.status().is_fetching()), (Some("t1"), true));
    scene.until(millis(100_002)).await;
    assert_eq!((scene.sent(), scene.token.status().state()), (None, State::Expired));
    let error = within(secs(11), scene.token.acquire(secs(10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);

    let again = scene.until_call(3).await;
    let calls = scene.script.calls();
    assert_eq!(calls[1].ended, Some(began + secs(60)), "its future was dropped");
    assert!(again - began >= secs(60) && again - began <= secs(61), "{began:?} {again:?}");
    within(secs(63), scene.token.ready()).await.unwrap();
    assert_eq!((scene.count(), scene.sent().as_deref()), (4, Some("t2")));
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_given_the_time_of_its_fetch_and_no_more() {
    let source = source_fn(|request: FetchRequest| async move {
        match request.reason() {
            FetchReason::First => Ok(AccessToken::new("t1")?.expires_in(secs(100))),
            _ => std::future::pending().await,
        }
    });
    let token = LiveToken::builder(source).seed(1).spawn();
    token.ready().await.unwrap();
    // Half of the 15 to 25 s left, so that there is time for a second attempt.
    let mut watch = token.watch();
    watch.changed().await.unwrap();
    let status = within(secs(98), watch.changed()).await.unwrap();
    assert_eq!((status.failures(), status.is_usable()), (1, true));
    let left = status.time_left().unwrap();
    assert!(left >= secs(7) && left <= secs(13), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn any_order_of_errors_panics_and_odd_tokens_leaves_the_task_alive() {
    let mut rng = fastrand::Rng::with_seed(11);
    for seed in 0..20 {
        let acts: Vec<_> = (0..30)
            .map(|_| match rng.u32(..10) {
                0 => down(),
                1 => fails(FetchError::rejected("x")),
                2 => fails(FetchError::try_again("x").retry_after(secs(rng.u64(..10_000)))),
                3 => panics(),
                4 => panics_at_once(),
                5 => hangs(),
                6 => gives(token("same").expires_in(millis(rng.u64(..100_000))).age(millis(rng.u64(..200_000)))),
                7 => gives(token("odd").expires_in(std::time::Duration::MAX).age(std::time::Duration::MAX)),
                8 => gives(token("file").recheck_after(millis(rng.u64(..10_000)))),
                _ => fresh(millis(rng.u64(..100_000))).taking(millis(rng.u64(..70_000))),
            })
            .collect();
        let scene = Scene::with(seed, acts, fresh(HOUR), |options| options);
        let mut last = 0;
        while scene.script.now() < DAY {
            // Now and then `refresh` is called, a token is refused, the machine is suspended, a wall clock is set.
            match rng.u32(..8) {
                0 => drop(tokio::time::timeout(secs(1), scene.token.refresh()).await),
                1 => scene.token.current().into_iter().for_each(|(_, current)| scene.token.report_refused(current)),
                2 => scene.clock.suspend(secs(rng.u64(..1000))),
                3 => scene.clock.step_wall(secs(rng.u64(..10_000))),
                4 => scene.clock.set_wall_back(secs(rng.u64(..10_000))),
                _ => {}
            }
            tokio::time::sleep(secs(rng.u64(1..600))).await;
            let status = scene.token.status();
            assert!(status.generation() >= last, "generations only grow");
            last = status.generation();
            assert_eq!(status.is_usable(), scene.sent().is_some(), "seed {seed}: {status:?}");
        }
        assert!(!scene.driver.is_finished());
        within(secs(2), scene.token.refresh()).await.unwrap();
        assert_eq!(scene.token.status().state(), State::Live, "seed {seed}");
        assert!(scene.times().windows(2).all(|two| two[1] - two[0] > 0.0002), "seed {seed}: {:?}", scene.times());
    }
}

/// A source that says all the time that it has something new, until it has been asked a thousand times.
struct Restless(u32);

impl TokenSource for Restless {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        self.0 += 1;
        Ok(token(&format!("t{}", self.0)))
    }

    async fn changed(&mut self) {
        if self.0 > 1000 {
            std::future::pending().await
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_something_new_is_asked_once_a_second() {
    let token = LiveToken::spawn(Restless(0));
    time::sleep(millis(10_500)).await;
    let fetches = token.status().generation();
    // The first, what is new then, at once, and one more for each second.
    assert!((11..=12).contains(&fetches), "{fetches}");
}

/// A source that looks for something new every 45 seconds.
struct Seldom(Arc<AtomicU32>);

impl TokenSource for Seldom {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.reason() == FetchReason::Changed, number > 0, "{request:?}");
        Ok(token(&format!("t{number}")).expires_in(HOUR))
    }

    async fn changed(&mut self) {
        time::sleep(secs(45)).await;
    }
}

/// Reading the clocks every half minute doesn't start that sleep again, and reports of requests don't either.
#[tokio::test(start_paused = true)]
async fn a_source_that_sleeps_before_it_says_something_is_heard() {
    let fetches = Arc::new(AtomicU32::new(0));
    let token = LiveToken::spawn(Seldom(fetches.clone()));
    time::sleep(millis(1)).await;
    for _ in 0..95 {
        time::sleep(secs(1)).await;
        token.report_accepted(Generation(1));
        token.report_recovered(Generation(1), true);
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 3);
    drop(token);
    time::sleep(secs(1)).await;
    assert_eq!(Arc::strong_count(&fetches), 1, "the end of all handles is heard, too");
}

/// An error whose `Display` panics.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("a panic that the test wants")
    }
}

impl std::error::Error for Unspeakable {}

/// A subscriber that panics at every call.
struct Panicking;

impl tracing::Subscriber for Panicking {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("a panic that the test wants")
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_told_takes_no_token() {
    let _guard = tracing::subscriber::set_default(Panicking);
    let unspeakable = || fails(FetchError::try_again(Unspeakable));
    let scene = Scene::new([fresh(secs(100)), unspeakable(), unspeakable()], fresh(secs(100)));
    let named =
        LiveToken::builder(source_fn(|_: FetchRequest| async { Err(FetchError::try_again(Unspeakable)) })).name("n");
    let named = named.spawn();
    scene.until(secs(99)).await;
    assert_eq!((scene.sent().as_deref(), scene.token.status().state()), (Some("t2"), State::Live));
    assert_eq!(named.status().state(), State::Starting, "it is tried again");
}
