//! The service: it adds the header and sends the request.

use std::{
    fmt,
    task::{Context, Poll},
};

use http::header::AUTHORIZATION;
use tower_service::Service;

use super::{
    HttpRequest, HttpResponse, Link, ResponseFuture, Ticket,
    cold::Cold,
    replay::{self, ReplayPolicy},
};
use crate::{
    BoxError, Error,
    live::{Generation, Reader, Sharded, TokenId},
};

/// A service that sends requests with a live token; made by [`BearerAuthLayer`](crate::BearerAuthLayer). See the example there.
///
/// It is ready when the wrapped service is ready: without a token, requests wait or fail, and not the service. Clones share the live token.
/// Each clone keeps the header that it used last, so a service that is used again is cheaper than one that is cloned for each request.
///
/// The second parameter is the [replay policy](crate::replay). With the default policy, a field of this type can be a
/// `BearerAuth<reqwest::Client>`.
pub struct BearerAuth<S, P = replay::Auto> {
    inner: S,
    reader: Reader,
    link: Sharded<Link>,
    policy: P,
}

impl<S, P> BearerAuth<S, P> {
    pub(super) fn new(inner: S, link: Sharded<Link>, policy: P) -> Self {
        Self { inner, reader: Reader::new(), link, policy }
    }

    /// The wrapped service.
    ///
    /// ```
    /// use tower::Layer;
    /// use tower_bearer::{AccessToken, BearerAuthLayer, Origin};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = BearerAuthLayer::spawn(AccessToken::new("secret")?, Origin::parse("https://api.example.com")?);
    /// assert_eq!(layer.layer("a service").get_ref(), &"a service");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, R, P> Service<R> for BearerAuth<S, P>
where
    R: HttpRequest,
    P: ReplayPolicy<R>,
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Only the inner service. An error here would tell tower that this service is dead, and waiting for a token here would make it look
        // busy.
        self.inner.poll_ready(cx).map_err(Error::of_inner)
    }

    #[inline]
    fn call(&mut self, mut request: R) -> Self::Future {
        let kept = if self.link.inspects_requests { None } else { self.keep(&mut request) };
        // First the header, then the fence: nothing is sent before both. The URI was written a moment ago, when the request was moved here,
        // so reading it makes the processor wait. In this order it inserts the header meanwhile (1.0 instead of 1.15 times the time that a
        // static header takes).
        let generation = self.reader.authorize(&self.link.view, request.headers_mut());
        if generation == Generation::NONE || !request.is_within(&self.link.fence) {
            return self.call_rarely(request, kept);
        }
        let sent_to = request.mark();
        let inner = self.inner.call(request);
        if !self.policy.recovers() {
            return ResponseFuture::plain(inner);
        }
        let ticket = Ticket { token: self.link.token.id(), generation, sent_to, replays: self.policy.replays() };
        ResponseFuture::sent(inner, ticket, kept, self.link.view.is_doubted(generation))
    }
}

impl<S, P> BearerAuth<S, P> {
    /// What is needed to send this request again, if that is possible.
    #[inline]
    fn keep<R>(&self, request: &mut R) -> Option<Box<Cold<S, R>>>
    where
        P: ReplayPolicy<R>,
        S: Service<R> + Clone,
    {
        let spare = self.policy.keep(request)?;
        // Cloned now, and polled ready only when it is needed. Written into memory that is allocated already: otherwise what is kept, a
        // request, would be moved once more.
        let kept = Box::new_uninit();
        Some(Box::write(kept, Cold::Spare { service: self.inner.clone(), spare, link: self.link.clone(), ends: None }))
    }

    /// Requests that find no token, requests to a foreign origin, and all requests of a layer that inspects them.
    #[cold]
    #[inline(never)]
    fn call_rarely<R>(&mut self, mut request: R, mut kept: Option<Box<Cold<S, R>>>) -> ResponseFuture<S, R>
    where
        R: HttpRequest,
        P: ReplayPolicy<R>,
        S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    {
        let link = &self.link;
        let untouched = link.wishes_of(&request).wants_no_token()
            || (link.keeps_authorization && request.headers_mut().contains_key(AUTHORIZATION));
        if untouched {
            return ResponseFuture::plain(self.inner.call(request));
        }
        if !request.is_within(&link.fence) {
            // Drop the ready service: nothing is sent with it, and it may hold a permit of a limit below.
            self.inner = self.inner.clone();
            return ResponseFuture::failed(Error::foreign_origin(request.describe_origin()));
        }
        if !link.inspects_requests {
            return self.wait_for_token(request, kept);
        }
        let judged = self.policy.recovers() && link.judge.is_some();
        kept = self.keep(&mut request);
        let Some((header, generation)) = link.token.current() else { return self.wait_for_token(request, kept) };
        request.headers_mut().insert(&AUTHORIZATION, header);
        if judged && kept.is_none() {
            kept = Some(Box::new(Cold::SentOnce { link: self.link.clone() }));
        }
        let sent_to = request.mark();
        let inner = self.inner.call(request);
        if !self.policy.recovers() {
            return ResponseFuture::plain(inner);
        }
        let ticket = Ticket { token: self.link.token.id(), generation, sent_to, replays: self.policy.replays() };
        ResponseFuture::sent(inner, ticket, kept, judged || self.link.token.is_doubted(generation))
    }

    /// There is no valid token. The ready service is dropped, with the permit that it may hold of a limit below: requests that can be sent
    /// now need the permit, and perhaps the fetch that this request waits for.
    #[cold]
    fn wait_for_token<R>(&mut self, request: R, kept: Option<Box<Cold<S, R>>>) -> ResponseFuture<S, R>
    where
        R: HttpRequest,
        P: ReplayPolicy<R>,
        S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    {
        let token = if self.policy.recovers() { self.link.token.id() } else { TokenId::NONE };
        let replays = self.policy.replays();
        let ticket = Ticket { token, generation: Generation::NONE, sent_to: request.mark(), replays };
        self.inner = self.inner.clone();
        ResponseFuture::waiting(self.inner.clone(), request, ticket, kept, self.link.clone())
    }
}

impl<S: Clone, P: Clone> Clone for BearerAuth<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), reader: Reader::new(), link: self.link.clone(), policy: self.policy.clone() }
    }
}

impl<S, P> fmt::Debug for BearerAuth<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth").field("link", &self.link).finish_non_exhaustive()
    }
}
