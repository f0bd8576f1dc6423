//! The default: sends requests again whose body is empty or in memory.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{Empty, Full};

use super::{ReplayPolicy, Spare, boxed, copy_head};

/// Sends a request again if its body is known to be the same the second time: it is empty, or in memory as a whole.
///
/// The usual bodies are recognised by their type:
///
/// - `Empty`, `Full<Bytes>` and `String`;
/// - the boxed bodies of `http-body-util`, if they are empty, or if they tell their exact length and their first frame is all of it (this
///   frame is read before the request is sent);
/// - bodies of reqwest that `reqwest::Request::try_clone` copies.
///
/// Requests with other bodies are never sent again. At the first 401 for one of them, a warning names the type.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower_bearer::replay::{Auto, ReplayPolicy};
///
/// let mut request = Request::new(Full::new(Bytes::from("text")));
/// assert!(Auto.keep(&mut request).is_some());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

// So that the compiler shows the notes of the trait, and not the bound that isn't met here.
#[diagnostic::do_not_recommend]
impl<B> ReplayPolicy<Request<B>> for Auto
where
    B: Body<Data: 'static, Error: Send + 'static> + 'static,
{
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let body = copy(request.body_mut())?;
        Some(Spare::new(copy_head(request, body)).again(|request| Self.keep(request)))
    }
}

#[cfg(feature = "reqwest")]
#[diagnostic::do_not_recommend]
impl ReplayPolicy<reqwest::Request> for Auto {
    fn keep(&self, request: &mut reqwest::Request) -> Option<Spare<reqwest::Request>> {
        request.try_clone().map(|copy| Spare::new(copy).again(|request| Self.keep(request)))
    }
}

/// A copy of a body of one of the known types. The comparisons are of constants: for each type only its own branch is left.
fn copy<B>(body: &mut B) -> Option<B>
where
    B: Body<Data: 'static, Error: Send + 'static> + 'static,
{
    let known: &mut dyn Any = body;
    if let Some(body) = known.downcast_ref::<Empty<B::Data>>() {
        same(*body)
    } else if let Some(body) = known.downcast_ref::<Full<Bytes>>() {
        same(body.clone())
    } else if let Some(body) = known.downcast_ref::<String>() {
        same(body.clone())
    } else {
        boxed::copy(body)
    }
}

/// Converts a value whose type is known to be `B`.
pub(super) fn same<T: 'static, B: 'static>(value: T) -> Option<B> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body::Frame;

    use super::*;

    fn keeps<B>(body: B) -> bool
    where
        B: Body<Data: 'static, Error: Send + 'static> + 'static,
    {
        Auto.keep(&mut Request::new(body)).is_some()
    }

    #[test]
    fn auto_keeps_what_is_known_to_be_the_same_the_second_time() {
        assert!(keeps(Empty::<Bytes>::new()));
        assert!(keeps(Empty::<&[u8]>::new()));
        assert!(keeps(Full::new(Bytes::from("text"))));
        assert!(keeps(String::from("text")));
        struct Stream;
        impl Body for Stream {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Ready(None)
            }
        }
        assert!(!keeps(Stream));
    }
}
