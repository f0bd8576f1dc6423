//! Sources, stores and APIs that behave badly while somebody waits for them, and what others may have to pay for that.
#![cfg(feature = "oauth2")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{
    AccessToken, FetchError, FetchReason, FetchRequest, LiveToken, State, TokenSource,
    clock::Clock,
    oauth2::{Grant, Stored, StoredHandle, TokenSet},
    replay::{Auto, Never, ReplayPolicy, Spare},
    source_fn,
    store::{Account, Entry, Lease, StoreError, Swap, TokenStore},
};

mod support;
use support::{Api, get, layer, now, ok, refused, secs, timed};

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

// --- a source whose `changed` misbehaves ---

#[derive(Clone, Default)]
struct Telling(Arc<Told>);

#[derive(Default)]
struct Told {
    fetches: Mutex<Vec<(Instant, FetchReason)>>,
    asked: AtomicU64,
    panics: AtomicU64,
    news: Notify,
    at_once: AtomicBool,
    /// Its tokens don't end, so nothing else wakes the task.
    endless: AtomicBool,
}

impl TokenSource for Telling {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let number = {
            let mut all = self.0.fetches.lock().unwrap();
            all.push((now(), request.reason()));
            all.len()
        };
        let token = AccessToken::new(format!("t{number}"))?;
        let is_endless = self.0.endless.load(Ordering::SeqCst);
        Ok(if is_endless { token } else { token.expires_in(secs(3600)) })
    }

    async fn changed(&mut self) {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.panics.load(Ordering::SeqCst) > 0 {
            self.0.panics.fetch_sub(1, Ordering::SeqCst);
            panic!("once");
        }
        if self.0.at_once.load(Ordering::SeqCst) {
            return;
        }
        self.0.news.notified().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panicked_once_while_it_waited_is_heard_again() {
    for endless in [false, true] {
        let source = Telling::default();
        source.0.endless.store(endless, Ordering::SeqCst);
        source.0.panics.store(1, Ordering::SeqCst);
        let token = LiveToken::builder(source.clone()).seed(1).spawn();
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        source.0.news.notify_one();
        sleep(secs(100)).await;
        let fetches = source.0.fetches.lock().unwrap().clone();
        assert_eq!(fetches.len(), 2, "{} times asked", source.0.asked.load(Ordering::SeqCst));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_something_new_is_asked_once_a_second_and_let_go_at_once() {
    let source = Telling::default();
    source.0.at_once.store(true, Ordering::SeqCst);
    let token = LiveToken::builder(source.clone()).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(secs(100)).await;
    assert!(source.0.fetches.lock().unwrap().len() <= 102);
    assert_eq!(timed(token.shutdown()).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_is_let_go_with_the_last_handle_and_by_shutdown() {
    for shutdown in [true, false] {
        let source = Telling::default();
        let token = LiveToken::builder(source.clone()).seed(1).spawn();
        token.ready().await.unwrap();
        sleep(secs(10)).await;
        if shutdown {
            timeout(secs(5), token.shutdown()).await.unwrap();
        } else {
            drop(token);
        }
        sleep(secs(1)).await;
        assert_eq!(Arc::strong_count(&source.0), 1, "{shutdown}");
    }
}

// --- brokers ---

/// Two caches behind one name, each with a token of its own, take turns; each says how old its token is. One route refuses both.
#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_costs_a_fetch_a_minute_where_two_caches_take_turns() {
    let began = now();
    let by_minute = fetched_beside_a_bad_route(move |number| {
        let age = secs(600) + began.elapsed();
        Ok(AccessToken::new(format!("cache-{}", number % 2))?.expires_in(secs(36_000)).age(age))
    });
    let by_minute = by_minute.await;
    assert!(by_minute[5..].iter().all(|fetches| *fetches <= 3), "{by_minute:?}");
}

/// Also where each token is near its end when it comes.
#[tokio::test(start_paused = true)]
async fn between_fetches_of_tokens_near_their_end_lies_a_second_or_half_a_life() {
    let mut all = Vec::new();
    for (life, age, most) in [(3_600_000, 3_599_000, 101), (3_000, 2_900, 101), (1_000, 990, 201), (10, 9, 20_001)] {
        let fetches = Arc::new(AtomicU64::new(0));
        let counted = fetches.clone();
        let source = source_fn(move |_: FetchRequest| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok::<_, FetchError>(AccessToken::new(format!("t{number}"))?.expires_in(millis(life)).age(millis(age)))
            }
        });
        let _token = LiveToken::builder(source).seed(1).spawn();
        sleep(secs(100)).await;
        all.push((life, age, fetches.load(Ordering::SeqCst), most));
    }
    assert!(all.iter().all(|(_, _, fetches, most)| fetches <= most), "{all:?}");
}

// --- late APIs ---

#[derive(Clone, Default)]
struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    tokens: HashMap<String, (Option<Instant>, bool)>,
    fetches: usize,
    lag: Duration,
    life: Option<Duration>,
}

impl World {
    fn new(lag: u64, life: u64) -> Self {
        let world = Self::default();
        {
            let mut inner = world.0.lock().unwrap();
            inner.lag = millis(lag);
            inner.life = Some(secs(life));
        }
        world
    }
    fn fetches(&self) -> usize {
        self.0.lock().unwrap().fetches
    }
    fn revoke(&self) {
        self.0.lock().unwrap().tokens.values_mut().for_each(|(_, revoked)| *revoked = true)
    }
    fn live(&self) -> LiveToken {
        let world = self.clone();
        let source = source_fn(move |_: FetchRequest| {
            let world = world.clone();
            world.0.lock().unwrap().fetches += 1;
            async move {
                sleep(millis(100)).await;
                let mut inner = world.0.lock().unwrap();
                let secret = format!("t{}", inner.tokens.len());
                inner.tokens.insert(secret.clone(), (Some(now()), false));
                let token = AccessToken::new(secret)?;
                Ok::<_, FetchError>(match inner.life {
                    Some(life) => token.expires_in(life),
                    None => token,
                })
            }
        });
        LiveToken::builder(source).seed(1).spawn()
    }
    fn api(&self) -> Api {
        let world = self.clone();
        Api::new(move |seen| {
            let inner = world.0.lock().unwrap();
            let (at, revoked) = inner.tokens[seen.token()];
            if !seen.uri.ends_with("/bad") && !revoked && at.unwrap().elapsed() >= inner.lag { ok() } else { refused() }
        })
        .after(millis(20))
    }
}

/// A policy of somebody's own: it sends again once.
#[derive(Clone)]
struct Once;

impl ReplayPolicy<Request<Empty<Bytes>>> for Once {
    fn keep(&self, request: &mut Request<Empty<Bytes>>) -> Option<Spare<Request<Empty<Bytes>>>> {
        Some(Spare::new(request.clone()))
    }
}

struct Driven {
    failed: usize,
    longest: Duration,
}

async fn drive<P>(
    token: &LiveToken,
    api: &Api,
    policy: P,
    wait: Duration,
    path: &str,
    every: u64,
    run: Duration,
) -> Driven
where
    P: ReplayPolicy<Request<Empty<Bytes>>> + Clone + Send + Sync + 'static,
{
    let service = ServiceBuilder::new().layer(layer(token).max_wait(wait).replay(policy)).service(api.clone());
    let (began, mut requests) = (now(), Vec::new());
    while began.elapsed() < run {
        requests.push(tokio::spawn(timed(service.clone().oneshot(get(path)))));
        sleep(millis(every)).await;
    }
    let mut driven = Driven { failed: 0, longest: Duration::ZERO };
    for request in requests {
        let (answer, took) = request.await.unwrap();
        driven.failed += usize::from(answer.is_err() || answer.unwrap().status() != 200);
        driven.longest = driven.longest.max(took);
    }
    driven
}

/// A revoked token, a successor that the API knows late: patient requests beside some that can't wait, or can be sent again once.
#[tokio::test(start_paused = true)]
async fn who_cannot_wait_for_a_late_api_takes_no_answer_from_those_who_can() {
    let mut all = Vec::new();
    for (what, lag) in [
        ("alone", 1_500),
        ("zero", 400),
        ("zero", 1_500),
        ("once", 400),
        ("once", 1_500),
        ("once", 3_000),
        ("never", 1_500),
    ] {
        let world = World::new(lag, 3600);
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        world.revoke();
        let api = world.api();
        let good = drive(&token, &api, Auto, secs(10), "/a", 25, secs(30));
        let other = async {
            match what {
                "zero" => drive(&token, &api, Auto, Duration::ZERO, "/a", 250, secs(30)).await,
                "once" => drive(&token, &api, Once, secs(10), "/a", 250, secs(30)).await,
                "never" => drive(&token, &api, Never, secs(10), "/a", 250, secs(30)).await,
                _ => Driven { failed: 0, longest: Duration::ZERO },
            }
        };
        let (good, _) = tokio::join!(good, other);
        all.push((what, lag, good.failed));
    }
    // Those who can be sent again once have another token fetched, which is as late again: at 3 s that is too late for a few.
    assert!(all.iter().all(|(_, lag, failed)| *failed <= if *lag < 3_000 { 0 } else { 12 }), "of 1200: {all:?}");
}

/// Neither fetches nor the others' latency grow; what the API gets of the route does, and how long its requests last.
#[tokio::test(start_paused = true)]
async fn a_storm_on_a_route_that_refuses_everybody_costs_the_others_nothing() {
    for (life, most) in [(3600, 12), (20, 35)] {
        let world = World::new(0, life);
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(2)).await;
        let api = world.api();
        let (good, bad, never) = tokio::join!(
            drive(&token, &api, Auto, secs(10), "/a", 50, secs(300)),
            drive(&token, &api, Auto, secs(10), "/bad", 20, secs(300)),
            drive(&token, &api, Never, secs(10), "/a", 50, secs(300)),
        );
        assert_eq!((good.failed, never.failed), (0, 0), "{life}");
        assert!(good.longest < millis(100) && bad.longest < secs(4), "{:?} {:?}", good.longest, bad.longest);
        assert!(world.fetches() <= most, "{life}: {}", world.fetches());
    }
}

