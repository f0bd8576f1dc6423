//! Processes that share a store for a minute, left alone and disturbed.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tower_bearer::testing::{AuthorizationServer, Fault};

use crate::{
    any_store::{DIRECTORY, FAMILY, SEALED},
    postgres_server::PostgresServer,
    process::{Process, number, replays, say, wait},
    redis_server::{Directory, RedisServer},
    replica::Orders,
    stops::Watch,
};

/// On each store, side by side.
pub(crate) async fn steady_everywhere() {
    let (redis, postgres, directory) = (RedisServer::start().await, PostgresServer::start().await, Directory::new());
    tokio::join!(
        steady("8 processes on Redis", redis.url(), 8),
        steady("8 processes on PostgreSQL", postgres.url(), 8),
        steady("2 processes on a file", directory.file("tokens"), 2),
    );
}

pub(crate) async fn disturbed_on_redis() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    disturbed("8 disturbed processes on Redis", url, 8, Some(&mut Server::Redis(redis))).await;
}

pub(crate) async fn disturbed_on_postgres() {
    let postgres = PostgresServer::start().await;
    let url = postgres.url();
    disturbed("8 disturbed processes on PostgreSQL", url, 8, Some(&mut Server::Postgres(postgres))).await;
}

pub(crate) async fn disturbed_on_a_file() {
    let directory = Directory::new();
    disturbed("2 disturbed processes on a file", directory.file("tokens"), 2, None).await;
}

