//! What happens after a 401: who waits, what is fetched, what is sent again, and what is handed on.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_bearer::{ErrorKind, FetchError, FetchReason, State, replay};

mod support;
use support::{API, Api, Issuer, Seen, challenged, get, layer, ok, refused, secs, send, timed};

/// A body that nobody can copy.
fn stream(text: &'static str) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let frame = Frame::data(Bytes::from_static(text.as_bytes()));
    StreamBody::new(futures_util::stream::once(std::future::ready(Ok(frame))))
}

// Renewed and sent again

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_and_the_request_sent_again_as_it_was() {
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new().takes(secs(1)));
    let service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api.clone());
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("{API}/a?b=c"))
        .header("x-id", "1")
        .header("x-id", "2")
        .header(AUTHORIZATION, "Basic Zm9vOmJhcg==")
        .body(Full::new(Bytes::from_static(b"the whole body")))
        .unwrap();
    let (response, took) = timed(service.oneshot(request)).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(1)));
    assert_eq!((issuer.fetches(), issuer.fetches_because(FetchReason::Refused)), (2, 1));
    assert_eq!(api.tokens(), ["t1", "t2"]);
    let seen = api.seen();
    for seen in seen.iter() {
        assert_eq!((&seen.method, &*seen.uri), (&Method::PUT, "https://api.test/a?b=c"));
        assert_eq!(seen.headers.get_all("x-id").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((seen.headers.len(), &seen.body[..]), (3, &b"the whole body"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_401_for_an_older_token_is_answered_with_the_current_one_at_once() {
    let (api, issuer) = (Api::that_takes(&["t2"]).after(secs(5)), Issuer::new());
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let never = ServiceBuilder::new().layer(layer(&token).replay(replay::Never)).service(api.clone());
    let late = tokio::spawn(timed(service.oneshot(get("/a"))));
    let not_replayed = tokio::spawn(timed(never.oneshot(get("/a"))));
    sleep(secs(2)).await;
    token.refresh().await.unwrap();
    let (response, took) = late.await.unwrap();
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(10)));
    let (response, took) = not_replayed.await.unwrap();
    assert_eq!((response.unwrap().status().as_u16(), took), (401, secs(5)));
    sleep(secs(100)).await;
    assert_eq!((issuer.fetches(), api.tokens().concat()), (2, "t1t1t2".to_owned()), "the newer token is not suspected");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_with_a_revoked_token_cost_one_fetch() {
    let (api, issuer) = (Api::that_takes(&["t2"]).after(secs(1)), Issuer::new().takes(secs(3)));
    let service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api.clone());
    let requests: Vec<_> = (0..1000)
        .map(|number| {
            let service = service.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(number % 900)).await;
                service.oneshot(get("/a")).await
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!((issuer.fetches(), api.seen().len()), (2, 2000));
}

#[tokio::test(start_paused = true)]
async fn only_those_who_saw_a_401_wait() {
    let api = Api::new(|seen| if seen.uri.ends_with("/a") && seen.token() == "t1" { refused() } else { ok() });
    let issuer = Issuer::new().takes(secs(5));
    let token = issuer.ready().await;
    let mut service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let refused = tokio::spawn(timed(service.clone().oneshot(get("/a"))));
    for _ in 0..40 {
        sleep(Duration::from_millis(100)).await;
        let (response, took) = timed(send(&mut service, get("/b"))).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (200, Duration::ZERO));
    }
    assert!(token.status().is_usable() && token.status().is_fetching());
    assert!(api.tokens().iter().all(|token| token == "t1"));
    assert_eq!(refused.await.unwrap().1, secs(5));
}

#[tokio::test(start_paused = true)]
async fn dropping_those_who_wait_does_not_cancel_the_fetch() {
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new());
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    sleep(secs(1)).await; // the distance between two fetches
    issuer.takes(secs(5));
    let dropped = service.clone().oneshot(get("/a"));
    let other = tokio::spawn(timed(service.clone().oneshot(get("/a"))));
    timeout(secs(1), dropped).await.unwrap_err();
    let (response, took) = other.await.unwrap();
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(5)));
    assert_eq!((issuer.fetches(), issuer.finished(), token.status().generation()), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn grpcs_unauthenticated_counts_as_a_401() {
    let grpc = |status: &'static str| Response::builder().header("grpc-status", status).body(String::new()).unwrap();
    let api = Api::new(move |seen| match (seen.token(), &*seen.uri) {
        ("t1", "https://api.test/unauthenticated") => grpc("16"),
        (_, "https://api.test/denied") => grpc("7"),
        _ => grpc("0"),
    });
    let issuer = Issuer::new();
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api.clone());
    let response = send(&mut service, get("/denied")).await.unwrap();
    assert_eq!((&response.headers()["grpc-status"], issuer.fetches()), (&"7".parse().unwrap(), 1));
    let response = send(&mut service, get("/unauthenticated")).await.unwrap();
    assert_eq!((&response.headers()["grpc-status"], issuer.fetches()), (&"0".parse().unwrap(), 2));
    assert_eq!(api.tokens(), ["t1", "t1", "t2"]);
}

