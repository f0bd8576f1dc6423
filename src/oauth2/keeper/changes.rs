//! Waiting until there is a reason to fetch: a set was adopted, the store has changed, or it is time to look.

use std::time::Duration;

use tokio::time::sleep;

use super::{Grant, Keeper, SHORTEST_WAIT, entry::Loaded, plan};
use crate::{
    FetchRequest,
    clock::Moment,
    panics::Contained,
    store::{
        TokenStore,
        record::{Dead, End},
    },
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Resolves when there is a reason to fetch.
    pub(in crate::oauth2) async fn wait_for_change(&self) {
        loop {
            let (check_at, read_failed, look_at, dead) = {
                let memo = self.memo();
                if memo.wants_fetch {
                    return;
                }
                let dead = memo.newest.dead().cloned();
                (memo.check_refresh_token_at, memo.read_failed, memo.look_for_authorization_at, dead)
            };
            tokio::select! {
                biased;
                () = self.inbox.changed.notified() => if self.inbox.has_adopted() { return },
                () = self.sleep_until(check_at) => {
                    let mut memo = self.memo();
                    (memo.check_refresh_token_at, memo.check_refresh_token, memo.wants_fetch) = (None, true, true);
                }
                () = self.credentials_changed(dead) => {
                    let mut memo = self.memo();
                    (memo.check_refresh_token, memo.wants_fetch) = (true, true);
                }
                () = self.store_changed() => self.look_at_store().await,
                // A backoff that grew while the store was away need not end before the store is used again.
                () = sleep(self.options.lease.min(LONGEST_PAUSE)), if read_failed => self.look_at_store().await,
                // No fetch is scheduled, and the store may not announce changes.
                () = self.sleep_until(look_at) => {
                    self.look_at_store().await;
                    // Set after the look, because this future may be dropped at any await.
                    self.memo().look_for_authorization_at = Some(self.time.now() + LOOK_FOR_AUTHORIZATION);
                }
            }
        }
    }

    /// Resolves when a set was adopted, or when one that was unsaved is stored. Asks nobody.
    pub(in crate::oauth2) async fn wait_for_change_here(&self) {
        while !self.inbox.has_adopted() && !self.memo().wants_fetch {
            self.inbox.changed.notified().await;
        }
    }

    /// Resolves at this moment; never, if there is none.
    async fn sleep_until(&self, moment: Option<Moment>) {
        match moment {
            Some(at) => sleep(at.since(self.time.now())).await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the client has other credentials than those that were refused, and than those of the last fetches: their backoff goes
    /// on.
    async fn credentials_changed(&self, dead: Option<Dead>) {
        let Some(dead) = dead.filter(|dead| dead.end != End::Lost) else { return std::future::pending().await };
        loop {
            let credentials = self.credentials();
            let configuration = self.configuration(credentials.as_ref());
            if !plan::still_holds(&dead, credentials.as_ref())
                && self.memo().is_another(&configuration, self.time.now())
            {
                return;
            }
            sleep(LOOK_AT_CREDENTIALS).await;
        }
    }

    /// Resolves when the store reports a change. After each false report it waits longer before it asks again: the store may not be able
    /// to tell.
    pub(super) async fn store_changed(&self) {
        let (known_version, false_reports) = {
            let memo = self.memo();
            let (version, count) = memo.false_report;
            (memo.known_version, if version == memo.known_version { count } else { 0 })
        };
        if false_reports > 0 {
            let pause = SHORTEST_WAIT.saturating_mul(1 << (false_reports - 1).min(16));
            sleep(pause.min(self.options.lease)).await;
        }
        // The call may panic before there is a future.
        if Contained::new(async { self.store.changed(known_version).await }).await.is_none() {
            // It is asked again later. Meanwhile everything else that causes a fetch is noticed.
            sleep(AFTER_A_PANIC).await;
        }
        self.memo().false_report = (known_version, false_reports.saturating_add(1));
    }

    /// Finds out whether the entry is a reason to fetch, or the store is back.
    async fn look_at_store(&self) {
        let (read_failed, may_ask) = {
            let memo = self.memo();
            (memo.read_failed, memo.server_wait_until.is_none_or(|until| until <= self.time.now()))
        };
        match self.load().await {
            // The store is back. What the server asked for still holds.
            Ok(_) if read_failed && may_ask => self.memo().wants_fetch = true,
            // The store was set back, and this keeper restores it.
            Ok(Loaded { set_back: true, .. }) => self.memo().wants_fetch = true,
            Ok(Loaded { record, .. }) => {
                let request = FetchRequest::new(Duration::ZERO);
                let mut memo = self.memo();
                let usable = record.set.as_ref().filter(|_| record.asks == self.account.asks());
                let new = usable.is_some_and(|set| plan::is_worth_handing_on(set, &self.question(&memo, &request)));
                // An authorization that another process was given, and that nobody has used yet.
                let revives = memo.look_for_authorization_at.is_some()
                    && record.dead.is_none()
                    && record.authorized_at > memo.last_authorization
                    && record.set.as_ref().is_some_and(|set| set.refresh_token().is_some());
                memo.wants_fetch |= new || revives;
            }
            // This look comes after a pause already.
            Err(_) if read_failed => {}
            Err(_) => sleep(self.options.lease.min(LONGEST_PAUSE)).await,
        }
    }
}

/// How soon the store is asked for changes again after that has panicked.
const AFTER_A_PANIC: Duration = Duration::from_secs(30);

/// How soon other credentials are noticed, such as a secret in a file that the grant reads.
const LOOK_AT_CREDENTIALS: Duration = Duration::from_secs(5);

/// How soon a new authorization of another process is found in a store that announces nothing.
pub(super) const LOOK_FOR_AUTHORIZATION: Duration = Duration::from_secs(60);

/// Between two looks at a store that failed: a set that was adopted waits no longer than this. And what an emptied store has lost is restored
/// before anybody spends, who waits four times as long: the machine may be busy.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