// --- restored tokens ---

/// A token of an earlier run that is ten seconds old is no new one, and was revoked: what is gained by trying it three times more?
#[tokio::test(start_paused = true)]
async fn the_first_request_with_a_restored_token_that_was_revoked_is_no_slower_than_a_fetch() {
    let mut all = Vec::new();
    for age in [10, 20, 34, 36, 600] {
        let fetches = Arc::new(AtomicU64::new(0));
        let source = source_fn(move |_: FetchRequest| {
            let number = fetches.fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(millis(50)).await;
                Ok::<_, FetchError>(match number {
                    0 => AccessToken::new("restored")?.expires_in(secs(3600)).age(secs(age)),
                    _ => AccessToken::new(format!("t{number}"))?.expires_in(secs(3600)),
                })
            }
        });
        let token = LiveToken::builder(source).seed(1).spawn();
        let api = Api::new(|seen| if seen.token() == "restored" { refused() } else { ok() }).after(millis(20));
        let (answer, took) = timed(ServiceBuilder::new().layer(layer(&token)).service(api).oneshot(get("/a"))).await;
        assert_eq!(answer.unwrap().status(), 200);
        all.push((age, took));
    }
    assert!(all.iter().all(|(_, took)| *took < secs(2)), "{all:?}");
}

// --- ends of authorizations ---

