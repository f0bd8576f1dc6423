//! The default: sends again what is known to be the same the second time.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{Empty, Full};

use super::{ReplayPolicy, Spare, boxed, copy_head};

/// Sends again what is known to be the same the second time: a body that is empty or lies in memory as a whole.
///
/// The usual bodies are recognised by their type: `Empty`, `Full<Bytes>` and `String`; boxed bodies of `http-body-util` when they are empty, or
/// when they say exactly how long they are and their first frame is all of it (which is asked for before the request is sent); of reqwest whatever
/// `reqwest::Request::try_clone` copies. Other bodies are never sent again: at the first 401 that this concerns, a warning names their
/// type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

// So that the compiler shows the notes of the trait instead of what is missing here.
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

/// A copy of a body of one of the known types. The comparisons are of constants: of each type only its own branch is left.
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

/// Takes a value of a type that is known to be `B`.
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
