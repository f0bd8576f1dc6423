//! A store on PostgreSQL: news, ended connections, killed servers, PgBouncer, and servers that refuse.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sqlx::{Connection, Executor, PgConnection, Row, postgres::PgConnectOptions};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_bearer::{
    store::{Lease, PostgresStore, StoreErrorKind, Swap, TokenStore},
    testing::StoreCheck,
};

use crate::{
    postgres_server::{LOCKED, PgBouncer, PostgresServer, pool, pool_with},
    process::say,
    proxy::Proxy,
};

/// Another process hears at once what was stored.
pub(crate) async fn news() {
    let server = PostgresServer::start().await;
    let (one, other) = (server.store("x"), server.store("x"));
    one.swap(0, b"first").await.unwrap();
    hears(&other).await;
    let mut times = Vec::new();
    for version in 1..=20 {
        let began = Instant::now();
        let (swapped, told) = tokio::join!(one.swap(version, b"next"), timeout(LONG, other.changed(version)));
        assert_eq!(swapped.unwrap(), Swap::Done);
        told.expect("it was never told");
        times.push(began.elapsed());
        assert_eq!(version_of(&other).await, version + 1);
        quiet(&other, version + 1).await;
        // What a store has stored itself is no news.
        quiet(&one, version + 1).await;
    }
    times.sort();
    say(&format!("PostgreSQL: a swap and its news take {:.1?}, at most {:.1?}", times[10], times[19]));
    // A machine that is busy holds up most of them. A poll would take seconds each time.
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
}

/// What can't be loaded is leased to nobody.
pub(crate) async fn half_a_row() {
    let server = PostgresServer::start().await;
    let store = server.store("x");
    store.swap(0, b"data").await.unwrap();
    server.order("UPDATE tower_bearer_token SET data = NULL").await;
    let error = store.lease_and_load("a", LONG).await.unwrap_err();
    assert!(error.to_string().contains("is not whole"), "{error}");
    server.order("UPDATE tower_bearer_token SET data = 'data'").await;
    assert_eq!(store.lease("b", LONG).await.unwrap(), Lease::Granted);
}

/// A row that was deleted, or set back by hand, is news as soon as something is stored again.
pub(crate) async fn older_versions() {
    for (loss, expected) in [("DELETE FROM tower_bearer_token", 0), ("UPDATE tower_bearer_token SET version = 1", 1)] {
        let server = PostgresServer::start().await;
        let (one, other) = (server.store("x"), server.store("x"));
        for version in 0..5 {
            assert_eq!(one.swap(version, b"data").await.unwrap(), Swap::Done);
        }
        assert_eq!(version_of(&other).await, 5);
        hears(&other).await;
        server.order(loss).await;
        let (swapped, told) = tokio::join!(one.swap(expected, b"anew"), timeout(LONG, other.changed(5)));
        assert_eq!(swapped.unwrap(), Swap::Done, "{loss}");
        told.unwrap_or_else(|_| panic!("{loss}: it was never told"));
        assert_eq!(other.load().await.unwrap().unwrap().data(), b"anew", "{loss}");
        quiet(&other, expected + 1).await;
    }
}

/// An operator ends all connections: no call fails for long, and news comes again.
pub(crate) async fn backends_ended() {
    let server = PostgresServer::start().await;
    let (one, other) = (server.store("x"), server.store("x"));
    one.swap(0, b"first").await.unwrap();
    hears(&other).await;
    for round in 1..=3 {
        server.order("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'").await;
        // The pool looks at a connection before it gives it away.
        assert_eq!(one.swap(round, b"next").await.unwrap(), Swap::Done);
        let heard = timeout(LONG, other.changed(round)).await;
        heard.unwrap_or_else(|_| panic!("round {round}: nothing was heard any more"));
        hears(&other).await;
    }
}