// --- stores ---

#[derive(Clone)]
struct Wall(Instant, i64);

impl Clock for Wall {
    fn wall(&self) -> SystemTime {
        let base = SystemTime::UNIX_EPOCH + secs(1_800_000_000) + self.0.elapsed();
        if self.1 < 0 { base - secs(self.1.unsigned_abs()) } else { base + secs(self.1.unsigned_abs()) }
    }
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    entry: Option<Entry>,
    lease: Option<(String, Instant)>,
    loads: u64,
    panics: u64,
    nervous: bool,
    is_down: bool,
    is_hung: bool,
}

impl Shelf {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
    fn answer(&self) -> Result<(), StoreError> {
        if self.lock().is_down { Err(StoreError::unreachable("down")) } else { Ok(()) }
    }
}

impl TokenStore for Shelf {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        let loads = {
            let mut kept = self.lock();
            kept.loads += 1;
            kept.loads
        };
        assert!(loads < 50_000, "spins");
        if self.lock().is_hung {
            std::future::pending::<()>().await
        }
        self.answer()?;
        Ok(self.lock().entry.clone())
    }
    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.answer()?;
        let mut kept = self.lock();
        if kept.entry.as_ref().map_or(0, Entry::version) != expected {
            return Ok(Swap::Lost);
        }
        kept.entry = Some(Entry::new(expected + 1, data.to_vec()));
        Ok(Swap::Done)
    }
    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.answer()?;
        let mut kept = self.lock();
        match &kept.lease {
            Some((other, end)) if now() < *end && other != holder => Ok(Lease::Held(*end - now())),
            _ => {
                kept.lease = Some((holder.to_owned(), now() + time));
                Ok(Lease::Granted)
            }
        }
    }
    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.answer()?;
        self.lock().lease.take_if(|(other, _)| other == holder);
        Ok(())
    }
    async fn changed(&self, _: u64) {
        {
            let mut kept = self.lock();
            if kept.nervous {
                return;
            }
            if kept.panics > 0 {
                kept.panics -= 1;
                drop(kept);
                panic!("once");
            }
        }
        std::future::pending().await
    }
}

