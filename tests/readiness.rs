//! The service below has to be ready before it is called, and that may take its time.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::time::{Sleep, sleep, timeout};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    service_fn,
};
use tower_bearer::{AccessToken, ErrorKind, FetchError, FetchRequest, LiveToken, PerRequest, State, source_fn};

mod support;
use support::{API, Api, Issuer, call, get, layer, now, ok, refused, secs, timed};

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_below_is_no_deadlock() {
    let (api, issuer) = (Api::that_takes(&["t2"]).after(secs(1)), Issuer::new().takes(secs(1)));
    let mut service =
        ServiceBuilder::new().layer(layer(&issuer.ready().await)).layer(ConcurrencyLimitLayer::new(1)).service(api);
    let response = call(&mut service, get("/a")).await;
    let (response, took) = timed(timeout(secs(60), response)).await;
    assert_eq!((response.unwrap().unwrap().status().as_u16(), took), (200, secs(3)));
}

/// Its clones take their time to get ready; the first one doesn't. Keeps the strictness of [`Api`].
struct Slow {
    api: Api,
    takes: Duration,
    gets_ready: Option<Pin<Box<Sleep>>>,
    broken: Arc<AtomicBool>,
}

impl Slow {
    fn new(api: Api, takes: Duration) -> Self {
        Self { api, takes, gets_ready: None, broken: Arc::default() }
    }
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        let gets_ready = Some(Box::pin(sleep(self.takes)));
        Self { api: self.api.clone(), takes: self.takes, gets_ready, broken: self.broken.clone() }
    }
}

impl Service<Request<Empty<Bytes>>> for Slow {
    type Response = Response<String>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<String>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::Error::other("broken")));
        }
        if let Some(sleep) = &mut self.gets_ready {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.gets_ready = None;
        }
        let ready = Service::<Request<Empty<Bytes>>>::poll_ready(&mut self.api, cx);
        ready.map_err(|never| match never {})
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let response = self.api.call(request);
        Box::pin(async { Ok(response.await.unwrap_or_else(|never| match never {})) })
    }
}

