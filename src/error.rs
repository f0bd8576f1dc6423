//! Errors, each with a `kind()` and a promise for each kind.
//!
//! [`FetchError`] is what a source says when it has no token: above all, what to do next. [`TokenError`] is what that means for
//! somebody who waits. [`Error`] is the error of a wrapped service: its own, or one of ours. None of them holds a secret.
//!
//! The text of each contains its cause, so `source()` goes on behind that: nothing is shown twice, neither by `{}` nor by anyhow's `{:#}`.

use std::{error, fmt, marker::PhantomData, sync::Arc};

mod fetch;
mod unsent;

pub use fetch::{FetchError, FetchErrorKind};
pub use unsent::NotSent;
pub(crate) use unsent::{broke_off, is_unsent};

/// Any error, as tower boxes them.
pub type BoxError = Box<dyn error::Error + Send + Sync>;

/// What went wrong, of an [`Error`] or a [`TokenError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The wrapped service failed, the token has nothing to do with it. [`Error::inner`] is its error.
    Inner,
    /// The request was addressed to an origin that the layer was not made for. Nothing was sent. It will fail again: send it
    /// through another client, or add the origin to the layer.
    ForeignOrigin,
    /// No valid token came within the time that a request may wait. Nothing was sent, or the API refused what was; trying again later is
    /// right.
    Timeout,
    /// There is no valid token and the next attempt to get one lies beyond the time that a request may wait, so it didn't wait.
    /// Nothing was sent, or the API refused what was; trying again later is right.
    Unavailable,
    /// There is no valid token any more, and there will be none until somebody does something: the credentials were rejected, or the
    /// store can't be used. The text says which.
    Rejected,
    /// The user must authorize again and there is no valid token any more.
    ReauthorizationRequired,
    /// The token was shut down, or the task that renews it ended with its runtime, and there is no valid token any more.
    Stopped,
}

impl ErrorKind {
    /// Whether the same call can succeed later without any human action. Unknown (`false`) for [`ErrorKind::Inner`].
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Inner => "the request failed",
            Self::ForeignOrigin => "the request goes to an origin this layer sends no token to",
            Self::Timeout => "no valid token came in time",
            Self::Unavailable => {
                "there is no valid token now, and the next attempt to get one is too far off to wait for"
            }
            Self::Rejected => "there is no valid token: the credentials were rejected",
            Self::ReauthorizationRequired => "there is no valid token: the user must authorize again",
            Self::Stopped => "there is no valid token: it was shut down, or the runtime that renewed it is gone",
        }
    }
}

/// Why there is no valid token for somebody who waits, or no other one for somebody who asked for it. Cheap to clone: all who wait get the same.
///
/// ```
/// use tower_bearer::{ErrorKind, FetchError, LiveToken, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let token = LiveToken::spawn(source_fn(async |_| Err(FetchError::rejected("unknown client"))));
/// let error = token.ready().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Rejected);
/// assert!(error.to_string().contains("unknown client"));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenError {
    kind: ErrorKind,
    /// What the token was called.
    token: Option<Arc<str>>,
    cause: Option<FetchError>,
    /// There is a valid token, and another one was asked for.
    keeps_token: bool,
}

impl TokenError {
    pub(crate) fn new(kind: ErrorKind, cause: Option<FetchError>) -> Self {
        Self { kind, token: None, cause, keeps_token: false }
    }

    /// The same, of the token with this name.
    pub(crate) fn of(self, token: Option<Arc<str>>) -> Self {
        Self { token, ..self }
    }

    /// The same, for somebody who wanted another token than the one in use. `is_usable`: that one is valid.
    pub(crate) fn of_refresh(self, is_usable: bool) -> Self {
        Self { keeps_token: is_usable, ..self }
    }

    /// What went wrong. Never [`ErrorKind::Inner`] or [`ErrorKind::ForeignOrigin`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether waiting heals it, as [`ErrorKind::is_transient`] says.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }

    /// The last failure of the source, if it failed.
    #[must_use]
    pub fn cause(&self) -> Option<&FetchError> {
        self.cause.as_ref()
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(token) = &self.token {
            write!(f, "token `{token}`: ")?;
        }
        // Not the failure's own text, which says once more what the kind says.
        if self.keeps_token {
            f.write_str(KEPT)?;
            return match (self.kind, &self.cause) {
                (ErrorKind::ReauthorizationRequired, Some(cause)) => {
                    write!(f, ": the user must authorize again: {}", cause.cause())
                }
                (ErrorKind::Rejected, Some(cause)) if !cause.spares_credentials() => {
                    write!(f, ": the credentials were rejected: {}", cause.cause())
                }
                (ErrorKind::Stopped, None) => f.write_str(": it was shut down"),
                (ErrorKind::Stopped, Some(cause)) => {
                    write!(f, ": it was shut down; the last attempt failed: {}", cause.cause())
                }
                (_, Some(cause)) => write!(f, ": {}", cause.cause()),
                (_, None) => Ok(()),
            };
        }
        let Some(cause) = &self.cause else { return f.write_str(self.kind.text()) };
        match self.kind {
            ErrorKind::Rejected if cause.spares_credentials() => {
                write!(f, "there is no valid token: {}", cause.cause())
            }
            ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Stopped => {
                write!(f, "{}; the last attempt failed: {}", self.kind.text(), cause.cause())
            }
            kind => write!(f, "{}: {}", kind.text(), cause.cause()),
        }
    }
}

/// What `LiveToken::refresh` says while there is a valid token.
const KEPT: &str = "no other token came, and the one in use stays";

impl error::Error for TokenError {
    /// What is behind [`cause`](Self::cause), whose text is part of this one's.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.as_ref().and_then(error::Error::source)
    }
}

/// The error of a service with tokens, [`BearerAuth`](crate::BearerAuth): the wrapped service's own error `E`, or ours.
///
/// `E` may be anything that boxes ([`BoxError`] included), so the layer fits below and above every other.
pub struct Error<E> {
    repr: Repr,
    inner: PhantomData<fn() -> E>,
}

enum Repr {
    Inner(BoxError),
    Token(TokenError),
    ForeignOrigin(String),
}

impl<E> Error<E> {
    pub(crate) fn of_inner(error: E) -> Self
    where
        E: Into<BoxError>,
    {
        Self::of_boxed(error.into())
    }

    /// The inner error, boxed.
    pub(crate) fn of_boxed(error: BoxError) -> Self {
        Self::from(Repr::Inner(error))
    }

    pub(crate) fn token(error: TokenError) -> Self {
        Self::from(Repr::Token(error))
    }

    /// `origin` without path, query and user info: those may hold secrets.
    pub(crate) fn foreign_origin(origin: String) -> Self {
        Self::from(Repr::ForeignOrigin(origin))
    }

    fn from(repr: Repr) -> Self {
        Self { repr, inner: PhantomData }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.repr {
            Repr::Inner(_) => ErrorKind::Inner,
            Repr::Token(error) => error.kind(),
            Repr::ForeignOrigin(_) => ErrorKind::ForeignOrigin,
        }
    }