/// Many store at once while the server is killed again and again: what was confirmed is there, and nothing was confirmed twice.
pub(crate) async fn killed_under_contention() {
    let mut server = PostgresServer::start().await;
    let confirmed = Arc::new(Mutex::new(HashMap::<u64, String>::new()));
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..6 {
        let (store, confirmed, over) = (server.store("x"), confirmed.clone(), over.clone());
        writers.spawn(async move {
            let mut failed = 0_u32;
            for turn in 0.. {
                if over.load(SeqCst) {
                    break;
                }
                let Ok(entry) = store.load().await else {
                    failed += 1;
                    sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let version = entry.map_or(0, |entry| entry.version());
                let data = format!("{number} {turn}");
                match store.swap(version, data.as_bytes()).await {
                    Ok(Swap::Done) => {
                        let before = confirmed.lock().unwrap().insert(version + 1, data);
                        assert_eq!(before, None, "version {} was confirmed twice", version + 1);
                    }
                    Ok(Swap::Lost) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
                        failed += 1;
                    }
                }
            }
            failed
        });
    }
    for _ in 0..4 {
        let before = confirmed.lock().unwrap().len();
        let began = Instant::now();
        while confirmed.lock().unwrap().len() < before + 20 {
            assert!(began.elapsed() < 3 * LONG, "nothing is stored any more");
            sleep(Duration::from_millis(20)).await;
        }
        server.kill().await;
        server.begin().await;
        let last = confirmed.lock().unwrap().keys().copied().max().unwrap();
        assert!(version_of(&server.store("x")).await >= last, "what was confirmed is gone");
    }
    over.store(true, SeqCst);
    let failed: u32 = writers.join_all().await.into_iter().sum();
    let entry = server.store("x").load().await.unwrap().unwrap();
    let confirmed = confirmed.lock().unwrap();
    say(&format!("PostgreSQL: {} confirmed of {} swaps, {failed} calls failed", confirmed.len(), entry.version()));
    assert!(confirmed.keys().all(|version| *version <= entry.version()), "what was confirmed is gone");
    if let Some(data) = confirmed.get(&entry.version()) {
        assert_eq!(entry.data(), data.as_bytes());
    }
    assert!(failed > 0, "nobody noticed");
}

/// PgBouncer in transaction mode: nothing arrives there that another one tells, so the store polls. Two connections for all, so that each
/// statement of a client may meet another one.
pub(crate) async fn behind_pgbouncer() {
    let server = PostgresServer::start().await;
    let bouncer = PgBouncer::before(&server).await;
    let url = bouncer.url();
    let report = StoreCheck::new(move |name| PostgresStore::new(pool(&url, 2), name)).run().await;
    say(&format!("behind PgBouncer: {report}"));
    report.assert_sound();
    let news = report.news().expect("a poll finds it");
    assert!(news > Duration::from_millis(500), "that was a notification: {news:?}");
    // No notification reaches others who share the two connections: sqlx would end their statements.
    let others = pool(&bouncer.url(), 4);
    let listening = PostgresStore::new(pool(&bouncer.url(), 2), "heard");
    hears(&listening).await;
    for version in 0..40 {
        assert_eq!(listening.swap(version, b"data").await.unwrap(), Swap::Done);
        sqlx::query("SELECT 1").persistent(false).execute(&mut *others.begin().await.unwrap()).await.unwrap();
    }
    // One entry whose statements of many clients take turns on two connections.
    let mut asking = JoinSet::new();
    for number in 0..16 {
        let store = PostgresStore::new(pool(&bouncer.url(), 1), format!("many-{}", number % 2)).answer_limit(LONG);
        asking.spawn(async move {
            let mut done = 0;
            while done < 5 {
                let version = version_of(&store).await;
                done += u32::from(store.swap(version, b"data").await.unwrap() == Swap::Done);
            }
        });
    }
    asking.join_all().await;
    for number in 0..2 {
        assert_eq!(version_of(&server.store(&format!("many-{number}"))).await, 40);
    }
}

