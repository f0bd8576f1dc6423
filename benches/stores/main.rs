//! What a renewal costs with each store: processor time of this process, time, and round trips to the server; and that requests cost none.
//!
//! The servers are real, on loopback, and sync every write. The grant answers at once and brings a new refresh token each time, so that each
//! renewal writes twice: that the old one is about to be spent, and the new one.

#[allow(dead_code, reason = "of tests/fleet, which uses all of it")]
#[path = "../../tests/fleet/postgres_server.rs"]
mod postgres_server;
#[allow(dead_code, reason = "of tests/fleet, which uses all of it")]
#[path = "../../tests/fleet/redis_server.rs"]
mod redis_server;
mod turns;

use std::{
    convert::Infallible,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use nix::time::{ClockId, clock_gettime};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_bearer::{
    BearerAuthLayer, FetchError, FetchRequest, LiveToken, Origin, TokenSource,
    oauth2::{Grant, Stored, TokenSet},
    store::{Account, FileStore, Keyring, Memory, PostgresStore, RedisStore, Sealed, SealingKey, TokenStore},
};

use postgres_server::PostgresServer;
use redis_server::{Directory, RedisServer};
use turns::Turns;

fn main() -> ExitCode {
    let bench = std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(if bench { 500 } else { 5 }))
}

async fn run(renewals: u32) -> ExitCode {
    let (redis, postgres, directory) = (RedisServer::start().await, PostgresServer::start().await, Directory::new());
    let (to_redis, to_postgres) = (Turns::to(redis.port()).await, Turns::to(postgres.port()).await);
    let redis_at = |port, name: &str| RedisStore::connect(&format!("redis://127.0.0.1:{port}/"), name).expect("a URL");
    let postgres_at = |port: u16, name: &str| {
        let url = postgres.url().replace(&format!(":{}/", postgres.port()), &format!(":{port}/"));
        PostgresStore::new(postgres_server::pool(&url, 1), name)
    };
    let file = |name: &str| FileStore::new(directory.file(name));
    std::fs::create_dir(directory.file("many")).expect("a directory");
    let files = FileStore::directory(directory.file("many"));
    let (direct, by_turns) = (redis.port(), to_redis.port());
    let (direct_sql, sql_by_turns) = (postgres.port(), to_postgres.port());

    println!("{renewals} renewals of a rotated refresh token with each store\n");
    println!("| {:<22} | {:>13} | {:>11} | {:>11} |", "store", "processor, µs", "time, µs", "round trips");
    let none = || Trips { of: None, renewals: 0 };
    let trips = |turns| Trips { of: Some(turns), renewals: renewals.min(100) };
    let mut rows = vec![
        measure("memory", Memory::default(), Memory::default(), renewals, none()).await,
        measure("file", file("plain"), file("unused"), renewals, none()).await,
        measure("file of many", files.of("anna"), files.of("unused"), renewals, none()).await,
        measure("file, sealed", sealed(file("sealed")), sealed(file("unused")), renewals, none()).await,
    ];
    let one = redis_at(direct, "plain");
    rows.push(measure("Redis", one, redis_at(by_turns, "trips"), renewals, trips(&to_redis)).await);
    let (one, other) = (sealed(redis_at(direct, "sealed")), sealed(redis_at(by_turns, "sealed-trips")));
    rows.push(measure("Redis, sealed", one, other, renewals, trips(&to_redis)).await);
    let replica = RedisServer::start().await;
    redis.is_followed_by(&replica).await;
    let (one, other) =
        (redis_at(direct, "sure").wait_for_replicas(1), redis_at(by_turns, "sure-trips").wait_for_replicas(1));
    rows.push(measure("Redis and its replica", one, other, renewals, trips(&to_redis)).await);
    replica.order("REPLICAOF NO ONE").await;
    let one = postgres_at(direct_sql, "plain");
    rows.push(measure("PostgreSQL", one, postgres_at(sql_by_turns, "trips"), renewals, trips(&to_postgres)).await);
    let (one, other) = (sealed(postgres_at(direct_sql, "sealed")), sealed(postgres_at(sql_by_turns, "sealed-trips")));
    rows.push(measure("PostgreSQL, sealed", one, other, renewals, trips(&to_postgres)).await);

    let requests = 1000;
    let of_requests = requests_trips(redis_at(by_turns, "requests"), &to_redis, requests).await;
    println!("\n{requests} requests with a token from Redis: {of_requests} round trips");
    let redis_trips = rows.iter().find(|row| row.name == "Redis").and_then(|row| row.trips).expect("it was measured");
    let result: serde_json::Map<_, _> = rows
        .iter()
        .map(|row| {
            let found = serde_json::json!({ "cpu_us": row.cpu_us, "time_us": row.time_us, "round_trips": row.trips });
            (row.name.to_owned(), found)
        })
        .collect();
    println!("\nRESULT {}", serde_json::json!({ "renewal": result, "request_round_trips": of_requests }));
    // As promised.
    let good = redis_trips <= 4.0 && of_requests == 0;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sealed<S: TokenStore>(store: S) -> Sealed<S> {
    Sealed::new(store, Keyring::new(SealingKey::from_bytes("bench", [7; 32]).expect("a key")))
}

struct Row {
    name: &'static str,
    cpu_us: f64,
    time_us: f64,
    trips: Option<f64>,
}

/// What counts round trips, and in how many renewals.
struct Trips<'a> {
    of: Option<&'a Turns>,
    renewals: u32,
}

