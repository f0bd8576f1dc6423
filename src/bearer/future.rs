//! The future of one request: send → (401) → renew → send. `cold` has its rarer states.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use super::{
    HttpRequest, HttpResponse, Link, OnUnauthorized, Ticket, challenge,
    cold::{After, Cold, Step, acquire},
    held,
    request::sealed::{Mark, Response as _, Whence},
};
use crate::{
    BoxError, Error, LiveToken,
    live::{Generation, Sharded, TokenId},
};

pin_project! {
    /// The response of a request sent by [`BearerAuth`](crate::BearerAuth). See the example of [`BearerAuthLayer`](crate::BearerAuthLayer).
    ///
    /// During the first attempt, this is the inner service's future and a few words. Everything rarer (waiting for a token, sending again)
    /// is in one box.
    ///
    /// # Cancel safety
    /// Dropping it cancels the request. It never cancels a fetch, for which others may wait.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        state: State<S::Future, Watched<S, R>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, W> {
        // Sent. The response is returned, whatever it is.
        Plain { #[pin] inner: F },
        // The response may say something about the token, or something must be done first.
        Watched { #[pin] watched: W },
    }
}

pin_project! {
    struct Watched<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        inner: Option<S::Future>,
        ticket: Ticket,
        // Whether responses other than 401s are looked at, too: by a judge; for the task, after a later attempt or because the token is
        // new.
        told: bool,
        cold: Option<SyncWrapper<Box<Cold<S, R>>>>,
    }
}

impl<S: Service<R>, R> ResponseFuture<S, R> {
    /// Sent. The response is returned, whatever it is.
    #[inline]
    pub(super) fn plain(inner: S::Future) -> Self {
        Self { state: State::Plain { inner } }
    }

    /// Sent, perhaps with something kept to be sent again. `told`: responses other than 401s are looked at, too.
    #[inline]
    pub(super) fn sent(inner: S::Future, ticket: Ticket, kept: Option<Box<Cold<S, R>>>, told: bool) -> Self {
        let cold = kept.map(SyncWrapper::new);
        Self { state: State::Watched { watched: Watched { inner: Some(inner), ticket, told, cold } } }
    }

    pub(super) fn failed(error: Error<S::Error>) -> Self {
        let ticket =
            Ticket { token: TokenId::NONE, generation: Generation::NONE, sent_to: Mark::default(), replays: false };
        Self::unsent(ticket, Cold::Failed(error))
    }

    pub(super) fn waiting(
        service: S,
        request: R,
        ticket: Ticket,
        kept: Option<Box<Cold<S, R>>>,
        link: Sharded<Link>,
    ) -> Self
    where
        R: HttpRequest,
    {
        let ends = link.deadline(&request, None);
        let max_wait = link.max_wait(&request, ends);
        let token = acquire(link, max_wait);
        let after = match kept.map(|kept| *kept) {
            Some(Cold::Spare { spare, .. }) => After::Spare(spare),
            _ => After::SentOnce,
        };
        Self::unsent(ticket, Cold::Waiting { token, service, request, after, ends })
    }

    fn unsent(ticket: Ticket, cold: Cold<S, R>) -> Self {
        let cold = Some(SyncWrapper::new(Box::new(cold)));
        Self { state: State::Watched { watched: Watched { inner: None, ticket, told: false, cold } } }
    }
}

impl<S, R> Future for ResponseFuture<S, R>
where
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    type Output = Result<S::Response, Error<S::Error>>;

    // Small, because it is inlined into the caller. What happens to few requests is elsewhere.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Plain { inner } => inner.poll(cx).map_err(Error::of_inner),
            StateProjection::Watched { watched } => watched.poll(cx),
        }
    }
}

