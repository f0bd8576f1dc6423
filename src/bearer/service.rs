//! The service: it takes a header and sends the request.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::header::AUTHORIZATION;
use tower_service::Service;

use super::{HttpRequest, HttpResponse, Link, ResponseFuture, replay::ReplayPolicy};
use crate::{
    BoxError, Error,
    live::{Generation, Reader, TokenId},
};

/// A service that sends its requests with a live token; made by [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// It is ready when the wrapped service is: a missing token makes a request wait or fail, not the service. Clones share the
/// token; each keeps the header it used last, so a service that is used again is cheaper than one that is cloned every time.
pub struct BearerAuth<S, P> {
    inner: S,
    reader: Reader,
    link: Arc<Link>,
    policy: P,
}

impl<S, P> BearerAuth<S, P> {
    pub(super) fn new(inner: S, link: Arc<Link>, policy: P) -> Self {
        Self { inner, reader: Reader::default(), link, policy }
    }

    /// The wrapped service.
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
        // Nothing but the inner service: an error here would tell tower that this service is dead, and waiting here for a token
        // would count as a busy server.
        self.inner.poll_ready(cx).map_err(Error::inner)
    }

    #[inline]
    fn call(&mut self, mut request: R) -> Self::Future {
        if !request.is_admitted(&self.link.fence) {
            return self.call_rarely(request);
        }
        let Some((header, generation)) = self.link.token.header(&mut self.reader) else {
            return self.wait_for_token(request);
        };
        let (renews, sent_to) = (self.link.renews(), request.mark());
        // The clone for sending again is made before the call, of a service that is polled ready for it only when it comes to it.
        let spare = match self.link.recovers {
            true => self.policy.keep(&mut request).map(|spare| (self.inner.clone(), spare)),
            false => None,
        };
        request.headers_mut().insert(AUTHORIZATION, header);
        let sent = ResponseFuture::sent(self.inner.call(request), generation, renews, sent_to, self.policy.replays());
        match spare {
            Some((service, spare)) => sent.with_spare(service, spare, self.link.clone()),
            None => sent,
        }
    }
}

impl<S, P> BearerAuth<S, P> {
    /// What doesn't pass the fence by itself: requests to foreign origins, and all requests of a layer with rare options.
    #[cold]
    #[inline(never)]
    fn call_rarely<R>(&mut self, mut request: R) -> ResponseFuture<S, R>
    where
        R: HttpRequest,
        P: ReplayPolicy<R>,
        S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    {
        let link = &self.link;
        let untouched = link.wishes_of(&request).wants_no_token()
            || (link.keeps_authorization && request.headers_mut().contains_key(AUTHORIZATION));
        if untouched {
            let sent_to = request.mark();
            return ResponseFuture::sent(self.inner.call(request), Generation::NONE, TokenId::NONE, sent_to, false);
        }
        if !request.is_within(&link.fence) {
            return ResponseFuture::failed(Error::foreign_origin(request.describe_origin()));
        }
        let Some((header, generation)) = link.token.header(&mut self.reader) else {
            return self.wait_for_token(request);
        };
        let (renews, sent_to) = (link.renews(), request.mark());
        let spare = if link.recovers { self.policy.keep(&mut request) } else { None };
        let service = spare.is_some().then(|| self.inner.clone());
        request.headers_mut().insert(AUTHORIZATION, header);
        let sent = ResponseFuture::sent(self.inner.call(request), generation, renews, sent_to, self.policy.replays());
        match (service, spare) {
            (Some(service), Some(spare)) => sent.with_spare(service, spare, link.clone()),
            _ if link.judge.is_some() && link.recovers => sent.judged(link.clone()),
            _ => sent,
        }
    }

    /// There is no valid token: the future takes the inner service along, because that one was polled ready.
    #[cold]
    fn wait_for_token<R>(&mut self, mut request: R) -> ResponseFuture<S, R>
    where
        R: HttpRequest,
        P: ReplayPolicy<R>,
        S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    {
        let spare = if self.link.recovers { self.policy.keep(&mut request) } else { None };
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        ResponseFuture::waiting(ready, request, spare, self.link.clone(), self.policy.replays())
    }
}

impl<S: Clone, P: Clone> Clone for BearerAuth<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            reader: self.reader.clone(),
            link: self.link.clone(),
            policy: self.policy.clone(),
        }
    }
}

impl<S, P> fmt::Debug for BearerAuth<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth").field("link", &self.link).finish_non_exhaustive()
    }
}