/// A busy pooler may be found out only after `LISTEN`, if each check before met the same connection to the server. None stays there: it would
/// end statements of others.
pub(crate) async fn nothing_left_behind_pgbouncer() {
    let server = PostgresServer::start().await;
    let bouncer = PgBouncer::before(&server).await;
    // The commands of the store go another way, so that the checks find nothing.
    let pool = server.pool(1);
    drop(pool.acquire().await.unwrap());
    pool.set_connect_options(bouncer.url().parse().unwrap());
    let store = PostgresStore::new(pool, "x");
    let waiting = tokio::spawn(async move { store.changed(0).await });
    sleep(Duration::from_millis(500)).await;
    // Somebody has that connection while the listener gives up.
    let mut other = PgConnection::connect(&bouncer.url()).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    assert_eq!(listening(&mut other).await, 1, "it doesn't listen, so this is about nothing");
    sleep(Duration::from_millis(1500)).await;
    other.execute("COMMIT").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let (mut both, mut held_open) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut held = PgConnection::connect(&bouncer.url()).await.unwrap();
        held.execute("BEGIN").await.unwrap();
        both.push(listening(&mut held).await);
        held_open.push(held);
    }
    assert_eq!(both, [0, 0], "LISTEN was left to others");
    waiting.abort();
}

async fn listening(connection: &mut PgConnection) -> i64 {
    connection.fetch_one("SELECT count(*) FROM pg_listening_channels()").await.unwrap().get(0)
}

/// Who lacks the table reads what to run; and any number may run it at once.
pub(crate) async fn table_missing() {
    let server = PostgresServer::start_without_table().await;
    let store = server.store("x");
    for error in [
        store.load().await.unwrap_err(),
        store.swap(0, b"marked-secret").await.unwrap_err(),
        store.lease("a", LONG).await.unwrap_err(),
        store.release("a").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
        assert!(error.to_string().contains("run PostgresStore::migrate"), "{error}");
        assert!(!error.to_string().contains("marked"), "{error}");
    }
    let mut migrating = JoinSet::new();
    for _ in 0..20 {
        let pool = server.pool(1);
        migrating.spawn(async move { PostgresStore::migrate(&pool).await });
    }
    for migrated in migrating.join_all().await {
        migrated.unwrap();
    }
    assert_eq!(store.swap(0, b"data").await.unwrap(), Swap::Done);

    // Another table, in a schema of its own.
    let elsewhere = server.store("x").table("auth.order").unwrap();
    assert!(elsewhere.load().await.unwrap_err().to_string().contains("migrate"));
    server.order("CREATE SCHEMA auth").await;
    PostgresStore::migrate_table(&server.pool(1), "auth.order").await.unwrap();
    assert_eq!(elsewhere.load().await.unwrap(), None, "nothing of the other table");
    assert_eq!(elsewhere.swap(0, b"data").await.unwrap(), Swap::Done);
}

/// A wrong password, missing rights, and a name that PostgreSQL can't have: somebody has to mend them.
pub(crate) async fn refused() {
    let server = PostgresServer::start().await;
    server.order(&format!("CREATE ROLE {LOCKED} LOGIN PASSWORD 'right'")).await;
    let store = |password: &str| {
        let options: PgConnectOptions = server.url().parse().unwrap();
        PostgresStore::new(pool_with(options.username(LOCKED).password(password), 1), "x")
    };
    let (wrong, right) = (store("marked-secret"), store("right"));
    for (error, code) in [
        (wrong.load().await.unwrap_err(), "28P01"),
        (right.load().await.unwrap_err(), "42501"),
        (right.lease("a", LONG).await.unwrap_err(), "42501"),
        (server.store("a\0b").load().await.unwrap_err(), "22021"),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
        assert!(error.to_string().contains(code), "{error}");
        assert!(!format!("{error} {error:?}").contains("marked"), "{error:?}");
    }
    server.order(&format!("GRANT SELECT, INSERT, UPDATE ON tower_bearer_token TO {LOCKED}")).await;
    assert_eq!(right.lease("a", LONG).await.unwrap(), Lease::Granted);
    assert_eq!(right.swap(0, b"data").await.unwrap(), Swap::Done);
    right.release("a").await.unwrap();
}

