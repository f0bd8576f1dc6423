//! Storing what isn't stored yet: the initial set, a set that was adopted, and one that the store could not take. Such a set is in use. It
//! is stored as soon as that works, and no refresh token is spent before.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::time::sleep;
use tracing::warn;

use super::{
    Grant, Keeper, TARGET, TokenSet,
    entry::Loaded,
    memo::{Replaces, Unsaved},
};
use crate::{
    panics::contained,
    store::{
        Lease, StoreError, Swap, TokenStore,
        record::{self, Record, Unreadable},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Takes a set that was adopted, and stores it and whatever else isn't stored yet.
    pub(super) async fn store_pending(self: &Arc<Self>) -> Result<(), StoreError> {
        if let Some(set) = self.inbox.take_adopted() {
            self.inbox.put_in_use(Some(&set));
            self.keep_unsaved(set, Replaces::Any(self.time.wall()), None);
            let fails = self.memo().is_saving || self.memo().read_failed;
            if fails {
                // The user who has just authorized doesn't wait for another attempt.
                self.save_later();
                return Err(StoreError::unreachable("it failed before, and is tried again"));
            }
        }
        let saved = self.save_all().await;
        if let Err(error) = &saved
            && self.memo().unsaved.is_some()
        {
            contained(|| warn!(target: TARGET, %error, "the token store failed"));
            self.save_later();
        }
        saved
    }

    /// Stores the initial set first, because any other is newer.
    async fn save_all(&self) -> Result<(), StoreError> {
        self.save_initial().await?;
        self.save(None).await
    }

    /// Stores the initial set, unless the configuration began with the same one last time.
    async fn save_initial(&self) -> Result<(), StoreError> {
        let Some(set) = self.inbox.initial() else { return Ok(()) };
        let seed = record::initial_set_hash(&set);
        // A single-use refresh token that was configured before is spent. During a rollout old replicas still begin with it.
        let is_single_use = set.refresh_token.is_some() && !self.grant.is_repeatable(Some(&set));
        loop {
            let (read, version) = self.read().await?;
            let (mut record, version) = match read {
                // Another account's entry is replaced in two cases. A new authorization was adopted, so the user has just agreed. Or the
                // configuration brings a new set for the same client and user, so the server or the tenant has another name.
                Err(Unreadable::Foreign { owner, generation, seeds })
                    if self.has_unsaved_adopted()
                        || (owner.may_be(self.account.owner())
                            && owner.client == self.account.owner().client
                            && !seeds.contains(&seed)) =>
                {
                    (Record { generation, seeds, ..Record::default() }, version)
                }
                _ => {
                    let Loaded { record, version, .. } = self.load().await?;
                    (record, version)
                }
            };
            if record.seeds.last() == Some(&seed) || (is_single_use && record.seeds.contains(&seed)) {
                break;
            }
            record.note_seed(&seed);
            let is_empty = record.authorized_at.is_none();
            let next = record.authorized(Some(set.clone()), self.account.asks(), self.initial_authorized_at());
            // The store may be empty because it lost the entry. A keeper that knows a newer set gets time to restore it.
            let restored_at = (is_single_use && is_empty && self.store.is_shared()).then(|| self.time.wall());
            let next = Record { from_seed: Some(seed.clone()), restored_at, ..next };
            if self.swap(version, &next).await? == Swap::Done {
                break;
            }
        }
        self.inbox.drop_initial();
        Ok(())
    }

    fn has_unsaved_adopted(&self) -> bool {
        matches!(&self.memo().unsaved, Some(Unsaved { replaces: Replaces::Any(_), .. }))
    }

    /// When the initial set's authorization began: before that of a set that was adopted since.
    fn initial_authorized_at(&self) -> SystemTime {
        let now = self.time.wall();
        match self.memo().unsaved.as_ref().map(|unsaved| &unsaved.replaces) {
            Some(Replaces::Any(at)) => now.min(at.checked_sub(Duration::from_millis(1)).unwrap_or(*at)),
            _ => now,
        }
    }

    /// Remembers a set that isn't stored.
    pub(super) fn keep_unsaved(&self, set: TokenSet, replaces: Replaces, authorized_at: Option<SystemTime>) {
        self.memo().unsaved = Some(Unsaved { set, replaces, authorized_at });
    }

    /// Stores the unsaved set, unless a newer one is stored. `lease`: the one that the caller holds.
    pub(super) async fn save(&self, lease: Option<&str>) -> Result<(), StoreError> {
        let _one_at_a_time = self.save_lock.lock().await;
        if lease.is_some() || !self.memo().unsaved.as_ref().is_some_and(Unsaved::is_irreplaceable) {
            return self.save_under(lease, &mut false).await;
        }
        // The one of the last attempt, which may still be held: its answer was lost, or it could not be released. It may be a long one.
        let before = self.memo().saving_lease.take();
        let own = before.unwrap_or_else(|| self.next_lease());
        self.memo().saving_lease = Some(own.clone());
        let mut is_granted = false;
        let saved = self.save_under(Some(&own), &mut is_granted).await;
        // A lease that can't be released ends by itself.
        if is_granted && self.ask(|store| store.release(&own)).await.is_ok() {
            self.memo().saving_lease = None;
        }
        saved
    }

    /// `is_granted`: whether it was asked for the lease, and has it.
    async fn save_under(&self, lease: Option<&str>, is_granted: &mut bool) -> Result<(), StoreError> {
        loop {
            let Some(unsaved) = self.memo().unsaved.clone() else { return Ok(()) };
            if let Replaces::Spent(_) = unsaved.replaces {
                let Some(lease) = lease else { return Err(StoreError::unreachable("another set came meanwhile")) };
                // The holder of the lease may be spending the same refresh token. The set that this brings would be newer.
                if self.ask(|store| store.lease(lease, self.lease_time())).await? != Lease::Granted {
                    return Err(StoreError::unreachable("another process works on it"));
                }
                *is_granted = true;
            }
            let (record, version) = self.load_to_replace(&unsaved.replaces).await?;
            if let Some(next) = self.record_to_save(record, &unsaved)
                && self.swap(version, &next).await? == Swap::Lost
            {
                continue;
            }
            let mut memo = self.memo();
            // Another set may have come meanwhile. It stays to be saved.
            memo.unsaved.take_if(|later| is_same(&later.set, &unsaved.set));
            if memo.unsaved.is_none() {
                return Ok(());
            }
        }
    }

    /// The stored record and its version. A new authorization may replace another account's entry, because the user has just agreed.
    async fn load_to_replace(&self, replaces: &Replaces) -> Result<(Record, u64), StoreError> {
        let (read, version) = self.read().await?;
        match (read, replaces) {
            (Err(Unreadable::Foreign { owner, generation, seeds }), Replaces::Any(_)) => {
                contained(
                    || warn!(target: TARGET, "what was stored for {owner} is replaced by a new authorization of {}", self.account.owner()),
                );
                Ok((Record { generation, seeds, ..Record::default() }, version))
            }
            (read, _) => self.compared(read, version).map(|loaded| (loaded.record, loaded.version)),
        }
    }

    /// The record with the unsaved set; `None` if the set is stored already, or a newer one is.
    fn record_to_save(&self, record: Record, unsaved: &Unsaved) -> Option<Record> {
        let Unsaved { set, replaces, authorized_at } = unsaved;
        let now = self.time.wall();
        let asks = self.account.asks();
        match (replaces, &record.set) {
            // The write arrived, although it failed.
            (_, Some(stored)) if is_same(stored, set) => None,
            // Another process has stored a later authorization. (A time in the future is that of a wrong clock.)
            (Replaces::Any(at), _) if record.authorized_at > Some(*at) && record.authorized_at <= Some(now) => None,
            (Replaces::Any(at), _) => Some(record.authorized(Some(set.clone()), asks, *at)),
            _ if record.authorized_at > *authorized_at => None,
            (Replaces::Spent(Some(before)), Some(stored)) if is_same(stored, before) => {
                Some(record.with_set(set.clone(), asks))
            }
            (Replaces::Spent(_), None) => Some(record.with_set(set.clone(), asks)),
            (Replaces::Spent(_), Some(_)) => None,
            (Replaces::Fetched(before), Some(stored))
                if stored.is_alive(now)
                    && record.asks == asks
                    && !before.as_ref().is_some_and(|before| is_same(stored, before)) =>
            {
                None
            }
            (Replaces::Fetched(_), _) => Some(record.with_set(set.clone(), asks)),
        }
    }

    /// Between two attempts to save. Another process, whose token has ended meanwhile, tries the spent refresh token as its last resort, and
    /// waits for no longer than a lease before it does.
    fn longest_wait(&self) -> Duration {
        match self.memo().unsaved.as_ref().map(|unsaved| &unsaved.replaces) {
            Some(Replaces::Spent(_)) => (self.options.lease / 2).clamp(SHORTEST_WAIT, LONGEST_WAIT_OF_A_FLEET),
            _ => LONGEST_WAIT,
        }
    }

    /// Tries to save until that works.
    pub(super) fn save_later(self: &Arc<Self>) {
        if std::mem::replace(&mut self.memo().is_saving, true) {
            return;
        }
        let keeper = self.clone();
        tokio::spawn(async move {
            let began = keeper.time.now();
            let mut after_the_end = Duration::ZERO;
            loop {
                let begins = keeper.time.now();
                let waited = begins.since(began);
                sleep((waited / PART_OF_THE_OUTAGE).clamp(SHORTEST_WAIT, keeper.longest_wait())).await;
                // A grant of the user's own may panic.
                let saved = AssertUnwindSafe(keeper.save_all()).catch_unwind().await;
                let saved = saved.unwrap_or_else(|_| Err(StoreError::unusable("the grant panicked")));
                // The source was dropped: the attempts end, as the process may. A machine that is suspended tries nothing.
                if keeper.inbox.is_closed() {
                    after_the_end += keeper.time.now().since(begins).min(LONGEST_ATTEMPT);
                }
                let goes_on = after_the_end < AFTER_THE_END;
                let mut memo = keeper.memo();
                match &saved {
                    // Another set has come since.
                    Ok(()) if memo.unsaved.is_some() => continue,
                    Err(_) if goes_on => continue,
                    _ => (memo.is_saving, memo.wants_fetch) = (false, true),
                }
                drop(memo);
                if let Err(error) = saved {
                    contained(
                        || warn!(target: TARGET, %error, "a token set that nobody uses any more could not be stored: given up"),
                    );
                }
                break;
            }
            keeper.inbox.changed.notify_one();
        });
    }
}

/// Whether they hold the same tokens.
fn is_same(one: &TokenSet, other: &TokenSet) -> bool {
    (one.access_token(), one.refresh_token()) == (other.access_token(), other.refresh_token())
}

const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// A store that is back is used within this part of the time that it was away,
const PART_OF_THE_OUTAGE: u32 = 16;

/// or within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The same where other processes may spend what this one has spent.
const LONGEST_WAIT_OF_A_FLEET: Duration = Duration::from_millis(500);

/// No attempt takes longer, whichever of its calls hang.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// How long it is tried after the source was dropped.
const AFTER_THE_END: Duration = Duration::from_secs(300);