/// Eight processes on files, and on all stores sealed: undisturbed, then disturbed; and a start of fifty.
pub(crate) async fn on_files_and_sealed() {
    let redis = RedisServer::start().await;
    let redis_url = redis.url();
    let (mut redis, mut postgres) = (Server::Redis(redis), Server::Postgres(PostgresServer::start().await));
    for trial in [Trial::Start, Trial::Steady, Trial::Disturbed] {
        let number = trial as u32;
        let directory = Directory::new();
        std::fs::create_dir(directory.file("many")).unwrap();
        let (file, of_many) = (directory.file("tokens"), format!("{DIRECTORY}{}", directory.file("many")));
        let sealed_file = format!("{SEALED}{}", directory.file("sealed"));
        let on_redis = format!("{SEALED}{FAMILY}{redis_url}{number}");
        let Server::Postgres(server) = &postgres else { unreachable!() };
        let on_postgres = format!("{SEALED}{FAMILY}{}", server.new_database(&format!("trial{number}")).await);
        for (name, store, shared) in [
            ("a file", file, None),
            ("a file of many", of_many, None),
            ("a sealed file", sealed_file, None),
            ("a family on Redis, sealed", on_redis, Some(&mut redis)),
            ("a family on PostgreSQL, sealed", on_postgres, Some(&mut postgres)),
        ] {
            say(&format!("{trial:?} on {name}"));
            let name = format!("8 processes on {name}");
            match trial {
                Trial::Start => mass_start(store).await,
                Trial::Steady => steady(&name, store, 8).await,
                Trial::Disturbed => disturbed(&name, store, 8, shared).await,
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Trial {
    Start = 1,
    Steady,
    Disturbed,
}

/// What a fleet shares.
pub(crate) enum Server {
    Redis(RedisServer),
    Postgres(PostgresServer),
}

impl Server {
    pub(crate) async fn end(&mut self) {
        match self {
            Self::Redis(redis) => redis.end().await,
            Self::Postgres(postgres) => postgres.end().await,
        }
    }

    pub(crate) async fn begin(&mut self) {
        match self {
            Self::Redis(redis) => redis.begin().await,
            Self::Postgres(postgres) => postgres.begin().await,
        }
    }

    async fn restart(&mut self, pause: Duration) {
        match self {
            Self::Redis(redis) => redis.restart(pause).await,
            Self::Postgres(postgres) => postgres.restart(pause).await,
        }
    }
}

/// A server that takes every spent refresh token for stolen.
async fn steady(name: &str, store: String, processes: u32) {
    let server = AuthorizationServer::builder().lifetime(Some(LIFE)).start().await.unwrap();
    let is_polled = store.trim_start_matches(SEALED).starts_with('/');
    let orders = Orders { lease: Some(LONG_LEASE), ..orders(&server, store, None) };
    let machine = Watch::start();
    let mut fleet = Fleet::start(name, server, orders, processes).await;
    let began = Instant::now();
    let before = fleet.server.token_requests();
    wait(name, MINUTE).await;
    let lives = began.elapsed().as_secs_f64() / LIFE.as_secs_f64();
    let requests = fleet.server.token_requests() - before;
    let per_life = requests as f64 / lives;
    let stop = machine.longest_stop();
    let total = fleet.end().await;
    say(&format!(
        "{name}: {} requests, {requests} token requests, {per_life:.3} per lifetime; the machine stood still for {stop:.0?}",
        total.ok
    ));
    total.is_flawless(name);
    assert!(total.ok > 1000, "{name}: only {} requests", total.ok);
    // A fetch that the machine holds up is a slow one, and the next eight begin earlier by as much: after half of the life, the earliest
    // that the schedule knows.
    let most = match stop < HELD_UP {
        true if is_polled => LIFE.as_secs_f64() / (LIFE - 2 * LATE_NEWS).as_secs_f64(),
        true => 1.45,
        false => 2.0 + 1.0 / lives,
    };
    assert!(per_life <= most, "{name}: {per_life:.3} token requests per lifetime, {most} at most");
    assert_eq!((fleet.server.reuse_detections(), replays(&fleet.server)), (0, 0), "{name}");
}

/// Every three seconds a process is killed and another one takes its place, some of them while they refresh; one is paused while it
/// refreshes, until its lease has ended; the server is restarted once, and an answer arrives while it is down.
async fn disturbed(name: &str, store: String, processes: u32, mut shared: Option<&mut Server>) {
    let grace = Duration::from_secs(20);
    let server = AuthorizationServer::builder().lifetime(Some(LIFE)).refresh_grace(grace + LIFE).start().await.unwrap();
    let orders = orders(&server, store, Some(grace));
    let mut fleet = Fleet::start(name, server, orders, processes).await;
    let end = Instant::now() + MINUTE;
    for turn in 1.. {
        sleep(Duration::from_secs(3)).await;
        match (turn, &mut shared) {
            _ if Instant::now() >= end => break,
            (5, _) => fleet.pause_one_that_refreshes().await,
            (11, Some(shared)) => {
                let number = fleet.one_that_refreshes(Duration::from_millis(300)).await;
                say(&format!("{name}: the server is restarted while {number} refreshes"));
                shared.restart(Duration::from_millis(500)).await;
            }
            (3 | 7 | 9 | 13, _) => {
                let number = fleet.one_that_refreshes(Duration::from_secs(5)).await;
                say(&format!("{name}: {number} is killed while it refreshes"));
                fleet.replace(number).await;
            }
            _ => fleet.replace(turn % processes as usize).await,
        }
    }
    let total = fleet.end().await;
    let (requests, replays) = (fleet.server.token_requests(), replays(&fleet.server));
    say(&format!("{name}: {} requests, {requests} token requests, {replays} of them once more", total.ok));
    total.is_flawless(name);
    assert!(replays >= 5, "{name}: others had to go on for four that were killed and one that was paused");
    assert_eq!(fleet.server.reuse_detections(), 0, "{name}");
}

/// What can be fetched again needs no store: neither one that hangs nor one that is gone makes a request fail.
pub(crate) async fn without_redis() {
    let mut redis = RedisServer::start().await;
    let server = AuthorizationServer::builder().lifetime(Some(LIFE)).start().await.unwrap();
    let orders = Orders { refresh_token: None, ..orders(&server, redis.url(), None) };
    let mut fleet = Fleet::start("client credentials", server, orders, 3).await;
    sleep(LIFE).await;
    say("client credentials: Redis is stopped");
    redis.signal(Signal::SIGSTOP);
    sleep(3 * LIFE).await;
    redis.signal(Signal::SIGCONT);
    sleep(2 * LIFE).await;
    say("client credentials: Redis is gone");
    redis.restart(3 * LIFE).await;
    sleep(2 * LIFE).await;
    let before = fleet.server.token_requests();
    sleep(4 * LIFE).await;
    let shared = fleet.server.token_requests() - before;
    let total = fleet.end().await;
    say(&format!("client credentials: {} requests, {} token requests", total.ok, fleet.server.token_requests()));
    total.is_flawless("client credentials");
    assert!(shared <= 7, "{shared} token requests in four lives: they don't share any more");
}

/// Without the store a refresh token is not spent, however long it takes; with it again, all goes on.
pub(crate) async fn not_spent_without_redis() {
    let mut redis = RedisServer::start().await;
    let grace = Duration::from_secs(20);
    let server = AuthorizationServer::builder().lifetime(Some(LIFE)).refresh_grace(grace + LIFE).start().await.unwrap();
    let orders = orders(&server, redis.url(), Some(grace));
    let mut fleet = Fleet::start("rotating", server, orders, 3).await;
    sleep(LIFE).await;
    redis.end().await;
    // What was on its way.
    sleep(LIFE / 4).await;
    let before = fleet.server.token_requests();
    sleep(3 * LIFE).await;
    assert_eq!(fleet.server.token_requests(), before, "without a store");
    redis.begin().await;
    let began = Instant::now();
    for process in &mut fleet.processes {
        process.until("requests have a token again", |report| report["state"] == "Live").await;
        say(&format!("rotating: a token {:.1?} after Redis came back", began.elapsed()));
    }
    let total = fleet.end().await;
    say(&format!("rotating: {} requests, {} failed meanwhile", total.ok, total.failed));
    assert_eq!((total.losses, fleet.server.reuse_detections()), (0, 0), "{:?}", total.errors);
}

/// A process is paused with the newest refresh token on its way to it. The other can't know, and reports its loss; then it arrives.
///
/// Tokens live for an hour, and are refreshed when the test says so: a machine that stands still for longer than a lease, while one of
/// them refreshes, is such a pause as well.
pub(crate) async fn late_answer() {
    let (redis, directory) = (RedisServer::start().await, Directory::new());
    for store in [redis.url(), directory.file("tokens")] {
        let server = AuthorizationServer::builder().lifetime(Some(10 * LIFE)).start().await.unwrap();
        let orders = orders(&server, store, Some(Duration::ZERO));
        let mut fleet = Fleet::start("two", server, orders, 2).await;
        // Far longer than until the pause begins.
        fleet.server.fault(Fault::delay(Duration::from_secs(5)));
        let asked = fleet.server.token_requests() + 1;
        let [paused, other] = &mut fleet.processes[..] else { panic!("two of them") };
        paused.order_refresh().await;
        timeout(Duration::from_secs(10), fleet.server.wait_for_token_requests(asked)).await.expect("a refresh");
        paused.signal(Signal::SIGSTOP);
        // When it is due: it must not ask for what may be on its way.
        let report = other.until("it reports the loss", |report| number(report, "losses") == 1).await;
        assert_eq!(report["state"], "ReauthorizationRequired", "{report}");
        paused.signal(Signal::SIGCONT);
        paused.until("it has the token that came late", |report| number(report, "refreshed") == 1).await;
        other.until("it has it, too", |report| report["state"] == "Live").await;
        other.order_refresh().await;
        other.until("it spends the refresh token that came with it", |report| number(report, "refreshed") == 1).await;
        let total = fleet.end().await;
        assert_eq!((total.failed, total.losses), (0, 1), "{:?}", total.errors);
        assert_eq!((fleet.server.reuse_detections(), replays(&fleet.server)), (0, 0));
        assert!(fleet.server.token_requests() > asked);
    }
}

pub(crate) async fn mass_start_on_redis() {
    let redis = RedisServer::start().await;
    mass_start(redis.url()).await;
}

pub(crate) async fn mass_start_on_postgres() {
    let postgres = PostgresServer::start().await;
    mass_start(postgres.url()).await;
}

/// Whoever comes first asks, and the others take what it brought.
async fn mass_start(store: String) {
    let server = AuthorizationServer::builder().latency(Duration::from_millis(200)).start().await.unwrap();
    let orders = Orders { refresh_token: None, every: 1000, lease: Some(LONG_LEASE), ..orders(&server, store, None) };
    let machine = Watch::start();
    let mut processes: Vec<_> = (0..50).map(|number| Process::start(&Orders { number, ..orders.clone() })).collect();
    for process in &mut processes {
        process.until("it has a token", |report| number(report, "ok") > 0).await;
    }
    let (mut total, mut without_store) = (Total::default(), 0);
    for process in processes {
        let last = process.end().await;
        without_store += u64::from(number(&last, "store_errors") > 0);
        total.add(&last);
    }
    total.is_flawless("50 replicas");
    // Whom the store gave no answer within a second, because the machine stood still, goes on alone.
    let requests = server.token_requests();
    assert!((1..=1 + without_store).contains(&requests), "{requests}, and {without_store} without a store");
    let stop = machine.longest_stop();
    say(&format!(
        "50 replicas: {requests} token requests, {without_store} without a store; the machine stood still for {stop:.0?}"
    ));
    let most = if stop < HELD_UP { 0 } else { 25 };
    assert!(without_store <= most, "{without_store} of them, and the machine stood still for {stop:.0?}");
}

/// With a token that lives for long, a replica asks the store only when somebody else has stored something.
pub(crate) async fn idle() {
    let (redis, postgres, directory) = (RedisServer::start().await, PostgresServer::start().await, Directory::new());
    let hour = Duration::from_secs(3600);
    let stores = [
        (redis.url(), Some(Server::Redis(redis))),
        (postgres.url(), Some(Server::Postgres(postgres))),
        (directory.file("tokens"), None),
    ];
    for (store, mut shared) in stores {
        let server = AuthorizationServer::builder().lifetime(Some(hour)).start().await.unwrap();
        let orders = Orders { every: 3_600_000, lease: Some(LONG_LEASE), ..orders(&server, store, None) };
        let (mut idle, mut busy) = (Process::start(&orders), Process::start(&orders));
        for generation in 1..4 {
            let has = |report: &Value| number(report, "generation") == generation;
            busy.until("it has a token", has).await;
            idle.until("it has the other's token", has).await;
            let before = idle.settled().await;
            sleep(Duration::from_secs(2)).await;
            let after = idle.report();
            let cpu = number(&after, "cpu_ms") - number(&before, "cpu_ms");
            say(&format!("idle on {}: {cpu} ms of processor time in 2 s, with 20 reports", orders.store));
            assert_eq!(before["store_calls"], after["store_calls"], "{} {before} {after}", orders.store);
            if generation == 2
                && let Some(shared) = &mut shared
            {
                // Who listened must listen again.
                shared.restart(Duration::from_secs(2)).await;
                sleep(Duration::from_secs(1)).await;
            }
            busy.order_refresh().await;
        }
        for process in [busy, idle] {
            let last = process.end().await;
            assert_eq!(last["storage"], "Sound", "{last}");
        }
    }
}

fn orders(server: &AuthorizationServer, store: String, grace: Option<Duration>) -> Orders {
    Orders {
        store,
        token_url: server.token_url(),
        api_url: server.api_url("/documents"),
        refresh_token: Some(server.issue_refresh_token("client", Some("read"))),
        replay_grace: grace.map(|grace| grace.as_millis() as u64),
        lease: None,
        number: 0,
        every: 50,
        dies: None,
        late: 0,
        armed_by_order: false,
    }
}

struct Fleet {
    name: String,
    server: AuthorizationServer,
    orders: Orders,
    processes: Vec<Process>,
    /// Of those that were killed.
    gone: Total,
}

impl Fleet {
    async fn start(name: &str, server: AuthorizationServer, orders: Orders, processes: u32) -> Self {
        let start = |number| Process::start(&Orders { number, ..orders.clone() });
        let processes = (0..processes).map(start).collect();
        let mut fleet = Self { name: name.into(), server, orders, processes, gone: Total::default() };
        for process in &mut fleet.processes {
            process.until("it has a token", |report| number(report, "ok") > 0).await;
        }
        fleet
    }

    async fn replace(&mut self, number: usize) {
        let orders = Orders { number: number as u32, ..self.orders.clone() };
        let mut killed = std::mem::replace(&mut self.processes[number], Process::start(&orders));
        killed.kill().await;
        self.gone.add(&killed.report());
    }

    /// Waits for the next refresh. Its answer takes so long.
    async fn one_that_refreshes(&self, takes: Duration) -> usize {
        self.server.fault(Fault::delay(takes));
        let next = self.server.token_requests() + 1;
        timeout(Duration::from_secs(10), self.server.wait_for_token_requests(next)).await.expect("a refresh");
        let asked = self.server.recorded().pop().unwrap();
        asked.headers()["x-replica"].to_str().unwrap().parse().unwrap()
    }

    /// It has sent the refresh token, and is stopped until the others have gone on without it; then the answer reaches it.
    async fn pause_one_that_refreshes(&self) {
        let number = self.one_that_refreshes(Duration::from_secs(3)).await;
        say(&format!("{}: {number} is paused while it refreshes", self.name));
        self.processes[number].signal(Signal::SIGSTOP);
        sleep(Duration::from_secs(4)).await;
        self.processes[number].signal(Signal::SIGCONT);
    }

    async fn end(&mut self) -> Total {
        let mut total = std::mem::take(&mut self.gone);
        for process in self.processes.drain(..) {
            total.add(&process.end().await);
        }
        total
    }
}

#[derive(Default)]
struct Total {
    ok: u64,
    failed: u64,
    losses: u64,
    errors: Vec<Value>,
}

impl Total {
    fn add(&mut self, report: &Value) {
        // Killed before its first.
        if report.is_null() {
            return;
        }
        self.ok += number(report, "ok");
        self.failed += number(report, "failed");
        self.losses += number(report, "losses");
        self.errors.extend(report["errors"].as_array().into_iter().flatten().cloned());
    }

    fn is_flawless(&self, name: &str) {
        assert_eq!((self.failed, self.losses), (0, 0), "{name}: {:?}", self.errors);
    }
}

const LIFE: Duration = Duration::from_secs(2);
/// A fetch of that length fits into the last quarter of a life, with a quarter more: a longer one moves the next ones.
const HELD_UP: Duration = Duration::from_millis(240);
/// Who waits for another's fetch learns of it by reading the file four times a second, and takes the fetch for as slow: the next ones begin
/// earlier, by twice that.
const LATE_NEWS: Duration = Duration::from_millis(350);
/// In milliseconds, and longer than any machine stands still: whoever has lost the lease in the middle of a refresh is taken for dead,
/// and somebody else asks as well.
const LONG_LEASE: u64 = 20_000;
const MINUTE: Duration = Duration::from_secs(60);
