//! Finding out that there is something new: in the inbox, in the store, or by waiting long enough.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Grant,
    keeper::{Keeper, SHORTEST_WAIT},
    plan,
};
use crate::{FetchRequest, store::TokenStore};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Resolves when there is something worth a fetch.
    pub(super) async fn news(&self) {
        loop {
            let (resolve_at, gone) = {
                let memo = self.memo();
                if memo.news {
                    return;
                }
                (memo.resolve_at, memo.gone)
            };
            let resolve = async {
                match resolve_at {
                    Some(at) => sleep(at.since(self.time.now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.inbox.arrived.notified() => if self.inbox.has_news() { return },
                () = resolve => {
                    let mut memo = self.memo();
                    (memo.resolve_at, memo.resolve, memo.news) = (None, true, true);
                }
                () = self.told_of_change() => self.look().await,
                // Whoever waits for the store need not wait for the end of a backoff that has grown with the outage.
                () = sleep(self.options.lease), if gone => self.look().await,
            }
        }
    }

    /// Resolves when the store says that it has changed. One that has said so in vain is asked later each time: it may be one that
    /// can't tell, or one whose announcements don't arrive.
    pub(super) async fn told_of_change(&self) {
        let (known, in_vain) = {
            let memo = self.memo();
            (memo.known, if memo.told.0 == memo.known { memo.told.1 } else { 0 })
        };
        if in_vain > 0 {
            let pause = SHORTEST_WAIT.saturating_mul(1 << (in_vain - 1).min(16));
            sleep(pause.min(self.options.lease)).await;
        }
        self.store.changed(known).await;
        self.memo().told = (known, in_vain.saturating_add(1));
    }

    /// Whether another process has stored something new, or the store is there again.
    async fn look(&self) {
        let (before, gone) = {
            let memo = self.memo();
            (memo.known, memo.gone)
        };
        match self.load().await {
            Ok(_) if gone => self.memo().news = true,
            Ok((record, version)) if version != before => {
                let request = FetchRequest::new(Duration::ZERO);
                let new = record.set.as_ref().is_some_and(|set| {
                    let memo = self.memo();
                    plan::is_worth_handing_on(set, &self.question(&memo, &request))
                });
                self.memo().news |= new;
            }
            Ok(_) => {}
            Err(_) => sleep(self.options.lease).await,
        }
    }
}
