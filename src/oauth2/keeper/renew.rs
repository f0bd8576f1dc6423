//! One fetch, from its beginning to its end: it waits for the store, for the lease and for the token endpoint. `plan` decides what it does.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{
    AgedToken, Grant, Keeper, SHORTEST_WAIT, TARGET,
    changes::LOOK_FOR_AUTHORIZATION,
    entry::{Announced, Loaded},
    memo::Replaces,
    outcome::FailedExchange,
    plan::{self, Fetch, Plan, Question, Spend},
};
use crate::{
    FetchError, FetchErrorKind, FetchRequest,
    clock::Moment,
    oauth2::EndpointError,
    panics::contained,
    store::{
        Lease, StoreError, Swap, TokenStore,
        record::{Intent, Record},
    },
};

/// Why a fetch brought no token.
pub(super) enum RenewError {
    Fetch(FetchError),
    Store(StoreError),
}

/// What came of an attempt with the lease.
enum Attempt {
    Done(AgedToken),
    /// The same, and the lease is released.
    Stored(AgedToken),
    /// Another keeper has changed the entry: begin again.
    LookAgain,
    /// Begin again after this time, in which another keeper may take the lease.
    GiveWay(Duration),
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// One fetch.
    pub(in crate::oauth2) async fn renew(self: Arc<Self>, request: FetchRequest) -> Result<AgedToken, FetchError> {
        self.note_request();
        let fetched = match self.store_pending().await {
            Ok(()) => self.renew_with_store(&request).await,
            Err(error) => Err(error.into()),
        };
        self.memo().check_refresh_token = false;
        let fetched = match fetched {
            Err(RenewError::Store(error)) => {
                // Whoever has something to store gets its time again when the store is back.
                self.memo().abandoned = None;
                match self.hand_on_unsaved(&request) {
                    Some(token) => token,
                    None => self.renew_without_store(error, &request).await,
                }
            }
            Err(RenewError::Fetch(error)) => Err(error),
            Ok(token) => Ok(token),
        };
        self.note_result(fetched.as_ref().err());
        fetched
    }

    fn note_request(&self) {
        let configuration = self.configuration(self.credentials().as_ref());
        let (mut memo, now) = (self.memo(), self.time.now());
        memo.note_fetch_with(configuration, now);
        (memo.wants_fetch, memo.went_without_store) = (false, false);
    }

    fn note_result(&self, error: Option<&FetchError>) {
        let wait = error.and_then(FetchError::wait_asked);
        let is_long =
            |error: &FetchError| error.kind() != FetchErrorKind::TryAgain || wait > Some(LOOK_FOR_AUTHORIZATION);
        let waits_for_user = self.store.is_shared() && error.is_some_and(is_long);
        let (mut memo, now) = (self.memo(), self.time.now());
        memo.look_for_authorization_at = waits_for_user.then(|| now + LOOK_FOR_AUTHORIZATION);
        memo.server_wait_until = wait.map(|wait| now + wait);
        memo.last_authorization = memo.newest.authorized_at();
        memo.has_fetched = true;
        if error.is_none() {
            memo.abandoned = None;
            memo.suspected = None;
            if memo.newest.dead().is_none() {
                memo.fetched_with.clear();
            }
        }
    }