/// Measures one store, and counts the round trips of another one that goes through a proxy.
async fn measure<S: TokenStore>(name: &'static str, store: S, counted: S, renewals: u32, trips: Trips<'_>) -> Row {
    let mut source = source(store).await;
    let (cpu, began) = (cpu(), Instant::now());
    for _ in 0..renewals {
        renew(&mut source).await;
    }
    let time_us = began.elapsed().as_secs_f64() * 1e6 / f64::from(renewals);
    let cpu_us = (self::cpu() - cpu).as_secs_f64() * 1e6 / f64::from(renewals);
    let trips = match trips.of {
        None => None,
        Some(turns) => {
            let mut source = self::source(counted).await;
            let before = turns.count();
            for _ in 0..trips.renewals {
                renew(&mut source).await;
            }
            Some((turns.count() - before) as f64 / f64::from(trips.renewals))
        }
    };
    let shown = trips.map_or("–".to_owned(), |trips| format!("{trips:.1}"));
    println!("| {name:<22} | {cpu_us:>13.0} | {time_us:>11.0} | {shown:>11} |");
    Row { name, cpu_us, time_us, trips }
}

/// With its first token.
async fn source<S: TokenStore>(store: S) -> Stored<Rotating, S> {
    let mut source = Stored::in_store(Rotating::default(), store).holding(TokenSet::of_refresh_token("r0"));
    for _ in 0..3 {
        renew(&mut source).await;
    }
    source
}

async fn renew<S: TokenStore>(source: &mut Stored<Rotating, S>) {
    source.fetch(FetchRequest::new(Duration::from_secs(10))).await.expect("a token");
}

/// How many round trips so many requests cost.
async fn requests_trips(store: RedisStore, turns: &Turns, requests: u32) -> u64 {
    let token =
        LiveToken::spawn(Stored::in_store(Rotating::default(), store).holding(TokenSet::of_refresh_token("r0")));
    token.ready().await.expect("a token");
    // Until it listens to announcements.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let origin = Origin::parse("https://api.example.com").expect("an origin");
    let api =
        service_fn(|_: Request<Empty<Bytes>>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let mut client = BearerAuthLayer::new(token, origin).layer(api);
    let before = turns.count();
    for _ in 0..requests {
        let request = Request::get("https://api.example.com/a").body(Empty::new()).expect("a request");
        client.ready().await.expect("it is ready").call(request).await.expect("a response");
    }
    turns.count() - before
}

/// A grant whose server answers at once.
#[derive(Clone, Default)]
struct Rotating {
    renewals: Arc<AtomicU64>,
}

impl Grant for Rotating {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let number = self.renewals.fetch_add(1, Ordering::Relaxed);
        // As long as those of most servers.
        let (access, refresh) = (format!("{number:0>800}"), format!("{number:0>200}"));
        Ok(TokenSet::of_access_token(access).with_refresh_token(refresh).expires_in(Duration::from_secs(3600)))
    }

    fn account(&self) -> Account {
        Account::new("https://id.example.com", "bench").subject("anna")
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }
}

/// The processor time of this process.
fn cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock"))
}
