//! Errors of stores.

use std::{error, fmt, sync::Arc, time::Duration};

use crate::{BoxError, FetchError};

/// Why a call to a store failed. The text says what to do, and holds no token. [`StoreError::unusable`] has an example.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    cause: Arc<dyn error::Error + Send + Sync>,
}

/// What to do after a [`StoreError`]. [`StoreError::unusable`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It may work next time. Nobody has to do anything.
    Unreachable,
    /// It will not work until somebody mends something: the entry is damaged, in a newer format or another account's, or the rights to
    /// read or write it are missing. The entry is left unchanged.
    Unusable,
}

impl StoreError {
    /// An error after which it may work next time.
    ///
    /// ```
    /// use tower_bearer::store::{StoreError, StoreErrorKind};
    ///
    /// let error = StoreError::unreachable(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    /// assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    /// ```
    pub fn unreachable(cause: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unreachable, cause: cause.into().into() }
    }

    /// An error that stays until somebody mends something.
    ///
    /// ```
    /// use tower_bearer::store::{StoreError, StoreErrorKind};
    ///
    /// assert_eq!(StoreError::unusable("the table is missing: run the migration").kind(), StoreErrorKind::Unusable);
    /// ```
    pub fn unusable(cause: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unusable, cause: cause.into().into() }
    }

    /// What to do.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unreachable => "the token store can't be reached: ",
            StoreErrorKind::Unusable => "the token store can't be used: ",
        })?;
        self.cause.fmt(f)
    }
}

impl error::Error for StoreError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        // This error's text has the cause's own, so the chain continues with the cause's source.
        self.cause.source()
    }
}

impl From<StoreError> for FetchError {
    /// The store's error says what to do: without the store no refresh token is spent.
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Unreachable => Self::try_again(error),
            // Looked at often: it costs little, and whoever mends the store wants to see it work.
            StoreErrorKind::Unusable => Self::rejected(error).spare_credentials().pace(LOOK_AGAIN),
        }
    }
}

/// How soon a mended store is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
