//! Tests: a store that is gone for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::SystemTime,
};

use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    LiveToken, State,
    clock::Clock,
    store::{Entry, Lease, StoreError, Swap},
};

const SECOND: Duration = Duration::from_secs(1);

/// Memory that can't be reached while it is told so.
struct Gone(Memory, Arc<AtomicBool>);

impl TokenStore for Gone {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        if self.1.load(Relaxed) {
            return Err(StoreError::unreachable("gone"));
        }
        self.0.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.0.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.0.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.0.release(holder).await
    }

    async fn changed(&self, known: u64) {
        self.0.changed(known).await;
    }
}

/// A wall clock that goes as tokio's does.
struct Together(Instant);

impl Clock for Together {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.elapsed()
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// Rotates refresh tokens; access tokens live for ten seconds.
struct Rotating(Arc<AtomicU32>, Together);

impl Grant for Rotating {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        let mut set = TokenSet::of_access_token(format!("a{number}")).expires_in(10 * SECOND);
        set.requested_at = self.1.wall();
        Ok(set.with_refresh_token(format!("r{number}")))
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        held.is_none()
    }
}

/// tokio's clock: the paused one.
#[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_store_goes_on_soon_after_it_is_back() {
    let (gone, start) = (Arc::new(AtomicBool::new(false)), now());
    let grant = Rotating(Arc::default(), Together(start));
    let calls = grant.0.clone();
    let mut source = Stored::in_store(grant, Gone(Memory::default(), gone.clone()));
    Arc::get_mut(&mut source.keeper).unwrap().time = Timeline::new(Arc::new(Together(start)));
    let token =
        LiveToken::builder(source.holding(TokenSet::of_refresh_token("r"))).seed(1).clock(Together(start)).spawn();
    token.ready().await.unwrap();
    gone.store(true, Relaxed);
    sleep(600 * SECOND).await;
    assert_eq!(
        (calls.load(Relaxed), token.status().state()),
        (1, State::Expired),
        "nothing is spent without the store"
    );
    gone.store(false, Relaxed);
    let back = now();
    token.ready().await.unwrap();
    assert!(back.elapsed() <= 2 * LEASE, "{:?}", back.elapsed());
    assert_eq!(calls.load(Relaxed), 2);
}
