//! APIs that don't take a new token at once: it has to arrive at all of their servers first, or their clocks are behind.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Response;
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{AccessToken, FetchError, FetchReason, FetchRequest, LiveToken, State, replay::Never, source_fn};

mod support;
use support::{Api, Issuer, get, layer, now, ok, refused, secs};

/// When each token was issued, and when it ends for the API, whatever its life.
#[derive(Clone, Default)]
struct Issued(Arc<Mutex<HashMap<String, Life>>>);

/// When it began, and when it ends.
type Life = (Instant, Option<Instant>);

impl Issued {
    fn note(&self, token: &str, ends: Option<Instant>) {
        self.0.lock().unwrap().insert(token.to_owned(), (now(), ends));
    }

    /// Ends all there are.
    fn revoke(&self) {
        self.0.lock().unwrap().values_mut().for_each(|(_, ends)| *ends = Some(now()));
    }

    fn is_taken(&self, token: &str, lag: Duration) -> bool {
        let all = self.0.lock().unwrap();
        let Some((at, ends)) = all.get(token) else { return false };
        at.elapsed() >= lag && ends.is_none_or(|ends| now() < ends)
    }

    fn api(&self, lag: Duration) -> Api {
        let issued = self.clone();
        Api::new(move |seen| if issued.is_taken(seen.token(), lag) { ok() } else { refused() })
            .after(Duration::from_millis(20))
    }

    /// Tokens that live so long, as far as the server says.
    fn source(&self, life: Option<Duration>, really: Duration) -> (LiveToken, Arc<Mutex<Vec<FetchReason>>>) {
        let (issued, reasons) = (self.clone(), Arc::new(Mutex::new(Vec::new())));
        let noted = reasons.clone();
        let source = source_fn(move |request: FetchRequest| {
            let issued = issued.clone();
            noted.lock().unwrap().push(request.reason());
            let number = noted.lock().unwrap().len();
            async move {
                sleep(Duration::from_millis(100)).await;
                let secret = format!("t{number}");
                issued.note(&secret, Some(now() + really));
                let token = AccessToken::new(secret)?;
                Ok::<_, FetchError>(match life {
                    Some(life) => token.expires_in(life),
                    None => token,
                })
            }
        });
        (LiveToken::builder(source).seed(1).spawn(), reasons)
    }
}

