//! Which requests are kept so that they can be sent again after a 401. See the example of
//! [`BearerAuthLayer::replay`](crate::BearerAuthLayer::replay).
//!
//! After a 401 the token is renewed, with all policies but [`Off`]. A policy decides whether the request itself can be sent again. It
//! decides before the request is first sent, because afterwards the body is gone:
//!
//! | Policy | keeps | costs for a request that is kept |
//! |---|---|---|
//! | [`Auto`] (default) | requests whose body is empty or in memory as a whole | a copy of the head and one allocation (three for a boxed body that isn't empty) |
//! | [`Never`] | nothing | nothing |
//! | [`Off`] | nothing, and no response is looked at | nothing |
//! | [`WhenEmpty`] | requests with an empty body, of a type that `Auto` doesn't know | as `Auto`, and one allocation |
//! | [`Cloned`] | requests whose body can be cloned and knows its length | as `Auto`, and the clone of the body |
//! | [`Buffered`] | all requests, up to a limit: a body is copied while it is sent | as `Auto`, five allocations and a copy up to the limit |
//!
//! Which policy fits which stack:
//!
//! | Stack | Policy |
//! |---|---|
//! | hyper-util with `Full`, `Empty` or `String`; reqwest without streams | `Auto` |
//! | uploads, reqwest with streams | `Buffered::new(limit, reqwest::Body::wrap)` and the like |
//! | tonic: no request is ever empty | `BearerAuthLayer::for_tonic` chooses `Buffered::new(64 * 1024, tonic::body::Body::new)` |
//! | a proxy with axum's body | `Buffered::new(64 * 1024, axum::body::Body::new)`, or `WhenEmpty::new(axum::body::Body::empty)` |
//!
//! A request is sent again once with another token. Before that it is sent again up to four times while the token is so new that the API
//! may not know it yet. If a policy of your own makes its [`Spare`] by [`Spare::new`], the request is sent again once, with another token.
//!
//! **No body is ever sent again in part.** A request that can't be sent again whole isn't sent again: its 401 is returned. If a second
//! attempt takes over a body that the first one is still sending, the body of the first attempt ends with an error. It never just ends,
//! because a server could take that for the end of the body.

use std::fmt;

use http::{HeaderMap, Request};

use super::grpc_deadline;
use crate::clock::Stamp;

mod auto;
mod boxed;
mod buffered;
mod cloned;
mod never;
mod off;
mod tee;
mod when_empty;

pub use auto::Auto;
pub use buffered::Buffered;
pub use cloned::Cloned;
pub use never::Never;
pub use off::Off;
pub use tee::Tee;
pub use when_empty::WhenEmpty;

/// Decides which requests can be sent again. The policies of this module implement it, and so can your own:
///
/// ```
/// use http::Request;
/// use http_body::Body;
/// use tower_bearer::replay::{Auto, ReplayPolicy, Spare};
///
/// /// Sends only requests again that change nothing on the server.
/// struct OnlySafeMethods;
///
/// impl<B> ReplayPolicy<Request<B>> for OnlySafeMethods
/// where
///     B: Body<Data: 'static, Error: Send + 'static> + 'static,
/// {
///     fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
///         request.method().is_safe().then(|| Auto.keep(request)).flatten()
///     }
/// }
/// # assert!(OnlySafeMethods.keep(&mut Request::new(String::new())).is_some());
/// # assert!(OnlySafeMethods.keep(&mut Request::post("/").body(String::new()).unwrap()).is_none());
/// ```
#[diagnostic::on_unimplemented(
    message = "the replay policy `{Self}` can't keep a `{R}`",
    label = "this policy doesn't fit these requests",
    note = "`Auto`, the default, wants a body that is `http_body::Body + 'static`: `Full::from(vec)` for a `Vec<u8>`, `Empty::new()` for `()`",
    note = "`Cloned` wants a body that is `Body + Clone`",
    note = "`Buffered` and `WhenEmpty` are made for the one body type that their function returns. With `Buffered` its data is `Bytes`; \
            where its error isn't `BoxError`, the function converts it: `|tee| tee.map_err(io::Error::other).boxed_unsync()`",
    note = "for a tonic channel `BearerAuthLayer::for_tonic()` chooses one; `Never` and `Off` fit all requests"
)]
pub trait ReplayPolicy<R> {
    /// Makes a copy of a request that is about to be sent, without the token; `None` if there can't be one. See the example of
    /// [`ReplayPolicy`].
    fn keep(&self, request: &mut R) -> Option<Spare<R>>;

    /// Whether the user of this policy expects requests to be sent again, and should be warned if one isn't. Default: yes. See the example
    /// of [`ReplayPolicy`].
    fn replays(&self) -> bool {
        true
    }

    /// Whether responses are looked at. If not, a 401 is returned like any other response and renews no token. Default: yes. See the
    /// example of [`ReplayPolicy`].
    fn recovers(&self) -> bool {
        true
    }
}