    /// A fetch while the store works and has every set that this keeper has.
    async fn renew_with_store(self: &Arc<Self>, request: &FetchRequest) -> Result<AgedToken, RenewError> {
        // The longest timeout, because another keeper may be the one that fetches, and only that one knows how slow the server is.
        let give_up = self.time.now() + request.longest_timeout();
        let (mut has_waited, mut expects_change, mut held_since) = (false, false, None);
        loop {
            let Loaded { record, set_back, .. } = self.load().await?;
            self.inbox.put_in_use(record.set.as_ref());
            match self.plan(&record, request) {
                // A store that was set back is restored first.
                Plan::HandOn(set) if !set_back => return Ok(self.hand_on_stored(&record, &set)?),
                Plan::Fail(error) if !set_back => return Err(error.into()),
                _ if has_waited && (self.inbox.is_closed() || self.time.now() >= give_up) => {
                    return Err(FetchError::try_again("another process that shares the store is still fetching").into());
                }
                _ => has_waited = true,
            }
            let lease = self.next_lease();
            let asked_at = self.time.now();
            let leased = self.lease_and_load(&lease).await;
            if leased.is_err() {
                self.release_later(&lease);
            }
            let left = match leased? {
                // Another process may have stored a set before it released the lease, so it was read again.
                Ok(loaded) => {
                    held_since = None;
                    let attempt = self.work(&lease, loaded, asked_at, request).await;
                    if let Ok(Attempt::Stored(token)) = attempt {
                        return Ok(token);
                    }
                    let store_fails = matches!(attempt, Err(RenewError::Store(_))) || self.memo().unsaved.is_some();
                    if store_fails {
                        self.release_later(&lease);
                    } else {
                        // A lease that can't be released ends by itself.
                        let _ = self.ask(|store| store.release(&lease)).await;
                    }
                    match attempt? {
                        Attempt::Done(token) | Attempt::Stored(token) => return Ok(token),
                        Attempt::LookAgain => {
                            // The pause is for a store that always says so.
                            sleep(SHORTEST_WAIT).await;
                            continue;
                        }
                        Attempt::GiveWay(wait) => {
                            self.wait_for_store(wait).await?;
                            continue;
                        }
                    }
                }
                Err(left) => left,
            };
            // Another process fetches, so a change is likely. False reports of before must not slow this down: tokens may live for seconds.
            if !mem::replace(&mut expects_change, true) {
                self.memo().false_report.1 = 0;
            }
            // After this time the holder is done or has died.
            let wait = if set_back {
                let now = self.time.now();
                self.wait_to_restore(left, now.since(*held_since.get_or_insert(now)))
            } else {
                self.wait_for_holder(left)
            };
            self.wait_for_store(wait).await?;
        }
    }

    /// Releases a lease that may be granted although the store failed. It may be a long one, and nobody works under it. The fetch doesn't wait
    /// for a store that fails.
    fn release_later(self: &Arc<Self>, lease: &str) {
        let (keeper, lease) = (self.clone(), lease.to_owned());
        tokio::spawn(async move {
            let _ = keeper.ask(|store| store.release(&lease)).await;
        });
    }