#[derive(Clone)]
struct Server(Arc<Mutex<Serving>>);

struct Serving {
    issued: u64,
    requests: u64,
    dead: Vec<String>,
    fails: Option<FetchError>,
    takes: Duration,
    life: Duration,
}

impl Server {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Serving {
            issued: 0,
            requests: 0,
            dead: Vec::new(),
            fails: None,
            takes: millis(100),
            life: secs(3600),
        })))
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Serving> {
        self.0.lock().unwrap()
    }

    /// The refresh token issued last is no good any more.
    fn withdraw(&self) {
        let mut inner = self.lock();
        let current = format!("r{}", inner.issued);
        inner.dead.push(current);
    }
}

#[derive(Clone)]
struct Rotating(Server, Wall);

impl Grant for Rotating {
    async fn exchange(&self, held: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let Some(shown) = held.and_then(TokenSet::refresh_token).map(str::to_owned) else {
            return Err(FetchError::reauthorize("no refresh token"));
        };
        let takes = {
            let mut inner = self.0.lock();
            inner.requests += 1;
            inner.takes
        };
        sleep(takes).await;
        let mut inner = self.0.lock();
        if let Some(error) = &inner.fails {
            return Err(error.clone());
        }
        if inner.dead.contains(&shown) {
            return Err(FetchError::reauthorize("dead"));
        }
        inner.issued += 1;
        let number = inner.issued;
        inner.dead.push(shown);
        Ok(TokenSet::of_access_token(format!("a{number}"))
            .expires_in(inner.life)
            .with_refresh_token(format!("r{number}"))
            .with_requested_at(self.1.wall()))
    }
    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }
    fn account(&self) -> Account {
        Account::new("https://id.test", "app").subject("anna")
    }
}

type Process = (LiveToken, StoredHandle);

fn process(server: &Server, shelf: &Shelf, wall: &Wall, begins: Option<&str>) -> Process {
    let source = Stored::in_store(Rotating(server.clone(), wall.clone()), shelf.clone()).clock(wall.clone());
    let source = match begins {
        Some(token) => source.holding(TokenSet::of_refresh_token(token)),
        None => source,
    };
    let handle = source.handle();
    (LiveToken::builder(source).clock(wall.clone()).seed(1).spawn(), handle)
}

/// One panic in a store's `changed` leaves nobody deaf for what the user adopts.
#[tokio::test(start_paused = true)]
async fn after_a_panic_in_a_store_a_new_authorization_is_taken_up() {
    let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
    shelf.lock().panics = 1;
    let (token, account) = process(&server, &shelf, &wall, Some("r0"));
    token.ready().await.unwrap();
    sleep(secs(60)).await;
    let adopted = timeout(
        secs(100),
        account.adopt(
            TokenSet::of_access_token("new")
                .expires_in(secs(3600))
                .with_refresh_token("s0")
                .with_requested_at(wall.wall()),
        ),
    )
    .await;
    assert!(adopted.is_ok(), "nobody heard of it: {:?}", token.status().state());
}

