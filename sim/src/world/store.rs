//! A store that outlives the programs, as a file or a server does, with its latency and its troubles.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tower_bearer::store::{Entry, Lease, StoreError, Swap, TokenStore};

use super::{World, millis};
use crate::plan::{StoreHow, Tells};

/// What is stored: clones are the same.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    entry: Option<Entry>,
    /// Whose, and until when.
    lease: Option<(String, Duration)>,
    /// What was there, and since when.
    before: Vec<(Duration, Option<Entry>)>,
    /// Told to all at once, in the order in which they wait.
    news: Arc<Notify>,
}

impl Shelf {
    pub fn lose(&self) {
        let mut kept = self.lock();
        (kept.entry, kept.lease) = (None, None);
        kept.news.notify_waiters();
    }

    /// The refresh token in it: the format is documented.
    pub fn refresh_token(&self) -> Option<String> {
        let kept = self.lock();
        let record: serde_json::Value = serde_json::from_slice(kept.entry.as_ref()?.data()).ok()?;
        Some(record["set"]["refresh_token"].as_str()?.to_owned())
    }

    /// To what was there at that moment.
    pub fn set_back(&self, to: Duration) {
        let mut kept = self.lock();
        kept.before.retain(|(at, _)| *at <= to);
        kept.entry = kept.before.last().and_then(|(_, entry)| entry.clone());
        kept.lease = None;
        kept.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// A process's way to it.
pub struct SimStore(World);

impl SimStore {
    pub fn new(world: &World) -> Self {
        Self(world.clone())
    }

    /// Does this when the call arrives; what came of it when the answer does.
    async fn reach<T>(&self, act: impl FnOnce(&mut Kept, Duration) -> T) -> Result<T, StoreError> {
        let world = &self.0;
        let latency = millis(world.plan.store.takes.unwrap_or(2));
        world.alive().await;
        // From here on it is on its way, whatever becomes of its sender.
        let trouble = world.store_trouble();
        sleep(latency / 2).await;
        match trouble {
            Some(StoreHow::Fails) => {
                world.alive().await;
                return Err(StoreError::unreachable("it fails"));
            }
            // No hook is called: it is no fault of the crate.
            Some(StoreHow::Panics) => resume_unwind(Box::new("the store panics")),
            Some(StoreHow::Hangs) => pending().await,
            Some(StoreHow::Slow(more)) => sleep(millis(more)).await,
            Some(StoreHow::ActsAndFails) | None => {}
        }
        let acted = act(&mut world.shelf.lock(), world.trace.now());
        sleep(latency - latency / 2).await;
        world.alive().await;
        if trouble == Some(StoreHow::ActsAndFails) { Err(StoreError::unreachable("it fails")) } else { Ok(acted) }
    }
}

impl World {
    fn store_trouble(&self) -> Option<StoreHow> {
        let now = self.trace.now();
        let mut state = self.lock();
        let (how, _) = state.store_trouble.filter(|(_, until)| now < *until)?;
        // Only some calls panic. Where all fail, nothing can be written down before an exchange, so there is none.
        (how != StoreHow::Panics || state.rng.u8(..4) == 0).then_some(how)
    }
}

impl TokenStore for SimStore {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.reach(|kept, _| kept.entry.clone()).await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.reach(|kept, now| {
            if kept.entry.as_ref().map_or(0, Entry::version) != expected {
                return Swap::Lost;
            }
            kept.entry = Some(Entry::new(expected + 1, data.to_vec()));
            kept.before.push((now, kept.entry.clone()));
            kept.news.notify_waiters();
            Swap::Done
        })
        .await
    }

    async fn lease(&self, owner: &str, time: Duration) -> Result<Lease, StoreError> {
        self.reach(|kept, now| match &kept.lease {
            Some((other, until)) if other != owner && now < *until => Lease::Held(*until - now),
            _ => {
                kept.lease = Some((owner.to_owned(), now + time));
                Lease::Granted
            }
        })
        .await
    }

    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        self.reach(|kept, _| {
            kept.lease.take_if(|(other, _)| other == owner);
            kept.news.notify_waiters();
        })
        .await
    }

    async fn changed(&self, known: u64) {
        match self.0.plan.store.tells {
            Tells::Nothing => pending().await,
            Tells::Every(pause) => sleep(millis(pause)).await,
            Tells::AtOnce => {
                let news = self.0.shelf.lock().news.clone();
                let told = news.notified();
                let version = self.0.shelf.lock().entry.as_ref().map_or(0, Entry::version);
                if version == known {
                    told.await;
                }
            }
        }
        self.0.alive().await;
    }
}
