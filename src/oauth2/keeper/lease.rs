//! The right to work on the entry: kept while an exchange runs, and given back where somebody else may need it.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::sleep;

use super::{
    Grant, Keeper, SHORTEST_WAIT,
    memo::Abandoned,
    plan::{self, Spend},
};
use crate::store::{Lease, TokenStore, record::Record};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// How long to do without the lease that was granted, because somebody else may know more, or be at work: their intent and their lease
    /// may be gone with what the store has lost, and they take the lease back within a third of it.
    pub(super) fn wait_before_spending(&self, record: &Record, spend: Spend) -> Option<Duration> {
        if spend == Spend::Nothing {
            return None;
        }
        let left = |since: Duration, whole: Duration| (since < whole).then(|| whole - since);
        let now = self.time.now();
        let mut memo = self.memo();
        if let (Some(at), Some((_, seen))) = (record.restored_at, memo.restored) {
            // Where a configuration has found nothing, whoever knows more may not have heard yet that the store is there again.
            let is_planted = record.from_seed.is_some() && record.renewals == 0;
            let whole = if is_planted { GIVING_WAY } else { self.options.lease.min(GIVING_WAY) };
            if plan::distance(at, self.time.wall()) < whole + CLOCKS
                && let Some(wait) = left(now.since(seen), whole)
            {
                return Some(wait);
            }
        }
        let foreign = record.intent.as_ref().filter(|intent| !intent.by.starts_with(&self.me));
        let intent = foreign.filter(|_| self.store.is_shared())?;
        let known = memo.abandoned.take().filter(|known| known.by == intent.by);
        let since = known.map_or(now, |known| known.since);
        memo.abandoned = Some(Abandoned { by: intent.by.clone(), since, held_since: None });
        left(now.since(since), self.options.lease)
    }

    /// How long to wait for whoever has the lease: to the end of it, unless it was free before. Then it may be one that looks for a
    /// moment, as all do that wait for a dead member; whoever is at work keeps it.
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

    /// Waits, and keeps the lease meanwhile. If it can't, it waits on: what was sent can't be called back.
    pub(super) async fn while_leased<T>(&self, lease: &str, exchange: impl Future<Output = T>) -> T {
        let renewing = pin!(async {
            let mut pause = self.options.lease / 3;
            loop {
                sleep(pause).await;
                // Whoever has it instead gives way for a lease: in that time it must be taken back.
                pause = match self.ask(self.store.lease(lease, self.options.lease)).await {
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

/// Whoever knows more looks about once a second whether a store that was away is there again.
const GIVING_WAY: Duration = Duration::from_secs(2);

/// How far apart clocks are that agree.
const CLOCKS: Duration = Duration::from_secs(2);
