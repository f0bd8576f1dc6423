//! How a store on Redis hears what others have stored, and what it does when it can't.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tower_bearer::store::{RedisStore, Swap, TokenStore};

use crate::{
    on_redis::failover::store,
    proxy::Proxy,
    redis_server::{Directory, RedisServer},
};

/// An entry was removed, or all of them were, or an older one was put back: the versions begin anew or go on from an older one, and
/// who knew a later one hears of it.
pub(crate) async fn of_older_versions() {
    for loss in ["DEL", "FLUSHALL", "RESTORE"] {
        let redis = RedisServer::start().await;
        let (one, other) = (store(&redis.url()), store(&redis.url()));
        assert_eq!(one.swap(0, b"first").await.unwrap(), Swap::Done);
        let key = redis.entry().await;
        redis.order(&format!("COPY {key} backup")).await;
        for version in 1..5 {
            assert_eq!(one.swap(version, b"later").await.unwrap(), Swap::Done);
        }
        listens(&other).await;
        assert_eq!(version(&other).await, 5);
        quiet(&other, 5).await;

        let expected = match loss {
            "RESTORE" => {
                redis.order(&format!("COPY backup {key} REPLACE")).await;
                1
            }
            "DEL" => {
                redis.order(&format!("DEL {key}")).await;
                0
            }
            _ => {
                redis.order("FLUSHALL").await;
                0
            }
        };
        let (swapped, heard) = tokio::join!(one.swap(expected, b"anew"), timeout(LONG, other.changed(5)));
        assert_eq!(swapped.unwrap(), Swap::Done, "{loss}");
        heard.unwrap_or_else(|_| panic!("{loss}: it was never told"));
        assert_eq!(other.load().await.unwrap().unwrap().data(), b"anew", "{loss}");
        quiet(&other, expected + 1).await;
    }
}

/// While nobody asked, an entry was removed, and another one has come to the version of the first.
pub(crate) async fn of_another_entry_with_the_same_version() {
    let redis = RedisServer::start().await;
    let (one, other) = (store(&redis.url()), store(&redis.url()));
    for version in 0..3 {
        assert_eq!(one.swap(version, b"first").await.unwrap(), Swap::Done);
    }
    listens(&other).await;
    assert_eq!(version(&other).await, 3);
    quiet(&other, 3).await;
    redis.order("FLUSHALL").await;
    for version in 0..3 {
        assert_eq!(one.swap(version, b"other").await.unwrap(), Swap::Done);
    }
    timeout(LONG, other.changed(3)).await.expect("it was never told");
    assert_eq!(other.load().await.unwrap().unwrap().data(), b"other");
}

/// What was announced while nobody listened is gone: whoever listens again looks, once.
pub(crate) async fn made_anew() {
    let redis = RedisServer::start().await;
    let store = store(&redis.url());
    store.swap(0, b"first").await.unwrap();
    listens(&store).await;
    quiet(&store, 1).await;
    redis.order("CLIENT KILL TYPE pubsub").await;
    timeout(LONG, store.changed(1)).await.expect("it was never told");
    quiet(&store, 1).await;
}

/// What a store has stored itself is no news for it.
pub(crate) async fn of_its_own() {
    let redis = RedisServer::start().await;
    let store = store(&redis.url());
    listens(&store).await;
    assert_eq!(store.swap(0, b"data").await.unwrap(), Swap::Done);
    timeout(LONG, store.changed(1)).await.expect("of the first announcement nobody can tell");
    for version in 1..20 {
        assert_eq!(store.swap(version, b"data").await.unwrap(), Swap::Done);
    }
    quiet(&store, 20).await;
}

/// Who may not listen, and who is cut off at once, tries again more and more seldom: not some times a second, for ever. Nor does
/// anybody connect who isn't asked for anything.
pub(crate) async fn where_nobody_may_listen() {
    let directory = Directory::new();
    let users = "user default on nopass ~* &* +@all\nuser deaf on >secret ~* resetchannels +@all\n";
    std::fs::write(directory.file("users.acl"), users).unwrap();
    let file = directory.file("users.acl");
    let redis = RedisServer::start_with(directory, &["--aclfile".to_owned(), file]).await;
    let (wrong, deaf) = (Proxy::to(redis.port()).await, Proxy::to(redis.port()).await);
    let closing = Proxy::to_nowhere().await;
    let watched = |url: String| async move {
        let store = store(&url);
        let _ = store.load().await;
        listens_in_vain(&store).await;
    };
    tokio::join!(
        watched(wrong.url_for("default", "wrong")),
        watched(wrong.url_for("deaf", "wrong")),
        watched(deaf.url_for("deaf", "secret")),
        watched(closing.url()),
    );
    // Two stores, and each has tried once before it listened.
    let seen = (wrong.accepted(), deaf.accepted(), closing.accepted());
    assert!(
        seen.0 <= 2 * (MOST + 1) && seen.1 <= MOST + 1 && seen.2 <= MOST + 1,
        "connections in six seconds: {seen:?}"
    );
}

/// A store at work has two connections, and an idle one makes no more.
pub(crate) async fn over_two_connections() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let store = store(&proxy.url());
    listens(&store).await;
    for version in 0..10 {
        assert_eq!(store.swap(version, b"data").await.unwrap(), Swap::Done);
        assert_eq!(self::version(&store).await, version + 1);
        quiet(&store, version + 1).await;
    }
    assert_eq!(proxy.accepted(), 2);
}

/// Waits until it listens: that is news.
async fn listens(store: &RedisStore) {
    timeout(LONG, store.changed(u64::MAX)).await.expect("it never listens");
}

/// Asks for changes as an owner does, dropping the future and making it anew, until there are none for a moment.
async fn quiet(store: &RedisStore, known: u64) {
    let mut returned = 0;
    while timeout(MOMENT, store.changed(known)).await.is_ok() {
        returned += 1;
        // One announcement may be on its way when the next version is known already.
        assert!(returned <= 1, "it says over and over that there is another version than {known}");
    }
}

async fn listens_in_vain(store: &RedisStore) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        let _ = timeout(MOMENT, store.changed(0)).await;
        sleep(MOMENT / 10).await;
    }
}

async fn version(store: &RedisStore) -> u64 {
    store.load().await.unwrap().map_or(0, |entry| entry.version())
}

/// Pauses of 125 ms at least that double: six attempts fit into six seconds.
const MOST: usize = 6;
const MOMENT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(10);
