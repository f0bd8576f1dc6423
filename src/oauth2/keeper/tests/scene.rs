//! A store with faults on demand, a server that rotates refresh tokens, and keepers between them.

#![allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use http::StatusCode;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    FetchError, LiveToken,
    clock::Clock,
    oauth2::{EndpointError, Grant, Stored, StoredHandle, TokenSet},
    store::{Account, Entry, Lease, StoreError, Swap, TokenStore, record::Record},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The wall clock goes with tokio's.
#[derive(Clone, Copy)]
pub(super) struct Wall(Instant);

impl Clock for Wall {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.0.elapsed()
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A fault of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// Every call fails.
    Down,
    /// Every swap fails. Other calls work.
    ReadOnly,
    /// Every swap is done, and returns an error.
    Deaf,
    /// No call ever returns.
    Hung,
    /// No call for a lease ever returns. Other calls work.
    LeaseHangs,
    /// No swap ever returns. Other calls work.
    SwapHangs,
}

/// A store that its clones share.
#[derive(Clone)]
pub(super) struct Shelf(Arc<Mutex<Inner>>, watch::Sender<u64>);

#[derive(Default)]
struct Inner {
    entry: Option<Entry>,
    lease: Option<(String, Instant)>,
    fault: Fault,
    /// This keeper believes that its leases are renewed, as a paused process does.
    asleep: Option<String>,
    /// The next call of this kind is done at once, and returns after this time.
    late: Option<(Call, Duration)>,
    /// `changed` always returns at once.
    nervous: bool,
    /// `changed` never returns.
    silent: bool,
    /// The longest duration of a call, and the randomness of each.
    distance: Option<(Duration, Rng)>,
    loads: u64,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Lease,
    Swap,
}

