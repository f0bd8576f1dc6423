//! What an HTTP client's error says about its request: whether it was sent at all, and whether the connection broke off over it. Pure.

use std::{error, fmt, io, iter};

use crate::BoxError;

/// Says that a request was never sent, for HTTP services of your own. With it in the chain of an error's sources, a refresh token isn't taken
/// for spent, and an attempt that follows a 401 is repeated, once and where the request can be sent again.
///
/// ```
/// use std::io;
/// use tower_bearer::NotSent;
///
/// /// What a service returns as its error when it found no connection in its pool.
/// fn pool_is_empty() -> NotSent {
///     NotSent::because(io::Error::other("the pool is empty"))
/// }
/// assert_eq!(pool_is_empty().to_string(), "the request was not sent: the pool is empty");
/// ```
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// What kept it from being sent.
    pub fn because(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request was not sent: {}", self.0)
    }
}

impl error::Error for NotSent {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        // The cause's own text is part of ours, so the chain goes on behind it.
        self.0.source()
    }
}

/// Whether there never was a connection to send it on.
pub(crate) fn is_unsent(error: &(dyn error::Error + 'static)) -> bool {
    any(error, |error| {
        #[cfg(feature = "reqwest")]
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        #[cfg(feature = "hyper-util")]
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        error.is::<NotSent>() || error.downcast_ref().is_some_and(refused)
    })
}

/// Whether the connection ended before anything of an answer came: the server may have closed it before the request arrived.
pub(crate) fn broke_off(error: &(dyn error::Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    any(error, |error| {
        #[cfg(feature = "hyper-util")]
        if error.downcast_ref().is_some_and(broke_off_by_hyper) {
            return true;
        }
        let is_over =
            |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
        error.downcast_ref().is_some_and(is_over)
    })
}

/// hyper knows it by itself, or hands on what reading or writing failed with, of whatever kind: a connection that ends within an HTTP/2 frame is
/// an error of the kind "other". (What a request's own body fails with is the user's.)
#[cfg(feature = "hyper-util")]
fn broke_off_by_hyper(error: &hyper::Error) -> bool {
    let is_over = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    is_over || (!error.is_user() && error::Error::source(error).is_some_and(|cause| cause.is::<io::Error>()))
}

/// Whether this holds for the error or anything behind it.
fn any(error: &(dyn error::Error + 'static), holds: impl Fn(&(dyn error::Error + 'static)) -> bool + Copy) -> bool {
    iter::successors(Some(error), |error| error.source()).any(|error| {
        // What is inside an I/O error isn't its source.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        holds(error) || inside.is_some_and(|inside| any(inside, holds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_errors_say() {
        let of = |kind: io::ErrorKind| io::Error::from(kind);
        for (error, unsent, broken) in [
            (of(io::ErrorKind::ConnectionRefused), true, false),
            (of(io::ErrorKind::ConnectionReset), false, true),
            (of(io::ErrorKind::BrokenPipe), false, true),
            (of(io::ErrorKind::TimedOut), false, false),
            (io::Error::other(NotSent::because("full")), true, false),
            (io::Error::other(of(io::ErrorKind::ConnectionReset)), false, true),
            (io::Error::other("reset"), false, false),
        ] {
            assert_eq!((is_unsent(&error), broke_off(&error)), (unsent, broken), "{error:?}");
        }
    }
}
