//! A store that outlives the program, as a file or a server does.

use std::{
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower_bearer::store::{Entry, Lease, StoreError, Swap, TokenStore};

use super::World;

/// What is stored: clones are the same.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Kept>>);

/// A process's way to it.
pub struct SimStore {
    shelf: Shelf,
    world: World,
}

impl SimStore {
    pub fn new(shelf: &Shelf, world: &World) -> Self {
        Self { shelf: shelf.clone(), world: world.clone() }
    }

    /// What is there when the call arrives.
    async fn reach(&self) -> MutexGuard<'_, Kept> {
        sleep(LATENCY).await;
        self.world.alive().await;
        self.shelf.0.lock().expect("nobody panics with it")
    }
}

#[derive(Default)]
struct Kept {
    entry: Option<Entry>,
    lease: Option<(String, Instant)>,
}

impl TokenStore for SimStore {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        Ok(self.reach().await.entry.clone())
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut kept = self.reach().await;
        if kept.entry.as_ref().map_or(0, Entry::version) != expected {
            return Ok(Swap::Lost);
        }
        kept.entry = Some(Entry::new(expected + 1, data.to_vec()));
        Ok(Swap::Done)
    }

    async fn lease(&self, owner: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut kept = self.reach().await;
        let now = Instant::now();
        match &kept.lease {
            Some((other, until)) if other != owner && now < *until => Ok(Lease::Held(*until - now)),
            _ => {
                kept.lease = Some((owner.to_owned(), now + time));
                Ok(Lease::Granted)
            }
        }
    }

    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        let mut kept = self.reach().await;
        kept.lease.take_if(|(other, _)| other == owner);
        Ok(())
    }

    fn changed(&self, _: u64) -> impl Future<Output = ()> + Send {
        pending()
    }
}

const LATENCY: Duration = Duration::from_millis(2);
