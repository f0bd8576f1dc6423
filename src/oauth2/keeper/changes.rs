//! Finding out that there is something new: in the inbox, in the store, or by waiting long enough.

use std::time::Duration;

use tokio::time::sleep;

use super::{Grant, Keeper, SHORTEST_WAIT, plan};
use crate::{
    FetchRequest,
    clock::Moment,
    store::{
        TokenStore,
        record::{Dead, End},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Resolves when there is something worth a fetch.
    pub(in crate::oauth2) async fn news(&self) {
        loop {
            let (resolve_at, gone, look_at, dead) = {
                let memo = self.memo();
                if memo.news {
                    return;
                }
                (memo.resolve_at, memo.gone, memo.look_for_user_at, memo.newest.dead().cloned())
            };
            tokio::select! {
                biased;
                () = self.inbox.arrived.notified() => if self.inbox.has_news() { return },
                () = self.until(resolve_at) => {
                    let mut memo = self.memo();
                    (memo.resolve_at, memo.resolve, memo.news) = (None, true, true);
                }
                () = self.other_credentials(dead) => {
                    let mut memo = self.memo();
                    (memo.resolve, memo.news) = (true, true);
                }
                () = self.told_of_change() => self.look().await,
                // Whoever waits for the store need not wait for the end of a backoff that has grown with the outage.
                () = sleep(self.options.lease.min(LONGEST_PAUSE)), if gone => self.look().await,
                // No fetch is scheduled, and the store may not announce changes.
                () = self.until(look_at) => {
                    self.look().await;
                    // After the look: this future may be dropped at any await.
                    self.memo().look_for_user_at = Some(self.time.now() + LOOK_FOR_USER);
                }
            }
        }
    }

    /// Resolves then, if that is ever.
    async fn until(&self, moment: Option<Moment>) {
        match moment {
            Some(at) => sleep(at.since(self.time.now())).await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the client proves itself with something else than what was refused.
    async fn other_credentials(&self, dead: Option<Dead>) {
        let Some(dead) = dead.filter(|dead| dead.end != End::Lost) else { return std::future::pending().await };
        while plan::still_holds(&dead, self.credentials().as_ref()) {
            sleep(LOOK_AT_CREDENTIALS).await;
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
        let (gone, may_ask) = {
            let memo = self.memo();
            (memo.gone, memo.told_to_wait_until.is_none_or(|until| until <= self.time.now()))
        };
        match self.load().await {
            // What the server has said doesn't depend on the store.
            Ok(_) if gone && may_ask => self.memo().news = true,
            // Whoever knows more than the store puts it back.
            Ok((_, _, true)) => self.memo().news = true,
            Ok((record, _, _)) => {
                let request = FetchRequest::new(Duration::ZERO);
                let mut memo = self.memo();
                let asked_for = record.set.as_ref().filter(|_| record.asks == self.account.asks());
                let new = asked_for.is_some_and(|set| plan::is_worth_handing_on(set, &self.question(&memo, &request)));
                // An authorization that another process was given and has not used yet, or never will.
                let revives = memo.look_for_user_at.is_some()
                    && record.dead.is_none()
                    && record.authorized_at > memo.given_up
                    && record.set.as_ref().is_some_and(|set| set.refresh_token().is_some());
                memo.news |= new || revives;
            }
            // Whoever looks because it is away has just slept so long.
            Err(_) if gone => {}
            Err(_) => sleep(self.options.lease.min(LONGEST_PAUSE)).await,
        }
    }
}

/// How soon a secret that was mended, in a file that the grant reads, is tried.
const LOOK_AT_CREDENTIALS: Duration = Duration::from_secs(5);

/// How soon an authorization that another process was given is found in a store that tells of nothing.
pub(super) const LOOK_FOR_USER: Duration = Duration::from_secs(60);

/// Between two looks at a store that is away: whoever adopts a set meanwhile waits for no longer than this, and what an emptied one has
/// lost is put back before anybody spends.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
