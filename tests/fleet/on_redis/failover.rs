//! A store on Redis when another server takes over, and when connections end, or seem to live.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_bearer::store::{Account, Lease, RedisStore, StoreErrorKind, Swap, TokenStore};

use crate::{
    proxy::Proxy,
    redis_server::{Directory, RedisServer},
};

/// A primary hands over to its replica, and a proxy leads there from then on; connections that it has it leaves as they are. They lead
/// to a server that refuses to write, in one of the ways in which servers do, and the store goes on with the other one.
pub(crate) async fn behind_a_proxy() {
    for (case, refusal) in [
        // It is a replica of the new one: READONLY.
        ("demoted", &[][..]),
        // It is a replica of a server that is gone: MASTERDOWN.
        ("cut off", &["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"]),
        // It has no replicas any more: NOREPLICAS.
        ("alone", &["CONFIG SET min-replicas-to-write 1"]),
    ] {
        let (old, new) = (RedisServer::start().await, RedisServer::start().await);
        old.is_followed_by(&new).await;
        let proxy = Proxy::to(old.port()).await;
        let store = store(&proxy.url());
        assert_eq!(store.swap(0, b"first").await.unwrap(), Swap::Done);
        old.is_caught_up_with().await;

        new.order("REPLICAOF NO ONE").await;
        proxy.lead_to(new.port());
        match refusal {
            [] => old.follows(&new).await,
            orders => {
                for order in orders {
                    old.order(order).await;
                }
            }
        }
        assert_eq!(store.lease("a", LONG).await.unwrap(), Lease::Granted, "{case}");
        assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done, "{case}");
        let other = self::store(&new.url());
        assert_eq!(other.load().await.unwrap().unwrap().data(), b"second", "{case}");
    }
}

/// A swap is the first to find out, and a load.
pub(crate) async fn whatever_is_called_first() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let proxy = Proxy::to(old.port()).await;
    let (swapping, loading) = (store(&proxy.url()), store(&proxy.url()));
    swapping.load().await.unwrap();
    loading.load().await.unwrap();
    old.order("CONFIG SET replica-serve-stale-data no").await;
    old.order("REPLICAOF 127.0.0.1 1").await;
    proxy.lead_to(new.port());
    assert_eq!(swapping.swap(0, b"first").await.unwrap(), Swap::Done);
    assert_eq!(loading.load().await.unwrap().unwrap().data(), b"first");
}

/// What closes idle connections (a server with a `timeout`, a load balancer) makes no call fail.
pub(crate) async fn closed_while_idle() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let store = store(&proxy.url());
    assert_eq!(store.load().await.unwrap(), None);
    for (version, data) in [b"first", b"again"].into_iter().enumerate() {
        proxy.cut();
        assert_eq!(store.swap(version as u64, data).await.unwrap(), Swap::Done);
        proxy.cut();
        assert_eq!(store.load().await.unwrap().unwrap().data(), data);
        proxy.cut();
        assert_eq!(store.lease("a", LONG).await.unwrap(), Lease::Granted);
        proxy.cut();
        store.release("a").await.unwrap();
    }
}

/// A connection that died without a word costs the call that finds out, and no other.
pub(crate) async fn silent() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let store = store(&proxy.url()).answer_limit(Duration::from_secs(1));
    assert_eq!(answered(&store, 0).await, Swap::Done);
    proxy.silence();
    let error = store.load().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert_eq!(answered(&store, 1).await, Swap::Done);
}

/// A password that the server learns later works from then on.
pub(crate) async fn password_mended() {
    let more = ["--requirepass", "old"].map(str::to_owned);
    let redis = RedisServer::start_with(Directory::new(), &more).await;
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/", redis.port());
    let store = store(&url("new"));
    let error = store.load().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
    store.load().await.expect_err("still");
    redis.order_as(&url("old"), "CONFIG SET requirepass new").await;
    assert_eq!(answered(&store, 0).await, Swap::Done);
}

/// What comes of a swap that may be the first on a new connection: a machine that stands still for a second makes it late, which is no
/// answer.
async fn answered(store: &RedisStore, expected: u64) -> Swap {
    let answered = async {
        loop {
            match store.swap(expected, b"data").await {
                Err(error) if error.to_string().contains("timed out") => sleep(Duration::from_millis(10)).await,
                swapped => return swapped.unwrap(),
            }
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("an answer")
}

/// One that waits for longer than any machine stands still.
pub(crate) fn store(url: &str) -> RedisStore {
    let mut store = RedisStore::connect(url, "failover").unwrap().answer_limit(Duration::from_secs(4));
    store.bind(&Account::new("https://id.test", "test").for_client());
    store
}

const LONG: Duration = Duration::from_secs(60);
