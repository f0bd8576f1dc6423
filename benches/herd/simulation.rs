//! A herd of replicas, simulated: the crate's own code on tokio's paused clock, with seeds, so that each run is the same.

#![allow(unreachable_pub, reason = "a bench and a test share it")]

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tower_bearer::{
    FetchError, LiveToken,
    clock::Clock,
    oauth2::{Grant, Stored, TokenSet},
    store::{Account, Entry, Lease, Memory, StoreError, Swap, TokenStore},
};

/// How long tokens live, and how long the token endpoint takes.
pub const LIFETIME: Duration = Duration::from_secs(600);
pub const LATENCY: Duration = Duration::from_millis(100);

/// The endpoint is down from here to there, long enough for every token to expire.
pub const DOWN: Duration = Duration::from_secs(1_800);
pub const UP: Duration = Duration::from_secs(3_600);
pub const END: Duration = Duration::from_secs(5_400);

/// What came of it.
pub struct Outcome {
    /// Token requests, for each second.
    pub requests: Vec<u32>,
    /// When the last replica had a token again, after the endpoint was up.
    pub recovered: Duration,
}

impl Outcome {
    /// The most requests in one of these seconds.
    pub fn peak(&self, from: Duration, to: Duration) -> u32 {
        let range = from.as_secs() as usize..to.as_secs() as usize;
        self.requests[range].iter().copied().max().unwrap_or_default()
    }

    pub fn sum(&self, from: Duration, to: Duration) -> u32 {
        self.requests[from.as_secs() as usize..to.as_secs() as usize].iter().sum()
    }
}

/// Runs that many replicas, each for itself or all on one store. `tell` hears of every minute.
pub fn run(replicas: u64, shared: bool, tell: impl FnMut(Duration)) -> Outcome {
    // The random numbers that no seed of a live token covers.
    fastrand::seed(replicas);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulate(replicas, shared, tell))
}

async fn simulate(replicas: u64, shared: bool, mut tell: impl FnMut(Duration)) -> Outcome {
    let start = Instant::now();
    let (clock, shelf) = (Simulated(start), Shelf::default());
    let endpoint = Endpoint {
        start,
        down: Arc::default(),
        requests: Arc::new(Mutex::new(vec![0; END.as_secs() as usize + 1])),
        issued: Arc::default(),
    };
    let tokens: Vec<_> = (0..replicas)
        .map(|seed| {
            let builder = match shared {
                true => LiveToken::builder(Stored::in_store(endpoint.clone(), shelf.clone()).clock(clock)),
                false => LiveToken::builder(Stored::in_store(endpoint.clone(), Memory::default()).clock(clock)),
            };
            builder.clock(clock).seed(seed).spawn()
        })
        .collect();
    let mut recovered = None;
    for second in 1..=END.as_secs() {
        let now = Duration::from_secs(second);
        sleep_until(start + now).await;
        endpoint.down.store(now >= DOWN && now < UP, Ordering::Relaxed);
        if now >= UP && recovered.is_none() && tokens.iter().all(|token| token.status().is_usable()) {
            recovered = Some(now - UP);
        }
        if second.is_multiple_of(60) {
            tell(now);
        }
    }
    let requests = endpoint.requests.lock().expect("nobody panics").clone();
    Outcome { requests, recovered: recovered.unwrap_or(Duration::MAX) }
}

/// tokio's clock as the wall clock of all.
#[derive(Clone, Copy)]
struct Simulated(Instant);

impl Clock for Simulated {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.0.elapsed()
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A token endpoint that counts.
#[derive(Clone)]
struct Endpoint {
    start: Instant,
    down: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<u32>>>,
    issued: Arc<AtomicU64>,
}

impl Grant for Endpoint {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let second = self.start.elapsed().as_secs() as usize;
        if let Some(count) = self.requests.lock().expect("nobody panics").get_mut(second) {
            *count += 1;
        }
        tokio::time::sleep(LATENCY).await;
        match self.down.load(Ordering::Relaxed) {
            true => Err(FetchError::try_again("503")),
            false => {
                let number = self.issued.fetch_add(1, Ordering::Relaxed);
                let set = TokenSet::of_access_token(number.to_string()).expires_in(LIFETIME);
                Ok(set.with_requested_at(Simulated(self.start).wall()))
            }
        }
    }

    fn account(&self) -> Account {
        Account::new("https://id.test", "herd").for_client()
    }
}

/// A store without faults.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Contents>>, Arc<Notify>);

#[derive(Default)]
struct Contents {
    entry: Option<Entry>,
    lease: Option<(String, Instant)>,
}

impl TokenStore for Shelf {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        Ok(self.0.lock().expect("nobody panics").entry.clone())
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut contents = self.0.lock().expect("nobody panics");
        if contents.entry.as_ref().map_or(0, |entry| entry.version()) != expected {
            return Ok(Swap::Lost);
        }
        contents.entry = Some(Entry::new(expected + 1, data.to_vec()));
        self.1.notify_waiters();
        Ok(Swap::Done)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut contents = self.0.lock().expect("nobody panics");
        match &contents.lease {
            Some((other, end)) if other != holder && Instant::now() < *end => Ok(Lease::Held(*end - Instant::now())),
            _ => {
                contents.lease = Some((holder.to_owned(), Instant::now() + time));
                Ok(Lease::Granted)
            }
        }
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.0.lock().expect("nobody panics").lease.take_if(|(other, _)| other == holder);
        Ok(())
    }

    async fn changed(&self, known: u64) {
        // Not a `watch`: that wakes those who wait in an order of its own, another one each time.
        loop {
            let mut notified = pin!(self.1.notified());
            notified.as_mut().enable();
            if self.0.lock().expect("nobody panics").entry.as_ref().is_some_and(|entry| entry.version() != known) {
                return;
            }
            notified.await;
        }
    }
}
