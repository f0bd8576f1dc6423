//! The owner at work: it waits, for the store, for the lease, for the token endpoint. What it does is decided in `plan`.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use secrecy::ExposeSecret;
use tokio::{
    sync,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    Grant, TokenSet,
    handle::Inbox,
    memo::Memo,
    plan::{self, Fetch, Plan, Question, Spend},
    saving::Place,
};
use crate::{
    AccessToken, FetchError, FetchErrorKind, FetchRequest, Storage, backoff,
    clock::{Moment, Timeline},
    oauth2::EndpointError,
    store::{
        Identity, Lease, StoreError, Swap, TokenStore,
        record::{Dead, Failure, Intent, Record},
    },
};

pub(super) struct Keeper<G, S> {
    pub(super) grant: G,
    pub(super) store: S,
    pub(super) identity: Identity,
    pub(super) time: Timeline,
    pub(super) inbox: Arc<Inbox>,
    pub(super) options: Options,
    /// This owner, among those that share the store.
    pub(super) me: String,
    pub(super) state: Mutex<Memo>,
    /// One attempt to save at a time.
    pub(super) saving: sync::Mutex<()>,
}

#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) grace: Duration,
    pub(super) lease: Duration,
}

/// An access token, and how old it was at which moment.
pub(super) struct Handed {
    pub(super) token: AccessToken,
    pub(super) age: Duration,
    pub(super) at: Moment,
}

/// Why there is none.
enum Trouble {
    Fetch(FetchError),
    Store(StoreError),
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// One fetch.
    pub(super) async fn renew(self: Arc<Self>, request: FetchRequest) -> Result<Handed, FetchError> {
        {
            let mut memo = self.memo();
            (memo.news, memo.unreachable) = (false, false);
        }
        let fetched = match self.take_letters().await {
            Ok(()) => self.renew_saved(&request).await,
            Err(error) => match self.make_do(&request) {
                Some(handed) => handed.map_err(Trouble::Fetch),
                None => Err(Trouble::Store(error)),
            },
        };
        self.memo().resolve = false;
        match fetched {
            Err(Trouble::Store(error)) => self.renew_alone(error, &request).await,
            Err(Trouble::Fetch(error)) => Err(error),
            Ok(handed) => Ok(handed),
        }
    }

    /// With a store that works, and nothing in hand that it doesn't have.
    async fn renew_saved(self: &Arc<Self>, request: &FetchRequest) -> Result<Handed, Trouble> {
        let give_up = self.time.now() + request.timeout();
        let mut waited = false;
        loop {
            let (record, _) = self.load().await?;
            self.inbox.hold(record.set.as_ref());
            match self.plan(&record, request) {
                Plan::HandOn(set) => return Ok(self.hand_on_stored(&record, &set)?),
                Plan::Wait(error) => return Err(error.into()),
                Plan::Fetch(_) if waited && (self.inbox.is_closed() || self.time.now() >= give_up) => {
                    return Err(FetchError::try_again("another process that shares the store is still fetching").into());
                }
                Plan::Fetch(_) => waited = true,
            }
            let lease = self.next_lease();
            let asked_at = self.time.now();
            let left = match self.ask(self.store.lease(&lease, self.options.lease)).await? {
                Lease::Granted => {
                    let worked = self.work(&lease, asked_at, request).await;
                    // If it can't be given back, it ends by itself.
                    let _ = self.ask(self.store.release(&lease)).await;
                    match worked.transpose() {
                        Some(handed) => return handed,
                        // Somebody was faster after all.
                        None => continue,
                    }
                }
                Lease::Held(left) => left,
            };
            // Either it has done, or it is dead.
            let _ = timeout(left.clamp(SHORTEST_WAIT, self.options.lease), self.told_of_change()).await;
        }
    }

