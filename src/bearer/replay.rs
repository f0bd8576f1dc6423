//! Which requests are kept so that they can be sent again with another token.
//!
//! After a 401 the token is renewed in any case. Whether the request itself is sent again is decided by a policy, before it is
//! sent the first time, because afterwards its body is gone:
//!
//! | policy | keeps | costs a request that is kept |
//! |---|---|---|
//! | [`Auto`] (default) | requests whose body is empty or lies in memory as a whole | a copy of the head and one allocation |
//! | [`Never`] | nothing | nothing |

use std::{any::Any, convert::Infallible, fmt, io};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use crate::BoxError;

/// Decides which requests can be sent again. Implemented by the policies of this module.
pub trait ReplayPolicy<R> {
    /// A second copy of a request that is about to be sent, without the token; `None` if there can't be one.
    fn keep(&self, request: &mut R) -> Option<Spare<R>>;

    /// Whether somebody who chose this policy expects requests to be sent again, and should be told if one isn't.
    fn replays(&self) -> bool {
        true
    }
}

/// A request kept to be sent again. `Debug` doesn't show it: there are secrets of others in requests.
pub struct Spare<R>(R);

impl<R> Spare<R> {
    /// Keeps this request. It must be the same as the one that is sent, body included.
    pub fn new(request: R) -> Self {
        Self(request)
    }

    pub(crate) fn into_request(self) -> R {
        self.0
    }
}

impl<R> fmt::Debug for Spare<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}

/// Sends nothing again: a 401 is handed on, the token is renewed for those who come later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl<R> ReplayPolicy<R> for Never {
    fn keep(&self, _: &mut R) -> Option<Spare<R>> {
        None
    }

    fn replays(&self) -> bool {
        false
    }
}

/// Sends again what is known to be the same the second time: a body that is empty or lies in memory as a whole.
///
/// The usual bodies are recognised by their type, so there is no bound on it: `Empty<Bytes>`, `Full<Bytes>` and `String`; boxed
/// bodies of `http-body-util` when they are empty; of reqwest whatever `reqwest::Request::try_clone` copies. Other bodies
/// are never sent again: at the first 401 that this concerns, a warning names their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl<B: 'static> ReplayPolicy<Request<B>> for Auto {
    fn keep(&self, request: &mut Request<B>) -> Option<Spare<Request<B>>> {
        let mut spare = Request::new(copy(request.body())?);
        *spare.method_mut() = request.method().clone();
        *spare.uri_mut() = request.uri().clone();
        *spare.version_mut() = request.version();
        *spare.headers_mut() = request.headers().clone();
        *spare.extensions_mut() = request.extensions().clone();
        Some(Spare(spare))
    }
}

#[cfg(feature = "reqwest")]
impl ReplayPolicy<reqwest::Request> for Auto {
    fn keep(&self, request: &mut reqwest::Request) -> Option<Spare<reqwest::Request>> {
        request.try_clone().map(Spare)
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

    #[test]
    fn the_copy_is_whole() {
        let mut request = Request::post("https://api.test/x")
            .header("x-id", "1")
            .extension("extension")
            .version(http::Version::HTTP_2)
            .body(String::from("text"))
            .unwrap();
        let spare = Auto.keep(&mut request).unwrap().into_request();
        assert_eq!(spare.method(), request.method());
        assert_eq!(spare.uri(), request.uri());
        assert_eq!(spare.version(), request.version());
        assert_eq!(spare.headers(), request.headers());
        assert_eq!(spare.extensions().get::<&str>(), Some(&"extension"));
        assert_eq!(spare.body(), request.body());
    }

    #[test]
    fn never_keeps_nothing() {
        assert!(Never.keep(&mut Request::new(String::new())).is_none());
        assert!(!ReplayPolicy::<Request<String>>::replays(&Never));
    }
}
