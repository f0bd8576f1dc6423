//! What every store promises, on real servers that are stopped and started again.

use std::sync::Arc;

use tokio::sync::Mutex;
use tower_bearer::{
    store::{PostgresStore, RedisStore},
    testing::StoreCheck,
};

use crate::{
    postgres_server::{PostgresServer, pool},
    process::say,
    redis_server::RedisServer,
};

pub(crate) async fn on_redis() {
    let server = RedisServer::start().await;
    let url = server.url();
    let server = Arc::new(Mutex::new(server));
    let (stops, starts) = (server.clone(), server);
    let check = StoreCheck::new(move |name| RedisStore::connect(&url, name).unwrap()).outage(
        move || {
            let server = stops.clone();
            async move { server.lock().await.end().await }
        },
        move || {
            let server = starts.clone();
            async move { server.lock().await.begin().await }
        },
    );
    let report = check.run().await;
    say(&report.to_string());
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
}

pub(crate) async fn on_postgres() {
    let server = PostgresServer::start().await;
    let url = server.url();
    let server = Arc::new(Mutex::new(server));
    let (stops, starts) = (server.clone(), server);
    let check = StoreCheck::new(move |name| PostgresStore::of(pool(&url, 2), name)).outage(
        move || {
            let server = stops.clone();
            async move { server.lock().await.end().await }
        },
        move || {
            let server = starts.clone();
            async move { server.lock().await.begin().await }
        },
    );
    let report = check.run().await;
    say(&report.to_string());
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
}
