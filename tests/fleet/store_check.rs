//! What every store promises, on real servers that are stopped and started again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redis::{Client, TypedCommands};
use tokio::sync::Mutex;
use tower_bearer::{
    store::{PostgresStore, RedisStore, TokenStore},
    testing::StoreCheck,
};

use crate::{
    any_store::sealed,
    fleets::Server,
    postgres_server::{PostgresServer, pool},
    process::say,
    redis_server::RedisServer,
};

pub(crate) async fn on_redis() {
    let server = RedisServer::start().await;
    let url = server.url();
    let open = move |name: &str| RedisStore::connect(&url, name).unwrap();
    with_outage("Redis", open, Server::Redis(server)).await;
}

pub(crate) async fn sealed_on_redis() {
    let server = RedisServer::start().await;
    let url = server.url();
    let open = move |name: &str| sealed(RedisStore::connect(&url, name).unwrap());
    with_outage("sealed on Redis", open, Server::Redis(server)).await;
}

/// A user of Redis needs no more rights than the documentation of `RedisStore` says.
pub(crate) async fn on_redis_with_few_rights() {
    let server = RedisServer::start().await;
    let documented = include_str!("../../src/store/redis.rs").lines().map(|line| line.trim_start_matches("///").trim());
    let rule = documented.skip_while(|line| !line.starts_with("ACL SETUSER")).take_while(|line| !line.contains("```"));
    server.order(&rule.collect::<Vec<_>>().join(" ")).await;
    let url = format!("redis://app:password@127.0.0.1:{}/", server.port());
    server.order_as(&url, "PING").await;
    assert!(Client::open(&*url).unwrap().get_connection().unwrap().set("other", 1).is_err(), "few rights");
    let open = move |name: &str| RedisStore::connect(&url, name).unwrap();
    // Without an outage: what a user may do isn't kept on disk.
    is_sound("Redis with few rights", StoreCheck::new(open)).await;
}

/// With a replica that must have each write.
pub(crate) async fn on_redis_and_its_replica() {
    let (server, replica) = tokio::join!(RedisServer::start(), RedisServer::start());
    server.is_followed_by(&replica).await;
    let url = server.url();
    let open = move |name: &str| RedisStore::connect(&url, name).unwrap().wait_for_replicas(1);
    is_sound("Redis and its replica", StoreCheck::new(open)).await;
}

pub(crate) async fn on_postgres() {
    let server = PostgresServer::start().await;
    let url = server.url();
    let open = move |name: &str| PostgresStore::new(pool(&url, 2), name);
    with_outage("PostgreSQL", open, Server::Postgres(server)).await;
}

pub(crate) async fn sealed_on_postgres() {
    let server = PostgresServer::start().await;
    let url = server.url();
    let open = move |name: &str| sealed(PostgresStore::new(pool(&url, 2), name));
    with_outage("sealed on PostgreSQL", open, Server::Postgres(server)).await;
}

/// Half of the processes share a family, and the other half have one of their own.
pub(crate) async fn on_a_family_on_postgres() {
    let server = PostgresServer::start().await;
    let (url, family) = (server.url(), PostgresStore::family(server.pool(4), "users"));
    let shares = AtomicBool::new(false);
    let open = move |name: &str| match shares.fetch_not(Ordering::SeqCst) {
        true => family.of(name),
        false => PostgresStore::family(pool(&url, 1), "users").of(name),
    };
    with_outage("a family on PostgreSQL", open, Server::Postgres(server)).await;
}

async fn with_outage<S: TokenStore>(what: &str, open: impl Fn(&str) -> S + Send + Sync + 'static, server: Server) {
    let server = Arc::new(Mutex::new(server));
    let (stops, starts) = (server.clone(), server);
    let check = StoreCheck::new(open).outage(
        move || {
            let server = stops.clone();
            async move { server.lock().await.end().await }
        },
        move || {
            let server = starts.clone();
            async move { server.lock().await.begin().await }
        },
    );
    is_sound(what, check).await;
}

async fn is_sound<S: TokenStore>(what: &str, check: StoreCheck<S>) {
    let report = check.run().await;
    say(&format!("{what}: {report}"));
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
}
