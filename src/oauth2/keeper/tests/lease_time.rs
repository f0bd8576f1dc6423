//! How long leases are asked for, after the machine stood still.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::scene::{Fault, HOUR, Rotating, SECOND, Server, Shelf};
use crate::{
    LiveToken, Storage,
    oauth2::{Stored, TokenSet},
    store::{Entry, Lease, StoreError, Swap, TokenStore},
};

/// A store that tells for how long its leases were asked for.
#[derive(Clone)]
struct Timing {
    shelf: Shelf,
    asked_for: Arc<Mutex<Vec<Duration>>>,
    /// The answer to the next call for a lease is lost.
    loses_one: Arc<AtomicBool>,
}

impl Timing {
    fn new() -> Self {
        Self { shelf: Shelf::new(), asked_for: Arc::default(), loses_one: Arc::default() }
    }
}

impl TokenStore for Timing {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.shelf.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.shelf.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.asked_for.lock().unwrap().push(time);
        let leased = self.shelf.lease(holder, time).await;
        match self.loses_one.swap(false, Ordering::SeqCst) {
            true => Err(StoreError::unreachable("the answer was lost")),
            false => leased,
        }
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.shelf.release(holder).await
    }

    async fn changed(&self, known: u64) {
        self.shelf.changed(known).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stood_still_in_an_exchange_asks_for_longer_leases_from_then_on() {
    for (chosen, after) in [(None, 3 * (3 * SECOND - SECOND / 3)), (Some(2 * SECOND), 2 * SECOND)] {
        let server = Server::new();
        server.lifetime(HOUR);
        let store = Timing::new();
        let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall);
        let source = source.holding(TokenSet::of_refresh_token("r0"));
        let source = if let Some(chosen) = chosen { source.lease(chosen) } else { source };
        let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
        token.ready().await.unwrap();
        let least = chosen.unwrap_or(SECOND);
        assert!(store.asked_for.lock().unwrap().iter().all(|time| *time == least), "{:?}", store.asked_for);

        // It stands still while the exchange runs: its timers are late.
        server.takes(10 * SECOND);
        let refresh = tokio::spawn({
            let token = token.clone();
            async move { token.refresh().await }
        });
        sleep(SECOND / 1000).await;
        tokio::time::advance(3 * SECOND).await;
        refresh.await.unwrap().unwrap();
        store.asked_for.lock().unwrap().clear();
        token.refresh().await.unwrap();
        let asked_for = store.asked_for.lock().unwrap().clone();
        let close = |time: &Duration| time.abs_diff(after) < SECOND / 10;
        assert!(!asked_for.is_empty() && asked_for.iter().all(close), "{asked_for:?} for {chosen:?}");
    }
}

/// A long lease is for a holder that may stand still. Nobody has one whose answer was lost.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_answer_was_lost_is_not_waited_for() {
    let server = Server::new();
    server.lifetime(HOUR);
    let store = Timing::new();
    let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall);
    let source = source.holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    server.takes(20 * SECOND);
    let refresh = tokio::spawn({
        let token = token.clone();
        async move { token.refresh().await }
    });
    sleep(SECOND / 1000).await;
    tokio::time::advance(10 * SECOND).await;
    refresh.await.unwrap().unwrap();

    server.takes(SECOND / 10);
    store.loses_one.store(true, Ordering::SeqCst);
    token.refresh().await.unwrap_err();
    sleep(SECOND / 10).await;
    assert_eq!(store.shelf.holder(), None, "all would wait for the end of a lease of half a minute");
    token.refresh().await.unwrap();
}

/// Nor does a set wait for the end of such a lease that waits to be stored.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_answer_was_lost_does_not_keep_its_own_holder_from_storing() {
    let server = Server::new();
    server.lifetime(HOUR);
    let store = Timing::new();
    let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall);
    let source = source.holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    server.takes(20 * SECOND);
    let refresh = tokio::spawn({
        let token = token.clone();
        async move { token.refresh().await }
    });
    sleep(SECOND / 1000).await;
    tokio::time::advance(10 * SECOND).await;
    refresh.await.unwrap().unwrap();

    server.takes(2 * SECOND);
    let fails = async {
        sleep(SECOND).await;
        store.shelf.fault(Fault::ReadOnly);
    };
    let (refreshed, ()) = tokio::join!(token.refresh(), fails);
    refreshed.unwrap();
    sleep(SECOND / 20).await;
    assert_eq!((token.status().storage(), store.shelf.holder()), (Storage::Unsaved, None));
    store.loses_one.store(true, Ordering::SeqCst);
    store.shelf.fault(Fault::None);
    sleep(SECOND).await;
    assert!(!store.loses_one.load(Ordering::SeqCst), "it was asked for");
    assert_eq!((token.status().storage(), store.shelf.holder()), (Storage::Sound, None));
}