/// A server that only reads for a while is no reason to mend anything: it may be one that has just been replaced.
pub(crate) async fn read_only() {
    let server = PostgresServer::start().await;
    let store = server.store("x");
    store.swap(0, b"data").await.unwrap();
    server.set("default_transaction_read_only = on").await;
    for _ in 0..3 {
        let error = store.swap(1, b"next").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert_eq!(store.lease("a", LONG).await.unwrap_err().kind(), StoreErrorKind::Unreachable);
        assert_eq!(version_of(&store).await, 1);
    }
    // In a session that may write.
    let mut operator = PgConnection::connect(&server.url()).await.unwrap();
    operator.execute("SET default_transaction_read_only = off").await.unwrap();
    operator.execute("ALTER SYSTEM RESET default_transaction_read_only").await.unwrap();
    operator.execute("SELECT pg_reload_conf()").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(store.swap(1, b"next").await.unwrap(), Swap::Done);
}

/// Somebody stands still with the row locked, or the server does: calls fail in time, and work again after that.
pub(crate) async fn locked_and_stopped() {
    let server = PostgresServer::start().await;
    let store = server.store("x");
    store.swap(0, b"data").await.unwrap();
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    other.execute("BEGIN; UPDATE tower_bearer_token SET stored_at = now()").await.unwrap();
    let began = Instant::now();
    let error = store.swap(1, b"next").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(version_of(&store).await, 1, "who only reads waits for nobody");
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.swap(1, b"next").await.unwrap(), Swap::Done);

    // Those of calls that were given up are closed, and so is the other's.
    other.close().await.unwrap();
    let began = Instant::now();
    while server.sessions().await > 2 {
        assert!(began.elapsed() < LONG, "{} sessions for a pool of two", server.sessions().await);
    }

    // The process that makes new sessions.
    server.signal(Signal::SIGSTOP);
    let fresh = server.store("x");
    let error = fresh.load().await.unwrap_err();
    server.signal(Signal::SIGCONT);
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    let began = Instant::now();
    while fresh.load().await.is_err() {
        assert!(began.elapsed() < LONG, "it never works again");
    }
}

/// A standby is behind a name or a proxy for a moment; then it takes over, and has what was confirmed. Without it nothing is confirmed.
pub(crate) async fn failover() {
    let mut primary = PostgresServer::start().await;
    let standby = PostgresServer::standby_of(&primary).await;
    primary.set("synchronous_standby_names = '*'").await;
    let proxy = Proxy::to(primary.port()).await;
    let url = format!("postgres://app@127.0.0.1:{}/postgres", proxy.port());
    let store = PostgresStore::new(pool(&url, 3), "x");
    assert_eq!(store.swap(0, b"first").await.unwrap(), Swap::Done);

    // Three connections, and each leads to the standby.
    proxy.lead_to(standby.port());
    proxy.cut();
    let calls = || futures_util::future::join3(store.load(), store.swap(1, b"next"), store.lease("a", LONG));
    let (loaded, swapped, leased) = calls().await;
    for error in [loaded.unwrap_err(), swapped.unwrap_err(), leased.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    }
    // They were not left in the pool.
    proxy.lead_to(primary.port());
    let (loaded, swapped, leased) = calls().await;
    // Before the swap or after it.
    assert!((1..=2).contains(&loaded.unwrap().unwrap().version()));
    assert_eq!((swapped.unwrap(), leased.unwrap()), (Swap::Done, Lease::Granted));

    // It takes over, with a row that it has and a connection that leads nowhere.
    primary.kill().await;
    standby.order("SELECT pg_promote()").await;
    proxy.lead_to(standby.port());
    proxy.cut();
    assert_eq!(store.load().await.unwrap().unwrap().data(), b"next");
    assert_eq!(store.swap(2, b"later").await.unwrap(), Swap::Done);
}

/// A commit that no standby confirms is not stored, not even if the role may wait for a moment only.
pub(crate) async fn standby_missing() {
    let server = PostgresServer::start().await;
    let store = server.store("x");
    store.swap(0, b"first").await.unwrap();
    // Before the other: it is a commit as well.
    server.order("ALTER ROLE app SET statement_timeout = '300ms'").await;
    server.set("synchronous_standby_names = '*'").await;
    let fresh = server.store("x");
    for store in [&store, &fresh] {
        let error = store.swap(1, b"next").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    }
}

