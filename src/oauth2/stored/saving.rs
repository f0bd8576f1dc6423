//! Into the store: what came from elsewhere, and what was brought and could not be stored. That is in use, it is stored as soon as that
//! works, and until then nothing is spent.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::{
    Grant, TokenSet,
    keeper::{Handed, Keeper},
    plan,
};
use crate::{
    FetchError, FetchRequest,
    store::{
        Lease, StoreError, Swap, TokenStore,
        record::{self, Record},
    },
};

/// A set that is not in the store.
#[derive(Clone)]
pub(super) struct Unsaved {
    set: TokenSet,
    place: Place,
}

/// In the place of what it is stored.
#[derive(Clone)]
pub(super) enum Place {
    /// Whatever is there: a user has authorized again.
    Any,
    /// Of the set whose refresh token was spent for it, and of no other: that would be newer.
    Of(Option<TokenSet>),
    /// Of the one that was there when it was fetched, one that has expired, or none: it can be fetched again, and another that is
    /// good will do for all.
    Free(Option<TokenSet>),
}

impl Unsaved {
    /// Whether it can't be had again.
    pub(super) fn is_spent(&self) -> bool {
        !matches!(self.place, Place::Free(_))
    }

    /// In the place of what it was fetched.
    pub(super) fn before(&self) -> Option<&TokenSet> {
        match &self.place {
            Place::Any => None,
            Place::Of(before) | Place::Free(before) => before.as_ref(),
        }
    }
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// What came from elsewhere, and what is in hand, into the store.
    pub(super) async fn take_letters(self: &Arc<Self>) -> Result<(), StoreError> {
        if let Some(set) = self.inbox.take() {
            self.inbox.hold(Some(&set));
            self.keep_unsaved(set, Place::Any);
        }
        let saved = self.save_all().await;
        if let Err(error) = &saved
            && self.memo().unsaved.is_some()
        {
            warn!(%error, "the token store failed");
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
            let (mut record, version) = self.load().await?;
            if record.seeds.last() == Some(&seed) || (is_spent && record.seeds.contains(&seed)) {
                break;
            }
            record.note_seed(&seed);
            if self.swap(version, &record.with_set(set.clone())).await? == Swap::Done {
                break;
            }
        }
        self.inbox.planted();
        Ok(())
    }

    pub(super) fn keep_unsaved(&self, set: TokenSet, place: Place) {
        self.memo().unsaved = Some(Unsaved { set, place });
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
            let Some(Unsaved { set, place }) = self.memo().unsaved.clone() else { return Ok(()) };
            if let Place::Of(_) = place {
                let Some(lease) = lease else { return Err(StoreError::unreachable("another set came meanwhile")) };
                // Whoever has the lease may be spending the same refresh token, and what that brings is newer.
                if self.ask(self.store.lease(lease, self.options.lease)).await? != Lease::Granted {
                    return Err(StoreError::unreachable("another process works on it"));
                }
            }
            let (record, version) = self.load().await?;
            if let Some(next) = self.next_record(record, &set, &place)?
                && self.swap(version, &next).await? == Swap::Lost
            {
                continue;
            }
            let mut memo = self.memo();
            // Unless another came meanwhile.
            memo.unsaved.take_if(|unsaved| is_same(&unsaved.set, &set));
            if memo.unsaved.is_none() {
                return Ok(());
            }
        }
    }

    /// What to store; `None` if that is done, or pointless.
    fn next_record(&self, record: Record, set: &TokenSet, place: &Place) -> Result<Option<Record>, StoreError> {
        let now = self.time.wall();
        let is_alive = |set: &TokenSet| set.lifetime.is_none_or(|lifetime| set.age(now) < lifetime);
        match (place, &record.set) {
            // It arrived after all.
            (_, Some(stored)) if is_same(stored, set) => Ok(None),
            (Place::Any, _) => Ok(Some(record.with_set(set.clone()))),
            (Place::Of(Some(before)), Some(stored)) if is_same(stored, before) => {
                Ok(Some(record.with_set(set.clone())))
            }
            (Place::Of(None), None) => Ok(Some(record.with_set(set.clone()))),
            // Others may have gone on, and what they brought is gone with the rest: nobody knows which is the newest.
            (Place::Of(Some(_)), None) => Err(StoreError::unusable(
                "it was emptied while a token set was renewed; a new authorization, adopted, fills it again",
            )),
            (Place::Of(_), Some(_)) => Ok(None),
            (Place::Free(before), Some(stored))
                if is_alive(stored) && !before.as_ref().is_some_and(|before| is_same(stored, before)) =>
            {
                Ok(None)
            }
            (Place::Free(_), _) => Ok(Some(record.with_set(set.clone()))),
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
                    warn!(%error, "a token set that nobody uses any more could not be stored: given up");
                    break;
                }
            }
            let mut memo = keeper.memo();
            (memo.is_saving, memo.news) = (false, true);
            drop(memo);
            keeper.inbox.arrived.notify_one();
        });
    }

    /// Without a store: only what can be repeated goes on.
    pub(super) async fn renew_alone(
        self: &Arc<Self>,
        error: StoreError,
        request: &FetchRequest,
    ) -> Result<Handed, FetchError> {
        self.memo().unreachable = true;
        let held = self.inbox.held();
        if !self.grant.is_repeatable(held.as_ref()) || self.memo().unsaved.as_ref().is_some_and(Unsaved::is_spent) {
            return Err(error.into());
        }
        warn!(%error, "the token store failed");
        let sent = self.time.now();
        let set = self.exchange(held.as_ref(), request.timeout()).await?.succeed(held.as_ref());
        // What the store has is what it had before the first of these.
        let before = self.memo().unsaved.as_ref().map_or(held, |unsaved| unsaved.before().cloned());
        self.keep_unsaved(set.clone(), Place::Free(before));
        self.save_later();
        self.hand_on(&set, self.time.now().since(sent))
    }

    /// What is not stored is used as long as it is good.
    pub(super) fn make_do(&self, request: &FetchRequest) -> Option<Result<Handed, FetchError>> {
        let set = {
            let memo = self.memo();
            let set = &memo.unsaved.as_ref()?.set;
            plan::is_worth_handing_on(set, &self.question(&memo, request)).then(|| set.clone())?
        };
        Some(self.hand_on(&set, set.age(self.time.wall())))
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