/// A service whose clones take 20 s to get ready, around a token of 10 s, with the first request sent.
async fn slow(api: Api, issuer: Issuer) -> (LiveToken, impl Future<Output = Result<Response<String>, ErrorKind>>) {
    let token = issuer.lifetime(secs(10)).ready().await;
    let mut service = ServiceBuilder::new().layer(layer(&token)).service(Slow::new(api, secs(20)));
    let response = call(&mut service, get("/a")).await;
    (token, async { response.await.map_err(|error| error.kind()) })
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gets_ready_slowly_sends_the_token_of_that_moment() {
    let api = Api::new(|seen| if seen.token() == "t1" { refused() } else { ok() });
    let issuer = Issuer::new();
    let (token, response) = slow(api.clone(), issuer.clone()).await;
    let (response, took) = timed(response).await;
    assert_eq!((response.unwrap().status().as_u16(), took), (200, secs(20)));
    let current = token.status().generation();
    assert!(current > 2, "t2 is over");
    assert_eq!(api.tokens(), ["t1".to_owned(), format!("t{current}")]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_sent_however_long_getting_ready_took() {
    let api = Api::new(|seen| if seen.token() == "t1" { refused() } else { ok() });
    let issuer = Issuer::new();
    let (token, response) = slow(api.clone(), issuer.clone()).await;
    let response = tokio::spawn(timed(response));
    sleep(secs(2)).await;
    assert_eq!(token.status().generation(), 2);
    issuer.fails(FetchError::try_again("down").retry_after(secs(7)));
    sleep(secs(15)).await;
    assert_eq!(token.status().state(), State::Expired);
    sleep(secs(5)).await;
    issuer.works();
    let (response, took) = response.await.unwrap();
    assert_eq!(response.unwrap().status(), 200, "it waited for another token");
    // What was ready when there was no token went back, with what it held, and another clone gets ready after the wait.
    assert!((secs(40)..secs(50)).contains(&took), "{took:?}");
    assert_eq!(api.tokens().len(), 2, "{:?}", api.tokens());
}

/// One limit for the API and for the token endpoint, as a client that is shared has.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_token_hold_no_place_that_the_fetch_needs() {
    for places in [1, 4, 16] {
        let limit = GlobalConcurrencyLimitLayer::new(places);
        let began = now();
        let is_down = move || began.elapsed() > secs(100) && began.elapsed() < secs(160);
        let endpoint = limit.layer(service_fn(move |()| async move {
            sleep(secs(1)).await;
            if is_down() { Err(FetchError::try_again("down")) } else { Ok(()) }
        }));
        let source = source_fn(move |_: FetchRequest| {
            let endpoint = endpoint.clone();
            async move {
                endpoint.oneshot(()).await?;
                let secret = format!("t{}", began.elapsed().as_millis());
                Ok(AccessToken::new(secret)?.expires_in(secs(20)))
            }
        });
        let token = LiveToken::builder(source).seed(1).spawn();
        let api = service_fn(|_: Request<Empty<Bytes>>| async { Ok::<_, Infallible>(Response::new(String::new())) });
        let bearer = layer(&token).ask_requests().max_wait(secs(10));
        let service = ServiceBuilder::new().layer(bearer).layer(limit).service(api);
        let mut requests = Vec::new();
        while began.elapsed() < secs(300) {
            for kind in ["with", "with", "with", "without"] {
                let service = service.clone();
                let mut request = get("/a");
                if kind == "without" {
                    request.extensions_mut().insert(PerRequest::new().without_token());
                }
                let at = began.elapsed();
                requests.push(tokio::spawn(async move {
                    // One that is used again and again is ready before it is called.
                    let mut service = service;
                    let sent = service.ready().await.unwrap().call(request);
                    let (answered, took) = timed(sent).await;
                    (kind, at, answered.map(|_| ()).map_err(|error| error.to_string()), took)
                }));
            }
            sleep(secs(1)).await;
        }
        let (mut answered, mut failed) = (0, 0);
        for request in requests {
            let (kind, at, result, took) = request.await.unwrap();
            let what = format!("{places} places: {kind} a token at {at:?}: {result:?} after {took:?}");
            assert!(took <= secs(11), "{what}");
            if kind == "without" {
                assert!(result.is_ok() && took.is_zero(), "{what}");
            } else if result.is_ok() {
                answered += 1;
            } else {
                failed += 1;
                // A pause after a failure is a minute at the most.
                assert!(at > secs(100) && at < secs(221), "{what}");
            }
        }
        assert!(answered > 500 && failed > 0 && failed < 3 * 121, "{places}: {answered} {failed}");
        assert_eq!(token.status().state(), State::Live);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shed_for_want_of_a_token() {
    let token = Issuer::new().hangs().live();
    let limited =
        ServiceBuilder::new().layer(layer(&token)).layer(ConcurrencyLimitLayer::new(2)).service(Api::that_takes(&[]));
    let service = ServiceBuilder::new().layer(LoadShedLayer::new()).service(limited);
    let waiting = join_all((0..20).map(|_| service.clone().oneshot(get("/a"))));
    let (answers, took) = timed(waiting).await;
    assert_eq!(took, secs(10));
    for answer in answers {
        let error = answer.unwrap_err();
        let error = error.downcast_ref::<tower_bearer::Error<Infallible>>().expect("ours, not LoadShed's");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_before_the_second_attempt_says_so() {
    let issuer = Issuer::new().takes(secs(1));
    let slow = Slow::new(Api::that_takes(&["t2"]), secs(20));
    let broken = slow.broken.clone();
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(slow);
    let response = tokio::spawn(call(&mut service, get("/a")).await);
    sleep(Duration::from_millis(500)).await;
    broken.store(true, Ordering::SeqCst);
    let error = response.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.into_inner().unwrap().to_string()), (ErrorKind::Inner, "broken".to_owned()));

    let fails_with_t2 = service_fn(async |request: Request<String>| {
        let first = request.headers()[AUTHORIZATION] == "Bearer t1";
        if first { Ok(refused()) } else { Err(io::Error::other("reset")) }
    });
    let service = ServiceBuilder::new().layer(layer(&Issuer::new().ready().await)).service(fails_with_t2);
    let request = Request::get(API).body(String::new()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap_err().into_inner().unwrap().to_string(), "reset");
}
