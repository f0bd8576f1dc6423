//! The rarer states of a request's future: waiting for a token, waiting for another one, sending again.
//!
//! ```text
//! there is no token                                the token was refused, and another one may come
//!        │                                                              │
//!        ▼             a token              the client is ready         ▼         another token
//!     Waiting ───────────────────► Readying ─────────┐      ┌─────── Renewing ──────────────────► Readying
//!        ▲                            │              ▼      │            │                            │
//!        └── it has expired ──────────┘    Spare, Replayed ─┘ 401        └─► the 401 is returned      │
//!                                          SentOnce: its 401 is returned                              │
//!                                                    ▲                                                │
//!                                                    └───────────────────── the client is ready ──────┘
//! ```
//!
//! In `Spare`, `SentOnce` and `Replayed` the inner future is polled instead. A request goes from `Replayed` to `Readying` once more if it
//! was lost with its connection.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::header::AUTHORIZATION;
use tower_service::Service;

use super::{HttpRequest, Link, grpc_deadline, held::Held, replay::Spare};
use crate::{
    BoxError, Error, TokenError,
    clock::Moment,
    error::{broke_off, is_unsent},
    live::{Attempts, FIRST_STEP, Generation, Sharded, With},
};

/// The rarer states, and what is kept for them. A service in here is ready only while it is about to send: a ready service may hold a
/// permit of a limit, which others then lack, perhaps the fetch of the token.
pub(super) enum Cold<S: Service<R>, R> {
    /// Sent, and can be sent again. `ends`: the deadline of the call, if it was read (here and below).
    Spare { service: S, spare: Spare<R>, link: Sharded<Link>, ends: Option<Moment> },
    /// Not sent yet, because there is no token.
    Waiting { token: Wait<Acquired>, service: S, request: R, after: After<R>, ends: Option<Moment> },
    /// Sent, and can't be sent again.
    SentOnce { link: Sharded<Link> },
    /// The token was refused. Waits for another one, or until it is known that there will be none.
    Renewing { token: Wait<Replaced>, held: Option<Held<S::Response>>, service: S, spare: Spare<R>, resend: Resend },
    /// There is a token. Waits until the service is ready. `left`: how long the request may still wait for a token, if it needs one more.
    Readying { service: S, request: R, link: Sharded<Link>, after: After<R>, left: Duration, ends: Option<Moment> },
    /// Sent again. `more`: what is needed to send it once more.
    Replayed { link: Sharded<Link>, resend: Resend, more: Option<(S, Spare<R>)> },
    /// Failed before anything was sent.
    Failed(Error<S::Error>),
    /// Between two other states.
    Moving,
}

/// The state after the sending of a request that had to wait.
pub(super) enum After<R> {
    /// Sent for the first time. This is what can be sent again.
    Spare(Spare<R>),
    SentOnce,
    Replayed {
        resend: Resend,
        spare: Option<Spare<R>>,
    },
}

/// A second or later attempt.
#[derive(Clone, Copy)]
pub(super) struct Resend {
    /// It carries a token that was fetched because of its own 401: its response shows whether that helped.
    pub(super) has_its_fetch: bool,
    /// Its last 401 may have caused a fetch.
    causes_fetch: bool,
    /// How many more attempts there may be.
    more: u8,
    /// How long they may wait in all.
    left: Duration,
    ends: Option<Moment>,
    /// An attempt was lost with its connection.
    lost: bool,
    /// The response is returned, whatever it is: this attempt only replaces a 401 that was dropped.
    is_last: bool,
}

impl Resend {
    /// Before the first of them.
    fn first(left: Duration, ends: Option<Moment>) -> Self {
        Self { has_its_fetch: false, causes_fetch: false, more: RESENDS, left, ends, lost: false, is_last: false }
    }
}

/// How often a request is sent again at most. Four times while the token is too new: three times after a wait, and once when another
/// request with it is accepted, or with the previous token. And once with the token that is fetched after that. An attempt that is lost
/// with its connection counts, too.
const RESENDS: u8 = 5;

