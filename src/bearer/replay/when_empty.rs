//! Sends requests again whose body is empty, whatever its type.

use std::fmt;

use http::Request;
use http_body::Body;

use super::{Guard, ReplayPolicy, Spare, copy_head};

/// Sends requests again whose body is empty: for body types that [`Auto`](super::Auto) doesn't know.
///
/// A body is empty if it says so by [`Body::is_end_stream`]. So a body with content is never replaced by an empty one. A length of zero
/// isn't enough, because trailers may follow.
///
/// ```
/// use axum::body::Body;
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay::WhenEmpty};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?)
///     .replay(WhenEmpty::new(Body::empty));
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
pub struct WhenEmpty<B> {
    make: fn() -> B,
}

impl<B> WhenEmpty<B> {
    /// A policy with this function, which makes an empty body. See the example of [`WhenEmpty`].
    pub fn new(make: fn() -> B) -> Self {
        Self { make }
    }
}

// So that the compiler shows the notes of the trait, and not the bound that isn't met here.
#[diagnostic::do_not_recommend]
impl<B: Body + 'static> ReplayPolicy<Request<B>> for WhenEmpty<B> {
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let is_empty = request.body().is_end_stream();
        is_empty.then(|| Spare::guarded(copy_head(request, (self.make)()), *self))
    }
}

impl<B: Body + 'static> Guard<Request<B>> for WhenEmpty<B> {
    fn again(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        self.keep(request)
    }
}

impl<B> Clone for WhenEmpty<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for WhenEmpty<B> {}

impl<B> fmt::Debug for WhenEmpty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhenEmpty").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};

    use super::*;

    #[test]
    fn only_what_says_that_it_is_empty() {
        type Boxed = BoxBody<Bytes, Infallible>;
        let policy = WhenEmpty::<Boxed>::new(|| Empty::new().boxed());
        let keeps = |body: Boxed| policy.keep(&mut Request::new(body)).is_some();
        assert!(keeps(Empty::new().boxed()));
        assert!(keeps(Full::default().boxed()));
        assert!(!keeps(Full::from("text").boxed()));
        let trailers = async { Some(Ok(http::HeaderMap::new())) };
        let only_trailers = Empty::new().with_trailers(Box::pin(trailers)).boxed();
        assert_eq!(only_trailers.size_hint().exact(), Some(0));
        assert!(!keeps(only_trailers), "they would be lost");
    }
}
