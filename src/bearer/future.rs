//! The future of one request: send → (401) → renew → send.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, header::AUTHORIZATION};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use super::{
    HttpRequest, HttpResponse, Link, challenge,
    replay::Spare,
    request::sealed::{Mark, Response as _},
};
use crate::{BoxError, Error, TokenError, live::Generation};

pin_project! {
    /// The response of a request sent by [`BearerAuth`](crate::BearerAuth).
    ///
    /// While the first attempt is under way, this is the inner service's future and a few words; everything rarer (waiting for a
    /// token, sending again) lies in one box.
    ///
    /// # Cancel safety
    /// Dropping it cancels the request. It never cancels the fetch of a token that others wait for.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        inner: Option<S::Future>,
        generation: Generation,
        // What follows from a 401; `None` if nothing does.
        link: Option<Arc<Link>>,
        sent_to: Mark,
        replays: bool,
        cold: Option<SyncWrapper<Box<Cold<S, R>>>>,
    }
}

/// The rarer states, and what is kept for them.
enum Cold<S: Service<R>, R> {
    /// Sent, and could be sent again.
    Spare { service: S, request: R },
    /// Not sent yet for want of a token. The service was polled ready.
    Waiting { token: Wait<Result<(HeaderValue, Generation), TokenError>>, service: S, request: R, after: After<R> },
    /// Sent, and can't be sent again.
    SentOnce,
    /// The token was refused: waits for another one, `true`, or for the news that there will be none. `asked`: that one is
    /// fetched because of this, so that what becomes of the second attempt says whether it helped.
    Renewing { token: Wait<bool>, held: S::Response, service: S, request: R, link: Arc<Link>, asked: bool },
    /// There is another token; the service must be ready to send again.
    Readying { service: S, request: R, link: Arc<Link>, asked: bool },
    /// Sent again.
    Replayed { asked: bool },
    /// Over before it began.
    Failed(Error<S::Error>),
    /// Between two of the others.
    Moving,
}

/// What a request is, once it was sent, that had to wait for a token.
enum After<R> {
    /// Sent for the first time, with what is sent again.
    Spare(R),
    SentOnce,
    Replayed {
        asked: bool,
    },
}

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S: Service<R>, R> ResponseFuture<S, R> {
    #[inline]
    pub(super) fn sent(
        inner: S::Future,
        generation: Generation,
        link: Option<Arc<Link>>,
        sent_to: Mark,
        replays: bool,
    ) -> Self {
        Self { inner: Some(inner), generation, link, sent_to, replays, cold: None }
    }

    #[inline]
    pub(super) fn with_spare(mut self, service: S, spare: Spare<R>) -> Self {
        self.cold = Some(SyncWrapper::new(Box::new(Cold::Spare { service, request: spare.into_request() })));
        self
    }

    pub(super) fn failed(error: Error<S::Error>) -> Self {
        Self::cold(Cold::Failed(error), None, Mark::default(), false)
    }

    pub(super) fn waiting(service: S, request: R, spare: Option<Spare<R>>, link: Arc<Link>, replays: bool) -> Self
    where
        R: HttpRequest,
    {
        let sent_to = request.mark();
        let token = Box::pin(link.token.clone().acquire(link.max_wait));
        let after = spare.map_or(After::SentOnce, |spare| After::Spare(spare.into_request()));
        let recovery = link.recovers.then_some(link);
        Self::cold(Cold::Waiting { token, service, request, after }, recovery, sent_to, replays)
    }

    fn cold(cold: Cold<S, R>, link: Option<Arc<Link>>, sent_to: Mark, replays: bool) -> Self {
        let cold = Some(SyncWrapper::new(Box::new(cold)));
        Self { inner: None, generation: Generation::NONE, link, sent_to, replays, cold }
    }
}