    /// Waits until the store has changed, at most for this time. If a set is adopted meanwhile, stores it at once.
    async fn wait_for_store(self: &Arc<Self>, longest: Duration) -> Result<(), RenewError> {
        let adopted = async {
            while !self.inbox.has_adopted() {
                self.inbox.changed.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = adopted => Ok(self.store_pending().await?),
            _ = timeout(longest, self.store_changed()) => Ok(()),
        }
    }

    /// An attempt with the lease.
    async fn work(
        self: &Arc<Self>,
        lease: &str,
        loaded: Loaded,
        leased_at: Moment,
        request: &FetchRequest,
    ) -> Result<Attempt, RenewError> {
        let Loaded { mut record, version, set_back } = loaded;
        if set_back {
            contained(|| warn!(target: TARGET, "the token store was set back: what is missing is put there again"));
            record.restored_at = Some(self.time.wall());
            return Ok(match self.swap(version, &record).await? {
                Swap::Done => Attempt::GiveWay(SHORTEST_WAIT),
                Swap::Lost => Attempt::LookAgain,
            });
        }
        let fetch = match self.plan(&record, request) {
            Plan::HandOn(set) => return Ok(Attempt::Done(self.hand_on_stored(&record, &set)?)),
            Plan::Fail(error) | Plan::Later(error) => return Err(error.into()),
            Plan::Fetch(fetch) => fetch,
        };
        if let Some(wait) = self.wait_before_spending(&record, fetch.spend) {
            return Ok(Attempt::GiveWay(wait));
        }
        let Some(announced) = self.announce(&fetch, lease, &mut record, version).await? else {
            return Ok(Attempt::LookAgain);
        };
        let is_late = self.time.now().since(leased_at) > self.options.lease / 2;
        // The lease may be free because another keeper had it meanwhile. Then the version has changed.
        if fetch.spend != Spend::Nothing
            && is_late
            && (self.ask(|store| store.lease(lease, self.lease_time())).await? != Lease::Granted
                || self.load().await?.version != announced.version)
        {
            return Ok(Attempt::LookAgain);
        }
        // The grace may have ended meanwhile.
        if fetch.spend == Spend::Again
            && !matches!(self.plan(&record, request), Plan::Fetch(Fetch { spend: Spend::Again, .. }))
        {
            return Ok(Attempt::LookAgain);
        }
        self.exchange_and_store(fetch, lease, record, announced, request).await
    }

    /// Writes to the entry what must be known before the exchange. `None` if another keeper has changed it.
    async fn announce(
        &self,
        fetch: &Fetch,
        lease: &str,
        record: &mut Record,
        version: u64,
    ) -> Result<Option<Announced>, RenewError> {
        match (fetch.spend, &fetch.dead) {
            (Spend::Once, _) => {
                record.intent = Some(Intent { at: self.time.wall(), lease: lease.to_owned() });
                // The wait for keepers that know more is over.
                record.restored_at = None;
            }
            (Spend::Again, _) => {
                // The intent is this keeper's from now on. What its first keeper knows of that attempt no longer counts.
                record.intent = record.intent.take().map(|intent| Intent { lease: lease.to_owned(), ..intent });
                self.note_spending();
            }
            (Spend::Nothing, Some(dead)) if record.dead.as_ref() != Some(dead) => record.dead = Some(dead.clone()),
            (Spend::Nothing, _) => return Ok(Some(Announced { version, written: None })),
        }
        Ok(self.swap_announced(version, record).await?)
    }

    async fn exchange_and_store(
        self: &Arc<Self>,
        fetch: Fetch,
        lease: &str,
        record: Record,
        announced: Announced,
        request: &FetchRequest,
    ) -> Result<Attempt, RenewError> {
        let Fetch { held, spend, dead } = fetch;
        let may_spend = spend != Spend::Nothing;
        let spending_lease_before = if may_spend { self.note_spending() } else { self.memo().last_spending_lease };
        // A little early, because the connection may have to be made first. So the token counts as older than it is, never as younger.
        let sent = self.time.now();
        let repeatable = self.grant.is_repeatable(held.as_ref());
        // Before the exchange: other credentials that come meanwhile are not those that the server judges.
        let credentials = self.credentials();
        let limit = if repeatable { request.timeout() } else { request.longest_timeout() };
        let brought = match self.while_leased(lease, self.exchange(held.as_ref(), limit)).await {
            Ok(brought) => brought,
            Err(error) => {
                let took = self.time.now().since(sent);
                let version = announced.version;
                let failed =
                    FailedExchange { spending_lease_before, spend, record, version, request, took, credentials };
                let Some(error) = self.record_failure(failed, error).await else { return Ok(Attempt::LookAgain) };
                return Err(RenewError::Fetch(match dead {
                    Some(dead) if error.kind() == FetchErrorKind::ReauthorizationRequired => {
                        FetchError::reauthorize(EndpointError::unsent(&dead.text))
                    }
                    _ => error,
                }));
            }
        };
        let (next, flaw) = self.record_after(&record, brought, held.as_ref(), request, credentials.as_ref());
        let set = next.set.clone().expect("it was just put there");
        let mut is_released = false;
        match self.swap_and_release(&announced, &next, lease).await {
            Ok(Swap::Done) => is_released = true,
            Ok(Swap::Lost) if !may_spend => return Ok(Attempt::LookAgain),
            stored => {
                if let Err(error) = &stored {
                    contained(|| warn!(target: TARGET, %error, "the token store failed"));
                }
                let replaces = if may_spend { Replaces::Spent(record.set) } else { Replaces::Fetched(record.set) };
                self.keep_unsaved(set.clone(), replaces, record.authorized_at);
                // Another process took over while this one was paused. It may have stored a newer set, which makes this one obsolete.
                if stored.is_ok() && self.save(Some(lease)).await.is_ok() && self.memo().unsaved.is_none() {
                    return Ok(Attempt::LookAgain);
                }
                self.save_later();
            }
        }
        match flaw {
            Some(flaw) => {
                self.inbox.put_in_use(Some(&set));
                Err(flaw.into())
            }
            None => {
                self.memo().store_was_unreliable = false;
                let token = self.hand_on(&set, self.time.now().since(sent))?;
                Ok(if is_released { Attempt::Stored(token) } else { Attempt::Done(token) })
            }
        }
    }

    /// From now on a refresh token may have been sent under any lease so far. Returns the last spending lease of before.
    fn note_spending(&self) -> u64 {
        let mut memo = self.memo();
        let lease = memo.lease_count;
        mem::replace(&mut memo.last_spending_lease, lease)
    }

    fn plan(&self, record: &Record, request: &FetchRequest) -> Plan {
        let held = record.set.as_ref();
        // Not under the lock: the grant may be a user's own.
        let repeatable = held.is_none_or(|set| set.refresh_token.is_none()) || self.grant.is_repeatable(held);
        let credentials = self.credentials();
        let configuration = self.configuration(credentials.as_ref());
        let memo = self.memo();
        let question = Question { credentials, configuration: &configuration, ..self.question(&memo, request) };
        plan::plan(record, &question, |_| repeatable)
    }
}

impl From<FetchError> for RenewError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<StoreError> for RenewError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