impl Shelf {
    pub(super) fn new() -> Self {
        Self(Arc::default(), watch::Sender::new(0))
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    pub(super) fn put(&self, entry: Option<Entry>) {
        self.lock().entry = entry;
    }

    /// Reports a change to everybody.
    pub(super) fn announce(&self) {
        let version = self.entry().map_or(0, |entry| entry.version());
        self.1.send_replace(version);
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        self.lock().entry.clone()
    }

    pub(super) fn record(&self) -> Record {
        Record::read(self.entry().as_ref(), &account()).unwrap()
    }

    pub(super) fn refresh_token(&self) -> Option<String> {
        self.record().set.and_then(|set| set.refresh_token().map(str::to_owned))
    }

    pub(super) fn holder(&self) -> Option<String> {
        self.lock().lease.as_ref().filter(|(_, end)| Instant::now() < *end).map(|(holder, _)| holder.clone())
    }

    pub(super) fn answers_late(&self, call: Call, by: Duration) {
        self.lock().late = Some((call, by));
    }

    pub(super) fn is_nervous(&self) {
        self.lock().nervous = true;
    }

    pub(super) fn tells_nothing(&self) {
        self.lock().silent = true;
    }

    pub(super) fn loads(&self) -> u64 {
        self.lock().loads
    }

    /// Somebody takes the lease and dies.
    pub(super) fn lease_to_the_dead(&self, time: Duration) {
        self.lock().lease = Some(("dead".into(), Instant::now() + time));
    }

    /// The lease is gone, as after a failover.
    pub(super) fn lose_lease(&self) {
        self.lock().lease = None;
    }

    /// Pauses the keeper that has the lease.
    pub(super) fn put_holder_to_sleep(&self) {
        let mut inner = self.lock();
        inner.asleep = inner.lease.as_ref().map(|(holder, _)| owner(holder).to_owned());
    }

    /// From now on every call takes up to this time.
    pub(super) fn is_far(&self, time: Duration) {
        self.lock().distance = Some((time, Rng::with_seed(1)));
    }

    async fn fail(&self, swap: bool) -> Result<(), StoreError> {
        let way = self.lock().distance.as_mut().map(|(most, rng)| most.mul_f64(rng.f64()));
        if let Some(way) = way {
            sleep(way).await;
        }
        let fault = self.lock().fault;
        match fault {
            Fault::Hung => pending().await,
            Fault::SwapHangs if swap => pending().await,
            Fault::Down => Err(StoreError::unreachable("down")),
            Fault::ReadOnly if swap => Err(StoreError::unreachable("read only")),
            _ => Ok(()),
        }
    }

    fn swap_now(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut inner = self.lock();
        if inner.entry.as_ref().map_or(0, |entry| entry.version()) != expected {
            return Ok(Swap::Lost);
        }
        inner.entry = Some(Entry::new(expected + 1, data.to_vec()));
        self.1.send_replace(expected + 1);
        match inner.fault {
            Fault::Deaf => Err(StoreError::unreachable("the answer was lost")),
            _ => Ok(Swap::Done),
        }
    }

    fn lease_now(&self, holder: &str, time: Duration) -> Lease {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.asleep.as_deref() == Some(owner(holder)) {
            return Lease::Granted;
        }
        match &inner.lease {
            Some((other, end)) if now < *end && other != holder => Lease::Held(*end - now),
            _ => {
                inner.lease = Some((holder.to_owned(), now + time));
                Lease::Granted
            }
        }
    }

    /// Waits after a call that is to return late.
    async fn lag(&self, call: Call) {
        let late = self.lock().late.take_if(|(late, _)| *late == call);
        if let Some((_, by)) = late {
            sleep(by).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

fn owner(holder: &str) -> &str {
    holder.split_once('-').map_or(holder, |(owner, _)| owner)
}

impl TokenStore for Shelf {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        {
            let mut inner = self.lock();
            inner.loads += 1;
            // Paused time doesn't go on if nobody waits, so this would never end.
            assert!(!inner.nervous || inner.loads < 10_000, "asked over and over");
        }
        self.fail(false).await?;
        Ok(self.entry())
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.fail(true).await?;
        let swapped = self.swap_now(expected, data);
        self.lag(Call::Swap).await;
        swapped
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.fail(false).await?;
        if self.lock().fault == Fault::LeaseHangs {
            pending::<()>().await;
        }
        let leased = self.lease_now(holder, time);
        self.lag(Call::Lease).await;
        Ok(leased)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.fail(false).await?;
        self.lock().lease.take_if(|(other, _)| other == holder);
        Ok(())
    }

    async fn changed(&self, known: u64) {
        if self.lock().nervous {
            return;
        }
        if self.lock().silent {
            pending().await
        }
        let _ = self.1.subscribe().wait_for(|version| *version != known).await;
    }
}

/// What the server does with token requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Fine,
    /// It acts, and the response is lost.
    Mute,
    /// It has an internal error before it acts, which the client can't know.
    Broken,
    /// It answers that it is busy.
    Busy,
    /// It can't be reached.
    Gone,
    /// It refuses the refresh token.
    Refuses,
    /// It refuses the client.
    RefusesClients,
}

/// A server with refresh tokens `r0`, `r1`, … that work once, and again within a grace, and access tokens `a1`, `a2`, … of a minute.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) wall: Wall,
    state: Arc<Mutex<State>>,
    requests: Arc<AtomicU64>,
}

struct State {
    mood: Mood,
    takes: Duration,
    grace: Duration,
    issued: u64,
    lifetime: Duration,
    spent: HashMap<String, Instant>,
    reuses: u64,
}

impl Server {
    pub(super) fn new() -> Self {
        let state = State {
            mood: Mood::Fine,
            takes: Duration::from_millis(100),
            grace: 10 * SECOND,
            issued: 0,
            lifetime: MINUTE,
            spent: HashMap::new(),
            reuses: 0,
        };
        Self { wall: Wall(Instant::now()), state: Arc::new(state.into()), requests: Arc::default() }
    }

    pub(super) fn mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    pub(super) fn takes(&self, time: Duration) {
        self.lock().takes = time;
    }

    /// The lifetime of new access tokens.
    pub(super) fn lifetime(&self, time: Duration) {
        self.lock().lifetime = time;
    }

    /// How long a spent refresh token is answered again.
    pub(super) fn grace(&self, time: Duration) {
        self.lock().grace = time;
    }

    /// How many tokens it has issued.
    pub(super) fn issued(&self) -> u64 {
        self.lock().issued
    }

