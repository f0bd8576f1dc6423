//! The entry in the store: read, compared with what was seen before, and written.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::{Grant, Keeper};
use crate::{
    panics::Contained,
    store::{
        StoreError, Swap, TokenStore,
        record::{Record, Unreadable},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// The stored record, its version, and whether the store was set back. If it was, the record is the newest one that this keeper
    /// knows.
    pub(in crate::oauth2) async fn load(&self) -> Result<(Record, u64, bool), StoreError> {
        let (read, version) = self.read().await?;
        let record = read.map_err(|unreadable| unreadable.into_error(&self.account))?;
        let mut memo = self.memo();
        let set_back = memo.newest.is_newer_than(&record);
        if set_back {
            memo.store_was_unreliable = true;
            return Ok((memo.newest.replacing(&record), version, true));
        }
        memo.newest.remember(&record);
        memo.note_restored(&record, self.time.now());
        Ok((record, version, false))
    }

    /// The stored record and its version, whichever account it belongs to.
    pub(super) async fn read(&self) -> Result<(Result<Record, Unreadable>, u64), StoreError> {
        if self.store.is_shared() && !self.account.is_known() {
            return Err(StoreError::unusable(UNKNOWN));
        }
        let loaded = self.ask(|store| store.load()).await;
        self.memo().read_failed = loaded.is_err();
        let entry = loaded.inspect_err(|_| self.memo().store_was_unreliable = true)?;
        let version = entry.as_ref().map_or(0, |entry| entry.version());
        self.memo().known_version = version;
        Ok((Record::read(entry.as_ref(), &self.account), version))
    }

    /// [`swap`](Self::swap) after an exchange. It also compares the stored record with the one that was written before the exchange: a
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
        let record = Record { generation: self.memo().newest.next_generation(record), ..record.clone() };
        let data = record.write(&self.account);
        let swapped = self.ask(|store| store.swap(expected, &data)).await?;
        if swapped == Swap::Done {
            let mut memo = self.memo();
            memo.has_stored |= memo.newest.replaces_set_of(&record);
            memo.known_version = expected + 1;
            memo.newest.remember(&record);
            memo.note_restored(&record, self.time.now());
        }
        Ok(swapped)
    }

    /// Calls the store, and waits for it up to a limit. A panic is an error like others, also in what is dropped: it must not cost
    /// what an exchange has brought.
    pub(super) async fn ask<'a, T, F>(&'a self, call: impl FnOnce(&'a S) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        // The call may panic before there is a future.
        let answer = async { call(&self.store).await };
        match timeout(LONGEST_ANSWER, Contained::new(answer)).await {
            Ok(Some(answered)) => answered,
            Ok(None) => Err(StoreError::unreachable("it panicked")),
            Err(_) => Err(StoreError::unreachable(format!("it gave no answer within {LONGEST_ANSWER:?}"))),
        }
    }
}

/// Why the store isn't used.
const UNKNOWN: &str = "nothing says whose tokens these are, and others may use the same store: say it with `RefreshToken::subject`, or in \
                       the `account` of a grant of your own";

/// A store that takes longer is of no use: a lease of the default length has ended by then.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);
