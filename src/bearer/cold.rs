//! The rarer states of a request's future: waiting for a token, waiting for another one, sending again.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, header::AUTHORIZATION};
use tower_service::Service;

use super::{HttpRequest, Link, replay::Spare};
use crate::{
    BoxError, Error, TokenError,
    live::{Generation, PerThread},
};

/// The rarer states, and what is kept for them.
pub(super) enum Cold<S: Service<R>, R> {
    /// Sent, and could be sent again.
    Spare { service: S, spare: Spare<R>, link: PerThread<Link> },
    /// Not sent yet for want of a token. The service was polled ready.
    Waiting { token: Wait<Acquired>, service: S, request: R, after: After<R> },
    /// Sent, and can't be sent again.
    SentOnce { link: PerThread<Link> },
    /// The token was refused: waits for another one, with what is left of the wait then, or for the news that there will be none.
    /// `asked`: that one is fetched because of this, so that what becomes of the second attempt says whether it helped.
    Renewing { token: Wait<Replaced>, held: S::Response, service: S, spare: Spare<R>, asked: bool },
    /// There is another token; the service must be ready to send again. `left`: how long it may wait if it needs one more.
    Readying { service: S, request: R, link: PerThread<Link>, asked: bool, left: Duration },
    /// Sent again.
    Replayed { link: PerThread<Link>, asked: bool },
    /// Over before it began.
    Failed(Error<S::Error>),
    /// Between two of the others.
    Moving,
}

/// What a request is, once it was sent, that had to wait for a token.
pub(super) enum After<R> {
    /// Sent for the first time, with what is sent again.
    Spare(Spare<R>),
    SentOnce,
    Replayed {
        asked: bool,
    },
}

/// What a state goes on to.
pub(super) enum Step<S: Service<R>, R> {
    Sent(S::Future, Generation),
    Over(Result<S::Response, Error<S::Error>>),
}

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A token, and the layer that waited for it: with a handle of its own each request would count the handles, which all write.
type Acquired = (Result<(HeaderValue, Generation), TokenError>, PerThread<Link>);

/// What is left of the wait for another one, if there is one.
type Replaced = (Option<Duration>, PerThread<Link>);

impl<S, R> Cold<S, R>
where
    S: Service<R, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    /// The layer, where something was sent.
    pub(super) fn link(&self) -> Option<&Link> {
        match self {
            Self::Spare { link, .. } | Self::SentOnce { link } | Self::Replayed { link, .. } => Some(link),
            _ => None,
        }
    }

    /// Whether somebody wants to know of answers that are no refusals.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::Replayed { .. }) || self.link().is_some_and(|link| link.judge.is_some())
    }

    /// Whether what is kept can be sent again, whole.
    pub(super) fn hold(&mut self) -> bool {
        match self {
            Self::Spare { spare, .. } => spare.hold(),
            _ => false,
        }
    }

    /// The first attempt was answered with `held`, a 401.
    pub(super) fn renew(&mut self, held: S::Response, refused: Generation) {
        if let Self::Spare { service, spare, link } = mem::replace(self, Self::Moving) {
            let asked = link.token.is_reason_to_fetch(refused);
            let max_wait = link.max_wait(spare.request());
            let token = Box::pin(async move { (link.token.replace(refused, max_wait).await, link) });
            *self = Self::Renewing { token, held, service, spare, asked };
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<S, R>> {
        loop {
            match mem::replace(self, Self::Moving) {
                Self::Waiting { mut token, mut service, mut request, after } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Waiting { token, service, request, after };
                        return Poll::Pending;
                    }
                    Poll::Ready((Err(error), _)) => return Poll::Ready(Step::Over(Err(Error::token(error)))),
                    Poll::Ready((Ok((header, generation)), link)) => {
                        *self = match after {
                            After::Spare(spare) => Self::Spare { service: service.clone(), spare, link },
                            After::SentOnce => Self::SentOnce { link },
                            After::Replayed { asked } => Self::Replayed { link, asked },
                        };
                        request.headers_mut().insert(&AUTHORIZATION, header);
                        return Poll::Ready(Step::Sent(service.call(request), generation));
                    }
                },
                Self::Renewing { mut token, held, service, spare, asked } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Renewing { token, held, service, spare, asked };
                        return Poll::Pending;
                    }
                    Poll::Ready((None, _)) => return Poll::Ready(Step::Over(Ok(held))),
                    Poll::Ready((Some(left), link)) => match spare.take_over() {
                        // The 401 goes, and with it the connection that its body occupies.
                        Some(request) => *self = Self::Readying { service, request, link, asked, left },
                        None => return Poll::Ready(Step::Over(Ok(held))),
                    },
                },
                Self::Readying { mut service, mut request, link, asked, left } => match service.poll_ready(cx) {
                    Poll::Pending => {
                        *self = Self::Readying { service, request, link, asked, left };
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Over(Err(Error::inner(error)))),
                    // The header is taken now, when the request goes: getting ready may have taken longer than the token lived.
                    Poll::Ready(Ok(())) => match link.token.current() {
                        Some((header, generation)) => {
                            *self = Self::Replayed { link, asked };
                            request.headers_mut().insert(&AUTHORIZATION, header);
                            return Poll::Ready(Step::Sent(service.call(request), generation));
                        }
                        None => {
                            let token = acquire(link, left);
                            let after = After::Replayed { asked };
                            *self = Self::Waiting { token, service, request, after };
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

/// Waits for a token, no longer than this.
pub(super) fn acquire(link: PerThread<Link>, max_wait: Duration) -> Wait<Acquired> {
    Box::pin(async move { (link.token.acquire(max_wait).await, link) })
}
