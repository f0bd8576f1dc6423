//! Many stores on one Redis: a connection for commands and a subscription for all of them.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use redis::{Client, Value};
use tokio::time::{sleep, timeout};
use tower_bearer::store::{Account, Lease, RedisFamily, RedisStore, Swap, TokenStore};

use crate::{process::say, proxy::Proxy, redis_server::RedisServer};

/// Each of five thousand users hears what another process has stored for them.
pub(crate) async fn five_thousand() {
    const USERS: usize = 5_000;
    let redis = RedisServer::start().await;
    let (family, others) = (family(&redis.url()), family(&redis.url()));
    let key = |user: usize| format!("user/{user}");
    let stores: Vec<_> = (0..USERS).map(|user| bound(family.of(key(user)))).collect();
    has_connections(&redis, 0).await;

    let began = Instant::now();
    all_listen(&stores).await;
    let subscribed = began.elapsed();
    assert_eq!(channels(&redis).await, USERS);
    // The subscription.
    has_connections(&redis, 1).await;

    let began = Instant::now();
    let hear = join_all(stores.iter().map(|store| timeout(LONG, store.changed(0))));
    let others: Vec<_> = (0..USERS).map(|user| bound(others.of(key(user)))).collect();
    let swap = join_all(others.iter().map(|store| store.swap(0, b"data")));
    let (heard, swapped) = tokio::join!(hear, swap);
    let told = began.elapsed();
    assert!(swapped.into_iter().all(|swapped| swapped.unwrap() == Swap::Done));
    assert_eq!(heard.iter().filter(|heard| heard.is_ok()).count(), USERS, "all are told");

    let loaded = join_all(stores.iter().map(|store| store.load())).await;
    assert!(loaded.into_iter().all(|entry| entry.unwrap().unwrap().data() == b"data"));
    // Two of this family, and one of the other one, which listens to nothing.
    has_connections(&redis, 3).await;
    say(&format!("{USERS} users: subscribed in {subscribed:?}, stored and told in {told:?}"));

    drop(stores);
    nobody_listens(&redis).await;
}

/// Who isn't there any more listens no more, and the others do.
pub(crate) async fn leaves_its_channel() {
    let redis = RedisServer::start().await;
    let family = family(&redis.url());
    let stores = ["anna", "bob", "carol"].map(|key| bound(family.of(key)));
    let same = bound(family.of("anna"));
    all_listen(&stores).await;
    all_listen(std::slice::from_ref(&same)).await;
    let [anna, bob, carol] = stores;
    assert_eq!(channels(&redis).await, 3);
    drop(anna);
    drop(bob);
    until("a channel is left", async || channels(&redis).await == 2).await;
    let other = bound(self::family(&redis.url()).of("anna"));
    let (swapped, heard) = tokio::join!(other.swap(0, b"data"), timeout(LONG, same.changed(0)));
    assert_eq!(swapped.unwrap(), Swap::Done);
    heard.expect("another store of that key is still there");

    // And one that comes back hears again.
    let bob = bound(family.of("bob"));
    all_listen(std::slice::from_ref(&bob)).await;
    assert_eq!(channels(&redis).await, 3);
    drop((same, bob, carol));
    nobody_listens(&redis).await;
}

