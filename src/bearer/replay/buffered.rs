//! Sends requests again whose body is a stream: the body is copied while it is sent.

use std::{fmt, mem, sync::Arc};

use bytes::Bytes;
use http::Request;
use http_body::Body;

#[cfg(feature = "reqwest")]
use super::Auto;
use super::{Guard, ReplayPolicy, Spare, Tee, copy_head, stamp, tee::Shared};
use crate::{BoxError, clock::Stamp};

/// Sends any request again if no more of its body than the limit had been sent when the 401 came.
///
/// The body is copied while the first attempt sends it. A 401 stops the first attempt. The second attempt sends the copy, and then the rest
/// of the body. So a long upload that is refused at its beginning is sent again whole, although the whole is longer than the limit. Once
/// more than the limit has been sent, there is no copy, and a 401 is returned. The copy is also dropped when a response has come that isn't
/// a 401, though the body may go on (gRPC streams).
///
/// The policy is made for one body type. Its second parameter is a function that makes this type from a [`Tee`]. So this crate needs no
/// feature for it, and the type of the wrapped service stays as it is.
///
/// ```
/// use axum::body::Body;
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay::Buffered};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?)
///     .replay(Buffered::new(64 * 1024, Body::new)); // or tonic::body::Body::new, reqwest::Body::wrap, BodyExt::boxed_unsync
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// The error of a `Tee` is a [`BoxError`]. If the body type has another error, the function converts it:
///
/// ```
/// use std::io;
///
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
/// use tower_bearer::replay::Buffered;
///
/// type Upload = UnsyncBoxBody<Bytes, io::Error>;
/// let policy = Buffered::<Upload>::new(64 * 1024, |tee| tee.map_err(io::Error::other).boxed_unsync());
/// # let _ = policy;
/// ```
pub struct Buffered<B> {
    limit: usize,
    wrap: fn(Tee<B>) -> B,
}

impl<B> Buffered<B> {
    /// Keeps up to this many bytes of each request under way. `wrap` makes the body type from a [`Tee`]. See the examples of [`Buffered`].
    pub fn new(limit: usize, wrap: fn(Tee<B>) -> B) -> Self {
        Self { limit, wrap }
    }
}

impl<B> Buffered<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Replaces the body by the first sender. Returns the second sender, and the handle that decides between them.
    fn split(&self, body: &mut B, kept_at: Option<Stamp>) -> (B, Handle<B>) {
        let (first, second, shared) = Tee::pair(self.limit);
        // Boxed before they have a body: some ways to box drop a body that says it is empty.
        let (first, second) = ((self.wrap)(first), (self.wrap)(second));
        shared.begin(mem::replace(body, first));
        (second, Handle { shared, policy: *self, kept_at })
    }
}

// So that the compiler shows the notes of the trait, and not the bound that isn't met here.
#[diagnostic::do_not_recommend]
impl<B> ReplayPolicy<Request<B>> for Buffered<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let kept_at = stamp(request.headers());
        let (body, handle) = self.split(request.body_mut(), kept_at);
        Some(Spare::guarded(copy_head(request, body), handle))
    }
}

#[cfg(feature = "reqwest")]
#[diagnostic::do_not_recommend]
impl ReplayPolicy<reqwest::Request> for Buffered<reqwest::Body> {
    fn keep(&self, request: &mut reqwest::Request) -> Option<Spare<reqwest::Request>> {
        // In memory, or no body at all.
        if let Some(copy) = request.try_clone() {
            return Some(Spare::new(copy).again(|request| Auto.keep(request)));
        }
        let mut body = request.body_mut().take()?;
        let (second, handle) = self.split(&mut body, stamp(request.headers()));
        // Without its body, the request can be cloned.
        let copy = request.try_clone();
        *request.body_mut() = Some(body);
        let mut copy = copy?;
        *copy.body_mut() = Some(second);
        Some(Spare::guarded(copy, handle))
    }
}

struct Handle<B> {
    shared: Arc<Shared<B>>,
    policy: Buffered<B>,
    kept_at: Option<Stamp>,
}

impl<R, B: Send> Guard<R> for Handle<B>
where
    Buffered<B>: ReplayPolicy<R>,
{
    fn hold(&mut self, _: &R) -> bool {
        self.shared.hold()
    }

    fn take_over(&mut self, _: &R) -> bool {
        self.shared.hand_over()
    }

    fn kept_at(&self) -> Option<&Stamp> {
        self.kept_at.as_ref()
    }

    /// The next attempt takes over from the second sender, which still has the copy.
    fn again(&self, request: &mut R) -> Option<Spare<R>> {
        self.policy.keep(request)
    }
}

impl<B> Clone for Buffered<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Buffered<B> {}

impl<B> fmt::Debug for Buffered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").field("limit", &self.limit).finish_non_exhaustive()
    }
}
