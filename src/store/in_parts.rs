//! What a store that can't do several things at once does one after the other. Each of them is dropped as it is when it is called alone.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::{Entry, LONGEST_CALL, Lease, StoreError, Swap, TokenStore};

/// [`TokenStore::lease_and_load`].
pub(crate) async fn lease_and_load<S: TokenStore + ?Sized>(
    store: &S,
    holder: &str,
    time: Duration,
) -> Result<(Lease, Option<Entry>), StoreError> {
    let lease = part(store.lease(holder, time)).await?;
    if lease != Lease::Granted {
        return Ok((lease, None));
    }
    match part(store.load()).await {
        Ok(entry) => Ok((lease, entry)),
        Err(error) => {
            let _ = part(store.release(holder)).await;
            Err(error)
        }
    }
}

/// [`TokenStore::swap_and_release`].
pub(crate) async fn swap_and_release<S: TokenStore + ?Sized>(
    store: &S,
    expected: u64,
    before: Option<&[u8]>,
    data: &[u8],
    holder: &str,
) -> Result<Swap, StoreError> {
    if let Some(before) = before {
        let entry = part(store.load()).await?;
        if !entry.is_some_and(|entry| entry.version() == expected && entry.data() == before) {
            return Ok(Swap::Lost);
        }
    }
    let swapped = part(store.swap(expected, data)).await?;
    if swapped == Swap::Done {
        let _ = part(store.release(holder)).await;
    }
    Ok(swapped)
}

async fn part<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::unreachable(format!("it gave no answer within {LONGEST_CALL:?}"));
    timeout(LONGEST_CALL, call).await.map_err(late)?
}
