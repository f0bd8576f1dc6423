//! Stores whose `changed` panics at each call, or whose futures panic when they are dropped. And grants that panic.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::scene::{Fault, GIVEN_WAY, HOUR, MINUTE, Mood, Rotating, SECOND, Server, Shelf, account, carried};
use crate::{
    FetchError, LiveToken, State, Storage,
    oauth2::{Grant, Stored, StoredHandle, TokenSet},
    store::{Account, Credentials, Entry, Lease, StoreError, Swap, TokenStore},
};

#[derive(Clone)]
struct Careless {
    shelf: Shelf,
    /// `changed` panics.
    nobody_listens: bool,
    /// From now on a lease is never granted, and whoever no longer waits for it meets a panic.
    breaks: Arc<AtomicBool>,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("wanted: dropped");
        }
    }
}

impl TokenStore for Careless {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.shelf.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.shelf.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        if self.breaks.load(Ordering::Relaxed) {
            let _connection = PanicsWhenDropped;
            pending().await
        }
        self.shelf.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.shelf.release(holder).await
    }

    async fn changed(&self, known: u64) {
        assert!(!self.nobody_listens, "wanted: changed");
        self.shelf.changed(known).await;
    }
}

fn careless(server: &Server, nobody_listens: bool) -> (LiveToken, StoredHandle, Careless) {
    server.lifetime(HOUR);
    let store = Careless { shelf: Shelf::new(), nobody_listens, breaks: Arc::default() };
    let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall).replay_grace(10 * SECOND);
    let source = source.holding(TokenSet::of_refresh_token("r0"));
    let handle = source.handle();
    (LiveToken::builder(source).clock(server.wall).seed(1).spawn(), handle, store)
}

#[tokio::test(start_paused = true)]
async fn a_set_is_adopted_at_once_though_the_store_panics_when_it_is_asked_for_changes() {
    let server = Server::new();
    let (token, account, _) = careless(&server, true);
    token.ready().await.unwrap();
    sleep(5 * SECOND).await;
    let adopted = tokio::time::timeout(2 * SECOND, account.adopt(TokenSet::of_refresh_token("fresh"))).await;
    assert!(adopted.is_ok(), "not within two seconds: {:?}", carried(&token));
    assert_eq!((carried(&token).as_deref(), server.shown("fresh")), (Some("a2"), true));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_noticed_though_it_panics_when_it_is_asked_for_changes() {
    let server = Server::new();
    let (token, _, store) = careless(&server, true);
    token.ready().await.unwrap();
    store.shelf.fault(Fault::Down);
    token.refresh().await.unwrap_err();
    sleep(10 * MINUTE).await;
    assert_eq!(token.status().storage(), Storage::Unreachable);
    store.shelf.fault(Fault::None);
    sleep(3 * SECOND).await;
    assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Sound));
}

/// Nothing has failed while an initial set in an empty store gives way to who knows a newer one.
#[tokio::test(start_paused = true)]
async fn a_panic_while_a_fetch_waits_for_the_store_is_no_failure() {
    let server = Server::new();
    let (token, ..) = careless(&server, true);
    sleep(GIVEN_WAY - SECOND / 10).await;
    assert_eq!((token.status().failures(), token.status().last_error().map(|error| error.to_string())), (0, None));
    sleep(SECOND / 2).await;
    assert_eq!(carried(&token).as_deref(), Some("a1"));
}

/// The lease is being renewed when the response comes, and that is given up.
#[tokio::test(start_paused = true)]
async fn a_panic_in_what_is_dropped_costs_no_answer() {
    let server = Server::new();
    server.takes(SECOND);
    server.grace(Duration::ZERO);
    let (token, _, store) = careless(&server, false);
    sleep(GIVEN_WAY + SECOND / 2).await;
    assert_eq!((server.requests(), token.status().is_usable()), (1, false), "the exchange runs");
    store.breaks.store(true, Ordering::Relaxed);
    sleep(SECOND).await;
    store.breaks.store(false, Ordering::Relaxed);
    assert_eq!((token.status().state(), carried(&token).as_deref()), (State::Live, Some("a1")));
    sleep(MINUTE).await;
    let found = (store.shelf.refresh_token(), server.requests(), server.reuses());
    assert_eq!(found, (Some("r1".to_owned()), 1, 0));
}

/// A grant that panics, so many times in its exchange, and while it can't read its secret.
#[derive(Clone)]
struct Clumsy {
    server: Server,
    exchanges: Arc<AtomicU32>,
    has_lost_its_secret: Arc<AtomicBool>,
}

impl Grant for Clumsy {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        let left = self.exchanges.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(left.is_err(), "wanted: exchange");
        Rotating(self.server.clone()).exchange(held, limit).await
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account()
    }

    fn credentials(&self) -> Option<Credentials> {
        assert!(!self.has_lost_its_secret.load(Ordering::Relaxed), "wanted: credentials");
        Some(Credentials::of("secret"))
    }
}

fn clumsy(server: &Server, shelf: &Shelf) -> (LiveToken, StoredHandle, Clumsy) {
    server.lifetime(HOUR);
    let grant = Clumsy { server: server.clone(), exchanges: Arc::default(), has_lost_its_secret: Arc::default() };
    let source = Stored::in_store(grant.clone(), shelf.clone()).clock(server.wall).replay_grace(10 * SECOND);
    let source = source.lease(MINUTE).holding(TokenSet::of_refresh_token("r0"));
    let handle = source.handle();
    (LiveToken::builder(source).clock(server.wall).seed(1).spawn(), handle, grant)
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_panics_leaves_no_lease_behind() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _, grant) = clumsy(&server, &shelf);
    grant.exchanges.store(2, Ordering::Relaxed);
    sleep(10 * SECOND).await;
    assert_eq!(grant.exchanges.load(Ordering::Relaxed), 0, "it has panicked twice");
    assert_eq!((token.status().state(), shelf.holder()), (State::Live, None), "{:?}", token.status().last_error());
}

#[tokio::test(start_paused = true)]
async fn a_set_is_adopted_though_the_grant_cannot_read_its_secret() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::Refuses);
    let (token, account, grant) = clumsy(&server, &shelf);
    token.ready().await.unwrap_err();
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    server.mood(Mood::Fine);
    grant.has_lost_its_secret.store(true, Ordering::Relaxed);
    sleep(MINUTE).await;
    let adopted = tokio::time::timeout(2 * SECOND, account.adopt(TokenSet::of_refresh_token("fresh"))).await;
    assert_eq!((adopted.is_ok(), token.status().state()), (true, State::Live), "{:?}", token.status().last_error());
}
