//! What outlives a fetch: the stores that a token set is kept in.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};

use crate::FetchError;

mod token_set;

pub use token_set::TokenSet;

/// Keeps one token set, with a version that tells who was faster. Sealed while the durable stores are being built.
pub trait TokenStore: sealed::Store {}

/// In memory: gone with the process.
#[derive(Debug, Default)]
pub struct Memory {
    held: Mutex<Option<TokenSet>>,
}

impl TokenStore for Memory {}

pub(crate) mod sealed {
    use super::{FetchError, Future, Swap, TokenSet};

    pub trait Store: Send + Sync + 'static {
        /// The set, if there is one.
        fn load(&self) -> impl Future<Output = Result<Option<TokenSet>, FetchError>> + Send;

        /// Puts a set in the place of the one with that version (0: of none).
        fn swap(&self, version: u64, next: &TokenSet) -> impl Future<Output = Result<Swap, FetchError>> + Send;
    }
}

/// How putting one set in the place of another went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Swap {
    /// The new set is stored.
    Done,
    /// Another version was there; nothing was changed.
    Lost,
}

impl sealed::Store for Memory {
    async fn load(&self) -> Result<Option<TokenSet>, FetchError> {
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn swap(&self, version: u64, next: &TokenSet) -> Result<Swap, FetchError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().map_or(0, |held| held.version) != version {
            return Ok(Swap::Lost);
        }
        *held = Some(next.clone());
        Ok(Swap::Done)
    }
}
