//! A call's deadline, the header `grpc-timeout`: nobody waits longer for a token, and what is sent later has less of it.

use std::time::Duration;

use http::{Request, StatusCode};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_bearer::{
    ErrorKind,
    replay::{Auto, Buffered, Cloned, ReplayPolicy, Tee},
};

mod support;
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use support::{API, Api, Issuer, layer, ok, refused, secs, timed};

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

fn call<B>(timeout: &str, body: B) -> Request<B> {
    Request::post(format!("{API}/Documents/Get")).header("grpc-timeout", timeout).body(body).unwrap()
}

/// What each attempt said that it may take.
fn deadlines(api: &Api) -> Vec<String> {
    api.seen().iter().map(|seen| seen.headers["grpc-timeout"].to_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_token_ends_with_the_deadline() {
    let api = Api::new(|_| ok());
    let token = Issuer::new().takes(secs(3)).live();
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let (result, took) = timed(service.clone().oneshot(call("2S", String::new()))).await;
    assert_eq!((result.unwrap_err().kind(), took.as_secs(), api.seen().len()), (ErrorKind::Timeout, 2, 0));
    // And what was sent after a wait has what is left.
    let (result, took) = timed(service.clone().oneshot(call("30S", String::new()))).await;
    assert_eq!((result.unwrap().status(), took.as_secs_f64().round()), (StatusCode::OK, 1.0));
    let left = deadlines(&api)[0].strip_suffix('u').unwrap().parse::<u64>().unwrap();
    assert!((28_990_000..=29_010_000).contains(&left), "{left}");
    // One that finds a token goes as it came.
    service.oneshot(call("30S", String::new())).await.unwrap();
    assert_eq!(deadlines(&api)[1], "30S");
}

/// The deadlines of the attempts of a call that is refused after 300 ms, with another token a second later; its status, and how long it took.
async fn refused_once<B, P>(timeout: &str, policy: P, body: B) -> (Vec<String>, u16, Duration)
where
    B: Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
    P: ReplayPolicy<Request<B>> + Clone,
{
    let api = Api::new(|seen| if seen.token() == "t1" { refused() } else { ok() }).after(Duration::from_millis(300));
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    tokio::time::sleep(secs(1)).await; // the distance between two fetches
    issuer.takes(secs(1));
    let service = ServiceBuilder::new().layer(layer(&token).replay(policy)).service(api.clone());
    let (result, took) = timed(service.oneshot(call(timeout, body))).await;
    (deadlines(&api), result.unwrap().status().as_u16(), took)
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_has_what_is_left() {
    let body = || Full::new(Bytes::from("text"));
    let boxed = || -> Boxed { body().map_err(|never| match never {}).boxed_unsync() };
    let expected = |left: &str| (vec!["5S".to_owned(), left.to_owned()], 200, Duration::from_millis(1_600));
    assert_eq!(refused_once("5S", Buffered::new(100, Tee::boxed_unsync), boxed()).await, expected("3700000u"));
    assert_eq!(refused_once("5S", Cloned, body()).await, expected("3700000u"));
    // It doesn't know when the call began, only when it was refused.
    assert_eq!(refused_once("5S", Auto, body()).await, expected("4000000u"));
}

#[tokio::test(start_paused = true)]
async fn the_wait_after_a_refusal_ends_with_the_deadline() {
    let boxed: Boxed = Full::new(Bytes::from("text")).map_err(|never| match never {}).boxed_unsync();
    let (deadlines, status, took) = refused_once("800m", Buffered::new(100, Tee::boxed_unsync), boxed).await;
    assert_eq!((deadlines, status, took.as_millis() / 10), (vec!["800m".to_owned()], 401, 80));
}

/// The second attempt takes time as well, and is refused.
#[tokio::test(start_paused = true)]
async fn each_wait_ends_with_the_deadline() {
    let api = Api::new(|_| refused()).after(secs(3));
    let issuer = Issuer::new().fresh();
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).replay(Cloned)).service(api.clone());
    let (result, took) = timed(service.oneshot(call("5S", Full::new(Bytes::from("text"))))).await;
    // Refused at 3 s, tried again at 3.5 s, refused at 6.5 s.
    assert_eq!((result.unwrap().status().as_u16(), took.as_millis()), (401, 6_500));
    assert_eq!(deadlines(&api), ["5S", "1500000u"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_deadline_is_left_alone() {
    for odd in ["", "5", "-1S", "5s", "123456789S"] {
        let (deadlines, status, _) = refused_once(odd, Cloned, Full::new(Bytes::from("text"))).await;
        assert_eq!((deadlines, status), (vec![odd.to_owned(); 2], 200));
    }
}