/// All channels are there again after Redis was away, and so are those that somebody wanted meanwhile.
pub(crate) async fn hears_again_after_a_restart() {
    const USERS: usize = 1_200;
    let mut redis = RedisServer::start().await;
    let (family, others) = (family(&redis.url()), family(&redis.url()));
    let (before, meanwhile) = (0..USERS).partition::<Vec<_>, _>(|user| *user < USERS - 10);
    let store = |user: &usize| bound(family.of(user.to_string()));
    let mut stores: Vec<_> = before.iter().map(store).collect();
    all_listen(&stores).await;
    redis.end().await;
    // Somebody comes meanwhile.
    let late: Vec<_> = meanwhile.iter().map(store).collect();
    tokio::join!(all_listen(&late), async {
        sleep(Duration::from_millis(500)).await;
        redis.begin().await;
    });
    stores.extend(late);
    until("all are subscribed", async || channels(&redis).await == USERS).await;
    for (user, store) in stores.iter().enumerate().step_by(100).chain(stores.iter().enumerate().rev().take(10)) {
        let other = bound(others.of(user.to_string()));
        let heard = async {
            while store.load().await.unwrap().is_none() {
                timeout(LONG, store.changed(0)).await.expect("it was never told");
            }
        };
        let (swapped, ()) = tokio::join!(other.swap(0, b"data"), heard);
        assert_eq!(swapped.unwrap(), Swap::Done);
    }
}

/// A subscription that hears nothing any more is found out, however many channels it has: commands find it out at once.
pub(crate) async fn over_a_connection_that_died_silently() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let (family, others) = (family(&proxy.url()), self::family(&redis.url()));
    let stores: Vec<_> = (0..100).map(|user| bound(family.of(user.to_string()))).collect();
    all_listen(&stores).await;
    stores[0].load().await.unwrap();
    proxy.silence();
    let error = stores[0].load().await.expect_err("nobody answers");
    assert!(error.to_string().contains("timed out"), "{error}");
    stores[0].load().await.expect("over a new connection");
    // The subscription may be as dead as the other connection was.
    let told = join_all(stores.iter().map(|store| timeout(LONG, store.changed(u64::MAX)))).await;
    assert!(told.iter().all(Result::is_ok));
    let other = bound(others.of("99"));
    let (swapped, heard) = tokio::join!(other.swap(0, b"data"), timeout(LONG, stores[99].changed(0)));
    assert_eq!(swapped.unwrap(), Swap::Done);
    heard.expect("it was never told");
}