#[tokio::test(start_paused = true)]
async fn who_has_given_up_hears_of_a_new_authorization_whatever_the_clocks_and_the_store_tell() {
    for (nervous, ahead, behind) in
        [(false, 0, 0), (true, 0, 0), (false, 3600, -3600), (false, -3600, 3600), (true, -3600, 3600)]
    {
        let what = format!("nervous {nervous}, {ahead} and {behind}");
        let (server, shelf) = (Server::new(), Shelf::default());
        shelf.lock().nervous = nervous;
        let (one, other) = (Wall(now(), ahead), Wall(now(), behind));
        let (a, account) = process(&server, &shelf, &one, Some("r0"));
        a.ready().await.unwrap();
        let others: Vec<_> = (0..5).map(|_| process(&server, &shelf, &other, None)).collect();
        for (b, _) in &others {
            timeout(secs(60), b.ready()).await.unwrap().unwrap();
        }
        server.withdraw();
        drop(a.refresh().await);
        for (b, _) in &others {
            drop(b.refresh().await);
        }
        let has_given_up = |(b, _): &Process| b.status().state() == State::ReauthorizationRequired;
        assert!(others.iter().all(has_given_up), "{what}");
        let loads = shelf.lock().loads;
        sleep(secs(600)).await;
        let loads = shelf.lock().loads - loads;
        assert!(loads <= 6 * 620, "{what}: {loads} loads");
        account.adopt(TokenSet::of_refresh_token("n0")).await;
        sleep(secs(100)).await;
        assert!(others.iter().all(|(b, _)| b.status().state() == State::Live), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_tell_is_not_asked_over_and_over_while_another_process_works() {
    for (lease, most) in [(1_000, 60), (300_000, 60), (100, 400)] {
        let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
        shelf.lock().nervous = true;
        server.lock().takes = secs(25);
        let source = || Stored::in_store(Rotating(server.clone(), wall.clone()), shelf.clone()).clock(wall.clone());
        let run = |source| LiveToken::builder(source).clock(wall.clone()).seed(1).spawn();
        let _a = run(source().lease(millis(lease)).holding(TokenSet::of_refresh_token("r0")));
        sleep(secs(3)).await;
        let before = shelf.lock().loads;
        let b = run(source().lease(millis(lease)));
        timeout(secs(60), b.ready()).await.unwrap().unwrap();
        let loads = shelf.lock().loads - before;
        assert!(loads <= most, "{lease}: {loads} loads");
    }
}

/// The server said when to come again. A store that comes and goes is no reason to come earlier.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_and_goes_bypasses_no_retry_after() {
    let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
    shelf.lock().nervous = true;
    server.lock().life = secs(60);
    let (token, _account) = process(&server, &shelf, &wall, Some("r0"));
    token.ready().await.unwrap();
    server.lock().fails = Some(FetchError::try_again("busy").retry_after(secs(3600)));
    sleep(secs(120)).await;
    let before = server.lock().requests;
    for _ in 0..60 {
        shelf.lock().is_down = true;
        sleep(secs(5)).await;
        shelf.lock().is_down = false;
        sleep(secs(5)).await;
    }
    let asked = server.lock().requests - before;
    assert!(asked == 0, "{asked} requests within ten minutes");
}

/// Nor is one that is emptied.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_emptied_bypasses_no_retry_after() {
    let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
    shelf.lock().nervous = true;
    server.lock().life = secs(60);
    let (token, _account) = process(&server, &shelf, &wall, Some("r0"));
    token.ready().await.unwrap();
    server.lock().fails = Some(FetchError::try_again("busy").retry_after(secs(3600)));
    sleep(secs(120)).await;
    let before = server.lock().requests;
    for _ in 0..10 {
        shelf.lock().entry = None;
        sleep(secs(60)).await;
    }
    let asked = server.lock().requests - before;
    assert_eq!((asked, shelf.lock().entry.is_some()), (0, true), "requests within ten minutes, and it is put back");
    let error = token.status().last_error().unwrap().to_string();
    assert!(error.contains("busy") && !error.contains("another process"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_refreshes_again_and_again_while_the_api_is_late_fails_nobody() {
    let world = World::new(2_000, 3600);
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(10)).await;
    let api = world.api();
    let refreshes = async {
        for _ in 0..20 {
            token.refresh().await.unwrap();
            sleep(millis(700)).await;
        }
    };
    let (good, ()) = tokio::join!(drive(&token, &api, Auto, secs(10), "/a", 25, secs(20)), refreshes);
    assert_eq!(good.failed, 0);
}

/// B was told to come again in an hour. Meanwhile the user authorizes again where A runs.
#[tokio::test(start_paused = true)]
async fn a_set_adopted_elsewhere_is_found_in_a_silent_store_while_the_last_failure_is_waited_out() {
    let mut all = Vec::new();
    for (what, error) in [
        ("retry after", FetchError::try_again("busy").retry_after(secs(3600))),
        ("rejected", FetchError::rejected("secret")),
        ("for good", FetchError::rejected_for_good("password")),
        ("dead", FetchError::reauthorize("dead")),
        ("down", FetchError::try_again("down")),
    ] {
        let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
        server.lock().life = secs(60);
        let (a, account) = process(&server, &shelf, &wall, Some("r0"));
        a.ready().await.unwrap();
        let (b, _) = process(&server, &shelf, &wall, None);
        b.ready().await.unwrap();
        server.lock().fails = Some(error);
        sleep(secs(200)).await;
        server.lock().fails = None;
        account
            .adopt(
                TokenSet::of_access_token("new")
                    .expires_in(secs(3000))
                    .with_refresh_token("s0")
                    .with_requested_at(wall.wall()),
            )
            .await;
        let at = now();
        while b.authorization().is_none() && at.elapsed() < secs(4000) {
            sleep(secs(1)).await;
        }
        all.push((what, at.elapsed().as_secs()));
    }
    assert!(all.iter().all(|(_, took)| *took <= 100), "{all:?}");
}

struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped")
        }
    }
}

