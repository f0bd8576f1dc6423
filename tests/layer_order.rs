//! Which order of layers is right, and what goes wrong in the other.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tokio::time::{sleep, timeout};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    retry::{Policy, RetryLayer},
    timeout::{TimeoutLayer, error::Elapsed},
    util::BoxCloneService,
};
use tower_bearer::{Error, ErrorKind};

mod support;
use support::{Api, Issuer, get, layer, ok, refused, secs, timed};

type Boxed = BoxCloneService<Request<Empty<Bytes>>, Response<String>, BoxError>;

fn boxed<S>(service: S) -> Boxed
where
    S: Service<Request<Empty<Bytes>>, Response = Response<String>, Error: Into<BoxError>> + Clone + Send + 'static,
    S::Future: Send,
{
    BoxCloneService::new(service.map_err(Into::into))
}

fn unavailable() -> Response<String> {
    Response::builder().status(503).body(String::new()).unwrap()
}

// Queues: above

#[tokio::test(start_paused = true)]
async fn behind_a_queue_above_the_token_is_that_of_the_moment_and_before_one_below_it_is_stale() {
    // Each answer takes longer than a token lives, and one is sent at a time.
    for above in [true, false] {
        let (api, issuer) = (Api::new(|_| ok()).after(secs(250)), Issuer::new().lifetime(secs(100)));
        let token = issuer.ready().await;
        let (queue, limit) = (BufferLayer::new(8), ConcurrencyLimitLayer::new(1));
        let service: Boxed = if above {
            boxed(ServiceBuilder::new().layer(queue).layer(limit).layer(layer(&token)).service(api.clone()))
        } else {
            boxed(ServiceBuilder::new().layer(layer(&token)).layer(queue).layer(limit).service(api.clone()))
        };
        let first = tokio::spawn(service.clone().oneshot(get("/a")));
        let second = tokio::spawn(service.clone().oneshot(get("/b")));
        sleep(secs(250)).await;
        sleep(secs(1)).await;
        let current = token.authorization().unwrap();
        let tokens = api.tokens();
        assert_eq!((tokens.len(), &*tokens[0]), (2, "t1"));
        assert_eq!(current == format!("Bearer {}", tokens[1]), above, "above: {above}, {tokens:?}");
        assert_eq!(tokens[1] == "t1", !above, "above: {above}, {tokens:?}: expired long ago");
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
    }
}

// Timeouts: above for the whole, below for each attempt