/// How many of the requests that are sent every 25 ms fail, from when the first token is taken.
async fn failures(token: &LiveToken, api: &Api, lag: Duration, run: Duration) -> (usize, usize) {
    token.ready().await.unwrap();
    sleep(lag).await;
    let service = ServiceBuilder::new().layer(layer(token)).service(api.clone());
    let (began, mut requests) = (now(), Vec::new());
    while began.elapsed() < run {
        requests.push(tokio::spawn(service.clone().oneshot(get("/a"))));
        sleep(Duration::from_millis(25)).await;
    }
    let sent = requests.len();
    let mut failed = 0;
    for request in requests {
        failed += usize::from(request.await.unwrap().unwrap().status() != 200);
    }
    (failed, sent)
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_is_not_taken_yet_fails_no_request_while_the_one_before_lives() {
    for millis in [0, 400, 1_500, 3_000] {
        let (issued, lag) = (Issued::default(), Duration::from_millis(millis));
        let (token, reasons) = issued.source(Some(secs(30)), secs(30));
        let api = issued.api(lag);
        let (failed, sent) = failures(&token, &api, lag, secs(300)).await;
        assert_eq!(failed, 0, "{lag:?}: of {sent}");
        let reasons = reasons.lock().unwrap();
        assert!(reasons[1..].iter().all(|reason| *reason == FetchReason::Due), "{lag:?}: {reasons:?}");
        assert!(reasons.len() <= 15, "{lag:?}: {}", reasons.len());
        // It isn't tried with every request whether the new one is taken by now.
        let arrived = api.seen().len();
        assert!(arrived <= sent + reasons.len() * 60, "{lag:?}: {arrived} for {sent}");
        assert_eq!(token.status().state(), State::Live);
    }
}

/// There is no token before the first: it is tried again after a growing pause, and not replaced by a still younger one.
#[tokio::test(start_paused = true)]
async fn the_first_token_that_is_not_taken_yet_fails_no_request_and_is_fetched_once() {
    for millis in [0, 400, 1_500, 3_000] {
        let (issued, lag) = (Issued::default(), Duration::from_millis(millis));
        let (token, reasons) = issued.source(Some(secs(3600)), secs(3600));
        let api = issued.api(lag);
        token.ready().await.unwrap();
        let (failed, sent) = failures(&token, &api, Duration::ZERO, secs(10)).await;
        assert_eq!((failed, reasons.lock().unwrap().len()), (0, 1), "{lag:?}: of {sent}");
    }
}

/// One server of the API is late, or one route of it. What the others say must not wear out the patience of those that meet the late one.
#[tokio::test(start_paused = true)]
async fn where_only_some_of_the_api_is_late_no_request_fails_either() {
    for (millis, revoked) in [(400, false), (1_500, false), (3_000, false), (1_500, true), (3_000, true)] {
        let (issued, lag) = (Issued::default(), Duration::from_millis(millis));
        let (token, reasons) = issued.source(Some(secs(3600)), secs(3600));
        let late = issued.clone();
        let api = Api::new(move |seen| {
            let lag = if seen.uri.ends_with("/late") { lag } else { Duration::ZERO };
            if late.is_taken(seen.token(), lag) { ok() } else { refused() }
        });
        token.ready().await.unwrap();
        if revoked {
            sleep(secs(10)).await;
            issued.revoke();
        }
        let service = ServiceBuilder::new().layer(layer(&token)).service(api.after(Duration::from_millis(20)));
        let mut requests = Vec::new();
        for number in 0..1_000 {
            let path = if number % 4 == 0 { "/late" } else { "/a" };
            requests.push(tokio::spawn(service.clone().oneshot(get(path))));
            sleep(Duration::from_millis(10)).await;
        }
        let mut failed = 0;
        for request in requests {
            failed += u32::from(request.await.unwrap().unwrap().status() != 200);
        }
        let fetches = reasons.lock().unwrap().len();
        assert!(failed == 0 && fetches <= 3, "{lag:?} {revoked}: {failed} failed, {fetches} fetches");
    }
}

/// Its age counts from when it was asked for.
#[tokio::test(start_paused = true)]
async fn a_token_that_took_long_to_fetch_is_as_new_as_any() {
    for seconds in [1, 6, 20] {
        let (issued, took) = (Issued::default(), secs(seconds));
        let (tokens, number) = (issued.clone(), Arc::new(Mutex::new(0)));
        let token = LiveToken::spawn(source_fn(move |_: FetchRequest| {
            let (tokens, number) = (tokens.clone(), number.clone());
            async move {
                sleep(took).await;
                *number.lock().unwrap() += 1;
                let secret = format!("t{}", number.lock().unwrap());
                tokens.note(&secret, None);
                Ok::<_, FetchError>(AccessToken::new(secret)?.expires_in(secs(3600)).age(took))
            }
        }));
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        issued.revoke();
        let layer = layer(&token).max_wait(secs(60));
        let service = ServiceBuilder::new().layer(layer).service(issued.api(secs(1)));
        assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 200, "{took:?}");
    }
}

/// A fixed token, or one out of a file, isn't new because a program has started.
#[tokio::test(start_paused = true)]
async fn a_fixed_token_that_is_refused_is_handed_on_soon() {
    let token = LiveToken::spawn(AccessToken::new("wrong").unwrap());
    token.ready().await.unwrap();
    let service = ServiceBuilder::new().layer(layer(&token)).service(Api::new(|_| refused()));
    let began = now();
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 401);
    assert!(began.elapsed() <= secs(1), "{:?}", began.elapsed());
}

