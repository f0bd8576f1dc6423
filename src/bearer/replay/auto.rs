//! The default: sends again what is known to be the same the second time.

use std::{any::Any, convert::Infallible, io};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use super::{ReplayPolicy, Spare, copy_head};
use crate::BoxError;

/// Sends again what is known to be the same the second time: a body that is empty or lies in memory as a whole.
///
/// The usual bodies are recognised by their type, so there is no bound on it: `Empty<Bytes>`, `Full<Bytes>` and `String`; boxed
/// bodies of `http-body-util` when they are empty; of reqwest whatever `reqwest::Request::try_clone` copies. Other bodies
/// are never sent again: at the first 401 that this concerns, a warning names their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl<B: 'static> ReplayPolicy<Request<B>> for Auto {
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let body = copy(request.body())?;
        Some(Spare::new(copy_head(request, body)).again(|request| Self.keep(request)))
    }
}

#[cfg(feature = "reqwest")]
impl ReplayPolicy<reqwest::Request> for Auto {
    fn keep(&self, request: &mut reqwest::Request) -> Option<Spare<reqwest::Request>> {
        request.try_clone().map(|copy| Spare::new(copy).again(|request| Self.keep(request)))
    }
}

/// A copy of a body of one of the known types. The comparisons are of constants: of each type only its own branch is left.
fn copy<B: 'static>(body: &B) -> Option<B> {
    let body: &dyn Any = body;
    if let Some(body) = body.downcast_ref::<Empty<Bytes>>() {
        same(*body)
    } else if let Some(body) = body.downcast_ref::<Full<Bytes>>() {
        same(body.clone())
    } else if let Some(body) = body.downcast_ref::<String>() {
        same(body.clone())
    } else {
        copy_if_empty(body)
    }
}

/// A boxed body hides what it is, but not that there is nothing in it.
fn copy_if_empty<B: 'static>(body: &dyn Any) -> Option<B> {
    fn boxed<E: 'static, B: 'static>(body: &dyn Any) -> Option<B> {
        let empty = || Empty::<Bytes>::new().map_err(|never| -> E { match never {} });
        if let Some(body) = body.downcast_ref::<BoxBody<Bytes, E>>() {
            body.is_end_stream().then(|| same(empty().boxed()))?
        } else if let Some(body) = body.downcast_ref::<UnsyncBoxBody<Bytes, E>>() {
            body.is_end_stream().then(|| same(empty().boxed_unsync()))?
        } else {
            None
        }
    }
    boxed::<Infallible, B>(body).or_else(|| boxed::<BoxError, B>(body)).or_else(|| boxed::<io::Error, B>(body))
}

/// Takes a value of a type that is known to be `B`.
fn same<T: 'static, B: 'static>(value: T) -> Option<B> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps<B: 'static>(body: B) -> bool {
        Auto.keep(&mut Request::new(body)).is_some()
    }

    #[test]
    fn auto_keeps_what_is_known_to_be_the_same_the_second_time() {
        assert!(keeps(Empty::<Bytes>::new()));
        assert!(keeps(Full::new(Bytes::from("text"))));
        assert!(keeps(String::from("text")));
        assert!(keeps(Full::new(Bytes::new()).boxed()));
        assert!(keeps(Empty::<Bytes>::new().map_err(|never| -> BoxError { match never {} }).boxed_unsync()));
        assert!(keeps(Empty::<Bytes>::new().map_err(|never| -> io::Error { match never {} }).boxed()));

        assert!(!keeps(Full::new(Bytes::from("text")).boxed()));
        assert!(!keeps(Empty::<&[u8]>::new()), "a type it doesn't know");
        struct Stream;
        assert!(!keeps(Stream));
    }
}
