//! The one owner of a token set at work.
//!
//! | module | what it holds |
//! |---|---|
//! | `options`, `inbox`, `memo` | what the user chose, what the user handed in, and what the keeper remembers |
//! | `plan` | decides what a fetch does; pure |
//! | `entry`, `lease`, `stops` | the entry in the store, the right to work on it, and how long that lasts |
//! | `outcome` | what is written to the entry after an exchange, or after its failure |
//! | `save` | stores what isn't stored yet |
//! | `without_store` | fetches while the store can't be used |
//! | `changes` | waits until there is a reason to fetch |
//! | `renew` | one fetch, from its beginning to its end |
//! | `moved_from` | moves a set from one keeper's entry to another's |
//!
//! A keeper has an entry in the store, and shares it with the keepers of other processes. A few words are used in all of them. An
//! *authorization* begins when a user authorizes, or when a configuration brings another initial set; each *renewal* replaces the set
//! within it. An *intent* in the entry says that a refresh token is about to be sent. If it stays there, the response was lost, and the
//! refresh token may be *spent*. It is *dead* when it is not to be used any more, and the entry says why.

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
    panics::{Contained, contained},
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
mod stops;
mod without_store;

#[cfg(test)]
mod tests;

pub(super) use entry::Loaded;
use inbox::Inbox;
use memo::Memo;
pub(super) use moved_from::move_set;
use options::Options;
use plan::Question;

/// Keeps one token set: spends its refresh token, stores it, and hands its access token on.
pub(super) struct Keeper<G, S> {
    grant: G,
    store: S,
    pub(super) account: Account,
    pub(super) time: Timeline,
    pub(super) inbox: Arc<Inbox>,
    pub(super) options: Options,
    /// The name of this keeper among those that share the store.
    name: String,
    memo: Mutex<Memo>,
    /// Held while a set is saved, so that there is one attempt at a time.
    save_lock: sync::Mutex<()>,
}

/// An access token, and how old it was at a moment.
pub(super) struct AgedToken {
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
            name: to_name(getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))),
            memo: Mutex::default(),
            save_lock: sync::Mutex::default(),
        }
    }

    #[cfg(feature = "sealed")]
    pub(super) fn store(&self) -> &S {
        &self.store
    }

    /// The seed of what is random.
    pub(super) fn seed(&mut self, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        self.name = to_name(rng.u64(..));
        self.memo().rng = rng;
    }

    /// Exchanges by the grant. A user's own grant may hang or panic, and must not keep the lease.
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        // A grant that sends two requests, as `LegacyPassword` does, has the limit for each of them.
        let most = limit.saturating_mul(2).saturating_add(Duration::from_secs(1));
        // The call may panic before there is a future.
        let exchange = Contained::new(async { self.grant.exchange(held, limit).await });
        match timeout(most, exchange).await {
            // The refresh token is the one that was sent: a proxy has sent the request back.
            Ok(Some(Ok(TokenSet { flaw: Some(flaw), refresh_token, .. })))
                if held.and_then(TokenSet::refresh_token)
                    == refresh_token.as_ref().map(ExposeSecret::expose_secret) =>
            {
                Err(flaw)
            }
            Ok(Some(exchanged)) => exchanged,
            // Its message isn't shown, because it may hold a secret.
            Ok(None) => Err(FetchError::try_again("the grant panicked")),
            Err(_) => Err(FetchError::try_again(format!("the grant took longer than {most:?} and was dropped"))),
        }
    }

    /// The client's credentials and what it asks for. What the server said to another configuration may not hold for this one. Unknown
    /// while the grant panics.
    fn credentials(&self) -> Option<Credentials> {
        Some(contained(|| self.grant.credentials())??.with(self.account.asks()))
    }

    /// A mark of the configuration with these credentials, for failures in the entry.
    fn configuration(&self, credentials: Option<&Credentials>) -> String {
        let credentials = credentials.cloned().unwrap_or_else(|| Credentials::of(self.account.asks()));
        credentials.mark(&self.account.id())
    }

    /// What `plan` has to know, without the credentials and the configuration.
    fn question<'a>(&'a self, memo: &'a Memo, request: &'a FetchRequest) -> Question<'a> {
        Question {
            request,
            handed_on: memo.handed_on.as_ref().map(ExposeSecret::expose_secret),
            refused_for: request.refused_for(),
            asks: self.account.asks(),
            credentials: None,
            configuration: "",
            keeper: &self.name,
            last_spending_lease: memo.last_spending_lease,
            is_first: !memo.has_fetched,
            check_refresh_token: memo.check_refresh_token,
            grace: self.options.grace,
            last_resort: self.options.last_resort,
            now: self.time.wall(),
        }
    }

    pub(super) fn storage(&self) -> Storage {
        let memo = self.memo();
        match &memo.unsaved {
            Some(unsaved) if unsaved.is_irreplaceable() => Storage::Unsaved,
            Some(_) => Storage::Unreachable,
            None if memo.went_without_store => Storage::Unreachable,
            None => Storage::Sound,
        }
    }

    fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on a set out of the store. If its refresh token may be spent or dead, that is found out soon, while the access token works.
    fn hand_on_stored(&self, record: &Record, set: &TokenSet) -> Result<AgedToken, FetchError> {
        let now = self.time.now();
        self.memo().check_refresh_token_at = match record {
            Record { dead: Some(_), .. } => Some(now),
            Record { intent: Some(_), .. } => Some(now + self.options.lease),
            _ => None,
        };
        self.hand_on(set, set.age(self.time.wall()))
    }

    fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<AgedToken, FetchError> {
        let token = set.to_access_token(age, self.time.wall());
        let token = token.ok_or_else(|| FetchError::try_again("there is no access token in the set"))??;
        self.inbox.put_in_use(Some(set));
        self.memo().handed_on.clone_from(&set.access_token);
        Ok(AgedToken { token, age, at: self.time.now() })
    }
}

/// A name that no other keeper has.
fn to_name(number: u64) -> String {
    format!("{number:016x}")
}

/// The first pause before the store is read again. It grows where the pause repeats.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// The target of events about the store. It is named after the public type, so that users' filters don't depend on modules.
const TARGET: &str = "tower_bearer::oauth2::stored";
