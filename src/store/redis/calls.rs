//! What the store does: each call is one script or one command, and so one round trip. While the slot of its keys is on its way to another
//! node of a cluster, a call about two of them has one for each.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, Value};

use super::{Keys, RedisStore, read, scripts};
use crate::store::{Account, Entry, Lease, StoreError, Swap, TokenStore, heard::Change, in_parts};

impl TokenStore for RedisStore {
    fn bind(&mut self, account: &Account) {
        self.keys = Keys::of(&account.id(), &self.name);
        self.seat = Mutex::default();
        // Its events have numbers of their own, and nothing was written there.
        (self.known_events, self.written, self.confirmed) = Default::default();
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        if self.is_in_doubt() {
            self.write(script(scripts::TOUCH, &self.keys.entry)).await?;
        }
        // The response includes every change that was announced until now.
        let heard = self.heard_so_far().number;
        let mut command = redis::cmd("HMGET");
        let (version, data) = self.ask(command.arg(&self.keys.entry).arg(&["version", "data"])).await?;
        let entry = self.entry(version, data)?;
        self.note_known_events(heard);
        Ok(entry)
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let next = expected.checked_add(1).ok_or_else(|| StoreError::unusable("there is no higher version"))?;
        let mut script = script(scripts::SWAP, &self.keys.entry);
        script.arg(expected).arg(next).arg(data).arg(&self.keys.channel);
        let swapped = self.write(script).await?;
        self.note_swap(swapped, next);
        Ok(swapped)
    }

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        let next = expected.checked_add(1).ok_or_else(|| StoreError::unusable("there is no higher version"))?;
        // A write that waits for replicas counts when they have it. Nobody else may work on the entry before.
        let waits = self.durability.wait(self.shared.limit()).is_some();
        let mut script = script_on_two(scripts::SWAP_AND_RELEASE, &self.keys.entry, &self.keys.lease);
        script.arg(expected).arg(next).arg(data).arg(&self.keys.channel).arg(if waits { "" } else { holder });
        if let Some(before) = before {
            script.arg(before);
        }
        let swapped = match self.write(script).await {
            Err(no_answers) if no_answers.is_split => {
                return in_parts::swap_and_release(self, expected, before, data, holder).await;
            }
            swapped => swapped?,
        };
        self.note_swap(swapped, next);
        if waits && swapped == Swap::Done {
            // A lease that can't be released ends by itself.
            let _ = self.release(holder).await;
        }
        Ok(swapped)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut script = script(scripts::LEASE, &self.keys.lease);
        let left: Option<i64> = self.ask(script.arg(holder).arg(milliseconds(time))).await?;
        Ok(match left {
            None => Lease::Granted,
            Some(left) => Lease::Held(Duration::from_millis(left.try_into().unwrap_or_default())),
        })
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        if self.is_in_doubt() {
            self.write(script(scripts::TOUCH, &self.keys.entry)).await?;
        }
        // The response includes every change that was announced until now.
        let heard = self.heard_so_far().number;
        let mut script = script_on_two(scripts::LEASE_AND_LOAD, &self.keys.lease, &self.keys.entry);
        let found: Vec<Value> = match self.ask(script.arg(holder).arg(milliseconds(time))).await {
            Err(no_answers) if no_answers.is_split => return in_parts::lease_and_load(self, holder, time).await,
            found => found?,
        };
        match <[Value; 2]>::try_from(found) {
            Ok([version, data]) => {
                let entry = read(version).and_then(|version| self.entry(version, read(data)?));
                if entry.is_err() {
                    let _ = self.release(holder).await;
                }
                self.note_known_events(heard);
                Ok((Lease::Granted, entry?))
            }
            Err(left) => {
                let left = left.into_iter().next().map(read::<i64>).transpose()?.unwrap_or_default();
                Ok((Lease::Held(Duration::from_millis(left.try_into().unwrap_or_default())), None))
            }
        }
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        Ok(self.ask(script(scripts::RELEASE, &self.keys.lease).arg(holder)).await?)
    }

    async fn changed(&self, known: u64) {
        // Loaded once, so that of two waiting calls neither takes the other's change.
        let (mut heard, known_events) = (self.listen(), self.known_events.load(Ordering::SeqCst));
        loop {
            let now = *heard.borrow_and_update();
            match now.change_for(known_events, known) {
                Change::None => {}
                Change::Known => self.note_known_events(now.number),
                Change::Other => return self.note_known_events(now.number),
            }
            if heard.changed().await.is_err() {
                // There is no such channel any more.
                return std::future::pending().await;
            }
            self.shared.go_on();
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A command that runs a script on two keys.
fn script_on_two(text: &str, key: &str, other: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(2).arg(key).arg(other);
    command
}

/// A command that runs a script on one key.
fn script(text: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

impl RedisStore {
    /// The entry of these fields. They are read as bytes, so that a version that is no number is a damaged entry, not a failed call.
    fn entry(&self, version: Option<Vec<u8>>, data: Option<Vec<u8>>) -> Result<Option<Entry>, StoreError> {
        let number = version.as_deref().and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
        match (version, number, data) {
            (Some(_), Some(number), Some(data)) => Ok(Some(Entry::new(number, data))),
            (None, _, None) => Ok(None),
            _ => Err(StoreError::unusable(format!("{} is not whole: restore it, or remove it", self.keys.entry))),
        }
    }

    /// Nobody hears of a swap of its own.
    fn note_swap(&self, swapped: Swap, next: u64) {
        let (heard, known_events) = (self.heard_so_far(), self.known_events.load(Ordering::SeqCst));
        if swapped == Swap::Done && heard.is_covered_by(next, known_events) {
            self.note_known_events(heard.number);
        }
    }
}
