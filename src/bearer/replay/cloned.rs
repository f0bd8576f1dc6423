//! Sends a clone of the body.

use http::Request;
use http_body::Body;

use super::{Guard, ReplayPolicy, Spare, copy_head, stamp};
use crate::clock::Stamp;

/// Sends a request again if its body can be cloned and tells its exact length.
///
/// `Clone` of a body may not make a copy. Some bodies share one stream between all clones. Then the second attempt lacks what the first one
/// has sent. So the length of the clone is compared again after the 401. If the clone has become shorter, the 401 is returned. A body that
/// doesn't know its length can't be checked, and isn't kept: [`Buffered`](super::Buffered) is for those. A body that keeps telling a length
/// which it doesn't have can't deceive a server: HTTP sends the length along, and clients and servers fail if the body is shorter.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower_bearer::replay::{Cloned, ReplayPolicy};
///
/// let mut request = Request::new(Full::new(Bytes::from("text")));
/// assert!(Cloned.keep(&mut request).is_some());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

// So that the compiler shows the notes of the trait, and not the bound that isn't met here.
#[diagnostic::do_not_recommend]
impl<B: Body + Clone> ReplayPolicy<Request<B>> for Cloned {
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let length = Length(request.body().size_hint().exact()?);
        let copy = request.body().clone();
        let kept = Kept { length, at: stamp(request.headers()) };
        kept.length
            .is_that_of(&copy)
            .then(|| Spare::guarded(copy_head(request, copy), kept).again(|request| Self.keep(request)))
    }
}

/// The length that a body told when it was cloned.
struct Length(u64);

impl Length {
    fn is_that_of(&self, body: &impl Body) -> bool {
        body.size_hint().exact() == Some(self.0) && (self.0 == 0 || !body.is_end_stream())
    }
}

struct Kept {
    length: Length,
    at: Option<Stamp>,
}

impl<B: Body> Guard<Request<B>> for Kept {
    fn hold(&mut self, spare: &Request<B>) -> bool {
        self.length.is_that_of(spare.body())
    }

    fn take_over(&mut self, spare: &Request<B>) -> bool {
        self.length.is_that_of(spare.body())
    }

    fn is_certain(&self) -> bool {
        false
    }

    fn kept_at(&self) -> Option<&Stamp> {
        self.at.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{Arc, Mutex},
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::{Frame, SizeHint};
    use http_body_util::Full;

    use super::*;

    /// Like octocrab's body: one stream for all clones.
    #[derive(Clone)]
    struct Liar {
        inner: Arc<Mutex<Full<Bytes>>>,
        knows_length: bool,
    }

    impl Liar {
        fn new(knows_length: bool) -> Self {
            Self { inner: Arc::new(Mutex::new(Full::from("text"))), knows_length }
        }
    }

    impl Body for Liar {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Pin::new(&mut *self.inner.lock().unwrap()).poll_frame(cx)
        }

        fn is_end_stream(&self) -> bool {
            self.inner.lock().unwrap().is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            if self.knows_length { self.inner.lock().unwrap().size_hint() } else { SizeHint::default() }
        }
    }

    fn read(body: &mut Liar) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(body).poll_frame(cx).is_ready());
    }

    #[test]
    fn a_clone_that_lies_is_found_out_before_and_during_the_wait_for_a_token() {
        let mut request = Request::new(Liar::new(true));
        let mut spare = Cloned.keep(&mut request).unwrap();
        assert!(spare.hold());
        read(request.body_mut());
        assert!(!spare.hold());
        assert!(spare.take_over(true).is_none());
        assert!(Cloned.keep(&mut Request::new(Liar::new(false))).is_none(), "it couldn't be found out");
    }

    #[test]
    fn an_honest_one_is_kept() {
        let mut request = Request::new(Full::<Bytes>::from("text"));
        let mut spare = Cloned.keep(&mut request).unwrap();
        drop(request);
        assert!(spare.hold());
        assert_eq!(spare.take_over(true).unwrap().0.body().size_hint().exact(), Some(4));
        assert!(Cloned.keep(&mut Request::new(Full::<Bytes>::default())).unwrap().hold());
    }
}