    /// Whether this refresh token was used.
    pub(super) fn shown(&self, refresh_token: &str) -> bool {
        self.lock().spent.contains_key(refresh_token)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn reuses(&self) -> u64 {
        self.lock().reuses
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One request. The response comes after the time that it takes.
    async fn ask(&self, refresh_token: Option<&str>) -> Result<TokenSet, FetchError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let error = |status: u16, code: Option<&str>, acted| EndpointError {
            status: (status > 0).then(|| StatusCode::from_u16(status).unwrap()),
            code: code.map(str::to_owned),
            text: format!("status {status}"),
            acted,
        };
        let (answer, takes) = {
            let mut state = self.lock();
            let answer = match state.mood {
                Mood::Fine | Mood::Mute => state.grant(refresh_token, self.wall),
                Mood::Broken => Err(FetchError::try_again(error(500, None, true))),
                Mood::Busy => Err(FetchError::try_again(error(503, None, false))),
                Mood::Gone => Err(FetchError::try_again(error(0, None, false))),
                Mood::Refuses => Err(FetchError::reauthorize(error(400, Some("invalid_grant"), false))),
                Mood::RefusesClients => Err(FetchError::rejected(error(401, Some("invalid_client"), false))),
            };
            (answer, state.takes)
        };
        sleep(takes).await;
        match self.lock().mood {
            Mood::Mute => Err(FetchError::try_again(error(0, None, true))),
            _ => answer,
        }
    }
}

impl State {
    fn grant(&mut self, refresh_token: Option<&str>, wall: Wall) -> Result<TokenSet, FetchError> {
        self.issued += 1;
        let mut set = TokenSet::of_access_token(format!("a{}", self.issued)).expires_in(self.lifetime);
        if let Some(token) = refresh_token {
            let first = *self.spent.entry(token.to_owned()).or_insert_with(Instant::now);
            if first.elapsed() > self.grace {
                self.reuses += 1;
                return Err(FetchError::reauthorize(EndpointError::unsent("reuse")));
            }
            set = set.with_refresh_token(format!("r{}", self.issued));
        }
        (set.requested_at, set.refresh_requested_at) = (wall.wall(), wall.wall());
        Ok(set)
    }
}

/// Whose tokens these are.
pub(super) fn account() -> Account {
    Account::new("https://id.test", "app").subject("anna")
}

/// The refresh token grant, at that server.
#[derive(Clone)]
pub(super) struct Rotating(pub(super) Server);

impl Grant for Rotating {
    async fn exchange(&self, held: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        match held.and_then(TokenSet::refresh_token) {
            Some(token) => self.0.ask(Some(token)).await,
            None => Err(FetchError::reauthorize(EndpointError::unsent("there is no refresh token"))),
        }
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account()
    }
}

/// Client credentials, at that server.
#[derive(Clone)]
pub(super) struct Plain(pub(super) Server);

impl Grant for Plain {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        self.0.ask(None).await
    }

    fn account(&self) -> Account {
        account()
    }
}

/// A source with rotation, and a grace of ten seconds.
pub(super) fn rotating(server: &Server, shelf: &Shelf) -> Stored<Rotating, Shelf> {
    Stored::in_store(Rotating(server.clone()), shelf.clone()).clock(server.wall).replay_grace(10 * SECOND)
}

/// An initial set in an empty store isn't spent for this time.
pub(super) const GIVEN_WAY: Duration = Duration::from_secs(2);

/// A live token of such a source, which begins with `r0`.
pub(super) fn begin(server: &Server, shelf: &Shelf) -> (LiveToken, StoredHandle) {
    let source = rotating(server, shelf).holding(TokenSet::of_refresh_token("r0"));
    let handle = source.handle();
    (LiveToken::builder(source).clock(server.wall).seed(1).spawn(), handle)
}

/// A live token of any source.
pub(super) fn run<G: Grant>(server: &Server, source: Stored<G, Shelf>) -> LiveToken {
    LiveToken::builder(source).clock(server.wall).seed(1).spawn()
}

/// A live token whose exchanges can be repeated.
pub(super) fn plain(server: &Server, shelf: &Shelf, seed: u64) -> LiveToken {
    let source = Stored::in_store(Plain(server.clone()), shelf.clone()).clock(server.wall);
    LiveToken::builder(source).clock(server.wall).seed(seed).spawn()
}

/// The access token that requests carry.
pub(super) fn carried(token: &LiveToken) -> Option<String> {
    let header = token.authorization()?;
    Some(header.to_str().unwrap().trim_start_matches("Bearer ").to_owned())
}