/// The replica is gone, so no write is confirmed. Nobody waits for the writes of others, and whoever only reads or asks for a lease doesn't
/// wait at all.
pub(crate) async fn without_its_replica() {
    const USERS: usize = 100;
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    primary.is_followed_by(&replica).await;
    // A write waits for half of this.
    let family = family(&primary.url()).answer_limit(Duration::from_secs(3)).wait_for_replicas(1);
    let stores: Vec<_> = (0..USERS).map(|user| bound(family.of(user.to_string()))).collect();
    let reader = bound(family.of("reader"));
    reader.load().await.unwrap();
    replica.signal(Signal::SIGSTOP);
    let (waiting, answered) = (AtomicBool::new(true), AtomicUsize::new(0));
    // Until the first of them is told, because its connection ends then.
    let swap = join_all(stores.iter().map(|store| async {
        let swapped = store.swap(0, b"data").await;
        waiting.store(false, Ordering::SeqCst);
        swapped
    }));
    let read = async {
        while waiting.load(Ordering::SeqCst) {
            reader.load().await.unwrap();
            assert_eq!(reader.lease("a", LONG).await.unwrap(), Lease::Granted);
            answered.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (swapped, ()) = tokio::join!(swap, read);
    for swapped in swapped {
        let error = swapped.unwrap_err();
        assert!(error.to_string().contains("only 0 of 1 replicas"), "{error}");
    }
    let answered = answered.into_inner();
    say(&format!("without the replica: {answered} answers to another user while {USERS} users waited"));
    assert!(answered > 10, "only {answered} answers while {USERS} users waited");
    replica.signal(Signal::SIGCONT);
    primary.is_caught_up_with().await;
    let loaded = join_all(stores.iter().map(|store| store.load())).await;
    assert!(loaded.into_iter().all(|entry| entry.unwrap().unwrap().version() == 1));
    let swapped = join_all(stores.iter().map(|store| store.swap(1, b"data"))).await;
    assert!(swapped.into_iter().all(|swapped| swapped.unwrap() == Swap::Done));
    all_listen(&stores).await;
    // For commands, for writes that wait, and for announcements.
    until("three connections", async || {
        let list: String = redis::from_redis_value(primary.order("CLIENT LIST").await).unwrap();
        let own = list.lines().filter(|line| !line.contains("cmd=client|list") && !line.contains("flags=S"));
        own.count() == 3
    })
    .await;
}

/// An application that has a store for each user goes over to a family, and finds what it has stored.
pub(crate) async fn same_entries() {
    let redis = RedisServer::start().await;
    let family = family(&redis.url());
    for (key, name) in [("anna", "users/anna"), ("a/b 100%\n", "users/a%2Fb 100%25%0A"), ("{x}", "users/{x}")] {
        let alone = bound(RedisStore::connect(&redis.url(), name).unwrap());
        let of_family = bound(family.of(key));
        assert_eq!(alone.swap(0, key.as_bytes()).await.unwrap(), Swap::Done);
        assert_eq!(of_family.load().await.unwrap().unwrap().data(), key.as_bytes(), "{key}");
        assert_eq!(of_family.swap(1, b"more").await.unwrap(), Swap::Done);
        assert_eq!(alone.load().await.unwrap().unwrap().version(), 2, "{key}");
    }
}

/// Nobody's damaged entry costs the others their connection.
pub(crate) async fn of_a_wrong_type() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let family = family(&proxy.url());
    let (sound, damaged) = (bound(family.of("sound")), bound(family.of("damaged")));
    damaged.swap(0, b"data").await.unwrap();
    let key = redis.entry().await;
    redis.order(&format!("DEL {key}")).await;
    redis.order(&format!("SET {key} nonsense")).await;
    for version in 0..10 {
        damaged.load().await.expect_err("it is no hash");
        damaged.swap(version, b"data").await.expect_err("it is no hash");
        damaged.lease_and_load("a", LONG).await.expect_err("it is no hash");
        assert_eq!(damaged.lease("b", LONG).await.unwrap(), Lease::Granted, "what can't be loaded is leased to nobody");
        damaged.release("b").await.unwrap();
        assert_eq!(sound.swap(version, b"data").await.unwrap(), Swap::Done);
    }
    assert_eq!(proxy.accepted(), 1);
}

fn family(url: &str) -> RedisFamily {
    // Longer than any machine stands still.
    RedisStore::family(Client::open(url).unwrap(), "users").answer_limit(Duration::from_secs(4))
}

pub(crate) fn bound(mut store: RedisStore) -> RedisStore {
    store.bind(&Account::new("https://id.test", "test").for_client());
    store
}

/// Waits until all of them listen: that is news.
pub(crate) async fn all_listen(stores: &[RedisStore]) {
    let listen = join_all(stores.iter().map(|store| timeout(LONG, store.changed(u64::MAX)))).await;
    assert!(listen.iter().all(Result::is_ok), "they never listen");
}

/// Waits until there are so many connections, beside those of the test that are being closed.
async fn has_connections(redis: &RedisServer, count: usize) {
    until(&format!("there are {count} connections"), async || {
        let list: String = redis::from_redis_value(redis.order("CLIENT LIST").await).unwrap();
        list.lines().filter(|line| !line.contains("cmd=client|list")).count() == count
    })
    .await;
}

async fn channels(redis: &RedisServer) -> usize {
    let channels: Vec<Value> = redis::from_redis_value(redis.order("PUBSUB CHANNELS tower-bearer:*").await).unwrap();
    channels.len()
}

async fn nobody_listens(redis: &RedisServer) {
    until("the last channel is left, and the subscription is closed", async || {
        let list: String = redis::from_redis_value(redis.order("CLIENT LIST TYPE pubsub").await).unwrap();
        list.trim().is_empty() && channels(redis).await == 0
    })
    .await;
}

pub(crate) async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let reached = async {
        while !is().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, reached).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

const LONG: Duration = Duration::from_secs(30);
