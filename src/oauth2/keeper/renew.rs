//! The owner at work: it waits, for the store, for the lease, for the token endpoint. What it does is decided in `plan`.

use std::{future::Future, mem, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{
    Grant, Handed, Keeper, SHORTEST_WAIT, TARGET,
    changes::LOOK_FOR_USER,
    memo::Place,
    outcome::Failed,
    plan::{self, Fetch, Plan, Question, Spend},
};
use crate::{
    AccessToken, FetchError, FetchErrorKind, FetchReason, FetchRequest,
    clock::Moment,
    oauth2::EndpointError,
    panics::contained,
    store::{
        Lease, StoreError, Swap, TokenStore,
        record::{Intent, Record},
    },
};

/// Why there is none.
pub(super) enum Trouble {
    Fetch(FetchError),
    Store(StoreError),
}

/// What came of a lease.
enum Worked {
    Handed(Handed),
    /// Somebody else has changed what is stored meanwhile.
    LookAgain,
    /// Nobody may have the lease for so long, so that whoever knows more comes first.
    GiveWay(Duration),
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// One fetch.
    pub(in crate::oauth2) async fn renew(self: Arc<Self>, request: FetchRequest) -> Result<Handed, FetchError> {
        {
            let mut memo = self.memo();
            (memo.news, memo.unreachable) = (false, false);
            let refused = request.refused().filter(|_| request.reason() == FetchReason::Refused);
            if let Some(token) = refused.map(AccessToken::expose_secret)
                && memo.refused.as_ref().is_none_or(|(before, _)| before.expose_secret() != token)
            {
                memo.refused = Some((token.into(), self.time.now()));
            }
        }
        let fetched = match self.take_letters().await {
            Ok(()) => self.renew_saved(&request).await,
            Err(error) => match self.make_do(&request) {
                Some(handed) => handed.map_err(Trouble::Fetch),
                None => Err(Trouble::Store(error)),
            },
        };
        self.memo().resolve = false;
        let fetched = match fetched {
            Err(Trouble::Store(error)) => self.renew_alone(error, &request).await,
            Err(Trouble::Fetch(error)) => Err(error),
            Ok(handed) => Ok(handed),
        };
        let asked = fetched.as_ref().err().and_then(FetchError::wait_asked);
        let pauses = |error: &FetchError| error.kind() != FetchErrorKind::TryAgain || asked > Some(LOOK_FOR_USER);
        let waits_for_user = self.store.is_shared() && fetched.as_ref().is_err_and(pauses);
        let (mut memo, now) = (self.memo(), self.time.now());
        memo.look_for_user_at = waits_for_user.then(|| now + LOOK_FOR_USER);
        memo.told_to_wait_until = asked.map(|wait| now + wait);
        memo.given_up = memo.newest.authorized_at();
        drop(memo);
        fetched
    }

    /// With a store that works, and nothing in hand that it doesn't have.
    async fn renew_saved(self: &Arc<Self>, request: &FetchRequest) -> Result<Handed, Trouble> {
        // Only the process that fetches knows how slow the server is: one that waits for it allows it the longest time.
        let give_up = self.time.now() + request.longest_timeout();
        let (mut waited, mut expects_news) = (false, false);
        loop {
            let (record, _, set_back) = self.load().await?;
            self.inbox.hold(record.set.as_ref());
            match self.plan(&record, request) {
                // What is missing in the store is put back first.
                Plan::HandOn(set) if !set_back => return Ok(self.hand_on_stored(&record, &set)?),
                Plan::Fail(error) if !set_back => return Err(error.into()),
                _ if waited && (self.inbox.is_closed() || self.time.now() >= give_up) => {
                    return Err(FetchError::try_again("another process that shares the store is still fetching").into());
                }
                _ => waited = true,
            }
            let lease = self.next_lease();
            let asked_at = self.time.now();
            let left = match self.ask(self.store.lease(&lease, self.options.lease)).await? {
                Lease::Granted => {
                    let worked = self.work(&lease, asked_at, request).await;
                    // If it can't be given back, it ends by itself.
                    let _ = self.ask(self.store.release(&lease)).await;
                    match worked? {
                        Worked::Handed(handed) => return Ok(handed),
                        Worked::LookAgain => {
                            // Whatever it is that says so again and again.
                            sleep(SHORTEST_WAIT).await;
                            continue;
                        }
                        Worked::GiveWay(wait) => {
                            self.wait_or_letter(sleep(wait)).await?;
                            continue;
                        }
                    }
                }
                Lease::Held(left) => left,
            };
            // Another process is fetching, so news is likely: at the slow pace of before, a token that lives for seconds could end.
            if !mem::replace(&mut expects_news, true) {
                self.memo().told.1 = 0;
            }
            // Then it has done, or it is dead.
            let wait = self.wait_for_holder(left);
            self.wait_or_letter(async { drop(timeout(wait, self.told_of_change()).await) }).await?;
        }
    }

    /// Waits, but not while somebody wants to have a set taken up.
    async fn wait_or_letter(self: &Arc<Self>, wait: impl Future<Output = ()>) -> Result<(), Trouble> {
        let has_letter = async {
            while !self.inbox.has_news() {
                self.inbox.arrived.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = has_letter => Ok(self.take_letters().await?),
            () = wait => Ok(()),
        }
    }

    /// With the lease.
    async fn work(self: &Arc<Self>, lease: &str, leased_at: Moment, request: &FetchRequest) -> Result<Worked, Trouble> {
        // Again: what another process stored before it gave the lease back.
        let (mut record, mut version, set_back) = self.load().await?;
        if set_back {
            contained(|| warn!(target: TARGET, "the token store was set back: what is missing is put there again"));
            record.restored_at = Some(self.time.wall());
            return Ok(match self.swap(version, &record).await? {
                Swap::Done => Worked::GiveWay(SHORTEST_WAIT),
                Swap::Lost => Worked::LookAgain,
            });
        }
        let Fetch { held, spend, dead } = match self.plan(&record, request) {
            Plan::HandOn(set) => return Ok(Worked::Handed(self.hand_on_stored(&record, &set)?)),
            Plan::Fail(error) | Plan::Later(error) => return Err(error.into()),
            Plan::Fetch(fetch) => fetch,
        };
        if let Some(wait) = self.wait_before_spending(&record, spend) {
            return Ok(Worked::GiveWay(wait));
        }
        let before = match (spend, &dead) {
            (Spend::Once, _) => {
                record.intent = Some(Intent { at: self.time.wall(), by: lease.to_owned() });
                // That was waited for.
                record.restored_at = None;
                true
            }
            (Spend::Again, _) => {
                // From now on it doesn't matter what became of the first attempt, which whoever made it may know.
                record.intent = record.intent.map(|intent| Intent { by: lease.to_owned(), ..intent });
                self.note_spent();
                true
            }
            (_, Some(dead)) if record.dead.as_ref() != Some(dead) => {
                record.dead = Some(dead.clone());
                true
            }
            _ => false,
        };
        if before {
            match self.swap(version, &record).await? {
                Swap::Done => version += 1,
                Swap::Lost => return Ok(Worked::LookAgain),
            }
        }
        let is_late = self.time.now().since(leased_at) > self.options.lease / 2;
        // It may be free because somebody else has had it meanwhile, and that one has left another version.
        if spend != Spend::Nothing
            && is_late
            && (self.ask(self.store.lease(lease, self.options.lease)).await? != Lease::Granted
                || self.load().await?.1 != version)
        {
            return Ok(Worked::LookAgain);
        }

        // The grace may have ended meanwhile.
        if spend == Spend::Again
            && !matches!(self.plan(&record, request), Plan::Fetch(Fetch { spend: Spend::Again, .. }))
        {
            return Ok(Worked::LookAgain);
        }

        let spent_before = if spend == Spend::Nothing { self.memo().spent } else { self.note_spent() };
        // A little early, since the connection may have to be made first: the token then counts as older than it is, never as
        // younger.
        let sent = self.time.now();
        let repeatable = self.grant.is_repeatable(held.as_ref());
        let limit = if repeatable { request.timeout() } else { request.longest_timeout() };
        match self.while_leased(lease, self.exchange(held.as_ref(), limit)).await {
            Ok(brought) => {
                let (next, flaw) = self.next_of(&record, brought, held.as_ref(), request);
                let set = next.set.clone().expect("it was just put there");
                let spent = spend != Spend::Nothing;
                match self.swap_ours(version, &record, &next).await {
                    Ok(Swap::Done) => {}
                    Ok(Swap::Lost) if !spent => return Ok(Worked::LookAgain),
                    stored => {
                        if let Err(error) = &stored {
                            contained(|| warn!(target: TARGET, %error, "the token store failed"));
                        }
                        let place = if spent { Place::Of(record.set) } else { Place::Free(record.set) };
                        self.keep_unsaved(set.clone(), place, record.authorized_at);
                        // Lost: another process has taken over while this one slept. It may have stored a newer set.
                        if stored.is_ok() && self.save(Some(lease)).await.is_ok() && self.memo().unsaved.is_none() {
                            return Ok(Worked::LookAgain);
                        }
                        self.save_later();
                    }
                }
                match flaw {
                    Some(flaw) => {
                        self.inbox.hold(Some(&set));
                        Err(flaw.into())
                    }
                    None => {
                        self.memo().store_was_unreliable = false;
                        Ok(Worked::Handed(self.hand_on(&set, self.time.now().since(sent))?))
                    }
                }
            }
            Err(error) => {
                let took = self.time.now().since(sent);
                let failed = Failed { spent_before, spend, record, version, request, took };
                let Some(error) = self.write_down(failed, error).await else { return Ok(Worked::LookAgain) };
                Err(Trouble::Fetch(match dead {
                    Some(dead) if error.kind() == FetchErrorKind::ReauthorizationRequired => {
                        FetchError::reauthorize(EndpointError::unsent(&dead.text))
                    }
                    _ => error,
                }))
            }
        }
    }

    /// From now on what is written about any lease of ours counts; returns how far it did before.
    fn note_spent(&self) -> u64 {
        let mut memo = self.memo();
        let leases = memo.leases;
        std::mem::replace(&mut memo.spent, leases)
    }

    fn plan(&self, record: &Record, request: &FetchRequest) -> Plan {
        let held = record.set.as_ref();
        // The grant may be anybody's: not under the lock.
        let repeatable = held.is_none_or(|set| set.refresh_token.is_none()) || self.grant.is_repeatable(held);
        let (credentials, of) = (self.credentials(), self.configuration());
        let memo = self.memo();
        let question = Question { credentials, of: &of, ..self.question(&memo, request) };
        plan::plan(record, &question, |_| repeatable)
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
