//! When a write on Redis counts, and how long it may take.

use std::time::Duration;

use nix::sys::signal::Signal;
use tower_bearer::store::{Lease, RedisStore, StoreErrorKind, Swap, TokenStore};

use crate::{on_redis::failover::store, redis_server::RedisServer};

/// The primary has it and no replica: that is an error, each time until one has it, and then it is there.
pub(crate) async fn too_few_replicas() {
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    primary.is_followed_by(&replica).await;
    // It waits for half of this.
    let store = store(&primary.url()).answer_limit(Duration::from_secs(2)).wait_for_replicas(1);
    let plain = self::store(&primary.url());
    replica.signal(Signal::SIGSTOP);
    for version in 0..2 {
        let error = store.swap(version, b"data").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("only 0 of 1 replicas"), "{error}");
        assert_eq!(plain.load().await.unwrap().unwrap().version(), version + 1, "the primary has it");
        let error = store.load().await.expect_err("whoever looks again must not take it for stored");
        assert!(error.to_string().contains("only 0 of 1 replicas"), "{error}");
    }
    assert_eq!(store.lease("a", Duration::from_secs(20)).await.unwrap(), Lease::Granted, "a lease may be lost");
    assert_eq!(plain.swap(0, b"late").await.unwrap(), Swap::Lost);
    assert_eq!(
        store.swap(0, b"late").await.unwrap(),
        Swap::Lost,
        "nothing was written, so there is nothing to wait for"
    );
    store.load().await.expect_err("and what was written before is as it was");
    replica.signal(Signal::SIGCONT);
    primary.is_caught_up_with().await;
    assert_eq!(store.load().await.unwrap().unwrap().version(), 2);
    assert_eq!(store.swap(2, b"more").await.unwrap(), Swap::Done);
    assert_eq!(store.load().await.unwrap().unwrap().data(), b"more");
}

/// The primary is killed the moment after; the replica has it.
pub(crate) async fn enough_replicas() {
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    primary.is_followed_by(&replica).await;
    let store = store(&primary.url()).wait_for_replicas(1);
    for version in 0..20 {
        assert_eq!(store.swap(version, b"data").await.unwrap(), Swap::Done);
    }
    primary.signal(Signal::SIGKILL);
    replica.order("REPLICAOF NO ONE").await;
    let other = self::store(&replica.url());
    assert_eq!(other.load().await.unwrap().unwrap().version(), 20);
}

/// Whatever server is installed: one that knows `WAITAOF` waits, an older one is named as the reason.
pub(crate) async fn disks() {
    let redis = RedisServer::start().await;
    let on_disk = |replicas| self::store(&redis.url()).wait_for_disks(replicas);
    if redis.version().await >= (7, 2) {
        assert_eq!(on_disk(0).swap(0, b"data").await.unwrap(), Swap::Done);
        let error = on_disk(1).swap(1, b"more").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        redis.order("CONFIG SET appendonly no").await;
        says(&on_disk(0), 2, "appendonly yes").await;
    } else {
        says(&on_disk(0), 0, "7.2").await;
    }
}

/// A server that stands still for longer than it is given costs an error, and is waited for by one who has the time.
pub(crate) async fn answer_limit() {
    let redis = RedisServer::start().await;
    let limited = |limit| store(&redis.url()).answer_limit(limit);
    let (hasty, patient) = (limited(Duration::from_millis(200)), limited(Duration::from_secs(4)));
    assert_eq!(patient.load().await.unwrap(), None);
    redis.order("CLIENT PAUSE 1500").await;
    let (error, loaded) = tokio::join!(hasty.load(), patient.load());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("timed out") && error.to_string().contains("200ms"), "{error}");
    assert_eq!(loaded.unwrap(), None);
}

async fn says(store: &RedisStore, version: u64, what: &str) {
    let error = store.swap(version, b"data").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
    assert!(error.to_string().contains(what), "{error}");
}
