//! Options of the layer and of single requests: whose header goes, how long it may wait, what counts as refused.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{Empty, Full};
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{ErrorKind, OnUnauthorized, Origin, PerRequest, replay};

mod support;
use support::{API, Api, Issuer, challenged, get, layer, ok, refused, secs, timed};

const OWN: &str = "Basic Y2xpZW50OnNlY3JldA==";

fn with_own(path: &str) -> Request<Empty<Bytes>> {
    let mut request = get(path);
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(OWN));
    request
}

fn asking(path: &str, wishes: PerRequest) -> Request<Empty<Bytes>> {
    let mut request = get(path);
    request.extensions_mut().insert(wishes);
    request
}

/// The `Authorization` headers that arrived, as they were.
fn authorizations(api: &Api) -> Vec<String> {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    api.seen().iter().map(|seen| seen.headers.get(AUTHORIZATION).map_or("none".into(), text)).collect()
}

// The header that a request brings

#[tokio::test(start_paused = true)]
async fn an_own_header_is_replaced_unless_the_layer_keeps_it() {
    let (api, token) = (Api::new(|_| ok()), Issuer::new().ready().await);
    let replaces = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let keeps = ServiceBuilder::new().layer(layer(&token).keep_authorization()).service(api.clone());
    replaces.clone().oneshot(with_own("/a")).await.unwrap();
    keeps.clone().oneshot(with_own("/a")).await.unwrap();
    keeps.clone().oneshot(get("/a")).await.unwrap();
    assert_eq!(authorizations(&api), ["Bearer t1", OWN, "Bearer t1"]);
    // The fence is around the token, and around nothing else.
    keeps.clone().oneshot(with_own("https://elsewhere.test/a")).await.unwrap();
    let error = keeps.oneshot(get("https://elsewhere.test/a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignOrigin);
    let error = replaces.oneshot(with_own("https://elsewhere.test/a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignOrigin);
    assert_eq!(authorizations(&api).last().unwrap(), OWN);
}

#[tokio::test(start_paused = true)]
async fn a_401_to_credentials_that_are_not_ours_means_nothing() {
    let (api, issuer) = (Api::new(|_| refused()), Issuer::new());
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).keep_authorization().ask_requests()).service(api.clone());
    assert_eq!(service.clone().oneshot(with_own("/a")).await.unwrap().status(), 401);
    let without = PerRequest::new().without_token();
    assert_eq!(service.clone().oneshot(asking("/a", without)).await.unwrap().status(), 401);
    sleep(secs(100)).await;
    assert_eq!((issuer.fetches(), api.seen().len()), (1, 2));
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 401);
    assert_eq!((issuer.fetches(), api.seen().len()), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn what_goes_without_a_token_does_not_wait_for_one() {
    let (api, token) = (Api::new(|_| ok()), Issuer::new().hangs().live());
    let service = ServiceBuilder::new().layer(layer(&token).keep_authorization().ask_requests()).service(api.clone());
    let (result, took) = timed(service.clone().oneshot(with_own("/a"))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, Duration::ZERO));
    let (result, took) = timed(service.oneshot(asking("/a", PerRequest::new().without_token()))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, Duration::ZERO));
    assert_eq!(authorizations(&api), [OWN, "none"]);
}

// What a request wants for itself

#[tokio::test(start_paused = true)]
async fn a_request_opts_out_where_the_layer_asks() {
    let (api, token) = (Api::new(|_| ok()), Issuer::new().ready().await);
    let asks = ServiceBuilder::new().layer(layer(&token).ask_requests()).service(api.clone());
    let mut own = with_own("/a");
    own.extensions_mut().insert(PerRequest::new().without_token());
    asks.clone().oneshot(own.clone()).await.unwrap();
    asks.clone().oneshot(asking("https://elsewhere.test/a", PerRequest::new().without_token())).await.unwrap();
    asks.clone().oneshot(asking("/a", PerRequest::new())).await.unwrap();
    asks.clone().oneshot(with_own("/a")).await.unwrap();
    assert_eq!(authorizations(&api), [OWN, "none", "Bearer t1", "Bearer t1"]);
    // Others don't look: whoever can put something into extensions can't take the token off.
    let plain = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    plain.oneshot(own).await.unwrap();
    let keeps = ServiceBuilder::new().layer(layer(&token).keep_authorization()).service(api.clone());
    keeps.oneshot(asking("/a", PerRequest::new().without_token())).await.unwrap();
    assert_eq!(authorizations(&api)[4..], ["Bearer t1", "Bearer t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_long_it_waits_before_it_is_sent_and_after_a_401() {
    let issuer = Issuer::new().hangs();
    let token = issuer.live();
    let api = Api::that_takes(&["t9"]);
    let layered = layer(&token).max_wait(secs(5)).ask_requests();
    let service = ServiceBuilder::new().layer(layered).service(api.clone());
    for (request, wait) in [
        (get("/a"), secs(5)),
        (asking("/a", PerRequest::new().max_wait(secs(2))), secs(2)),
        (asking("/a", PerRequest::new().max_wait(secs(8))), secs(8)),
        (asking("/a", PerRequest::new()), secs(5)),
    ] {
        let (result, took) = timed(service.clone().oneshot(request)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(took >= wait && took <= wait + Duration::from_millis(2), "{took:?} instead of {wait:?}");
    }
    // After a 401, with a token there.
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    sleep(secs(1)).await;
    issuer.hangs();
    let service = ServiceBuilder::new().layer(layer(&token).max_wait(secs(5)).ask_requests()).service(api);
    for (request, wait) in [(asking("/a", PerRequest::new().max_wait(secs(2))), secs(2)), (get("/a"), secs(5))] {
        let (result, took) = timed(service.clone().oneshot(request)).await;
        assert_eq!(result.unwrap().status(), 401);
        assert!(took >= wait && took <= wait + Duration::from_millis(2), "{took:?} instead of {wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_asks_waits_recovers_and_sends_again_like_any_other() {
    let (api, issuer) = (Api::that_takes(&["t2", "t3"]), Issuer::new().takes(secs(1)));
    let token = issuer.live();
    let layered =
        layer(&token).ask_requests().keep_authorization().also_origin(Origin::parse("https://b.test").unwrap());
    let service = ServiceBuilder::new().layer(layered).service(api.clone());
    let request = |uri: &str| Request::post(uri).body(Full::<Bytes>::from("text")).unwrap();
    let (result, took) = timed(service.clone().oneshot(request("https://b.test/a"))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, secs(2)));
    let (result, took) = timed(service.oneshot(request(API))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, Duration::ZERO));
    assert_eq!(api.tokens(), ["t1", "t2", "t2"]);
    assert!(api.seen().iter().all(|seen| &seen.body[..] == b"text"));
}

// What counts as refused

#[tokio::test(start_paused = true)]
async fn a_judge_decides_in_place_of_the_rule() {
    let judge = |status: StatusCode, headers: &http::HeaderMap| match status {
        StatusCode::FORBIDDEN => OnUnauthorized::Recover,
        StatusCode::UNAUTHORIZED if headers.get("www-authenticate").is_some_and(|value| value == "none") => {
            OnUnauthorized::HandOn
        }
        StatusCode::NOT_FOUND => OnUnauthorized::Renew,
        _ => OnUnauthorized::by_rule(status, headers),
    };
    for (response, status, tokens, fetches) in [
        (challenged(403, "Bearer"), 200, &["t1", "t2"][..], 2),
        (challenged(401, "Bearer"), 200, &["t1", "t2"], 2),
        (challenged(401, "none"), 401, &["t1"], 1),
        (challenged(404, "Bearer"), 404, &["t1"], 2),
        (challenged(500, "Bearer"), 500, &["t1"], 1),
        (challenged(401, r#"Bearer error="insufficient_scope""#), 401, &["t1"], 1),
    ] {
        let api = Api::new(move |seen| if seen.token() == "t1" { response.clone() } else { ok() });
        let issuer = Issuer::new();
        let token = issuer.ready().await;
        let service = ServiceBuilder::new().layer(layer(&token).on_unauthorized(judge)).service(api.clone());
        let got = service.oneshot(get("/a")).await.unwrap().status().as_u16();
        sleep(secs(10)).await;
        assert_eq!((got, issuer.fetches()), (status, fetches));
        assert_eq!(api.tokens(), tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn a_judge_is_asked_once_for_each_response_and_for_those_that_are_not_kept_as_well() {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let judge = |status: StatusCode, _: &http::HeaderMap| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        if status.is_success() { OnUnauthorized::HandOn } else { OnUnauthorized::Recover }
    };
    let asked = || ASKED.swap(0, Ordering::SeqCst);
    let busy = || Response::builder().status(503).body(String::new()).unwrap();
    let api = Api::new(move |seen| if seen.token() == "t1" { busy() } else { ok() });
    let issuer = Issuer::new().takes(secs(1));
    let token = issuer.live();
    let judged = layer(&token).on_unauthorized(judge);
    let service = ServiceBuilder::new().layer(judged.clone()).service(api.clone());
    // One that waited for its token, was refused, and sent again.
    assert_eq!(service.clone().oneshot(get("/a")).await.unwrap().status(), 200);
    assert_eq!(asked(), 2);
    let never = ServiceBuilder::new().layer(judged.clone().replay(replay::Never)).service(api.clone());
    assert_eq!(never.clone().oneshot(get("/a")).await.unwrap().status(), 200);
    assert_eq!(asked(), 1);
    let without = ServiceBuilder::new().layer(judged.without_recovery()).service(api.clone());
    assert_eq!(without.oneshot(get("/a")).await.unwrap().status(), 200);
    assert_eq!(asked(), 0);
    // One that isn't kept renews the token all the same.
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    let judged = layer(&token).on_unauthorized(judge).replay(replay::Never);
    let never = ServiceBuilder::new().layer(judged).service(api);
    assert_eq!(never.clone().oneshot(get("/a")).await.unwrap().status(), 503);
    sleep(secs(10)).await;
    assert_eq!((asked(), issuer.fetches()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_layers_say_reads_like_a_sentence_and_clones_go_their_own_way() {
    let token = Issuer::new().ready().await;
    let base = layer(&token).max_wait(secs(5)).also_origin(Origin::parse("https://b.test").unwrap());
    let keeping = base.clone().keep_authorization();
    let api = Api::new(|_| ok());
    // What is changed on a clone changes nothing on the layer it was cloned from.
    ServiceBuilder::new().layer(base).service(api.clone()).oneshot(with_own("/a")).await.unwrap();
    ServiceBuilder::new().layer(keeping).service(api.clone()).oneshot(with_own("/a")).await.unwrap();
    assert_eq!(authorizations(&api), ["Bearer t1", OWN]);
}

#[cfg(feature = "tower")]
#[tokio::test(start_paused = true)]
async fn the_short_form_is_the_same() {
    use tower_bearer::ServiceBuilderExt as _;
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new());
    let token = issuer.ready().await;
    let service = ServiceBuilder::new()
        .concurrency_limit(8)
        .bearer_auth(token.clone(), Origin::parse(API).unwrap())
        .service(api.clone());
    assert_eq!(service.oneshot(get("/a")).await.unwrap().status(), 200);
    assert_eq!(api.tokens(), ["t1", "t2"]);
}
