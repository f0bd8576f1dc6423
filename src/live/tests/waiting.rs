//! The end of a token, and who waits for another.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::scene::*;
use crate::{AccessToken, ErrorKind, FetchError, FetchReason, FetchRequest, LiveToken, State, TokenSource};

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_gone_at_the_moment_of_its_end() {
    for takes in [secs(0), secs(7)] {
        let scene = Scene::new([fresh(secs(100)).taking(takes)], down());
        scene.until(millis(99_990)).await;
        assert_eq!(scene.sent().as_deref(), Some("t1"));
        scene.until(millis(100_002)).await;
        assert_eq!(scene.sent(), None, "counted from when it was asked for");
        assert_eq!(scene.token.status().state(), State::Expired);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_while_a_token_works() {
    // Whatever the source is up to.
    for act in [hangs(), down(), fails(FetchError::rejected("secret")), fails(FetchError::reauthorize("dead"))] {
        let scene = Scene::new([fresh(secs(100))], act);
        scene.until(millis(99_900)).await;
        assert!(scene.count() > 1);
        let (header, _) = at_once(scene.token.acquire(secs(10))).await.unwrap();
        assert_eq!(header, "Bearer t1");
        at_once(scene.token.ready()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_must_be_ready_within_a_time_learns_why_it_is_not() {
    let (limit, slow) = (secs(3), FetchError::try_again("slow to fail"));
    for (act, kind, took, cause) in [
        (fresh(HOUR).taking(secs(2)), None, secs(2), ""),
        (hangs(), Some(ErrorKind::Timeout), limit, ""),
        (fails(slow).taking(secs(1)), Some(ErrorKind::Timeout), limit, "slow to fail"),
        (fails(FetchError::rejected("secret")), Some(ErrorKind::Rejected), secs(0), "secret"),
    ] {
        let scene = Scene::new([act.clone()], act);
        let began = scene.script.now();
        let error = scene.token.ready_within(limit).await.err();
        let waited = scene.script.now() - began;
        assert!(waited >= took && waited <= took + millis(2), "{waited:?}");
        assert_eq!(error.as_ref().map(crate::TokenError::kind), kind);
        assert!(error.is_none_or(|error| error.to_string().contains(cause)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_it_may() {
    let scene = Scene::new([fails(FetchError::try_again("slow to fail")).taking(secs(2))], hangs());
    for wait in [secs(3), secs(10)] {
        let began = scene.script.now();
        let error = within(secs(11), scene.token.acquire(wait)).await.unwrap_err();
        let waited = scene.script.now() - began;
        assert!(waited >= wait && waited <= wait + millis(2), "{waited:?}");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        // While a fetch is under way, the reason of the last failure is still known.
        assert!(error.cause().unwrap().to_string().contains("slow to fail"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_wait_ends_before_the_next_attempt_fails_at_once_with_the_last_cause() {
    let busy = fails(FetchError::try_again("come back later").retry_after(secs(60)));
    let scene = Scene::new([busy.taking(secs(2))], fresh(HOUR));

    // One that was there when the fetch failed, and one that comes after.
    let first = within(secs(3), scene.token.acquire(secs(10))).await.unwrap_err();
    assert!(scene.script.now() < millis(2_010));
    let second = at_once(scene.token.acquire(secs(10))).await.unwrap_err();
    for error in [first, second] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.cause().unwrap().to_string().contains("come back later"));
    }

    // As soon as the next attempt lies within the wait, waiting makes sense.
    scene.until(secs(55)).await;
    let (header, _) = within(secs(10), scene.token.acquire(secs(10))).await.unwrap();
    assert_eq!(header, "Bearer t1");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_fails_as_soon_as_waiting_is_in_vain() {
    for (error, kind) in [
        (FetchError::rejected("secret"), ErrorKind::Rejected),
        (FetchError::reauthorize("dead"), ErrorKind::ReauthorizationRequired),
    ] {
        let scene = Scene::always(fails(error).taking(secs(2)));
        let error = within(secs(3), scene.token.acquire(secs(10))).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(scene.script.now() < millis(2_010));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_through_failures_that_pass() {
    let scene = Scene::new([down(), down(), down()], fresh(HOUR));
    let (header, _) = within(secs(10), scene.token.acquire(secs(10))).await.unwrap();
    assert_eq!((header.to_str().unwrap(), scene.count()), ("Bearer t1", 4));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_at_a_cold_start_cost_one_fetch() {
    let scene = Scene::always(fresh(HOUR).taking(secs(1)));
    let waiting = (0..1000).map(|_| scene.token.acquire(secs(10)));
    let found = within(secs(2), join_all(waiting)).await;
    assert!(found.into_iter().all(|found| found.unwrap().0 == "Bearer t1"));
    assert_eq!(scene.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_that_wait_when_the_fetch_fails_cost_one_more() {
    let scene = Scene::new([down().taking(secs(1))], fresh(HOUR).taking(secs(1)));
    let waiting = (0..1000).map(|_| scene.token.acquire(secs(10)));
    let found = within(secs(5), join_all(waiting)).await;
    assert!(found.into_iter().all(|found| found.unwrap().0 == "Bearer t1"));
    assert_eq!(scene.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_away_takes_no_fetch_with_it() {
    let scene = Scene::always(fresh(HOUR).taking(secs(5)));
    let patient = acquires(scene.token.clone(), secs(10));
    let gone: Vec<_> = (0..100).map(|_| acquires(scene.token.clone(), secs(10))).collect();
    scene.until(secs(1)).await;
    for waiter in &gone {
        waiter.abort();
    }
    tokio::time::timeout(secs(1), scene.token.ready()).await.unwrap_err();
    within(secs(4), patient).await.unwrap().unwrap();
    let calls = scene.script.calls();
    assert_eq!((calls.len(), calls[0].ended), (1, Some(secs(5))));
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_and_goes_away_takes_no_fetch_with_it() {
    let scene = Scene::always(fresh(HOUR).taking(secs(5)));
    scene.until(secs(10)).await;
    let stays = tokio::spawn({
        let token = scene.token.clone();
        async move { token.refresh().await }
    });
    tokio::time::timeout(secs(1), scene.token.refresh()).await.unwrap_err();
    within(secs(5), stays).await.unwrap().unwrap();
    assert_eq!((scene.count(), scene.sent().as_deref()), (2, Some("t2")));

    // The fetch is made even if the caller of `refresh` is gone.
    tokio::time::timeout(secs(1), scene.token.refresh()).await.unwrap_err();
    tokio::time::sleep(secs(5)).await;
    assert_eq!((scene.count(), scene.sent().as_deref()), (3, Some("t3")));
}

#[tokio::test(start_paused = true)]
async fn those_who_refresh_share_a_fetch_and_its_outcome() {
    let scene = Scene::new([fresh(HOUR), down().taking(secs(1))], fresh(HOUR).taking(secs(1)));
    scene.until(secs(10)).await;
    for (calls, works) in [(2, false), (3, true)] {
        let outcomes = within(secs(2), join_all((0..100).map(|_| scene.token.refresh()))).await;
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() == works), "{outcomes:?}");
        assert_eq!(scene.count(), calls);
        assert!(scene.sent().is_some(), "requests go on");
    }
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_during_a_fetch_shares_it() {
    let scene = Scene::always(fresh(HOUR).taking(secs(5)));
    scene.until(secs(3)).await;
    within(secs(3), scene.token.refresh()).await.unwrap();
    scene.until(secs(60)).await;
    assert_eq!(scene.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_while_the_same_token_is_handed_on_again_gets_another() {
    let same = || gives(token("t1").expires_in(secs(100))).taking(secs(5));
    let scene = Scene::new([same(), same()], fresh(HOUR));
    while scene.count() < 2 {
        tokio::time::sleep(secs(1)).await;
    }
    within(secs(7), scene.token.refresh()).await.unwrap();
    assert_eq!((scene.count(), scene.last().reason), (3, FetchReason::Asked));
}

/// A source whose token is always the same one.
struct Same {
    /// There are news.
    news: Arc<Notify>,
    /// What a fetch for news fails with.
    fails: Option<FetchError>,
    reasons: Arc<Mutex<Vec<FetchReason>>>,
}

impl TokenSource for Same {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        self.reasons.lock().unwrap().push(request.reason());
        match &self.fails {
            Some(error) if request.reason() == FetchReason::Changed => Err(error.clone()),
            _ => Ok(token("same").expires_in(HOUR)),
        }
    }

    async fn changed(&mut self) {
        self.news.notified().await;
    }
}

/// Right after a fetch, the next one that is asked for keeps a distance. News don't, and the source may answer them without a request.
#[tokio::test(start_paused = true)]
async fn what_is_fetched_for_news_does_not_pass_for_a_refresh() {
    for fails in [None, Some(FetchError::rejected("another process was refused"))] {
        let (news, reasons) = (Arc::new(Notify::new()), Arc::<Mutex<Vec<_>>>::default());
        let live = LiveToken::spawn(Same { news: news.clone(), fails, reasons: reasons.clone() });
        live.ready().await.unwrap();
        let refreshing = tokio::spawn({
            let live = live.clone();
            async move { live.refresh().await }
        });
        settle().await;
        news.notify_one();
        within(secs(3), refreshing).await.unwrap().unwrap();
        assert_eq!(*reasons.lock().unwrap(), [FetchReason::First, FetchReason::Changed, FetchReason::Asked]);
    }
}

/// A source that always has news doesn't keep anybody waiting.
#[tokio::test(start_paused = true)]
async fn who_refreshes_gets_a_turn_among_the_news() {
    let (news, reasons) = (Arc::new(Notify::new()), Arc::<Mutex<Vec<_>>>::default());
    let live = LiveToken::spawn(Same { news: news.clone(), fails: None, reasons: reasons.clone() });
    live.ready().await.unwrap();
    let restless = tokio::spawn(async move {
        loop {
            news.notify_one();
            tokio::time::sleep(MILLI).await;
        }
    });
    tokio::time::sleep(secs(10)).await;
    within(secs(2), live.refresh()).await.unwrap();
    assert_eq!(reasons.lock().unwrap().iter().filter(|reason| **reason == FetchReason::Asked).count(), 1);
    restless.abort();
}

#[tokio::test(start_paused = true)]
async fn a_look_that_brings_the_same_token_is_no_refresh_because_of_a_shutdown_meanwhile() {
    let same = || gives(token("t1").expires_in(secs(100))).taking(secs(5));
    let scene = Scene::new([same(), same()], fresh(HOUR));
    while scene.count() < 2 {
        tokio::time::sleep(secs(1)).await;
    }
    let refreshing = tokio::spawn({
        let token = scene.token.clone();
        async move { token.refresh().await }
    });
    settle().await;
    within(secs(7), scene.token.shutdown()).await;
    let refreshed = at_once(refreshing).await.unwrap();
    assert_eq!(refreshed.map_err(|error| error.kind()), Err(ErrorKind::Stopped));
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_after_a_shutdown_reads_whether_there_is_a_token() {
    for act in [fresh(HOUR), down()] {
        let scene = Scene::new([fresh(secs(100))], act);
        scene.until(secs(99)).await;
        let was_renewed = scene.sent().as_deref() == Some("t2");
        at_once(scene.token.shutdown()).await;
        let said = at_once(scene.token.refresh()).await.unwrap_err().to_string();
        assert!(said.starts_with("no other token came, and the one in use stays: it was shut down"), "{said}");
        assert_eq!(said.ends_with("; the last attempt failed: down"), !was_renewed, "{said}");
        scene.until(2 * HOUR).await;
        let said = at_once(scene.token.refresh()).await.unwrap_err().to_string();
        assert!(said.starts_with("there is no valid token: it was shut down"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn ready_waits_through_any_outage_that_may_pass() {
    let scene = Scene::always(down());
    let ready = tokio::spawn({
        let token = scene.token.clone();
        async move { token.ready().await }
    });
    scene.until(HOUR).await;
    assert!(!ready.is_finished());
    scene.script.play([], fresh(HOUR));
    within(secs(61), ready).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_after_a_fetch_began_is_not_answered_by_its_failure() {
    let rejected = || fails(crate::FetchError::rejected("secret")).taking(secs(3));
    let scene = Scene::new([fresh(HOUR), rejected()], fresh(HOUR).taking(secs(1)));
    scene.until(secs(10)).await;
    let early = tokio::spawn({
        let token = scene.token.clone();
        async move { token.refresh().await }
    });
    scene.until(secs(11)).await;
    // Now the secret is corrected, while the fetch with the old one is still under way.
    let late: Vec<_> = (0..3)
        .map(|_| {
            let token = scene.token.clone();
            tokio::spawn(async move { token.refresh().await })
        })
        .collect();
    within(secs(3), early).await.unwrap().unwrap_err();
    within(secs(2), futures_util::future::join_all(late)).await.into_iter().for_each(|late| late.unwrap().unwrap());
    assert_eq!((scene.count(), scene.sent().as_deref()), (3, Some("t2")));
    // All of them are answered, so nothing more is fetched.
    scene.until(secs(600)).await;
    assert_eq!(scene.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_works_is_no_failure_because_of_a_shutdown_meanwhile() {
    for (act, works) in [(fresh(HOUR), true), (down(), false)] {
        let scene = Scene::new([fresh(HOUR)], act.taking(secs(2)));
        scene.until(secs(10)).await;
        let refreshing = tokio::spawn({
            let token = scene.token.clone();
            async move { token.refresh().await }
        });
        scene.until(secs(11)).await;
        within(secs(2), scene.token.shutdown()).await;
        let refreshed = at_once(refreshing).await.unwrap();
        assert_eq!(refreshed.is_ok(), works, "{refreshed:?}");
        assert!(refreshed.is_ok() || refreshed.unwrap_err().kind() != crate::ErrorKind::Stopped, "it has an answer");
        assert_eq!(at_once(scene.token.refresh()).await.unwrap_err().kind(), crate::ErrorKind::Stopped);
    }
}