#[tokio::test(start_paused = true)]
async fn a_timeout_above_counts_the_wait_for_a_token_and_one_below_does_not() {
    let (api, token) = (Api::new(|_| ok()), Issuer::new().hangs().live());
    let above = ServiceBuilder::new().layer(TimeoutLayer::new(secs(2))).layer(layer(&token)).service(api.clone());
    let (result, took) = timed(above.oneshot(get("/a"))).await;
    assert!(result.unwrap_err().is::<Elapsed>());
    assert!(took >= secs(2) && took < secs(3), "{took:?}");

    let below = layer(&token).max_wait(secs(5));
    let below = ServiceBuilder::new().layer(below).layer(TimeoutLayer::new(secs(2))).service(api);
    let (result, took) = timed(below.oneshot(get("/a"))).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took >= secs(5) && took < secs(6), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_above_counts_both_attempts_and_one_below_each_alone() {
    for above in [true, false] {
        let api = Api::that_takes(&["t2"]).after(secs(3));
        let token = Issuer::new().takes(secs(1)).ready().await;
        let limit = TimeoutLayer::new(secs(4));
        let service: Boxed = if above {
            boxed(ServiceBuilder::new().layer(limit).layer(layer(&token)).service(api.clone()))
        } else {
            boxed(ServiceBuilder::new().layer(layer(&token)).layer(limit).service(api.clone()))
        };
        let (result, took) = timed(service.oneshot(get("/a"))).await;
        match result {
            Ok(response) => assert_eq!((above, response.status().as_u16(), took), (false, 200, secs(7))),
            Err(error) => assert!(above && error.is::<Elapsed>() && took >= secs(4) && took < secs(5), "{took:?}"),
        }
    }
}

// Retries: above

/// Tries again once what a busy server refused, long after.
#[derive(Clone)]
struct MuchLater(bool);

impl<C, E> Policy<Request<Empty<Bytes>>, Response<C>, E> for MuchLater {
    type Future = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn retry(&mut self, _: &mut Request<Empty<Bytes>>, result: &mut Result<Response<C>, E>) -> Option<Self::Future> {
        let busy = result.as_ref().is_ok_and(|response| response.status() == StatusCode::SERVICE_UNAVAILABLE);
        (busy && std::mem::take(&mut self.0)).then(|| Box::pin(sleep(secs(250))) as _)
    }

    fn clone_request(&mut self, request: &Request<Empty<Bytes>>) -> Option<Request<Empty<Bytes>>> {
        Some(request.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_above_sends_the_token_of_the_moment_and_one_below_the_same_again() {
    for above in [true, false] {
        let api = Api::new(|seen| if seen.token() == "t1" && seen.uri.ends_with("/a") { unavailable() } else { ok() });
        let token = Issuer::new().lifetime(secs(100)).ready().await;
        let retry = RetryLayer::new(MuchLater(true));
        let service: Boxed = if above {
            boxed(ServiceBuilder::new().layer(retry).layer(layer(&token)).service(api.clone()))
        } else {
            boxed(ServiceBuilder::new().layer(layer(&token)).layer(retry).service(api.clone()))
        };
        let status = service.oneshot(get("/a")).await.unwrap().status();
        let tokens = api.tokens();
        assert_eq!((tokens.len(), &*tokens[0]), (2, "t1"));
        assert_eq!(tokens[1] == "t1", !above, "above: {above}, {tokens:?}");
        assert_eq!(status.is_success(), above, "above: {above}");
    }
}

// Load shedding: above sheds what the client can't take, and never for want of a token

#[tokio::test(start_paused = true)]
async fn nothing_is_shed_for_want_of_a_token() {
    let (api, token) = (Api::new(|_| ok()), Issuer::new().takes(secs(3)).live());
    let service = ServiceBuilder::new().layer(LoadShedLayer::new()).layer(layer(&token)).service(api);
    let (result, took) = timed(service.oneshot(get("/a"))).await;
    assert_eq!((result.unwrap().status().as_u16(), took), (200, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_sheds_above_and_a_replay_is_not_shed() {
    // Nobody else can take the place that the first attempt had: it is given back before the second asks for one.
    let (api, token) = (Api::that_takes(&["t2"]).after(secs(1)), Issuer::new().takes(secs(1)).ready().await);
    let service = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(layer(&token))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(api.clone());
    let mut clone = service.clone();
    let running = tokio::spawn(timed(service.oneshot(get("/a"))));
    sleep(Duration::from_millis(500)).await;
    std::future::poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut clone, cx)).await.unwrap();
    let error = clone.call(get("/b")).await.unwrap_err();
    assert!(error.is::<Overloaded>());
    // What was shed keeps its place in the limit's queue until it is dropped, as without this layer.
    drop(clone);
    let (result, took) = running.await.unwrap();
    assert_eq!((result.unwrap().status().as_u16(), took), (200, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_shedding_layer_below_turns_a_replay_into_an_error_of_its_own() {
    let api = Api::new(|seen| if seen.uri.ends_with("/a") { refused() } else { ok() }).after(secs(1));
    let token = Issuer::new().takes(secs(1)).ready().await;
    let service = ServiceBuilder::new()
        .layer(layer(&token))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(api.clone());
    let refused = tokio::spawn(service.clone().oneshot(get("/a")));
    // Takes the place while the first one waits for another token.
    sleep(Duration::from_millis(1500)).await;
    let other = tokio::spawn(service.oneshot(get("/b")));
    let error: Error<BoxError> = timeout(secs(10), refused).await.unwrap().unwrap().unwrap_err();
    assert!(error.into_inner_boxed().unwrap().is::<Overloaded>());
    assert_eq!(other.await.unwrap().unwrap().status(), 200);
}
