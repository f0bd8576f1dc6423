//! What can be wrong with a store.

use std::{error, fmt, sync::Arc, time::Duration};

use crate::{BoxError, FetchError};

/// Why a store could not do what it was asked to. Its text says what to do, and holds no token.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    cause: Arc<dyn error::Error + Send + Sync>,
}

/// What a [`StoreError`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It may work next time, without anybody doing anything.
    Unreachable,
    /// It will not work until somebody does something: the entry is damaged, of a newer format, somebody else's, or may not be read
    /// or written. Whatever is there is left as it is.
    Unusable,
}

impl StoreError {
    /// It may work next time.
    pub fn unreachable(cause: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unreachable, cause: cause.into().into() }
    }

    /// It will not work until somebody does something.
    ///
    /// ```
    /// use tower_bearer::store::{StoreError, StoreErrorKind};
    ///
    /// assert_eq!(StoreError::unusable("the table is missing: run the migration").kind(), StoreErrorKind::Unusable);
    /// ```
    pub fn unusable(cause: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unusable, cause: cause.into().into() }
    }

    /// What it asks for.
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
        // The cause's own text is part of ours, so the chain goes on behind it.
        self.cause.source()
    }
}

impl From<StoreError> for FetchError {
    /// Without the store nothing is spent: what to do next is what the store's error says.
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Unreachable => Self::try_again(error),
            // Looking at it costs nobody anything, and whoever mends it wants to see it work.
            StoreErrorKind::Unusable => Self::rejected(error).spare_credentials().pace(LOOK_AGAIN),
        }
    }
}

/// How soon a store that was mended is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
