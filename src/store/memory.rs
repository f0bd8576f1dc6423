//! [`Memory`]: a store that ends with the process.

use std::{
    fmt,
    future::{Future, pending},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{Entry, Lease, StoreError, Swap, TokenStore};

/// Keeps the entry in memory, for this process alone. [`Stored::new`](crate::oauth2::Stored::new) uses it.
///
/// ```
/// use tower_bearer::oauth2::{ClientCredentials, Stored, TokenEndpoint};
/// use tower_bearer::store::Memory;
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let source = Stored::in_store(ClientCredentials::new(endpoint), Memory::default());
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Default)]
pub struct Memory {
    entry: Mutex<Option<Entry>>,
}

impl TokenStore for Memory {
    fn is_shared(&self) -> bool {
        false
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        Ok(self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.as_ref().map_or(0, |entry| entry.version()) != expected {
            return Ok(Swap::Lost);
        }
        *entry = Some(Entry::new(expected + 1, data.to_vec()));
        Ok(Swap::Done)
    }

    async fn lease(&self, _: &str, _: Duration) -> Result<Lease, StoreError> {
        Ok(Lease::Granted)
    }

    async fn release(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn changed(&self, _: u64) -> impl Future<Output = ()> + Send {
        pending()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