impl<S, R> Future for ResponseFuture<S, R>
where
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    type Output = Result<S::Response, Error<S::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(inner) = this.inner.as_mut().as_pin_mut() {
                let response = match ready!(inner.poll(cx)) {
                    Ok(response) => response,
                    Err(error) => return Poll::Ready(Err(Error::inner(error))),
                };
                let Some(link) = this.link.as_ref() else { return Poll::Ready(Ok(response)) };
                let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
                if !challenge::is_refusal(response.status(), response.headers()) {
                    if let Some(Cold::Replayed { asked: true }) = cold {
                        link.token.report_recovered(*this.generation);
                    }
                    return Poll::Ready(Ok(response));
                }
                // Before anything waits: what limits below count as under way must be over, or the second attempt can't begin.
                this.inner.set(None);
                if !response.is_from(*this.sent_to) {
                    return Poll::Ready(Ok(response));
                }
                match cold {
                    Some(cold) if matches!(cold, Cold::Spare { .. }) => cold.renew(response, link, *this.generation),
                    other => {
                        if *this.replays && !matches!(other, Some(Cold::Replayed { .. })) {
                            link.warn_not_replayed::<R>();
                        }
                        link.token.report_refused(*this.generation);
                        return Poll::Ready(Ok(response));
                    }
                }
            }
            let Some(cold) = this.cold.as_mut() else { panic!("`ResponseFuture` polled after it was done") };
            match ready!(cold.get_mut().poll(cx)) {
                Step::Sent(future, generation) => {
                    this.inner.set(Some(future));
                    *this.generation = generation;
                }
                Step::Over(result) => {
                    *this.cold = None;
                    return Poll::Ready(result);
                }
            }
        }
    }
}

enum Step<S: Service<R>, R> {
    Sent(S::Future, Generation),
    Over(Result<S::Response, Error<S::Error>>),
}

impl<S, R> Cold<S, R>
where
    S: Service<R, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    /// The first attempt was answered with `held`, a 401.
    fn renew(&mut self, held: S::Response, link: &Arc<Link>, refused: Generation) {
        if let Self::Spare { service, request } = mem::replace(self, Self::Moving) {
            let asked = link.token.is_reason_to_fetch(refused);
            let token = Box::pin(link.token.clone().replace(refused, link.max_wait));
            *self = Self::Renewing { token, held, service, request, link: link.clone(), asked };
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<S, R>> {
        loop {
            match mem::replace(self, Self::Moving) {
                Self::Waiting { mut token, mut service, mut request, after } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Waiting { token, service, request, after };
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Over(Err(Error::token(error)))),
                    Poll::Ready(Ok((header, generation))) => {
                        *self = match after {
                            After::Spare(request) => Self::Spare { service: service.clone(), request },
                            After::SentOnce => Self::SentOnce,
                            After::Replayed { asked } => Self::Replayed { asked },
                        };
                        request.headers_mut().insert(AUTHORIZATION, header);
                        return Poll::Ready(Step::Sent(service.call(request), generation));
                    }
                },
                Self::Renewing { mut token, held, service, request, link, asked } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Renewing { token, held, service, request, link, asked };
                        return Poll::Pending;
                    }
                    Poll::Ready(false) => return Poll::Ready(Step::Over(Ok(held))),
                    // The 401 goes, and with it the connection that its body occupies.
                    Poll::Ready(true) => *self = Self::Readying { service, request, link, asked },
                },
                Self::Readying { mut service, mut request, link, asked } => match service.poll_ready(cx) {
                    Poll::Pending => {
                        *self = Self::Readying { service, request, link, asked };
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Over(Err(Error::inner(error)))),
                    // The header is taken now, when the request goes: getting ready may have taken longer than the token lived.
                    Poll::Ready(Ok(())) => match link.token.current() {
                        Some((header, generation)) => {
                            *self = Self::Replayed { asked };
                            request.headers_mut().insert(AUTHORIZATION, header);
                            return Poll::Ready(Step::Sent(service.call(request), generation));
                        }
                        None => {
                            let token = Box::pin(link.token.clone().acquire(link.max_wait));
                            *self = Self::Waiting { token, service, request, after: After::Replayed { asked } };
                        }
                    },
                },
                Self::Failed(error) => return Poll::Ready(Step::Over(Err(error))),
                // In these the response comes from the inner future, which is polled instead.
                Self::Spare { .. } | Self::SentOnce | Self::Replayed { .. } | Self::Moving => {
                    panic!("`ResponseFuture` polled after it was done")
                }
            }
        }
    }
}

impl<S: Service<R>, R> fmt::Debug for ResponseFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("generation", &self.generation).finish_non_exhaustive()
    }
}
