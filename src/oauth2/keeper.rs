//! The one owner of a token set at work.
//!
//! `renew` is one fetch from its beginning to its end. `plan` decides what a fetch does. `entry` is the entry in the store, and `lease`
//! the right to work on it. `outcome` writes down what an exchange brought, or why it failed. `save` stores what isn't stored yet, and
//! `without_store` goes on where that fails. `changes` waits for something new. `memo` is what an owner remembers, `inbox` what it was
//! given by others, `options` what its user chose. `moved_from` moves a set from one owner to another.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use secrecy::ExposeSecret;
use tokio::{sync, time::timeout};

use super::{Grant, TokenSet};
use crate::{
    AccessToken, FetchError, FetchRequest, Storage,
    clock::{Moment, SystemClock, Timeline},
    store::{Account, Credentials, TokenStore, record::Record},
};

mod changes;
mod entry;
pub(super) mod inbox;
mod lease;
mod memo;
mod moved_from;
pub(super) mod options;
mod outcome;
mod plan;
mod renew;
mod save;
mod without_store;

#[cfg(test)]
mod tests;

use inbox::Inbox;
use memo::Memo;
pub(super) use moved_from::move_set;
use options::Options;
use plan::Question;

/// An owner: the grant, the store, and what is known of the set in it.
pub(super) struct Keeper<G, S> {
    grant: G,
    store: S,
    pub(super) account: Account,
    pub(super) time: Timeline,
    pub(super) inbox: Arc<Inbox>,
    pub(super) options: Options,
    /// This owner, among those that share the store.
    me: String,
    state: Mutex<Memo>,
    /// One attempt to save at a time.
    saving: sync::Mutex<()>,
}

/// An access token, and how old it was at which moment.
pub(super) struct Handed {
    pub(super) token: AccessToken,
    pub(super) age: Duration,
    pub(super) at: Moment,
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    pub(super) fn new(grant: G, mut store: S) -> Self {
        let account = grant.account();
        store.bind(&account);
        Self {
            grant,
            store,
            account,
            time: Timeline::new(Arc::new(SystemClock)),
            inbox: Arc::default(),
            options: Options::default(),
            me: name(getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))),
            state: Mutex::default(),
            saving: sync::Mutex::default(),
        }
    }

    /// The seed of everything random.
    pub(super) fn seed(&mut self, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        self.me = name(rng.u64(..));
        self.memo().rng = rng;
    }

    /// A grant may be anybody's, and one that hangs must not keep the lease for ever.
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        // One that asks twice, as `LegacyPassword` does, may take it twice.
        let most = limit.saturating_mul(2).saturating_add(Duration::from_secs(1));
        match timeout(most, self.grant.exchange(held, limit)).await {
            // Nothing came but what was sent: somebody in between says it back.
            Ok(Ok(TokenSet { flaw: Some(flaw), refresh_token, .. }))
                if held.and_then(TokenSet::refresh_token)
                    == refresh_token.as_ref().map(ExposeSecret::expose_secret) =>
            {
                Err(flaw)
            }
            Ok(exchanged) => exchanged,
            Err(_) => Err(FetchError::try_again(format!("the grant took longer than {most:?} and was dropped"))),
        }
    }

    /// What it proves itself with and asks for: what was said to another configuration may not hold for this one.
    fn credentials(&self) -> Option<Credentials> {
        Some(self.grant.credentials()?.with(self.account.asks()))
    }

    /// The same, as a failure is marked with.
    fn configuration(&self) -> String {
        let credentials = self.credentials().unwrap_or_else(|| Credentials::of(self.account.asks()));
        credentials.mark(&self.account.id())
    }

    fn question<'a>(&'a self, memo: &'a Memo, request: &'a FetchRequest) -> Question<'a> {
        Question {
            request,
            handed: memo.handed.as_ref().map(ExposeSecret::expose_secret),
            refused_for: memo.refused.as_ref().map(|(_, since)| self.time.now().since(*since)).unwrap_or_default(),
            asks: self.account.asks(),
            credentials: None,
            of: "",
            me: &self.me,
            spent: memo.spent,
            resolve: memo.resolve,
            grace: self.options.grace,
            last_resort: self.options.last_resort,
            now: self.time.wall(),
        }
    }

    pub(super) fn storage(&self) -> Storage {
        let memo = self.memo();
        match &memo.unsaved {
            Some(unsaved) if unsaved.is_spent() => Storage::Unsaved,
            Some(_) => Storage::Unreachable,
            None if memo.unreachable => Storage::Unreachable,
            None => Storage::Sound,
        }
    }

    fn memo(&self) -> MutexGuard<'_, Memo> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A set out of the store. If it is a question whether it will ever be followed by another, that is answered soon.
    fn hand_on_stored(&self, record: &Record, set: &TokenSet) -> Result<Handed, FetchError> {
        let now = self.time.now();
        self.memo().resolve_at = match record {
            Record { dead: Some(_), .. } => Some(now),
            Record { intent: Some(_), .. } => Some(now + self.options.lease),
            _ => None,
        };
        self.hand_on(set, set.age(self.time.wall()))
    }

    fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<Handed, FetchError> {
        let token = set.to_access_token(age, self.time.wall());
        let token = token.ok_or_else(|| FetchError::try_again("there is no access token in the set"))??;
        self.inbox.hold(Some(set));
        self.memo().handed.clone_from(&set.access_token);
        Ok(Handed { token, age, at: self.time.now() })
    }
}

/// Two owners must not have the same.
fn name(number: u64) -> String {
    format!("{number:016x}")
}

/// Between two looks at a store that says in vain that it has changed: the first time.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// The target of the events that tell of the store. It is named after the public type, so that filters don't depend on modules.
const TARGET: &str = "tower_bearer::oauth2::stored";