/// While a standby is missing, a commit that was given up goes on waiting in the server. There is not one for each user: they would take
/// its last connection.
pub(crate) async fn standby_missing_for_many() {
    let server = PostgresServer::start().await;
    let family = PostgresStore::family(server.pool(4), "users");
    let users: Vec<_> = (0..24).map(|number| family.of(format!("{number}"))).collect();
    for user in &users {
        user.swap(0, b"first").await.unwrap();
    }
    server.set("synchronous_standby_names = '*'").await;
    for some in users.chunks(4) {
        let renewals = some.iter().map(|user| async {
            // A lease may be lost in a failover, so it needs no standby.
            let leased = user.lease("a", LONG).await;
            (leased, user.swap(1, b"next").await)
        });
        for (leased, swapped) in futures_util::future::join_all(renewals).await {
            assert_eq!(swapped.unwrap_err().kind(), StoreErrorKind::Unreachable);
            assert_eq!(leased.unwrap(), Lease::Granted);
        }
    }
    let sessions = server.sessions().await;
    assert!(sessions <= 8, "{sessions} sessions for a pool of four");
    assert_eq!(family.of("new").lease("a", LONG).await.unwrap(), Lease::Granted);
}

/// Five thousand keys of a family, all of them waiting for news: the pool's connections, and one more.
pub(crate) async fn five_thousand_keys() {
    const KEYS: usize = 5_000;
    let server = PostgresServer::start().await;
    let family = PostgresStore::family(server.pool(4), "users").answer_limit(Duration::from_secs(4));
    let stores: Vec<_> = (0..KEYS).map(|number| Arc::new(family.of(format!("user/{number}")))).collect();
    sessions_become(&server, 0).await;
    for chunk in stores.chunks(8) {
        let swaps = chunk.iter().map(|store| async { store.swap(0, b"first").await.unwrap() });
        futures_util::future::join_all(swaps).await;
    }
    let told = Arc::new(Mutex::new(HashSet::new()));
    let mut waiting = JoinSet::new();
    for (number, store) in stores.iter().cloned().enumerate() {
        let told = told.clone();
        waiting.spawn(async move {
            store.changed(1).await;
            told.lock().unwrap().insert(number);
        });
    }
    // Until it listens, and has polled all of them.
    sleep(Duration::from_secs(3)).await;
    assert!(told.lock().unwrap().is_empty(), "who knows the newest is told nothing");
    let all = server.sessions().await;
    assert!((2..=4 + 1).contains(&all), "{all} connections for a pool of four");
    // Others, each in a process of its own.
    let others = PostgresStore::family(server.pool(1), "users");
    for number in [0, 500, KEYS - 1] {
        assert_eq!(others.of(format!("user/{number}")).swap(1, b"next").await.unwrap(), Swap::Done);
    }
    let began = Instant::now();
    while told.lock().unwrap().len() < 3 {
        assert!(began.elapsed() < LONG, "only {:?} were told", told.lock().unwrap());
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(*told.lock().unwrap(), HashSet::from([0, 500, KEYS - 1]));
    // With the last store the connection that listens ends as well.
    waiting.shutdown().await;
    drop((stores, family, others));
    sessions_become(&server, 0).await;
}

async fn sessions_become(server: &PostgresServer, expected: i64) {
    let began = Instant::now();
    while server.sessions().await != expected {
        assert!(began.elapsed() < LONG, "{} sessions, not {expected}", server.sessions().await);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until its notifications arrive, in all likelihood: nothing tells that to users.
async fn hears(store: &PostgresStore) {
    let now = version_of(store).await;
    let _ = timeout(Duration::from_secs(2), store.changed(now)).await;
}

/// Asks for changes as an owner does, dropping the future and making it anew, until there are none for a moment.
async fn quiet(store: &PostgresStore, known: u64) {
    let mut returned = 0;
    while timeout(MOMENT, store.changed(known)).await.is_ok() {
        returned += 1;
        assert!(returned <= 1, "it says over and over that there is another version than {known}");
    }
}

async fn version_of(store: &PostgresStore) -> u64 {
    store.load().await.unwrap().map_or(0, |entry| entry.version())
}

const MOMENT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(10);