#[derive(Clone, Default)]
struct Explosive(Arc<AtomicU64>);
impl TokenSource for Explosive {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(AccessToken::new(format!("t{number}"))?.expires_in(secs(60)))
    }
    async fn changed(&mut self) {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_when_its_wait_is_dropped_does_not_end_the_task() {
    let source = Explosive::default();
    let token = LiveToken::builder(source.clone()).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(secs(600)).await;
    assert!(
        token.status().is_usable(),
        "{:?} after {} fetches",
        token.status().state(),
        source.0.load(Ordering::SeqCst)
    );
}

/// A source that reads the age of each new token from its `iat`, by a clock that is 40 s ahead.
#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_costs_a_fetch_a_minute_where_a_clock_is_ahead() {
    let by_minute = fetched_beside_a_bad_route(|number| {
        Ok(AccessToken::new(format!("t{number}"))?.expires_in(secs(3600)).age(secs(40)))
    });
    let by_minute = by_minute.await;
    assert!(by_minute[5..].iter().all(|fetches| *fetches <= 3), "{by_minute:?}");
}

/// How many fetches there are in each of a quarter of an hour's minutes, in which a route is asked twice a second that refuses everybody.
async fn fetched_beside_a_bad_route(
    issue: impl Fn(u64) -> Result<AccessToken, FetchError> + Send + Sync + 'static,
) -> Vec<u64> {
    let fetches = Arc::new(AtomicU64::new(0));
    let counted = fetches.clone();
    let source = source_fn(move |_: FetchRequest| {
        let issued = issue(counted.fetch_add(1, Ordering::SeqCst));
        async move { issued }
    });
    let token = LiveToken::builder(source).seed(1).spawn();
    token.ready().await.unwrap();
    let api = Api::new(|seen| if seen.uri.ends_with("/bad") { refused() } else { ok() });
    let mut by_minute = Vec::new();
    for _ in 0..15 {
        let before = fetches.load(Ordering::SeqCst);
        drive(&token, &api, Never, secs(10), "/bad", 500, secs(60)).await;
        by_minute.push(fetches.load(Ordering::SeqCst) - before);
    }
    by_minute
}