// Handed on

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_again_is_handed_on_at_once_and_renewed_behind() {
    let issuer = || Issuer::new().takes(secs(1));
    let (first, second) = (issuer(), issuer());
    let api = Api::that_takes(&["t2"]);
    let auto = ServiceBuilder::new().layer(layer(&first.ready().await)).service(api.clone());
    let never = ServiceBuilder::new().layer(layer(&second.ready().await).replay(replay::Never)).service(api.clone());
    let request = || Request::post(format!("{API}/a")).body(stream("once").boxed_unsync()).unwrap();
    let small = || Request::post(format!("{API}/a")).body(String::from("once")).unwrap();

    let (response, took) = timed(auto.clone().oneshot(request())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (401, Duration::ZERO));
    let (response, took) = timed(never.clone().oneshot(small())).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (401, Duration::ZERO));
    // Until the new token is there, the old one is sent.
    assert_eq!(auto.clone().oneshot(request()).await.unwrap().status(), 401);
    sleep(secs(2)).await;
    assert_eq!(auto.oneshot(request()).await.unwrap().status(), 200);
    assert_eq!(never.oneshot(small()).await.unwrap().status(), 200);
    assert_eq!((first.fetches(), second.fetches()), (2, 2));
    assert_eq!(api.tokens(), ["t1", "t1", "t1", "t2", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waited_for_the_first_token_is_replayable_all_the_same() {
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new().takes(secs(1)));
    let service = ServiceBuilder::new().layer(layer(&issuer.live())).service(api.clone());
    let request = Request::post(format!("{API}/a")).body(String::from("text")).unwrap();
    let (response, took) = timed(service.oneshot(request)).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(2)));
    assert!(api.seen().iter().all(|seen| &seen.body[..] == b"text"));
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn where_the_fetch_fails_the_401_that_was_held_is_handed_on() {
    #[derive(Clone)]
    struct Mark(Arc<AtomicU64>);
    for (error, waits) in [
        (FetchError::try_again("down"), secs(2)),
        (FetchError::rejected("unknown client"), secs(2)),
        (FetchError::reauthorize("dead"), secs(2)),
    ] {
        let calls = Arc::new(AtomicU64::new(0));
        let mark = calls.clone();
        let api = Api::new(move |_| {
            let mut response = refused();
            response.headers_mut().insert("x-call", (mark.fetch_add(1, Ordering::SeqCst) + 1).into());
            *response.body_mut() = "what the server said".into();
            response.extensions_mut().insert(Mark(mark.clone()));
            response
        });
        let issuer = Issuer::new().lifetime(secs(3600));
        let token = issuer.ready().await;
        sleep(secs(1)).await; // the distance between two fetches
        issuer.takes(secs(2)).fails(error);
        let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
        let (response, took) = timed(service.oneshot(get("/a"))).await;
        let response = response.unwrap();
        assert_eq!((response.status().as_u16(), took), (401, waits));
        assert_eq!(response.headers()["x-call"], "1");
        assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="api", error="invalid_token""#);
        assert!(Arc::ptr_eq(&response.extensions().get::<Mark>().unwrap().0, &calls));
        assert_eq!(response.body(), "what the server said");
        assert_eq!((api.seen().len(), issuer.fetches()), (1, 2));
        assert!(token.status().is_usable() && token.status().generation() == 1, "the token is kept");
        assert!(token.authorization().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_brings_the_refused_token_again_changes_nothing() {
    let (api, issuer) = (Api::that_takes(&[]), Issuer::new());
    let token = issuer.ready().await;
    issuer.repeats();
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 401);
    assert_eq!((api.tokens(), issuer.fetches(), token.status().generation()), (vec!["t1".to_owned()], 2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_another_token_ends_with_max_wait_or_before_a_backoff() {
    let (api, issuer) = (Api::that_takes(&["t9"]), Issuer::new());
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).max_wait(secs(4))).service(api.clone());
    issuer.hangs();
    let (response, took) = timed(service.clone().oneshot(get("/a"))).await;
    assert_eq!(response.unwrap().status(), 401);
    assert!(took >= secs(4) && took <= secs(4) + Duration::from_millis(1), "{took:?}");

    // The fetch that hangs is given up after a minute; the next says "not within ten minutes".
    issuer.fails(FetchError::try_again("busy").retry_after(secs(600)));
    sleep(secs(60)).await;
    token.refresh().await.unwrap_err();
    let fetches = issuer.fetches();
    for _ in 0..500 {
        let (response, took) = timed(service.clone().oneshot(get("/a"))).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (401, Duration::ZERO));
        sleep(secs(1)).await;
    }
    assert_eq!(issuer.fetches(), fetches, "a 401 never bypasses `Retry-After`");
    assert_eq!(token.status().state(), State::Failing);
}

/// The token that it waited for expires while the service below gets ready, and no other comes: it waits for what is left of its
/// wait, not for another whole one.
#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_max_wait_after_a_401_however_often_it_waits() {
    let answer = |seen: &Seen| if seen.uri.ends_with("/refused") { refused() } else { ok() };
    let (api, issuer) = (Api::new(answer).after(secs(30)), Issuer::new());
    let layered = layer(&issuer.ready().await).max_wait(secs(5));
    issuer.takes(secs(3)).lifetime(secs(10));
    let service = ServiceBuilder::new().layer(layered).layer(ConcurrencyLimitLayer::new(1)).service(api.clone());
    let request = tokio::spawn(timed(service.clone().oneshot(get("/refused"))));
    sleep(secs(1)).await;
    // Next in the only place below: from the 401 on, until the second token has expired.
    let occupies = tokio::spawn(service.oneshot(get("/a")));
    sleep(secs(33)).await;
    assert_eq!(issuer.finished(), 2);
    issuer.hangs();
    assert_eq!(occupies.await.unwrap().unwrap().status(), 200);
    let (result, took) = request.await.unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    // Thirty seconds until the 401, thirty in which the place is taken, the first three of them for a token: two are left.
    assert!(took >= secs(62) && took <= secs(62) + Duration::from_millis(2), "{took:?}");
    assert_eq!(api.tokens(), ["t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_about_the_token_is_handed_on_and_nothing_fetched() {
    for (status, challenge) in [
        (403, r#"Bearer error="insufficient_scope""#),
        (403, r#"Bearer error="invalid_token""#),
        (401, r#"Bearer realm="api", error="insufficient_scope", scope="admin""#),
        (407, "Bearer"),
        (500, "Bearer"),
    ] {
        let (api, issuer) = (Api::new(move |_| challenged(status, challenge)), Issuer::new());
        let service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api.clone());
        let response = service.oneshot(get("/a")).await.unwrap();
        sleep(secs(100)).await;
        assert_eq!((response.status().as_u16(), issuer.fetches(), api.seen().len()), (status, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn without_recovery_a_401_means_nothing() {
    let (api, issuer) = (Api::that_takes(&[]), Issuer::new().takes(secs(1)));
    let token = issuer.live();
    let service = ServiceBuilder::new().layer(layer(&token).without_recovery()).service(api.clone());
    for wait in [secs(1), Duration::ZERO] {
        let (response, took) = timed(service.clone().oneshot(get("/a"))).await;
        assert_eq!((response.unwrap().status().as_u16(), took), (401, wait));
    }
    sleep(secs(100)).await;
    assert_eq!((issuer.fetches(), api.seen().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn of_replay_and_without_recovery_the_last_counts() {
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new());
    let token = issuer.ready().await;
    let off = layer(&token).replay(replay::Auto).without_recovery();
    let service = ServiceBuilder::new().layer(off.clone()).service(api.clone());
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 401);
    let service = ServiceBuilder::new().layer(off.replay(replay::Auto)).service(api.clone());
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 200);
    assert_eq!((issuer.fetches(), api.seen().len()), (2, 3));
}
