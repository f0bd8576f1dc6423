//! The lease: the right to work on the entry. It is kept while an exchange runs, and left to another keeper that may need it.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::sleep;

use super::{
    Grant, Keeper, SHORTEST_WAIT,
    memo::Abandoned,
    plan::{self, Spend},
};
use crate::store::{Lease, StoreError, TokenStore, record::Record};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// The name of a new lease, which nobody has used before.
    pub(super) fn next_lease(&self) -> String {
        let mut memo = self.memo();
        memo.lease_count += 1;
        format!("{}-{}", self.name, memo.lease_count)
    }

    /// For how long to ask for a lease. A machine that stands still for longer loses it in the middle of an exchange, and another keeper
    /// sends the same refresh token.
    pub(super) fn lease_time(&self) -> Duration {
        match self.options.is_lease_fixed {
            true => self.options.lease,
            false => {
                let (mut memo, now) = (self.memo(), self.time.now());
                let lifetime = memo.newest.lifetime();
                memo.stops.lease(self.options.lease, lifetime, now)
            }
        }
    }

    /// Asks for a lease, and notes how long that took. A store that doesn't answer is another matter.
    pub(super) async fn timed<T>(&self, ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let began = self.time.now();
        let answer = ask.await?;
        let now = self.time.now();
        self.memo().stops.note(now.since(began), now);
        Ok(answer)
    }

    /// How long to go without the lease that was granted, so that another keeper can take it. That keeper may know a newer set, or it
    /// may be at work: where the store has lost its lease and its intent, it takes the lease back within a third of it.
    pub(super) fn wait_before_spending(&self, record: &Record, spend: Spend) -> Option<Duration> {
        if spend == Spend::Nothing {
            return None;
        }
        let left = |since: Duration, whole: Duration| (since < whole).then(|| whole - since);
        let now = self.time.now();
        let mut memo = self.memo();
        if let (Some(at), Some((_, seen))) = (record.restored_at, memo.restored) {
            // An initial set in an empty store: a keeper that knows a newer one may not have noticed yet that the store is back.
            let is_initial = record.from_seed.is_some() && record.renewals == 0;
            let whole = if is_initial { GIVING_WAY } else { self.options.lease.min(GIVING_WAY) };
            if plan::distance(at, self.time.wall()) < whole + CLOCK_DIFFERENCE
                && let Some(wait) = left(now.since(seen), whole)
            {
                return Some(wait);
            }
        }
        let foreign = record.intent.as_ref().filter(|intent| !intent.lease.starts_with(&self.name));
        let intent = foreign.filter(|_| self.store.is_shared())?;
        let known = memo.abandoned.take().filter(|known| known.lease == intent.lease);
        let since = known.map_or(now, |known| known.since);
        memo.abandoned = Some(Abandoned { lease: intent.lease.clone(), since, held_since: None });
        left(now.since(since), self.options.lease)
    }

    /// How long to wait for the holder of the lease: `left`, the rest of its lease.
    ///
    /// Shorter while an intent seems abandoned. Then all keepers take the lease for a moment to look at the entry, and this may be one
    /// of them. One that is at work keeps it.
    pub(super) fn wait_for_holder(&self, left: Duration) -> Duration {
        let (now, lease) = (self.time.now(), self.options.lease);
        let mut memo = self.memo();
        if let Some(abandoned) = &mut memo.abandoned {
            let since = *abandoned.held_since.get_or_insert(now);
            if now.since(since) < lease / 2 {
                return (lease / 20).max(SHORTEST_WAIT);
            }
        }
        memo.abandoned = None;
        left.clamp(SHORTEST_WAIT, lease)
    }

    /// The same for a keeper that knows a newer set than the store. `held_for`: for how long every look has found the lease held.
    ///
    /// Other keepers hold it for a moment each, and don't wait long before they spend what is stored. Whoever holds it for longer is at
    /// work, or dead.
    pub(super) fn wait_to_restore(&self, left: Duration, held_for: Duration) -> Duration {
        let lease = self.options.lease;
        if held_for < GIVING_WAY {
            return (lease.min(GIVING_WAY) / 20).max(SHORTEST_WAIT);
        }
        left.clamp(SHORTEST_WAIT, lease)
    }

    /// Waits for the exchange, and renews the lease meanwhile. When the lease is lost, it still waits: the request was sent.
    pub(super) async fn while_leased<T>(&self, lease: &str, exchange: impl Future<Output = T>) -> T {
        let renewing = pin!(async {
            let mut pause = self.options.lease / 3;
            loop {
                let due = self.time.now() + pause;
                sleep(pause).await;
                let now = self.time.now();
                self.memo().stops.note(now.since(due), now);
                // A keeper that was granted a lost lease waits for as long as the shortest lease. It must be taken back in that time.
                let time = self.lease_time();
                pause = match self.timed(self.ask(|store| store.lease(lease, time))).await {
                    Ok(Lease::Granted) => self.options.lease / 3,
                    _ => SHORTEST_WAIT.min(self.options.lease / 3),
                };
            }
        });
        tokio::select! {
            biased;
            exchanged = exchange => exchanged,
            () = renewing => unreachable!("it renews for ever"),
        }
    }
}

/// A keeper that knows a newer set looks twice a second whether a store that failed is back.
const GIVING_WAY: Duration = Duration::from_secs(2);

/// How much the clocks of two machines may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);