#[derive(Clone)]
struct Plain(Server, Wall);
impl Grant for Plain {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        self.0.lock().requests += 1;
        sleep(millis(100)).await;
        let mut inner = self.0.lock();
        if let Some(error) = &inner.fails {
            return Err(error.clone());
        }
        inner.issued += 1;
        Ok(TokenSet::of_access_token(format!("a{}", inner.issued))
            .expires_in(inner.life)
            .with_requested_at(self.1.wall()))
    }
    fn account(&self) -> Account {
        Account::new("https://id.test", "app").for_client()
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_costs_a_fleet_a_fetch_a_minute() {
    let mut all = Vec::new();
    for skew in [0, 1] {
        let (server, shelf) = (Server::new(), Shelf::default());
        shelf.lock().nervous = true;
        let api = Api::new(|seen| if seen.uri.ends_with("/bad") { refused() } else { ok() });
        let mut tasks = Vec::new();
        for number in 0..5_u8 {
            let wall = Wall(now(), i64::from(number) * skew);
            let source = Stored::in_store(Plain(server.clone(), wall.clone()), shelf.clone()).clock(wall.clone());
            let token = LiveToken::builder(source).clock(wall).seed(number.into()).spawn();
            token.ready().await.unwrap();
            let api = api.clone();
            tasks.push(tokio::spawn(async move {
                drive(&token, &api, Auto, secs(10), "/bad", 500, secs(900)).await;
            }));
        }
        sleep(secs(600)).await;
        let before = server.lock().requests;
        for task in tasks {
            task.await.unwrap();
        }
        all.push((skew, server.lock().requests - before));
    }
    assert!(all.iter().all(|(_, fetches)| *fetches <= 12), "in five minutes: {all:?}");
}

/// The end is told in whole seconds.
#[tokio::test(start_paused = true)]
async fn who_was_warned_of_a_fixed_end_stays_warned() {
    let mut faults = Vec::new();
    for (life, whole) in [(60, 1_800), (30, 1_800), (20, 600), (10, 1000)] {
        let began = now();
        let end = secs(whole);
        let source = source_fn(move |_: FetchRequest| async move {
            sleep(millis(130)).await;
            let left = Duration::from_secs((end.saturating_sub(began.elapsed())).as_secs());
            Ok::<_, FetchError>(
                AccessToken::new(format!("t{}", began.elapsed().as_millis()))?
                    .expires_in(secs(life))
                    .authorization_ends_in(left),
            )
        });
        let token = LiveToken::builder(source).seed(1).spawn();
        let mut warned = false;
        while began.elapsed() < end - secs(15) {
            let ending = token.status().is_authorization_ending();
            if warned && !ending {
                faults.push((life, whole, end - began.elapsed()));
                break;
            }
            warned = ending;
            sleep(millis(100)).await;
        }
    }
    assert!(faults.is_empty(), "taken back so long before the end: {faults:?}");
}

#[tokio::test(start_paused = true)]
async fn who_authorizes_while_the_store_hangs_is_let_in() {
    for after in [0, 1, 3, 10, 40] {
        let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
        shelf.lock().nervous = true;
        let (token, account) = process(&server, &shelf, &wall, Some("r0"));
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        shelf.lock().is_hung = true;
        sleep(secs(after)).await;
        let set = TokenSet::of_access_token("new")
            .expires_in(secs(3600))
            .with_refresh_token("s0")
            .with_requested_at(wall.wall());
        timeout(secs(12), account.adopt(set)).await.unwrap();
        assert_eq!(token.authorization().unwrap().to_str().unwrap(), "Bearer new", "{after}");
    }
}

struct Sleeper(Arc<AtomicU64>, Instant);
impl Clock for Sleeper {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + secs(1_800_000_000) + self.1.elapsed() + secs(self.0.load(Ordering::SeqCst))
    }
    fn suspended(&self) -> Duration {
        secs(self.0.load(Ordering::SeqCst))
    }
}

/// Suspended for an hour while it waits: what is due is fetched within half a minute.
#[tokio::test(start_paused = true)]
async fn suspended_while_the_source_waits() {
    let asleep = Arc::new(AtomicU64::new(0));
    let source = Telling::default();
    let token = LiveToken::builder(source.clone()).clock(Sleeper(asleep.clone(), now())).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(secs(100)).await;
    asleep.store(7200, Ordering::SeqCst);
    let (usable, took) = timed(async {
        while source.0.fetches.lock().unwrap().len() < 2 {
            sleep(secs(1)).await;
        }
        token.status().is_usable()
    })
    .await;
    assert!(usable && took <= secs(31), "{usable} {took:?}");
}

/// The same with client credentials: whoever hears that the store is there again asks the endpoint at once.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_and_goes_bypasses_no_retry_after_of_client_credentials() {
    let (server, shelf, wall) = (Server::new(), Shelf::default(), Wall(now(), 0));
    shelf.lock().nervous = true;
    server.lock().life = secs(60);
    let source = Stored::in_store(Plain(server.clone(), wall.clone()), shelf.clone()).clock(wall.clone());
    let token = LiveToken::builder(source).clock(wall.clone()).seed(1).spawn();
    token.ready().await.unwrap();
    server.lock().fails = Some(FetchError::try_again("busy").retry_after(secs(3600)));
    sleep(secs(120)).await;
    let before = server.lock().requests;
    for _ in 0..60 {
        shelf.lock().is_down = true;
        sleep(secs(5)).await;
        shelf.lock().is_down = false;
        sleep(secs(5)).await;
    }
    let asked = server.lock().requests - before;
    assert!(asked == 0, "{asked} requests within ten minutes, of {before}: {:?}", token.status().state());
}
