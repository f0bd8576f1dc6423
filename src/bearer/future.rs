//! The future of one request: send → (401) → renew → send.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use super::{
    HttpRequest, HttpResponse, Link, OnUnauthorized, challenge,
    replay::Spare,
    request::sealed::{Mark, Response as _},
};
use crate::{
    BoxError, Error, LiveToken, TokenError,
    live::{Generation, TokenId},
};

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
        // The token to renew after a 401; nobody's if none is.
        token: TokenId,
        sent_to: Mark,
        replays: bool,
        cold: Option<SyncWrapper<Box<Cold<S, R>>>>,
    }
}

/// The rarer states, and what is kept for them.
enum Cold<S: Service<R>, R> {
    /// Sent, and could be sent again.
    Spare { service: S, spare: Spare<R>, link: Arc<Link> },
    /// Not sent yet for want of a token. The service was polled ready.
    Waiting {
        token: Wait<Result<(HeaderValue, Generation), TokenError>>,
        service: S,
        request: R,
        after: After<R>,
        link: Arc<Link>,
    },
    /// Sent, and can't be sent again.
    SentOnce { link: Arc<Link> },
    /// The token was refused: waits for another one, `true`, or for the news that there will be none. `asked`: that one is
    /// fetched because of this, so that what becomes of the second attempt says whether it helped.
    Renewing { token: Wait<bool>, held: S::Response, service: S, spare: Spare<R>, link: Arc<Link>, asked: bool },
    /// There is another token; the service must be ready to send again.
    Readying { service: S, request: R, link: Arc<Link>, asked: bool },
    /// Sent again.
    Replayed { link: Arc<Link>, asked: bool },
    /// Over before it began.
    Failed(Error<S::Error>),
    /// Between two of the others.
    Moving,
}

/// What a request is, once it was sent, that had to wait for a token.
enum After<R> {
    /// Sent for the first time, with what is sent again.
    Spare(Spare<R>),
    SentOnce,
    Replayed {
        asked: bool,
    },
}

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S: Service<R>, R> ResponseFuture<S, R> {
    #[inline]
    pub(super) fn sent(inner: S::Future, generation: Generation, token: TokenId, sent_to: Mark, replays: bool) -> Self {
        Self { inner: Some(inner), generation, token, sent_to, replays, cold: None }
    }

    #[inline]
    pub(super) fn with_spare(mut self, service: S, spare: Spare<R>, link: Arc<Link>) -> Self {
        self.cold = Some(SyncWrapper::new(Box::new(Cold::Spare { service, spare, link })));
        self
    }

    /// For layers with a judge.
    pub(super) fn judged(mut self, link: Arc<Link>) -> Self {
        self.cold = Some(SyncWrapper::new(Box::new(Cold::SentOnce { link })));
        self
    }

    pub(super) fn failed(error: Error<S::Error>) -> Self {
        Self::cold(Cold::Failed(error), TokenId::NONE, Mark::default(), false)
    }

    pub(super) fn waiting(service: S, request: R, spare: Option<Spare<R>>, link: Arc<Link>, replays: bool) -> Self
    where
        R: HttpRequest,
    {
        let (sent_to, renews) = (request.mark(), link.renews());
        let token = Box::pin(link.token.clone().acquire(link.max_wait(&request)));
        let after = spare.map_or(After::SentOnce, After::Spare);
        Self::cold(Cold::Waiting { token, service, request, after, link }, renews, sent_to, replays)
    }

    fn cold(cold: Cold<S, R>, token: TokenId, sent_to: Mark, replays: bool) -> Self {
        let cold = Some(SyncWrapper::new(Box::new(cold)));
        Self { inner: None, generation: Generation::NONE, token, sent_to, replays, cold }
    }
}

impl<S, R> Future for ResponseFuture<S, R>
where
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    type Output = Result<S::Response, Error<S::Error>>;

    // Small, and part of the caller (4 % of what the layer costs): whatever happens to few requests is elsewhere.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let Some(inner) = this.inner.as_pin_mut() else { return self.go_on(cx) };
        match inner.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::inner(error))),
            Poll::Ready(Ok(response)) if *this.token == TokenId::NONE => Poll::Ready(Ok(response)),
            Poll::Ready(Ok(response)) if challenge::is_refusal(response.status(), response.headers()) => {
                self.refused_by_rule(response, cx)
            }
            Poll::Ready(Ok(response)) if this.cold.is_none() => Poll::Ready(Ok(response)),
            Poll::Ready(Ok(response)) => match self.as_mut().verdict(&response, OnUnauthorized::HandOn) {
                OnUnauthorized::HandOn => Poll::Ready(Ok(response)),
                verdict => self.refused(response, verdict, cx),
            },
        }
    }
}