/// A copy of a request, kept to be sent again. `Debug` doesn't show the request, because it may contain secrets. See the example of
/// [`ReplayPolicy`].
pub struct Spare<R> {
    request: R,
    guard: Option<Box<dyn Guard<R>>>,
    /// How to keep it once more when it is sent. `None` if only the guard knows, or if it can't be kept again.
    again: Option<Keep<R>>,
}

type Keep<R> = fn(&mut R) -> Option<Spare<R>>;

impl<R> Spare<R> {
    /// Keeps this request. It must be the same as the one that is sent, body included.
    ///
    /// ```
    /// use http::Request;
    /// use tower_bearer::replay::{ReplayPolicy, Spare};
    ///
    /// /// Sends requests without extensions again.
    /// struct Plain;
    ///
    /// impl<B: Clone> ReplayPolicy<Request<B>> for Plain {
    ///     fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
    ///         request.extensions().is_empty().then(|| Spare::new(request.clone()))
    ///     }
    /// }
    /// # assert!(Plain.keep(&mut Request::new("text")).is_some());
    /// ```
    pub fn new(request: R) -> Self {
        Self { request, guard: None, again: None }
    }

    fn guarded(request: R, guard: impl Guard<R> + 'static) -> Self {
        Self { request, guard: Some(Box::new(guard)), again: None }
    }

    /// Lets it be kept once more each time it is sent.
    fn again(mut self, keep: Keep<R>) -> Self {
        self.again = Some(keep);
        self
    }

    pub(crate) fn request(&self) -> &R {
        &self.request
    }

    /// The attempt under way was refused. Whether this copy can still be sent whole. If so, that attempt gets no more of the body until the
    /// recovery has ended, so that this stays true.
    pub(crate) fn hold(&mut self) -> bool {
        self.guard.as_mut().is_none_or(|guard| guard.hold(&self.request))
    }

    /// Whether it certainly stays whole once it is [held](Self::hold).
    pub(crate) fn is_whole_for_certain(&self) -> bool {
        self.guard.as_ref().is_none_or(|guard| guard.is_certain())
    }

    /// When it was kept, if the call has a deadline.
    pub(crate) fn kept_at(&self) -> Option<&Stamp> {
        self.guard.as_ref()?.kept_at()
    }

    /// Whether it can be kept once more when it is sent.
    pub(crate) fn can_be_kept_again(&self) -> bool {
        self.again.is_some() || self.guard.is_some()
    }

    /// The request, to be sent now, if it is still whole. (If this is dropped instead, the attempt under way goes on.) `once_more`: with
    /// another copy, if there can be one.
    pub(crate) fn take_over(self, once_more: bool) -> Option<(R, Option<Self>)> {
        let Self { mut request, mut guard, again } = self;
        if guard.as_mut().is_some_and(|guard| !guard.take_over(&request)) {
            return None;
        }
        let spare = match (once_more, again, guard) {
            (true, Some(keep), _) => keep(&mut request),
            (true, None, Some(guard)) => guard.again(&mut request),
            _ => None,
        };
        Some((request, spare))
    }
}

impl<R> fmt::Debug for Spare<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}

/// Knows whether a kept request is still whole.
trait Guard<R>: Send + Sync {
    fn hold(&mut self, _: &R) -> bool {
        true
    }

    fn take_over(&mut self, _: &R) -> bool {
        true
    }

    /// Whether `take_over` certainly works after `hold` did.
    fn is_certain(&self) -> bool {
        true
    }

    /// When it was kept, if the call has a deadline.
    fn kept_at(&self) -> Option<&Stamp> {
        None
    }

    /// Keeps a request once more after it has taken over.
    fn again(&self, _: &mut R) -> Option<Spare<R>> {
        None
    }
}

/// The current moment, for a call with a deadline: all of its attempts share that deadline.
fn stamp(headers: &HeaderMap) -> Option<Stamp> {
    grpc_deadline::timeout(headers).map(|_| Stamp::now())
}

/// The head of a request with another body.
fn copy_head<B, C>(request: &Request<B>, body: C) -> Request<C> {
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_whole() {
        let mut request = Request::post("https://api.test/x")
            .header("x-id", "1")
            .extension("extension")
            .version(http::Version::HTTP_2)
            .body(String::from("text"))
            .unwrap();
        let (spare, more) = Auto.keep(&mut request).unwrap().take_over(true).unwrap();
        assert_eq!(spare.method(), request.method());
        assert_eq!(spare.uri(), request.uri());
        assert_eq!(spare.version(), request.version());
        assert_eq!(spare.headers(), request.headers());
        assert_eq!(spare.extensions().get::<&str>(), Some(&"extension"));
        assert_eq!(spare.body(), request.body());
        assert_eq!(more.unwrap().take_over(false).unwrap().0.body(), request.body());
    }
}
