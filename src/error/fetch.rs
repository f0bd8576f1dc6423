//! Why a source brought no token, and what to do next.

use std::{error, fmt, sync::Arc, time::Duration};

use super::BoxError;

/// Why a [`TokenSource`](crate::TokenSource) brought no token, and what to do about it.
///
/// The constructors take a text or any error, so that they fit into `map_err`:
///
/// ```
/// use tower_bearer::{FetchError, FetchErrorKind};
///
/// let error: FetchError = std::fs::read("/nowhere").map_err(FetchError::try_again).unwrap_err();
/// assert_eq!(error.kind(), FetchErrorKind::TryAgain);
/// assert_eq!(FetchError::rejected("unknown client").kind(), FetchErrorKind::Rejected);
/// ```
///
/// What goes in is shown to people and written to logs: leave secrets out.
#[derive(Clone)]
pub struct FetchError(Arc<Fetch>);

#[derive(Clone)]
struct Fetch {
    kind: FetchErrorKind,
    retry_after: Option<Duration>,
    pace: Option<Duration>,
    unattended: bool,
    /// What it is if it is seen again.
    suspected: Option<FetchError>,
    /// Nothing is to be done before the token in use is over.
    until_token_ends: bool,
    /// Nobody has looked at the credentials: something else is in the way.
    spares_credentials: bool,
    cause: Arc<dyn error::Error + Send + Sync>,
}

/// What a [`FetchError`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// It may work next time, without anybody doing anything: it is tried again, ever more slowly, at least once a minute.
    TryAgain,
    /// It will not work until somebody changes the credentials or the configuration, or mends the store, which is what the text is
    /// about. Tried once every five minutes (a store every ten seconds), and at once on [`LiveToken::refresh`](crate::LiveToken::refresh),
    /// so that a mended secret needs no restart.
    Rejected,
    /// The user must authorize again; until then trying is pointless and isn't done.
    ReauthorizationRequired,
}

impl FetchError {
    /// It may work next time.
    pub fn try_again(cause: impl Into<BoxError>) -> Self {
        Self::new(FetchErrorKind::TryAgain, cause)
    }

    /// It will not work with these credentials.
    pub fn rejected(cause: impl Into<BoxError>) -> Self {
        Self::new(FetchErrorKind::Rejected, cause)
    }

    /// The user must authorize again.
    pub fn reauthorize(cause: impl Into<BoxError>) -> Self {
        Self::new(FetchErrorKind::ReauthorizationRequired, cause)
    }

    fn new(kind: FetchErrorKind, cause: impl Into<BoxError>) -> Self {
        let unattended = kind != FetchErrorKind::ReauthorizationRequired;
        let cause = cause.into().into();
        Self(Arc::new(Fetch {
            kind,
            retry_after: None,
            pace: None,
            unattended,
            suspected: None,
            until_token_ends: false,
            spares_credentials: false,
            cause,
        }))
    }

    /// Not before this time is over (RFC 9110 §10.2.3, `Retry-After`). Obeyed up to an hour.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(wait);
        self
    }

    /// Rejected, and never tried again by itself, only on [`LiveToken::refresh`](crate::LiveToken::refresh): for credentials that
    /// get locked when they fail too often, such as a person's password.
    pub fn rejected_for_good(cause: impl Into<BoxError>) -> Self {
        let mut error = Self::rejected(cause);
        Arc::make_mut(&mut error.0).unattended = false;
        error
    }

    /// What to do next.
    #[must_use]
    pub fn kind(&self) -> FetchErrorKind {
        self.0.kind
    }

    /// What went in: the text, or the error, to be looked at with `downcast_ref`. Errors of token endpoints are
    /// `oauth2::EndpointError`.
    #[must_use]
    pub fn cause(&self) -> &(dyn error::Error + Send + Sync + 'static) {
        &*self.0.cause
    }

    pub(crate) fn wait_asked(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Tried again after this time, however often that fails: for what costs nobody anything.
    pub(crate) fn pace(mut self, pace: Duration) -> Self {
        Arc::make_mut(&mut self.0).pace = Some(pace);
        self
    }

    pub(crate) fn pace_asked(&self) -> Option<Duration> {
        self.0.pace
    }

    /// A guess: tried again, and this in the end if it goes on.
    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn or_finally(mut self, verdict: Self) -> Self {
        Arc::make_mut(&mut self.0).suspected = Some(verdict);
        self
    }

    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn suspected(&self) -> Option<&Self> {
        self.0.suspected.as_ref()
    }

    /// Whether the user must authorize again, or it looks so.
    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn is_about_the_user(&self) -> bool {
        self.suspected().unwrap_or(self).kind() == FetchErrorKind::ReauthorizationRequired
    }

    /// Tried again at this pace, although somebody should do something.
    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn tried_every(mut self, pace: Duration) -> Self {
        Arc::make_mut(&mut self.0).unattended = true;
        self.pace(pace)
    }

    /// Tried again when the token in use is over, or the API refuses it, and not before.
    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn until_token_ends(mut self) -> Self {
        Arc::make_mut(&mut self.0).until_token_ends = true;
        self
    }

    /// Rejected, and not because of the credentials: whoever reads it must not look for the mistake there.
    #[cfg_attr(not(feature = "oauth2"), allow(dead_code))]
    pub(crate) fn spare_credentials(mut self) -> Self {
        Arc::make_mut(&mut self.0).spares_credentials = true;
        self
    }

    pub(crate) fn spares_credentials(&self) -> bool {
        self.0.spares_credentials
    }

    pub(crate) fn waits_for_token_end(&self) -> bool {
        self.0.until_token_ends
    }

    pub(crate) fn is_tried_unattended(&self) -> bool {
        self.0.unattended
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchError")
            .field("kind", &self.0.kind)
            .field("retry_after", &self.0.retry_after)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind {
            FetchErrorKind::TryAgain => "no token this time: ",
            FetchErrorKind::Rejected if self.0.spares_credentials => "no token until somebody mends this: ",
            FetchErrorKind::Rejected => "no token with these credentials: ",
            FetchErrorKind::ReauthorizationRequired => "the user must authorize again: ",
        })?;
        self.0.cause.fmt(f)
    }
}

impl error::Error for FetchError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        // The cause's own text is part of ours, so the chain goes on behind it.
        self.0.cause.source()
    }
}

impl From<crate::InvalidToken> for FetchError {
    /// A source that brings something unusable may bring a token next time.
    fn from(invalid: crate::InvalidToken) -> Self {
        Self::try_again(invalid)
    }
}