impl<S, R> ResponseFuture<S, R>
where
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    /// The rarer states, up to where there is something sent to wait for.
    #[cold]
    fn go_on(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut this = self.as_mut().project();
        let Some(cold) = this.cold.as_mut() else { panic!("`ResponseFuture` polled after it was done") };
        match ready!(cold.get_mut().poll(cx)) {
            Step::Sent(future, generation) => {
                this.inner.set(Some(future));
                *this.generation = generation;
                // Goes round twice at most: nothing is sent a third time.
                self.poll(cx)
            }
            Step::Over(result) => {
                *this.cold = None;
                Poll::Ready(result)
            }
        }
    }

    /// What to do with this response: what the rule says, unless the layer has a judge. Tidies up if it is to be handed on.
    #[cold]
    fn verdict(self: Pin<&mut Self>, response: &S::Response, by_rule: OnUnauthorized) -> OnUnauthorized {
        let this = self.project();
        let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
        let judge = cold.and_then(|cold| cold.link()).and_then(|link| link.judge.as_ref());
        let verdict = judge.map_or(by_rule, |judge| judge.judge(response.status(), response.headers()));
        if verdict == OnUnauthorized::HandOn {
            // With what was kept to be sent again goes the reason to keep it: bodies may go on although the response is there.
            let cold = this.cold.take().map(SyncWrapper::into_inner);
            // If that is what a fetch was for, the token's task should know that it helped.
            if let Some(Cold::Replayed { asked, .. }) = cold.as_deref()
                && let Some(token) = LiveToken::find(*this.token)
            {
                token.report_recovered(*this.generation, *asked);
            }
        }
        verdict
    }

    /// The rule says that the API refused the token. The layer's judge has the last word, if there is one. (Takes the response, so
    /// that `poll` needn't keep it where it can be looked at: half a percent of what the layer costs.)
    #[cold]
    fn refused_by_rule(
        mut self: Pin<&mut Self>,
        response: S::Response,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        match self.as_mut().verdict(&response, OnUnauthorized::Recover) {
            OnUnauthorized::HandOn => Poll::Ready(Ok(response)),
            verdict => self.refused(response, verdict, cx),
        }
    }

    /// The API refused the token.
    fn refused(
        mut self: Pin<&mut Self>,
        response: S::Response,
        verdict: OnUnauthorized,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut this = self.as_mut().project();
        // Before anything waits: what limits below count as under way must be over, or the second attempt can't begin.
        this.inner.set(None);
        if !response.is_from(*this.sent_to) {
            *this.cold = None;
            return Poll::Ready(Ok(response));
        }
        let recovers = verdict == OnUnauthorized::Recover;
        let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
        if let Some(cold @ Cold::Spare { .. }) = cold
            && recovers
            && cold.hold()
        {
            cold.renew(response, *this.generation);
            return self.go_on(cx);
        }
        let cold = this.cold.take().map(SyncWrapper::into_inner);
        if let Some(token) = LiveToken::find(*this.token) {
            if recovers && *this.replays && !matches!(cold.as_deref(), Some(Cold::Replayed { .. })) {
                token.warn_not_replayed::<R>();
            }
            token.report_refused(*this.generation);
        }
        Poll::Ready(Ok(response))
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
    /// The layer, where something was sent.
    fn link(&self) -> Option<&Link> {
        match self {
            Self::Spare { link, .. } | Self::SentOnce { link } | Self::Replayed { link, .. } => Some(link),
            _ => None,
        }
    }

    /// Whether what is kept can be sent again, whole.
    fn hold(&mut self) -> bool {
        match self {
            Self::Spare { spare, .. } => spare.hold(),
            _ => false,
        }
    }

    /// The first attempt was answered with `held`, a 401.
    fn renew(&mut self, held: S::Response, refused: Generation) {
        if let Self::Spare { service, spare, link } = mem::replace(self, Self::Moving) {
            let asked = link.token.is_reason_to_fetch(refused);
            let token = Box::pin(link.token.clone().replace(refused, link.max_wait(spare.request())));
            *self = Self::Renewing { token, held, service, spare, link, asked };
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<S, R>> {
        loop {
            match mem::replace(self, Self::Moving) {
                Self::Waiting { mut token, mut service, mut request, after, link } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Waiting { token, service, request, after, link };
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Over(Err(Error::token(error)))),
                    Poll::Ready(Ok((header, generation))) => {
                        *self = match after {
                            After::Spare(spare) => Self::Spare { service: service.clone(), spare, link },
                            After::SentOnce => Self::SentOnce { link },
                            After::Replayed { asked } => Self::Replayed { link, asked },
                        };
                        authorize(request.headers_mut(), header);
                        return Poll::Ready(Step::Sent(service.call(request), generation));
                    }
                },
                Self::Renewing { mut token, held, service, spare, link, asked } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Renewing { token, held, service, spare, link, asked };
                        return Poll::Pending;
                    }
                    Poll::Ready(false) => return Poll::Ready(Step::Over(Ok(held))),
                    Poll::Ready(true) => match spare.take_over() {
                        // The 401 goes, and with it the connection that its body occupies.
                        Some(request) => *self = Self::Readying { service, request, link, asked },
                        None => return Poll::Ready(Step::Over(Ok(held))),
                    },
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
                            *self = Self::Replayed { link, asked };
                            authorize(request.headers_mut(), header);
                            return Poll::Ready(Step::Sent(service.call(request), generation));
                        }
                        None => {
                            let token = Box::pin(link.token.clone().acquire(link.max_wait(&request)));
                            let after = After::Replayed { asked };
                            *self = Self::Waiting { token, service, request, after, link };
                        }
                    },
                },
                Self::Failed(error) => return Poll::Ready(Step::Over(Err(error))),
                // In these the response comes from the inner future, which is polled instead.
                Self::Spare { .. } | Self::SentOnce { .. } | Self::Replayed { .. } | Self::Moving => {
                    panic!("`ResponseFuture` polled after it was done")
                }
            }
        }
    }
}

/// Not generic, so that the insertion in `BearerAuth::call` is the only one compiled into the user's code, and inlined there.
#[cold]
fn authorize(headers: &mut HeaderMap, header: HeaderValue) {
    headers.insert(AUTHORIZATION, header);
}

impl<S: Service<R>, R> fmt::Debug for ResponseFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("generation", &self.generation).finish_non_exhaustive()
    }
}