    /// With the lease. `None` if somebody else has changed what is stored meanwhile.
    async fn work(
        self: &Arc<Self>,
        lease: &str,
        leased_at: Moment,
        request: &FetchRequest,
    ) -> Result<Option<Handed>, Trouble> {
        // Again: what another process stored before it gave the lease back.
        let (mut record, mut version) = self.load().await?;
        let Fetch { held, spend, dead } = match self.plan(&record, request) {
            Plan::HandOn(set) => return Ok(Some(self.hand_on_stored(&record, &set)?)),
            Plan::Wait(error) => return Err(error.into()),
            Plan::Fetch(fetch) => fetch,
        };
        let before = match (spend, &dead) {
            (Spend::Once, _) => {
                record.intent = Some(Intent { at: self.time.wall(), by: lease.to_owned() });
                true
            }
            (Spend::Again, _) => {
                // From now on it doesn't matter what became of the first attempt, which whoever made it may know.
                record.intent = record.intent.map(|intent| Intent { by: lease.to_owned(), ..intent });
                self.note_spent();
                true
            }
            (_, Some(dead)) if record.dead.as_ref() != Some(dead) => {
                (record.dead, record.intent) = (Some(dead.clone()), None);
                true
            }
            _ => false,
        };
        if before {
            match self.swap(version, &record).await? {
                Swap::Done => version += 1,
                Swap::Lost => return Ok(None),
            }
        }
        let is_late = self.time.now().since(leased_at) > self.options.lease / 2;
        // It may be free because somebody else has had it meanwhile, and that one has left another version.
        if spend != Spend::Nothing
            && is_late
            && (self.ask(self.store.lease(lease, self.options.lease)).await? != Lease::Granted
                || self.load().await?.1 != version)
        {
            return Ok(None);
        }

        let spent_before = if spend == Spend::Nothing { self.memo().spent } else { self.note_spent() };
        // A little early, since the connection may have to be made first: the token then counts as older than it is, never as
        // younger.
        let sent = self.time.now();
        let repeatable = self.grant.is_repeatable(held.as_ref());
        let limit = if repeatable { request.timeout() } else { UNREPEATABLE };
        match self.while_leased(lease, self.exchange(held.as_ref(), limit)).await {
            Ok(brought) => {
                let set = brought.succeed(held.as_ref());
                let spent = spend != Spend::Nothing;
                match self.swap(version, &record.clone().with_set(set.clone())).await {
                    Ok(Swap::Done) => {}
                    Ok(Swap::Lost) if !spent => return Ok(None),
                    stored => {
                        if let Err(error) = &stored {
                            warn!(%error, "the token store failed");
                        }
                        let place = if spent { Place::Of(record.set) } else { Place::Free(record.set) };
                        self.keep_unsaved(set.clone(), place);
                        // Lost: another process has taken over while this one slept. It may have stored a newer set.
                        if stored.is_ok() && self.save(Some(lease)).await.is_ok() && self.memo().unsaved.is_none() {
                            return Ok(None);
                        }
                        self.save_later();
                    }
                }
                Ok(Some(self.hand_on(&set, self.time.now().since(sent))?))
            }
            Err(error) => {
                self.write_down(spent_before, spend, record, version, &error).await;
                Err(Trouble::Fetch(match dead {
                    Some(dead) if error.kind() == FetchErrorKind::ReauthorizationRequired => {
                        FetchError::reauthorize(EndpointError::unsent(&dead.text))
                    }
                    _ => error,
                }))
            }
        }
    }

    /// Tells the others how it failed, and whether the refresh token is still good. As far as the store lets it: what isn't written
    /// makes the next one more careful, nothing else.
    async fn write_down(&self, spent: u64, spend: Spend, mut record: Record, version: u64, error: &FetchError) {
        let refusal = error.cause().downcast_ref::<EndpointError>();
        let unspent = spend == Spend::Once && refusal.is_some_and(|refusal| !refusal.may_have_acted());
        if unspent {
            // Should the intent stay nevertheless, this owner knows better.
            record.intent = None;
            self.memo().spent = spent;
        }
        if error.kind() == FetchErrorKind::ReauthorizationRequired
            && let Some(refusal) = refusal.filter(|refusal| refusal.code().is_some())
            && spend != Spend::Nothing
        {
            record.dead = Some(Dead { lost: false, text: refusal.to_string() });
        } else if error.kind() == FetchErrorKind::TryAgain {
            let count = record.failures().saturating_add(1);
            let lifetime = record.set.as_ref().and_then(|set| set.lifetime);
            if let Some(wait) = backoff::after_failure(error, count, lifetime, &mut Rng::new()) {
                let until = self.time.wall() + wait;
                record.failure = Some(Failure { count, until, by: self.me.clone(), text: error.cause().to_string() });
            }
        }
        let _ = self.swap(version, &record).await;
    }