impl<S, R> Watched<S, R>
where
    S: Service<R, Response: HttpResponse, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, Error<S::Error>>> {
        let this = self.as_mut().project();
        let Some(inner) = this.inner.as_pin_mut() else { return self.go_on(cx) };
        let answer = inner.poll(cx);
        // The response is read in place: to move it once costs as much as everything that is decided here.
        let (mut refused, mut told) = (false, false);
        if let Poll::Ready(Ok(response)) = &answer
            && this.ticket.token != TokenId::NONE
        {
            refused = challenge::is_refusal(response.status(), response.headers());
            told = refused || *this.told;
            if !told {
                // Drop what was kept to be sent again, so that no more of the body is copied: bodies may go on after the response has come.
                *this.cold = None;
            }
        }
        match answer {
            Poll::Ready(Ok(response)) if told => self.consider(response, refused, cx),
            Poll::Ready(Err(error)) => self.failed(error.into(), cx),
            answer => answer.map_err(Error::of_inner),
        }
    }

    /// The rarer states, until an attempt is sent.
    #[cold]
    fn go_on(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut this = self.as_mut().project();
        let Some(cold) = this.cold.as_mut() else { panic!("`ResponseFuture` polled after it was done") };
        let cold = cold.get_mut();
        match ready!(cold.poll(cx)) {
            Step::Sent(future, generation) => {
                this.inner.set(Some(future));
                this.ticket.generation = generation;
                *this.told = cold.is_told(generation);
                // This recurses a few times at most.
                self.poll(cx)
            }
            Step::Over(result) => {
                *this.cold = None;
                Poll::Ready(result)
            }
        }
    }

    /// The client failed. In a later attempt that may be because the server closed the connection after its 401.
    #[cold]
    fn failed(
        mut self: Pin<&mut Self>,
        error: BoxError,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut this = self.as_mut().project();
        let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
        if cold.is_some_and(|cold| cold.send_once_more(&*error)) {
            this.inner.set(None);
            return self.go_on(cx);
        }
        *this.cold = None;
        Poll::Ready(Err(Error::of_boxed(error)))
    }

    /// What to do with this response: what the layer's judge says, or else the rule. Cleans up if the response is returned.
    #[cold]
    fn verdict(self: Pin<&mut Self>, response: &S::Response, by_rule: OnUnauthorized) -> OnUnauthorized {
        let this = self.project();
        let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
        let judge = cold.and_then(|cold| cold.link()).and_then(|link| link.judge.as_ref());
        let verdict = judge.map_or(by_rule, |judge| judge.judge(response.status(), response.headers()));
        if verdict == OnUnauthorized::HandOn {
            let cold = this.cold.take().map(SyncWrapper::into_inner);
            // If a fetch was made for this request, the task must learn that it helped: from then on the next 401 may cause a fetch.
            if challenge::is_acceptance(response.status(), response.headers())
                && response.whence(this.ticket.sent_to) != Whence::Elsewhere
                && let Some(token) = LiveToken::find(this.ticket.token)
            {
                match cold.as_deref() {
                    Some(Cold::Replayed { resend, .. }) => {
                        token.report_recovered(this.ticket.generation, resend.has_its_fetch);
                    }
                    _ => token.report_accepted(this.ticket.generation),
                }
            }
        }
        verdict
    }

    /// The API refused the token by the rule, or the response must be looked at for another reason. The layer's judge decides, if there is
    /// one.
    #[cold]
    fn consider(
        mut self: Pin<&mut Self>,
        response: S::Response,
        refused: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let by_rule = if refused { OnUnauthorized::Recover } else { OnUnauthorized::HandOn };
        match self.as_mut().verdict(&response, by_rule) {
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
        // Before anything waits: limits below must not count this attempt as under way, or the next one can't begin.
        this.inner.set(None);
        let is_ours = match response.whence(this.ticket.sent_to) {
            Whence::Asked => true,
            Whence::Redirected => !challenge::asks_for_a_token(response.headers()),
            Whence::Elsewhere => false,
        };
        let recovers = is_ours && verdict == OnUnauthorized::Recover;
        let cold = this.cold.as_mut().map(|cold| &mut **cold.get_mut());
        if let Some(cold) = cold
            && recovers
            && cold.hold()
        {
            let kib = held::size(response.headers());
            cold.renew(response, kib, this.ticket.generation);
            return self.go_on(cx);
        }
        let cold = this.cold.take().map(SyncWrapper::into_inner);
        if let Some(token) = LiveToken::find(this.ticket.token) {
            if recovers && this.ticket.replays && !matches!(cold.as_deref(), Some(Cold::Replayed { .. })) {
                token.warn_not_replayed::<R>();
            }
            match is_ours {
                true => token.report_refused(this.ticket.generation),
                false => token.report_refused_elsewhere(),
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl<S: Service<R>, R> fmt::Debug for ResponseFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
