//! The entry in the store: read, compared with what was seen before, and written.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::{Grant, Keeper};
use crate::store::{
    StoreError, Swap, TokenStore,
    record::{Record, Unreadable},
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// What is stored, its version, and whether somebody has set the store back: then it is what this owner knows instead.
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

    /// What is stored, be it whose it may.
    pub(super) async fn read(&self) -> Result<(Result<Record, Unreadable>, u64), StoreError> {
        if self.store.is_shared() && !self.account.is_known() {
            return Err(StoreError::unusable(UNKNOWN));
        }
        let loaded = self.ask(self.store.load()).await;
        self.memo().gone = loaded.is_err();
        let entry = loaded.inspect_err(|_| self.memo().store_was_unreliable = true)?;
        let version = entry.as_ref().map_or(0, |entry| entry.version());
        self.memo().known = version;
        Ok((Record::read(entry.as_ref(), &self.account), version))
    }

    /// The same after an exchange, if what is stored is still what was written before it: a store that was set back counts its versions
    /// anew.
    pub(super) async fn swap_ours(&self, version: u64, before: &Record, next: &Record) -> Result<Swap, StoreError> {
        if self.store.is_shared() && before.intent.is_some() {
            let (read, found) = self.read().await?;
            // By the lease: times are stored less exactly than they are read from a clock.
            let mark = |record: &Record| (record.authorized_at, record.intent.as_ref().map(|intent| intent.by.clone()));
            let is_ours = read.is_ok_and(|stored| mark(&stored) == mark(before));
            if found != version || !is_ours {
                return Ok(Swap::Lost);
            }
        }
        self.swap(version, next).await
    }

    pub(in crate::oauth2) async fn swap(&self, expected: u64, record: &Record) -> Result<Swap, StoreError> {
        let record = Record { generation: self.memo().newest.next_generation(record), ..record.clone() };
        let data = record.write(&self.account);
        let swapped = self.ask(self.store.swap(expected, &data)).await?;
        if swapped == Swap::Done {
            let mut memo = self.memo();
            memo.has_stored |= memo.newest.replaces_set_of(&record);
            memo.known = expected + 1;
            memo.newest.remember(&record);
            memo.note_restored(&record, self.time.now());
        }
        Ok(swapped)
    }

    pub(super) async fn ask<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match timeout(LONGEST_ANSWER, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(StoreError::unreachable(format!("it gave no answer within {LONGEST_ANSWER:?}"))),
        }
    }

    pub(super) fn next_lease(&self) -> String {
        let mut memo = self.memo();
        memo.leases += 1;
        format!("{}-{}", self.me, memo.leases)
    }
}

/// Why no store is used.
const UNKNOWN: &str = "nothing says whose tokens these are, and others may use the same store: say it with `RefreshToken::subject`, or in \
                       the `account` of a grant of your own";

/// No store of a program that is in use takes longer; a lease of the default length has ended by then.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);