    /// From now on what is written about any lease of ours counts; returns how far it did before.
    fn note_spent(&self) -> u64 {
        let mut memo = self.memo();
        let leases = memo.leases;
        std::mem::replace(&mut memo.spent, leases)
    }

    /// A grant may be anybody's, and one that hangs must not keep the lease for ever.
    pub(super) async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        match timeout(LONGEST_EXCHANGE, self.grant.exchange(held, limit)).await {
            Ok(exchanged) => exchanged,
            Err(_) => {
                Err(FetchError::try_again(format!("the grant took longer than {LONGEST_EXCHANGE:?} and was dropped")))
            }
        }
    }

    /// Waits, and keeps the lease meanwhile. If it can't, it waits on: what was sent can't be called back.
    async fn while_leased<T>(&self, lease: &str, exchange: impl Future<Output = T>) -> T {
        let renewing = pin!(async {
            loop {
                sleep(self.options.lease / 3).await;
                let _ = self.ask(self.store.lease(lease, self.options.lease)).await;
            }
        });
        tokio::select! {
            biased;
            exchanged = exchange => exchanged,
            () = renewing => unreachable!("it renews for ever"),
        }
    }

    fn plan(&self, record: &Record, request: &FetchRequest) -> Plan {
        let memo = self.memo();
        let question = self.question(&memo, request);
        plan::plan(record, &question, |set| {
            set.is_none_or(|set| set.refresh_token.is_none()) || self.grant.is_repeatable(set)
        })
    }

    pub(super) fn question<'a>(&'a self, memo: &'a Memo, request: &'a FetchRequest) -> Question<'a> {
        Question {
            request,
            handed: memo.handed.as_ref().map(ExposeSecret::expose_secret),
            me: &self.me,
            spent: memo.spent,
            resolve: memo.resolve,
            grace: self.options.grace,
            now: self.time.wall(),
        }
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

    pub(super) fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<Handed, FetchError> {
        let token = set.to_access_token(age, self.time.wall());
        let token = token.ok_or_else(|| FetchError::try_again("there is no access token in the set"))??;
        self.inbox.hold(Some(set));
        self.memo().handed.clone_from(&set.access_token);
        Ok(Handed { token, age, at: self.time.now() })
    }

    pub(super) async fn load(&self) -> Result<(Record, u64), StoreError> {
        let loaded = self.ask(self.store.load()).await;
        self.memo().gone = loaded.is_err();
        let entry = loaded?;
        let version = entry.as_ref().map_or(0, |entry| entry.version());
        let record = Record::read(entry.as_ref(), &self.identity)?;
        self.memo().known = version;
        Ok((record, version))
    }

    pub(super) async fn swap(&self, expected: u64, record: &Record) -> Result<Swap, StoreError> {
        let data = record.write(&self.identity);
        let swapped = self.ask(self.store.swap(expected, &data)).await?;
        if swapped == Swap::Done {
            self.memo().known = expected + 1;
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

    pub(super) fn storage(&self) -> Storage {
        let memo = self.memo();
        match &memo.unsaved {
            Some(unsaved) if unsaved.is_spent() => Storage::Unsaved,
            Some(_) => Storage::Unreachable,
            None if memo.unreachable => Storage::Unreachable,
            None => Storage::Sound,
        }
    }

    pub(super) fn memo(&self) -> MutexGuard<'_, Memo> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// How long an exchange may take that spends what it sends: giving it up early would lose it.
const UNREPEATABLE: Duration = Duration::from_secs(30);

/// A grant that asks twice, as `LegacyPassword` does, may take the longest limit twice.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(61);

/// No store of a program that is in use takes longer; a lease of the default length has ended by then.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// Between two looks at a store that says in vain that it has changed: the first time.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(20);