    /// Whether waiting heals it, as [`ErrorKind::is_transient`] says: never known of the wrapped service's own errors.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind().is_transient()
    }

    /// The token's error, if it is one.
    #[must_use]
    pub fn as_token(&self) -> Option<&TokenError> {
        match &self.repr {
            Repr::Token(error) => Some(error),
            _ => None,
        }
    }

    /// The wrapped service's error, if it is one.
    ///
    /// ```
    /// use std::io;
    ///
    /// fn is_reset(error: &tower_bearer::Error<io::Error>) -> bool {
    ///     let inner = error.inner().and_then(|inner| inner.downcast_ref::<io::Error>());
    ///     inner.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    /// }
    /// ```
    #[must_use]
    pub fn inner(&self) -> Option<&(dyn error::Error + Send + Sync + 'static)> {
        match &self.repr {
            Repr::Inner(error) => Some(&**error),
            _ => None,
        }
    }

    /// The wrapped service's error, boxed.
    ///
    /// # Errors
    /// This error itself, if it is one of ours.
    pub fn into_inner_boxed(self) -> Result<BoxError, Self> {
        match self.repr {
            Repr::Inner(error) => Ok(error),
            repr => Err(Self::from(repr)),
        }
    }

    /// The wrapped service's error, as it was.
    ///
    /// # Errors
    /// This error itself, if it is one of ours.
    pub fn into_inner(self) -> Result<E, Self>
    where
        E: error::Error + Send + Sync + 'static,
    {
        match self.repr {
            Repr::Inner(error) => error.downcast().map(|error| *error).map_err(|error| Self::from(Repr::Inner(error))),
            repr => Err(Self::from(repr)),
        }
    }
}

impl<E> fmt::Debug for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Inner(error) => f.debug_tuple("Inner").field(error).finish(),
            Repr::Token(error) => error.fmt(f),
            Repr::ForeignOrigin(origin) => f.debug_tuple("ForeignOrigin").field(origin).finish(),
        }
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Inner(error) => write!(f, "{}: {error}", ErrorKind::Inner.text()),
            Repr::Token(error) => error.fmt(f),
            Repr::ForeignOrigin(origin) => write!(f, "{}: {origin}", ErrorKind::ForeignOrigin.text()),
        }
    }
}

impl<E> error::Error for Error<E> {
    /// What is behind [`inner`](Self::inner), or behind the cause of a [`TokenError`]: their texts are part of this one's.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.repr {
            Repr::Inner(error) => error.source(),
            Repr::Token(error) => error.source(),
            Repr::ForeignOrigin(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    #[test]
    fn the_inner_error_comes_back_as_it_was() {
        let error = Error::<io::Error>::of_inner(io::Error::other("refused"));
        assert_eq!(error.kind(), ErrorKind::Inner);
        assert_eq!(error.inner().unwrap().to_string(), "refused");
        assert_eq!(error.to_string(), "the request failed: refused");
        assert!(error.source().is_none(), "{:?}", error.source());
        assert_eq!(error.into_inner().unwrap().to_string(), "refused");

        // Timeout, Buffer and boxed services have a boxed error.
        let error = Error::<BoxError>::of_inner("refused".into());
        assert_eq!(error.into_inner_boxed().unwrap().to_string(), "refused");
    }

    #[test]
    fn ours_is_told_from_the_inner_one() {
        let cause = FetchError::rejected("unknown client");
        let error = Error::<io::Error>::token(TokenError::new(ErrorKind::Rejected, Some(cause)));
        let error = error.into_inner().unwrap_err();
        assert_eq!(error.as_token().unwrap().kind(), ErrorKind::Rejected);
        assert!(error.to_string().contains("unknown client"));
        assert!(error.source().is_none() && error.inner().is_none());
    }

    #[test]
    fn only_waiting_heals_what_is_called_transient() {
        for (kind, transient) in [
            (ErrorKind::Timeout, true),
            (ErrorKind::Unavailable, true),
            (ErrorKind::Inner, false),
            (ErrorKind::ForeignOrigin, false),
            (ErrorKind::Rejected, false),
            (ErrorKind::ReauthorizationRequired, false),
            (ErrorKind::Stopped, false),
        ] {
            assert_eq!(kind.is_transient(), transient, "{kind:?}");
            if !matches!(kind, ErrorKind::Inner | ErrorKind::ForeignOrigin) {
                let error = TokenError::new(kind, None);
                assert_eq!(error.is_transient(), transient, "{kind:?}");
                assert_eq!(Error::<io::Error>::token(error).is_transient(), transient, "{kind:?}");
            }
        }
    }
}