/// What a state leads to.
pub(super) enum Step<S: Service<R>, R> {
    Sent(S::Future, Generation),
    Over(Result<S::Response, Error<S::Error>>),
}

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is left of the wait for a token, and the layer that waited for it. If each request had a handle of its own, all of them would write
/// the count of handles.
type Acquired = (Result<Duration, TokenError>, Sharded<Link>);

/// What is left of the wait for another token, if there is one.
type Replaced = (Option<(Duration, With)>, Sharded<Link>);

impl<S, R> Cold<S, R>
where
    S: Service<R, Error: Into<BoxError>> + Clone,
    R: HttpRequest,
{
    /// The layer, if something was sent.
    pub(super) fn link(&self) -> Option<&Link> {
        match self {
            Self::Spare { link, .. } | Self::SentOnce { link } | Self::Replayed { link, .. } => Some(link),
            _ => None,
        }
    }

    /// Whether responses other than 401s are looked at, too, for an attempt with this generation.
    pub(super) fn is_told(&self, generation: Generation) -> bool {
        let is_told = |link: &Link| link.judge.is_some() || link.token.is_doubted(generation);
        matches!(self, Self::Replayed { .. }) || self.link().is_some_and(is_told)
    }

    /// Whether the kept request can be sent again, whole and before its deadline.
    pub(super) fn hold(&mut self) -> bool {
        if let (Some(ends), Some(link)) = (self.ends(), self.link())
            && ends <= link.token.time().now()
        {
            return false;
        }
        match self {
            Self::Replayed { resend, .. } if resend.is_last => false,
            Self::Spare { spare, .. } | Self::Replayed { more: Some((_, spare)), .. } => spare.hold(),
            _ => false,
        }
    }

    /// The deadline of a call that can be sent again.
    fn ends(&self) -> Option<Moment> {
        match self {
            Self::Spare { spare, link, ends, .. } => ends.or_else(|| link.deadline(spare.request(), spare.kept_at())),
            Self::Replayed { resend, .. } => resend.ends,
            _ => None,
        }
    }

    /// The response to an attempt is this 401, whose body takes so much room.
    pub(super) fn renew(&mut self, response: S::Response, kib: u16, refused: Generation) {
        let ends = self.ends();
        let (link, service, spare, resend) = match mem::replace(self, Self::Moving) {
            Self::Spare { service, spare, link, .. } => {
                let left = link.max_wait(spare.request(), ends);
                (link, service, spare, Resend::first(left, ends))
            }
            Self::Replayed { link, resend, more: Some((service, spare)) } => (link, service, spare, resend),
            _ => return,
        };
        // The deadline may be nearer than before.
        let left = resend.ends.map_or(resend.left, |ends| resend.left.min(ends.since(link.token.time().now())));
        let causes_fetch = link.token.is_reason_to_fetch(refused);
        // A request that can't wait until the same token is tried again wants another one.
        let pause = FIRST_STEP * (1 << (RESENDS - resend.more));
        let resend = Resend { causes_fetch, more: resend.more - 1, ..resend };
        let held = Held::new(response, kib, &link, !spare.is_whole_for_certain());
        let is_patient = resend.more > 0 && spare.can_be_kept_again() && pause <= left;
        let attempts = if is_patient { Attempts::More } else { Attempts::Last };
        let token = Box::pin(async move { (link.token.replace(refused, left, attempts).await, link) });
        *self = Self::Renewing { token, held, service, spare, resend };
    }

    /// A later attempt failed with this error. Sends it once more if it wasn't processed, or may be repeated (RFC 9110 §9.2.2).
    pub(super) fn send_once_more(&mut self, error: &(dyn std::error::Error + 'static)) -> bool {
        let Self::Replayed { resend: Resend { lost: false, .. }, more: Some((_, spare)), .. } = self else {
            return false;
        };
        let may_be_repeated = || spare.request().method().is_idempotent() && broke_off(error);
        if !(is_unsent(error) || may_be_repeated()) || !spare.hold() {
            return false;
        }
        let Self::Replayed { link, resend, more: Some((service, spare)) } = mem::replace(self, Self::Moving) else {
            return false;
        };
        let Some((request, spare)) = spare.take_over(resend.more > 1) else { return false };
        let resend = Resend { lost: true, more: resend.more - 1, ..resend };
        let (left, ends) = (resend.left, resend.ends);
        *self = Self::Readying { service, request, link, after: After::Replayed { resend, spare }, left, ends };
        true
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<S, R>> {
        loop {
            match mem::replace(self, Self::Moving) {
                Self::Waiting { mut token, service, request, after, ends } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Waiting { token, service, request, after, ends };
                        return Poll::Pending;
                    }
                    Poll::Ready((Err(error), _)) => return Poll::Ready(Step::Over(Err(Error::token(error)))),
                    Poll::Ready((Ok(left), link)) => {
                        *self = Self::Readying { service, request, link, after, left, ends };
                    }
                },
                Self::Renewing { mut token, held, service, spare, resend } => match token.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Renewing { token, held, service, spare, resend };
                        return Poll::Pending;
                    }
                    Poll::Ready((None, _)) if held.is_some() => return Poll::Ready(over(held)),
                    // The 401 was dropped. Ask the API once more, with the current token.
                    Poll::Ready((replaced, link)) => match spare.take_over(resend.more > 0) {
                        // The 401 is dropped, which frees the connection that its body occupies.
                        Some((request, spare)) => {
                            let (left, with) = replaced.unwrap_or((Duration::ZERO, With::TheSame));
                            let has_its_fetch = resend.has_its_fetch || resend.causes_fetch && with == With::Another;
                            let is_last = replaced.is_none();
                            let (resend, ends) = (Resend { has_its_fetch, left, is_last, ..resend }, resend.ends);
                            let after = After::Replayed { resend, spare };
                            *self = Self::Readying { service, request, link, after, left, ends };
                        }
                        None => return Poll::Ready(over(held)),
                    },
                },
                Self::Readying { mut service, mut request, link, after, left, ends } => match service.poll_ready(cx) {
                    Poll::Pending => {
                        *self = Self::Readying { service, request, link, after, left, ends };
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Over(Err(Error::of_inner(error)))),
                    // The header is taken now, when the request is sent: the token may have expired while the service got ready.
                    Poll::Ready(Ok(())) => match link.token.current() {
                        Some((header, generation)) => {
                            if let Some(ends) = ends {
                                grpc_deadline::lower(request.headers_mut(), ends.since(link.token.time().now()));
                            }
                            *self = match after {
                                After::Spare(spare) => Self::Spare { service: service.clone(), spare, link, ends },
                                After::SentOnce => Self::SentOnce { link },
                                After::Replayed { resend, spare } => {
                                    let resend = Resend { left, ..resend };
                                    let more = spare.map(|spare| (service.clone(), spare));
                                    Self::Replayed { link, resend, more }
                                }
                            };
                            request.headers_mut().insert(&AUTHORIZATION, header);
                            return Poll::Ready(Step::Sent(service.call(request), generation));
                        }
                        None => {
                            let (token, service) = (acquire(link, left), service.clone());
                            *self = Self::Waiting { token, service, request, after, ends };
                        }
                    },
                },
                Self::Failed(error) => return Poll::Ready(Step::Over(Err(error))),
                // In these states the response comes from the inner future, which is polled instead.
                Self::Spare { .. } | Self::SentOnce { .. } | Self::Replayed { .. } | Self::Moving => {
                    panic!("`ResponseFuture` polled after it was done")
                }
            }
        }
    }
}

/// The 401 is returned.
fn over<S: Service<R>, R>(held: Option<Held<S::Response>>) -> Step<S, R> {
    match held {
        Some(held) => Step::Over(Ok(held.into_response())),
        None => panic!("a 401 isn't dropped unless its request can be sent again"),
    }
}

/// Waits for a token, at most this long.
pub(super) fn acquire(link: Sharded<Link>, max_wait: Duration) -> Wait<Acquired> {
    Box::pin(async move { (link.token.wait(max_wait).await, link) })
}
