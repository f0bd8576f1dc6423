//! Into the store: what came from elsewhere, and what was brought and could not be stored. That is in use, it is stored as soon as that
//! works, and until then nothing is spent.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use tracing::warn;

use super::{
    Grant, Keeper, TARGET, TokenSet,
    memo::{Place, Unsaved},
};
use crate::{
    panics::contained,
    store::{
        Lease, StoreError, Swap, TokenStore,
        record::{self, Record, Unreadable},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// What came from elsewhere, and what is in hand, into the store.
    pub(super) async fn take_letters(self: &Arc<Self>) -> Result<(), StoreError> {
        if let Some(set) = self.inbox.take() {
            self.inbox.hold(Some(&set));
            self.keep_unsaved(set, Place::Any(self.time.wall()), None);
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

    /// What the configuration begins with, and then what came later.
    async fn save_all(&self) -> Result<(), StoreError> {
        self.plant().await?;
        self.save(None).await
    }

    /// What the configuration begins with: only if it isn't what it began with last time.
    async fn plant(&self) -> Result<(), StoreError> {
        let Some(set) = self.inbox.seed() else { return Ok(()) };
        let seed = record::seed(&set);
        // One that works once is no beginning any more when another configuration has taken its place: old and new processes run side by side
        // while an application is rolled out.
        let is_spent = set.refresh_token.is_some() && !self.grant.is_repeatable(Some(&set));
        loop {
            let (read, version) = self.read().await?;
            let (mut record, version) = match read {
                // The same client has moved, or its tenant has another name: who configures it knows.
                // And whoever has adopted a set has just seen the user: that takes the place of anybody's.
                Err(Unreadable::Foreign { owner, generation, seeds })
                    if self.has_adopted()
                        || (owner.may_be(self.account.owner())
                            && owner.client == self.account.owner().client
                            && !seeds.contains(&seed)) =>
                {
                    (Record { generation, seeds, ..Record::default() }, version)
                }
                _ => {
                    let (record, version, _) = self.load().await?;
                    (record, version)
                }
            };
            if record.seeds.last() == Some(&seed) || (is_spent && record.seeds.contains(&seed)) {
                break;
            }
            record.note_seed(&seed);
            let is_empty = record.authorized_at.is_none();
            let next = record.authorized(Some(set.clone()), self.account.asks(), self.planted_at());
            // Nothing may be stored because the store has lost it: whoever knows more comes first.
            let restored_at = (is_spent && is_empty && self.store.is_shared()).then(|| self.time.wall());
            let next = Record { from_seed: Some(seed.clone()), restored_at, ..next };
            if self.swap(version, &next).await? == Swap::Done {
                break;
            }
        }
        self.inbox.planted();
        Ok(())
    }

    fn has_adopted(&self) -> bool {
        matches!(&self.memo().unsaved, Some(Unsaved { place: Place::Any(_), .. }))
    }

    /// A configuration is older than what was adopted since.
    fn planted_at(&self) -> SystemTime {
        let now = self.time.wall();
        match self.memo().unsaved.as_ref().map(|unsaved| &unsaved.place) {
            Some(Place::Any(at)) => now.min(at.checked_sub(Duration::from_millis(1)).unwrap_or(*at)),
            _ => now,
        }
    }

    pub(super) fn keep_unsaved(&self, set: TokenSet, place: Place, authorized_at: Option<SystemTime>) {
        self.memo().unsaved = Some(Unsaved { set, place, authorized_at });
    }

    /// Stores what is not stored yet, unless something newer is there.
    pub(super) async fn save(&self, lease: Option<&str>) -> Result<(), StoreError> {
        let _one_at_a_time = self.saving.lock().await;
        if lease.is_some() || !self.memo().unsaved.as_ref().is_some_and(Unsaved::is_spent) {
            return self.save_under(lease).await;
        }
        let own = self.next_lease();
        let saved = self.save_under(Some(&own)).await;
        // If it can't be given back, it ends by itself.
        let _ = self.ask(self.store.release(&own)).await;
        saved
    }

    async fn save_under(&self, lease: Option<&str>) -> Result<(), StoreError> {
        loop {
            let Some(unsaved) = self.memo().unsaved.clone() else { return Ok(()) };
            if let Place::Of(_) = unsaved.place {
                let Some(lease) = lease else { return Err(StoreError::unreachable("another set came meanwhile")) };
                // Whoever has the lease may be spending the same refresh token, and what that brings is newer.
                if self.ask(self.store.lease(lease, self.options.lease)).await? != Lease::Granted {
                    return Err(StoreError::unreachable("another process works on it"));
                }
            }
            let (record, version) = self.load_to_replace(&unsaved.place).await?;
            if let Some(next) = self.next_record(record, &unsaved)
                && self.swap(version, &next).await? == Swap::Lost
            {
                continue;
            }
            let mut memo = self.memo();
            // Unless another came meanwhile.
            memo.unsaved.take_if(|later| is_same(&later.set, &unsaved.set));
            if memo.unsaved.is_none() {
                return Ok(());
            }
        }
    }

    /// What is stored. A new authorization takes the place of whatever another account has left there: whoever adopts it has just seen
    /// the user.
    async fn load_to_replace(&self, place: &Place) -> Result<(Record, u64), StoreError> {
        let (read, version) = self.read().await?;
        match (read, place) {
            (Err(Unreadable::Foreign { owner, generation, seeds }), Place::Any(_)) => {
                contained(
                    || warn!(target: TARGET, "what was stored for {owner} is replaced by a new authorization of {}", self.account.owner()),
                );
                Ok((Record { generation, seeds, ..Record::default() }, version))
            }
            (Err(unreadable), _) => Err(unreadable.into_error(&self.account)),
            (Ok(_), _) => {
                let (record, version, _) = self.load().await?;
                Ok((record, version))
            }
        }
    }

    /// What to store; `None` if that is done, or pointless.
    fn next_record(&self, record: Record, unsaved: &Unsaved) -> Option<Record> {
        let Unsaved { set, place, authorized_at } = unsaved;
        let now = self.time.wall();
        let asks = self.account.asks();
        match (place, &record.set) {
            // It arrived after all.
            (_, Some(stored)) if is_same(stored, set) => None,
            // Another process has stored a later one meanwhile. (What comes from the future was written by a wrong clock.)
            (Place::Any(at), _) if record.authorized_at > Some(*at) && record.authorized_at <= Some(now) => None,
            (Place::Any(at), _) => Some(record.authorized(Some(set.clone()), asks, *at)),
            _ if record.authorized_at > *authorized_at => None,
            (Place::Of(Some(before)), Some(stored)) if is_same(stored, before) => {
                Some(record.with_set(set.clone(), asks))
            }
            (Place::Of(_), None) => Some(record.with_set(set.clone(), asks)),
            (Place::Of(_), Some(_)) => None,
            (Place::Free(before), Some(stored))
                if stored.is_alive(now)
                    && record.asks == asks
                    && !before.as_ref().is_some_and(|before| is_same(stored, before)) =>
            {
                None
            }
            (Place::Free(_), _) => Some(record.with_set(set.clone(), asks)),
        }
    }

    /// Tries to store it until that works.
    pub(super) fn save_later(self: &Arc<Self>) {
        if std::mem::replace(&mut self.memo().is_saving, true) {
            return;
        }
        let keeper = self.clone();
        tokio::spawn(async move {
            let mut wait = SHORTEST_WAIT;
            let mut attempts_left = ATTEMPTS_AFTER_THE_END;
            loop {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                let Err(error) = keeper.save_all().await else {
                    break;
                };
                // Nobody is there any more who would tell: as long as a process may take to end.
                attempts_left -= u32::from(keeper.inbox.is_closed());
                if attempts_left == 0 {
                    contained(
                        || warn!(target: TARGET, %error, "a token set that nobody uses any more could not be stored: given up"),
                    );
                    break;
                }
            }
            let mut memo = keeper.memo();
            (memo.is_saving, memo.news) = (false, true);
            drop(memo);
            keeper.inbox.arrived.notify_one();
        });
    }
}

/// Whether they hold the same tokens.
fn is_same(one: &TokenSet, other: &TokenSet) -> bool {
    (one.access_token(), one.refresh_token()) == (other.access_token(), other.refresh_token())
}

const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// A store that comes back is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Five minutes.
const ATTEMPTS_AFTER_THE_END: u32 = 60;
