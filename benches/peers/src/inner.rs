//! The inner services, in the shapes that peers want.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, poll_fn, ready},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tower::Service;

use crate::{
    candidate::{Client, Failed, HttpRequest, http_request},
    endpoint::Token,
};

/// Where authorized requests end.
pub trait Inner: Clone + fmt::Debug + Send + Sync + 'static {
    /// A request has arrived; `authorization` finds its header.
    fn receive<R>(&self, request: &R, authorization: impl FnOnce(&R) -> Option<&str>);
}

/// Does nothing with a request: what is measured is what came before.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Inner for Nowhere {
    #[inline(never)]
    fn receive<R>(&self, request: &R, _: impl FnOnce(&R) -> Option<&str>) {
        black_box(request);
    }
}

/// Looks at every token.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    good: AtomicU64,
    expired: AtomicU64,
    missing: AtomicU64,
}

impl Gate {
    pub fn good(&self) -> u64 {
        self.0.good.load(Ordering::Relaxed)
    }

    pub fn expired(&self) -> u64 {
        self.0.expired.load(Ordering::Relaxed)
    }

    /// Without a token, or with something that isn't one.
    pub fn missing(&self) -> u64 {
        self.0.missing.load(Ordering::Relaxed)
    }
}

impl Inner for Gate {
    fn receive<R>(&self, request: &R, authorization: impl FnOnce(&R) -> Option<&str>) {
        let token = authorization(request).and_then(|value| value.strip_prefix("Bearer ")).and_then(Token::read);
        let count = match token {
            Some(token) if token.has_expired() => &self.0.expired,
            Some(_) => &self.0.good,
            None => &self.0.missing,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Finds the header where requests are of the crate `http`, or keep their headers as it does.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

/// The inner service as tower knows services.
#[derive(Clone, Debug)]
pub struct End<I>(pub I);

impl<B, I: Inner> Service<Request<B>> for End<I> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.receive(&request, |request| bearer(request.headers()));
        ready(Ok(Response::new(())))
    }
}

/// Any tower service as a client: those of peers that are layers, and [`End`] as their bare one.
#[derive(Clone, Debug)]
pub struct Tower<S>(pub S);

impl<S> Client for Tower<S>
where
    S: Service<HttpRequest, Error: fmt::Debug, Response: Send, Future: Send> + Clone + Send + 'static,
{
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    async fn send(&mut self, request: HttpRequest) -> Result<(), Failed> {
        let failed = |error| Failed(format!("{error:?}"));
        poll_fn(|cx| self.0.poll_ready(cx)).await.map_err(failed)?;
        let response = self.0.call(request).await.map_err(failed)?;
        drop(black_box(response));
        Ok(())
    }
}