/// Who can't wait until the same token is tried again has the next one.
#[tokio::test(start_paused = true)]
async fn a_short_wait_is_for_another_token() {
    let issued = Issued::default();
    let (token, _) = issued.source(Some(secs(3600)), secs(3600));
    token.ready().await.unwrap();
    sleep(secs(1)).await;
    issued.revoke();
    let layer = layer(&token).max_wait(Duration::from_millis(300));
    let service = ServiceBuilder::new().layer(layer).service(issued.api(Duration::ZERO));
    let began = now();
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 200);
    assert!(began.elapsed() <= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_when_it_is_young_is_replaced_all_the_same() {
    // How the token was used before, and how often each request is sent.
    for (accepted, renewed, most) in [(true, false, 2), (false, false, 5), (false, true, 6)] {
        let issued = Issued::default();
        let (token, reasons) = issued.source(Some(secs(3600)), secs(3600));
        token.ready().await.unwrap();
        let api = issued.api(Duration::ZERO);
        let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
        if accepted {
            assert_eq!(service.clone().oneshot(get("/a")).await.unwrap().status(), 200);
        }
        if renewed {
            sleep(secs(60)).await;
            token.refresh().await.unwrap();
        }
        sleep(secs(1)).await;
        // All of them, the one before too.
        issued.revoke();
        let (began, before) = (now(), api.seen().len());
        let answers = futures_util::future::join_all((0..20).map(|_| service.clone().oneshot(get("/a")))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200), "{accepted} {renewed}");
        assert!(began.elapsed() < if accepted { secs(1) } else { secs(5) }, "{:?}", began.elapsed());
        assert_eq!(api.seen().len() - before, 20 * most, "{accepted} {renewed}");
        assert_eq!(reasons.lock().unwrap().len(), if renewed { 3 } else { 2 });
    }
}

/// Tokens of an unknown life that end after 20 s, and requests that are never sent again: about one fails for each life.
#[tokio::test(start_paused = true)]
async fn without_replays_a_401_for_each_token_is_enough() {
    let issued = Issued::default();
    let (token, reasons) = issued.source(None, secs(20));
    token.ready().await.unwrap();
    let service = ServiceBuilder::new().layer(layer(&token).replay(Never)).service(issued.api(Duration::ZERO));
    let mut failed = 0;
    for _ in 0..1800 {
        failed += u32::from(service.clone().oneshot(get("/a")).await.unwrap().status() == 401);
        sleep(secs(1)).await;
    }
    assert!((80..=100).contains(&failed), "{failed} of 1800, {} fetches", reasons.lock().unwrap().len());
}

/// What else is accepted says nothing about a route that refuses every token: that costs a fetch a minute in the end, without replays, too.
#[tokio::test(start_paused = true)]
async fn without_replays_a_route_that_refuses_everybody_is_found_out() {
    let issuer = Issuer::new().takes(Duration::from_millis(200));
    let token = issuer.ready().await;
    let api = Api::new(|seen| if seen.uri.ends_with("/never") { refused() } else { ok() });
    let service = ServiceBuilder::new().layer(layer(&token).replay(Never)).service(api);
    let began = now();
    let mut by_minute = Vec::new();
    while began.elapsed() < secs(1800) {
        let before = issuer.fetches();
        for step in 0..600 {
            let path = if step % 10 == 0 { "/never" } else { "/a" };
            drop(service.clone().oneshot(get(path)).await.unwrap());
            sleep(Duration::from_millis(100)).await;
        }
        by_minute.push(issuer.fetches() - before);
    }
    assert!(by_minute[0] <= 8 && by_minute[2..].iter().all(|fetches| *fetches <= 2), "{by_minute:?}");
}

/// What is answered by whoever hasn't looked at the token.
#[tokio::test(start_paused = true)]
async fn what_is_answered_without_a_look_at_the_token_does_not_show_that_a_fetch_helped() {
    for status in [407_u16, 408, 421, 425, 429, 431, 500, 503] {
        let issuer = Issuer::new();
        let token = issuer.ready().await;
        let turn = Arc::new(Mutex::new(0));
        let api = Api::new(move |_| {
            let mut turn = turn.lock().unwrap();
            *turn += 1;
            if *turn % 2 == 1 { refused() } else { Response::builder().status(status).body(String::new()).unwrap() }
        });
        let service = ServiceBuilder::new().layer(layer(&token)).service(api);
        let began = now();
        while began.elapsed() < secs(600) {
            drop(service.clone().oneshot(get("/a")).await.unwrap());
            sleep(Duration::from_millis(250)).await;
        }
        assert!(issuer.fetches() <= 20, "{status}: {} fetches", issuer.fetches());
    }
}
