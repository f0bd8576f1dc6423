//! The service below has to be ready before it is called, and that may take its time.

use std::{
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
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::time::{Sleep, sleep, timeout};
use tower::{Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_bearer::{ErrorKind, FetchError, LiveToken, State};

mod support;
use support::{API, Api, Issuer, call, get, layer, ok, refused, secs, timed};

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
    assert!(took > secs(20) && took < secs(30), "{took:?}");
    assert_eq!(api.tokens(), ["t1", "t3"]);
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
