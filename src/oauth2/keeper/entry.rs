//! The entry in the store: read, compared with what was seen before, and written.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Grant, Keeper};
use crate::{
    panics::Contained,
    store::{
        Entry, LONGEST_CALL, Lease, StoreError, Swap, TokenStore,
        record::{Record, Unreadable},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// What is stored, or the newest record that this keeper knows if the store was set back.
    pub(in crate::oauth2) async fn load(&self) -> Result<Loaded, StoreError> {
        let (read, version) = self.read().await?;
        self.compared(read, version)
    }

    /// Takes the lease, and loads what is stored. If another keeper has the lease: for how long. After an error the lease may be held.
    pub(super) async fn lease_and_load(&self, lease: &str) -> Result<Result<Loaded, Duration>, StoreError> {
        let time = self.lease_time();
        let asked = self.ask_within(PARTS * LONGEST_CALL, |store| store.lease_and_load(lease, time));
        let asked = self.timed(asked).await;
        let loaded = match asked {
            Ok((Lease::Held(left), _)) => return Ok(Err(left)),
            Ok((Lease::Granted, entry)) => Ok(entry),
            Err(error) => Err(error),
        };
        self.note_read(loaded).and_then(|(read, version)| self.compared(read, version)).map(Ok)
    }

    /// Compares what was read with the newest record that this keeper knows.
    pub(super) fn compared(&self, read: Result<Record, Unreadable>, version: u64) -> Result<Loaded, StoreError> {
        let record = read.map_err(|unreadable| unreadable.into_error(&self.account))?;
        let mut memo = self.memo();
        let set_back = memo.newest.is_newer_than(&record);
        if set_back {
            memo.store_was_unreliable = true;
            return Ok(Loaded { record: memo.newest.replacing(&record), version, set_back });
        }
        memo.newest.remember(&record);
        memo.note_restored(&record, self.time.now());
        Ok(Loaded { record, version, set_back })
    }

    /// The stored record and its version, whichever account it belongs to.
    pub(super) async fn read(&self) -> Result<(Result<Record, Unreadable>, u64), StoreError> {
        if self.store.is_shared() && !self.account.is_known() {
            return Err(StoreError::unusable(UNKNOWN));
        }
        let loaded = self.ask(|store| store.load()).await;
        self.note_read(loaded)
    }

    fn note_read(
        &self,
        loaded: Result<Option<Entry>, StoreError>,
    ) -> Result<(Result<Record, Unreadable>, u64), StoreError> {
        self.memo().read_failed = loaded.is_err();
        let entry = loaded.inspect_err(|_| self.memo().store_was_unreliable = true)?;
        let version = entry.as_ref().map_or(0, |entry| entry.version());
        self.memo().known_version = version;
        Ok((Record::read(entry.as_ref(), &self.account), version))
    }

    /// [`swap`](Self::swap) after an exchange that brought a set, and the end of the lease. If something was written before the exchange, it
    /// must still be there: a store that was set back may have come to the same version again.
    pub(super) async fn swap_and_release(
        &self,
        announced: &Announced,
        next: &Record,
        lease: &str,
    ) -> Result<Swap, StoreError> {
        let before = announced.written.as_ref().filter(|_| self.store.is_shared()).map(|written| &written[..]);
        let (next, data) = self.next_generation(next);
        let version = announced.version;
        let asked =
            self.ask_within(PARTS * LONGEST_CALL, |store| store.swap_and_release(version, before, &data, lease));
        let swapped = asked.await.inspect_err(|_| {
            // It is looked at again soon, and stored before others take the refresh token for lost.
            let mut memo = self.memo();
            (memo.read_failed, memo.store_was_unreliable) = (true, true);
        })?;
        self.note_swap(swapped, version, &next);
        Ok(swapped)
    }

    /// [`swap`](Self::swap) after an exchange that failed. It also compares the stored record with the one that was written before the exchange: a
    /// store that was set back may have come to the same version again.
    pub(super) async fn swap_if_unchanged(
        &self,
        version: u64,
        before: &Record,
        next: &Record,
    ) -> Result<Swap, StoreError> {
        if self.store.is_shared() && before.intent.is_some() {
            let (read, found) = self.read().await?;
            // The lease stands for the intent, because the intent's time was rounded when it was stored.
            let mark =
                |record: &Record| (record.authorized_at, record.intent.as_ref().map(|intent| intent.lease.clone()));
            let is_unchanged = read.is_ok_and(|stored| mark(&stored) == mark(before));
            if found != version || !is_unchanged {
                return Ok(Swap::Lost);
            }
        }
        self.swap(version, next).await
    }

    /// Replaces the entry of this version with the record, in the next generation.
    pub(in crate::oauth2) async fn swap(&self, expected: u64, record: &Record) -> Result<Swap, StoreError> {
        let (record, data) = self.next_generation(record);
        let swapped = self.ask(|store| store.swap(expected, &data)).await?;
        self.note_swap(swapped, expected, &record);
        Ok(swapped)
    }

    /// [`swap`](Self::swap) before an exchange. `None` if another keeper has changed the entry.
    pub(super) async fn swap_announced(&self, expected: u64, record: &Record) -> Result<Option<Announced>, StoreError> {
        let (record, data) = self.next_generation(record);
        let swapped = self.ask(|store| store.swap(expected, &data)).await?;
        self.note_swap(swapped, expected, &record);
        Ok((swapped == Swap::Done).then(|| Announced { version: expected + 1, written: Some(data) }))
    }

    fn next_generation(&self, record: &Record) -> (Record, Zeroizing<Vec<u8>>) {
        let record = Record { generation: self.memo().newest.next_generation(record), ..record.clone() };
        let data = record.write(&self.account);
        (record, data)
    }

    fn note_swap(&self, swapped: Swap, expected: u64, record: &Record) {
        if swapped == Swap::Done {
            let mut memo = self.memo();
            memo.has_stored |= memo.newest.replaces_set_of(record);
            memo.known_version = expected + 1;
            memo.newest.remember(record);
            memo.note_restored(record, self.time.now());
        }
    }

    /// Calls the store, and waits for it up to a limit.
    pub(super) async fn ask<'a, T, F>(&'a self, call: impl FnOnce(&'a S) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.ask_within(LONGEST_CALL, call).await
    }

    /// Calls the store, and waits for it for so long. A panic is an error like others, also in what is dropped: it must not cost what an
    /// exchange has brought.
    async fn ask_within<'a, T, F>(&'a self, limit: Duration, call: impl FnOnce(&'a S) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        // The call may panic before there is a future.
        let answer = async { call(&self.store).await };
        match timeout(limit, Contained::new(answer)).await {
            Ok(Some(answered)) => answered,
            Ok(None) => Err(StoreError::unreachable("it panicked")),
            Err(_) => Err(StoreError::unreachable(format!("it gave no answer within {limit:?}"))),
        }
    }
}

/// What is stored, as this keeper sees it.
pub(in crate::oauth2) struct Loaded {
    pub(in crate::oauth2) record: Record,
    pub(in crate::oauth2) version: u64,
    /// The store was set back. Then the record is the newest one that this keeper knows.
    pub(in crate::oauth2) set_back: bool,
}

/// What the entry is before an exchange.
pub(super) struct Announced {
    pub(super) version: u64,
    /// What was written for this exchange.
    pub(super) written: Option<Zeroizing<Vec<u8>>>,
}

/// Why the store isn't used.
const UNKNOWN: &str = "nothing says whose tokens these are, and others may use the same store: say it with `RefreshToken::subject`, or in \
                       the `account` of a grant of your own";

/// A call that a store may make of several others.
const PARTS: u32 = 3;
