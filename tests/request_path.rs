//! The request path up to the first answer: which requests get a token, which wait for one, and which fail without being sent.

use std::{
    error::Error as _,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::time::{sleep, timeout};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{
    BoxError, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer, service_fn,
    timeout::TimeoutLayer,
};
use tower_bearer::{
    AccessToken, BearerAuthLayer, ErrorKind, FetchError, FetchReason, LiveToken, Origin, State, source_fn,
};

mod support;
use support::{API, Api, Issuer, call, get, layer, ok, secs, send, timed};

fn any() -> Api {
    Api::new(|_| ok())
}

// The header

#[tokio::test(start_paused = true)]
async fn the_token_is_set_sensitive_and_alone() {
    let api = any();
    let mut service = ServiceBuilder::new().layer(layer(&Issuer::new().ready().await)).service(api.clone());
    let mut request = get("/a");
    send(&mut service, request.clone()).await.unwrap();
    // What a request brings is replaced, all of it: a proxy that passes on headers is no confused deputy.
    request.headers_mut().append(AUTHORIZATION, "Basic Zm9vOmJhcg==".parse().unwrap());
    request.headers_mut().append(AUTHORIZATION, "Bearer smuggled".parse().unwrap());
    request.headers_mut().append("x-other", "kept".parse().unwrap());
    send(&mut service, request).await.unwrap();
    assert_eq!(api.tokens(), ["t1", "t1"]); // `tokens` checks that each came alone and sensitive
    assert_eq!(api.seen()[1].headers["x-other"], "kept");
}

#[tokio::test(start_paused = true)]
async fn every_service_follows_the_rotation_however_it_is_used() {
    let (api, issuer) = (any(), Issuer::new().lifetime(secs(100)));
    let token = issuer.ready().await;
    let service = layer(&token);
    let mut used_again = ServiceBuilder::new().layer(&service).service(api.clone());
    let idle = used_again.clone();
    for round in 1..=5 {
        let expected = token.authorization().unwrap();
        for _ in 0..3 {
            send(&mut used_again, get("/a")).await.unwrap();
            used_again.clone().oneshot(get("/a")).await.unwrap();
            idle.clone().oneshot(get("/a")).await.unwrap();
        }
        assert!(api.seen().drain(..).all(|seen| seen.headers[AUTHORIZATION] == expected), "round {round}");
        sleep(secs(86)).await;
    }
    assert_eq!(issuer.fetches(), 6);
    assert_eq!(token.status().generation(), 6);
}

// The origin fence

#[tokio::test(start_paused = true)]
async fn a_request_to_another_origin_is_an_error_and_not_sent() {
    let api = any();
    let token = Issuer::new().ready().await;
    let fenced = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let wider = layer(&token).also_origin(Origin::parse("http://127.0.0.1:8080").unwrap());
    let wider = ServiceBuilder::new().layer(wider).service(api.clone());
    let widest = ServiceBuilder::new().layer(layer(&token).dangerous_any_https_origin()).service(api.clone());
    for (uri, goes_fenced, goes_wider, goes_widest) in [
        ("https://api.test/x?y", true, true, true),
        ("https://API.TEST:443/", true, true, true),
        ("https://user:pw@api.test/", true, true, true),
        ("/only/a/path", true, true, true),
        ("http://127.0.0.1:8080/", false, true, false),
        ("http://127.0.0.1:8081/", false, false, false),
        ("https://127.0.0.1:8080/", false, false, true),
        ("http://api.test/", false, false, false),
        ("http://api.test:443/", false, false, false),
        ("https://api.test:8443/", false, false, true),
        ("https://evil.test/", false, false, true),
        ("https://api.test.evil.test/", false, false, true),
        ("https://api.test@evil.test/", false, false, true),
        ("https://api.test:443@evil.test/", false, false, true),
        ("ws://api.test/", false, false, false),
        ("api.test:443", false, false, false),
    ] {
        for (name, service, goes) in
            [("fenced", &fenced, goes_fenced), ("wider", &wider, goes_wider), ("widest", &widest, goes_widest)]
        {
            api.seen().clear();
            let uri: http::Uri = uri.parse().unwrap();
            let mut request = Request::new(String::new());
            *request.uri_mut() = uri.clone();
            match service.clone().oneshot(request).await {
                Ok(_) => assert_eq!(api.tokens(), ["t1"], "{name} {uri}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ForeignOrigin, "{name} {uri}");
                    assert!(api.seen().is_empty(), "{name} {uri}");
                }
            }
            assert_eq!(!api.seen().is_empty(), goes, "{name} {uri}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_request_fails_at_once_without_a_token_and_tells_no_secret() {
    let (api, token) = (any(), Issuer::new().hangs().live());
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let request = get("https://marked:marked@evil.test:8443/marked?marked");
    let (result, took) = timed(service.oneshot(request)).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), took), (ErrorKind::ForeignOrigin, Duration::ZERO));
    assert!(error.to_string().contains("https://evil.test:8443"), "{error}");
    assert!(!format!("{error} {error:?} {:?}", error.source()).contains("marked"));
    assert!(!error.kind().is_transient() && error.into_inner().is_err() && api.seen().is_empty());
}

/// A service that was polled ready may hold a place below. What is not sent gives it back, even if nobody uses that clone again.
#[tokio::test(start_paused = true)]
async fn a_foreign_request_keeps_no_place_in_a_limit_below() {
    let token = Issuer::new().ready().await;
    for layer in [layer(&token), layer(&token).ask_requests()] {
        let service = ServiceBuilder::new().layer(layer).layer(ConcurrencyLimitLayer::new(1)).service(any());
        let (mut idle, mut other) = (service.clone(), service);
        let error = send(&mut idle, get("https://elsewhere.test/a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignOrigin);
        let response = timeout(secs(1), send(&mut other, get("/a"))).await.expect("the one place is free");
        assert_eq!(response.unwrap().status(), 200);
        drop(idle);
    }
}

// Waiting

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_token_and_share_its_fetch() {
    let (api, issuer) = (any(), Issuer::new().takes(secs(3)));
    let service = ServiceBuilder::new().layer(layer(&issuer.live())).service(api.clone());
    let requests: Vec<_> = (0..100).map(|_| tokio::spawn(service.clone().oneshot(get("/a")))).collect();
    let ((), took) = timed(async {
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status(), 200);
        }
    })
    .await;
    assert_eq!((took, issuer.fetches()), (secs(3), 1));
    assert!(api.tokens().iter().all(|token| token == "t1"));
    let (_, took) = timed(service.oneshot(get("/a"))).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_no_longer_than_they_may() {
    let api = any();
    for (wait, layer) in [
        (secs(10), layer(&Issuer::new().hangs().live())),
        (secs(2), layer(&Issuer::new().hangs().live()).max_wait(secs(2))),
        (secs(0), layer(&Issuer::new().hangs().live()).max_wait(secs(0))),
    ] {
        let service = ServiceBuilder::new().layer(layer).service(api.clone());
        let (result, took) = timed(service.oneshot(get("/a"))).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.kind().is_transient());
        assert!(took >= wait && took <= wait + Duration::from_millis(1), "{took:?}, not {wait:?}");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_wait_through_failures_that_may_pass() {
    let (api, issuer) = (any(), Issuer::new().fails(FetchError::try_again("marked cause")));
    let service = ServiceBuilder::new().layer(layer(&issuer.live())).service(api.clone());
    let waiting = tokio::spawn(timed(service.oneshot(get("/a"))));
    sleep(secs(2)).await;
    assert!(issuer.fetches() >= 2, "tried again meanwhile");
    issuer.works();
    let (result, took) = waiting.await.unwrap();
    assert_eq!(result.unwrap().status(), 200);
    assert!(took < secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_fail_at_once_when_waiting_is_in_vain() {
    for (error, kind) in [
        (FetchError::rejected("marked cause"), ErrorKind::Rejected),
        (FetchError::rejected_for_good("marked cause"), ErrorKind::Rejected),
        (FetchError::reauthorize("marked cause"), ErrorKind::ReauthorizationRequired),
        (FetchError::try_again("marked cause").retry_after(secs(11)), ErrorKind::Unavailable),
    ] {
        let (api, issuer) = (any(), Issuer::new().takes(secs(1)).fails(error));
        let service = ServiceBuilder::new().layer(layer(&issuer.live())).service(api.clone());
        // Those who wait already are told when it turns out, later ones at once.
        for expected in [secs(1), Duration::ZERO] {
            let (result, took) = timed(service.clone().oneshot(get("/a"))).await;
            let error = result.unwrap_err();
            assert_eq!((error.kind(), took), (kind, expected));
            assert_eq!(error.as_token().unwrap().kind(), kind);
            assert!(error.to_string().contains("marked cause"), "{error}");
            assert!(error.as_token().unwrap().cause().is_some() && error.source().is_none());
        }
        assert_eq!((issuer.fetches(), api.seen().len()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_token_serves_until_it_expires_and_then_fails_requests_at_once() {
    let api = any();
    let token = Issuer::new().lifetime(secs(100)).ready().await;
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    token.shutdown().await;
    sleep(secs(99)).await;
    service.clone().oneshot(get("/a")).await.unwrap();
    sleep(secs(2)).await;
    let (result, took) = timed(service.clone().oneshot(get("/a"))).await;
    assert_eq!((result.unwrap_err().kind(), took), (ErrorKind::Stopped, Duration::ZERO));

    // Without its task nobody would mark its end: the token is gone at once.
    let (token, driver) = LiveToken::builder(Issuer::new()).pair();
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let driver = tokio::spawn(driver);
    service.clone().oneshot(get("/a")).await.unwrap();
    driver.abort();
    sleep(secs(1)).await;
    assert_eq!(service.oneshot(get("/a")).await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(api.tokens(), ["t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_serves_to_its_end_through_failures_and_never_beyond() {
    let (api, issuer) = (any(), Issuer::new().lifetime(secs(100)));
    let token = issuer.ready().await;
    let start = support::now();
    issuer.fails(FetchError::try_again("down"));
    let mut service = ServiceBuilder::new().layer(layer(&token).max_wait(Duration::ZERO)).service(api.clone());
    let mut failed = 0;
    // Between the ticks: at the very moment of the end, either may come first.
    sleep(Duration::from_millis(50)).await;
    for _ in 0..1200 {
        sleep(Duration::from_millis(100)).await;
        let (result, took) = timed(send(&mut service, get("/a"))).await;
        failed += u32::from(result.is_err());
        assert!(
            took <= Duration::from_millis(1),
            "waits though there is a valid token, or though it may not: {took:?}"
        );
    }
    let last = api.seen().last().unwrap().at - start;
    assert!(last < secs(100) && last > Duration::from_millis(99_900), "the last one was sent after {last:?}");
    assert_eq!(failed + u32::try_from(api.seen().len()).unwrap(), 1200);
    assert_eq!(token.status().state(), State::Expired);
    assert!(issuer.fetches() < 40, "{}", issuer.fetches());

    issuer.works();
    token.refresh().await.unwrap();
    send(&mut service, get("/a")).await.unwrap();
    assert_eq!(api.tokens().last().unwrap(), "t2");
}

#[tokio::test(start_paused = true)]
async fn dropping_those_who_wait_does_not_cancel_the_fetch() {
    let (api, issuer) = (any(), Issuer::new().takes(secs(5)));
    let token = issuer.live();
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    timeout(secs(1), service.clone().oneshot(get("/a"))).await.unwrap_err();
    let (result, took) = timed(service.oneshot(get("/a"))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, secs(4)));
    assert_eq!((issuer.fetches(), issuer.finished(), api.seen().len()), (1, 1, 1));
}

// Readiness

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services_alone() {
    let hanging = Issuer::new().hangs().live();
    let rejected = Issuer::new().fails(FetchError::rejected("unknown client")).live();
    rejected.ready().await.unwrap_err();
    let stopped = Issuer::new().live();
    stopped.shutdown().await;
    for token in [hanging, rejected, stopped] {
        let (mock, mut handle) = tower_test::mock::spawn_with(|mock: tower_test::mock::Mock<Request<String>, _>| {
            ServiceBuilder::new().layer(layer(&token).clone()).service(mock.map_response(|(): ()| Response::new(())))
        });
        let mut service = mock;
        handle.allow(0);
        assert_pending!(service.poll_ready());
        handle.allow(1);
        assert_ready_ok!(service.poll_ready());
        handle.send_error("dead");
        let error = assert_ready_err!(service.poll_ready());
        assert_eq!(error.kind(), ErrorKind::Inner);
        assert_eq!(error.into_inner_boxed().unwrap().to_string(), "dead");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_token_gives_back_the_permit_that_ready_took() {
    let (api, issuer) = (any(), Issuer::new().takes(secs(3)));
    let mut service =
        ServiceBuilder::new().layer(layer(&issuer.live())).layer(ConcurrencyLimitLayer::new(1)).service(api.clone());
    let mut waiting = task::spawn(call(&mut service, get("/a")).await);
    assert_pending!(waiting.poll());
    let mut other = service.clone();
    let ready = ServiceExt::<Request<Empty<Bytes>>>::ready(&mut other);
    assert_ready_ok!(task::spawn(ready).poll(), "the one permit is there for others");
    drop(other);
    assert_eq!(waiting.await.unwrap().status(), 200);
    let (result, took) = timed(send(&mut service, get("/a"))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, Duration::ZERO));
    // One that fails for want of a token gives its permit back.
    let hopeless = Issuer::new().fails(FetchError::rejected("unknown client")).live();
    let mut service = ServiceBuilder::new().layer(layer(&hopeless)).layer(ConcurrencyLimitLayer::new(1)).service(api);
    for _ in 0..3 {
        send(&mut service, get("/a")).await.unwrap_err();
    }
}

// Errors

#[tokio::test(start_paused = true)]
async fn the_inner_error_comes_through_as_it_was() {
    let token = Issuer::new().ready().await;
    let broken = service_fn(async |_: Request<_>| Err::<Response<String>, _>(io::Error::other("reset")));
    let service = ServiceBuilder::new().layer(layer(&token)).service(broken);
    let error = service.oneshot(get("/a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inner);
    assert_eq!(error.inner().unwrap().downcast_ref::<io::Error>().unwrap().to_string(), "reset");
    let inner: io::Error = error.into_inner().unwrap();
    assert_eq!(inner.to_string(), "reset");

    let slow = ServiceBuilder::new().layer(layer(&token)).layer(TimeoutLayer::new(secs(1)));
    let error = slow.service(any().after(secs(2))).oneshot(get("/a")).await.unwrap_err();
    let inner: BoxError = error.into_inner_boxed().unwrap();
    assert!(inner.is::<tower::timeout::error::Elapsed>());

    let buffered = ServiceBuilder::new().layer(layer(&token)).layer(BufferLayer::new(4)).service(broken);
    let error = buffered.oneshot(get("/a")).await.unwrap_err();
    assert!(error.into_inner_boxed().unwrap().is::<io::Error>());
}

// Sources

#[tokio::test(start_paused = true)]
async fn one_fetch_at_a_time_and_a_panic_is_a_failure_like_others() {
    static RUNNING: AtomicU64 = AtomicU64::new(0);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let token = LiveToken::builder(source_fn(async |request| {
        assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        sleep(secs(1)).await;
        RUNNING.store(0, Ordering::SeqCst);
        let call = CALLS.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.reason() == FetchReason::First, call < 2);
        assert!(call > 0, "panics once");
        Ok(AccessToken::new(format!("secret{call}"))?.expires_in(secs(100)))
    }));
    let service = ServiceBuilder::new().layer(layer(&token.seed(1).spawn())).service(any());
    let (result, took) = timed(service.clone().oneshot(get("/a"))).await;
    assert_eq!(result.unwrap().status(), 200);
    assert!(took > secs(2) && took < secs(4), "{took:?}");
    for _ in 0..50 {
        sleep(secs(10)).await;
        service.clone().oneshot(get("/a")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_shortcut_is_the_same_and_ends_with_its_last_service() {
    let issuer = Issuer::new().lifetime(secs(100));
    let layer = BearerAuthLayer::spawn(issuer.clone(), Origin::parse(API).unwrap());
    let service = ServiceBuilder::new().layer(layer).service(any());
    let other = service.clone();
    service.oneshot(get("/a")).await.unwrap();
    sleep(secs(1000)).await;
    assert!(issuer.fetches() > 10);
    other.oneshot(get("/a")).await.unwrap();
    sleep(secs(1)).await;
    let fetches = issuer.fetches();
    sleep(secs(1000)).await;
    assert_eq!(issuer.fetches(), fetches, "the task ends with the last handle");
}
