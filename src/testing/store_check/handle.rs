//! A store whose errors and delays are told in words.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::timeout;

use super::Found;
use crate::store::{Entry, Lease, StoreError, Swap, TokenStore};

/// What one process has opened. Each call must succeed within the time that [`Stored`](crate::oauth2::Stored) gives it.
pub(super) struct Handle<S>(S);

impl<S: TokenStore> Handle<S> {
    pub(super) fn new(store: S) -> Self {
        Self(store)
    }

    /// The store itself, for calls that may fail or be dropped.
    pub(super) fn store(&self) -> &S {
        &self.0
    }

    pub(super) async fn load(&self) -> Found<Option<Entry>> {
        call("load()", self.0.load()).await
    }

    /// The version and the data. It is wrong if there is no entry.
    pub(super) async fn load_some(&self) -> Found<(u64, Vec<u8>)> {
        let entry = self.load().await?.ok_or("load() found no entry, though a swap had returned Done")?;
        Ok((entry.version(), entry.data().to_vec()))
    }

    pub(super) async fn swap(&self, expected: u64, data: &[u8]) -> Found<Swap> {
        call(&format!("swap({expected}, …)"), self.0.swap(expected, data)).await
    }

    pub(super) async fn lease(&self, holder: &str, time: Duration) -> Found<Lease> {
        call(&format!("lease({holder:?}, {time:?})"), self.0.lease(holder, time)).await
    }

    pub(super) async fn release(&self, holder: &str) -> Found {
        call(&format!("release({holder:?})"), self.0.release(holder)).await
    }

    pub(super) async fn lease_and_load(&self, holder: &str, time: Duration) -> Found<(Lease, Option<Entry>)> {
        let what = format!("lease_and_load({holder:?}, {time:?})");
        call_within(PARTS * CALL, &what, self.0.lease_and_load(holder, time)).await
    }

    pub(super) async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Found<Swap> {
        let what = format!("swap_and_release({expected}, …)");
        call_within(PARTS * CALL, &what, self.0.swap_and_release(expected, before, data, holder)).await
    }

    pub(super) async fn changed(&self, known: u64) {
        self.0.changed(known).await;
    }

    /// Stores this, whatever the version is, and returns the new one.
    pub(super) async fn put(&self, data: &[u8]) -> Found<u64> {
        for _ in 0..ATTEMPTS {
            let version = self.load().await?.map_or(0, |entry| entry.version());
            if self.swap(version, data).await? == Swap::Done {
                return Ok(version + 1);
            }
        }
        Err(format!("{ATTEMPTS} times in a row a swap of the version that load() had returned was Lost"))
    }
}

async fn call<T: Debug>(what: &str, call: impl Future<Output = Result<T, StoreError>>) -> Found<T> {
    call_within(CALL, what, call).await
}

async fn call_within<T: Debug>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Found<T> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what} failed: {error}")),
        Err(_) => Err(format!("{what} took longer than {limit:?}, after which it is dropped")),
    }
}

/// `Stored` drops a call after this time.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// A call that may have as many parts has as many times longer.
const PARTS: u32 = 3;

/// Nobody else swaps more than a few times.
const ATTEMPTS: u32 = 100;
