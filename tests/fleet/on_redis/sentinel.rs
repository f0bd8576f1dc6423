//! A store behind sentinels: a primary, a replica, and who names the primary.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use redis::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tower_bearer::{
    store::{RedisFamily, RedisStore, StoreErrorKind, Swap, TokenStore},
    testing::StoreCheck,
};

use crate::{
    on_redis::family::{all_listen, bound, until},
    process::say,
    redis_server::RedisServer,
};

struct Scene {
    servers: [RedisServer; 2],
    sentinel: RedisServer,
    /// Accepts connections, and never answers.
    silent: TcpListener,
}

impl Scene {
    async fn begin() -> Self {
        let servers = [RedisServer::start().await, RedisServer::start().await];
        servers[0].is_followed_by(&servers[1]).await;
        servers[1].order("CONFIG SET repl-diskless-sync-delay 0").await;
        let sentinel = RedisServer::start_sentinel(&servers[0]).await;
        let scene = Self { servers, sentinel, silent: TcpListener::bind("127.0.0.1:0").unwrap() };
        scene.is_whole().await;
        scene
    }

    /// Waits until the sentinel knows the primary and a replica that follows it.
    async fn is_whole(&self) {
        until("the sentinel knows a replica that follows", async || {
            let replicas = self.sentinel.order("SENTINEL REPLICAS main").await;
            let replicas: Vec<HashMap<String, String>> = redis::from_redis_value(replicas).unwrap();
            let [replica] = &replicas[..] else { return false };
            let primary = self.primary().await;
            let about: String = redis::from_redis_value(self.server(primary).order("INFO replication").await).unwrap();
            let is_primary = about.contains("role:master") && about.contains("state=online");
            is_primary && replica["flags"] == "slave" && replica["master-link-status"] == "ok"
        })
        .await;
    }

    async fn primary(&self) -> u16 {
        let named = self.sentinel.order("SENTINEL GET-MASTER-ADDR-BY-NAME main").await;
        redis::from_redis_value::<(String, u16)>(named).unwrap().1
    }

    fn server(&self, port: u16) -> &RedisServer {
        self.servers.iter().find(|server| server.port() == port).expect("one of the two")
    }

    /// One sentinel is gone and another one never answers: neither delays the third.
    fn sentinels(&self) -> [Client; 3] {
        let silent = format!("redis://{}", self.silent.local_addr().unwrap());
        ["redis://127.0.0.1:1".to_owned(), silent, self.sentinel.url()].map(|url| Client::open(url).unwrap())
    }

    fn family(&self) -> RedisFamily {
        RedisFamily::sentinel(self.sentinels(), "main", like(), "users").answer_limit(Duration::from_secs(4))
    }
}

pub(crate) async fn keeps_every_promise() {
    let scene = Scene::begin().await;
    let sentinels = scene.sentinels();
    let check = StoreCheck::new(move |name| {
        // Half of the limit is for the replica, and this machine may stand still.
        let store = RedisStore::sentinel(sentinels.clone(), "main", like(), name);
        store.answer_limit(Duration::from_secs(4)).wait_for_replicas(1)
    });
    let report = check.run().await;
    say(&report.to_string());
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");

    let [gone, _, works] = scene.sentinels();
    let store = RedisStore::sentinel([gone, works], "another", like(), "x");
    let error = store.load().await.expect_err("there is no such service");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("no primary of this name"), "{error}");
}

/// An operator hands over, again and again, while everybody stores. What was confirmed is there.
pub(crate) async fn handed_over_under_writes() {
    const USERS: usize = 20;
    const TIMES: usize = 3;
    let scene = Scene::begin().await;
    let family = scene.family().wait_for_replicas(1);
    let stores: Vec<_> = (0..USERS).map(|user| bound(family.of(user.to_string()))).collect();
    let (goes_on, failed) = (AtomicBool::new(true), AtomicU64::new(0));
    let writes = join_all(stores.iter().enumerate().map(|(user, store)| {
        let (goes_on, failed) = (&goes_on, &failed);
        async move {
            // The last version that was confirmed.
            let mut confirmed = 0;
            let mut version = 0;
            while goes_on.load(Ordering::SeqCst) {
                match store.swap(version, (version + 1).to_string().as_bytes()).await {
                    Ok(Swap::Done) => {
                        version += 1;
                        confirmed = version;
                        sleep(Duration::from_millis(2)).await;
                        continue;
                    }
                    Ok(Swap::Lost) => {}
                    Err(_) => {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
                if let Ok(entry) = store.load().await {
                    version = entry.map_or(0, |entry| entry.version());
                    assert!(version >= confirmed, "user {user}: {confirmed} was confirmed, and {version} is there");
                } else {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            confirmed
        }
    }));
    let failovers = async {
        for _ in 0..TIMES {
            sleep(Duration::from_millis(300)).await;
            let before = scene.primary().await;
            scene.sentinel.order("SENTINEL FAILOVER main").await;
            until("another one is the primary", async || scene.primary().await != before).await;
            scene.is_whole().await;
        }
        sleep(Duration::from_millis(300)).await;
        goes_on.store(false, Ordering::SeqCst);
    };
    let (confirmed, ()) = tokio::join!(writes, failovers);
    for (user, confirmed) in confirmed.iter().enumerate() {
        assert!(*confirmed > 0, "user {user} has stored nothing");
        let stored = bound(scene.family().of(user.to_string())).load().await.unwrap().expect("it is there");
        assert!(
            stored.version() >= *confirmed,
            "user {user}: {confirmed} was confirmed, and {} is there",
            stored.version()
        );
    }
    let (all, failed) = (confirmed.iter().sum::<u64>(), failed.into_inner());
    say(&format!("{TIMES} failovers: {all} writes were confirmed, {failed} were not, and none of the first was lost"));
    assert!(failed > 0, "no failover was noticed");
}

/// The primary is killed. Its replica is found, and announcements are heard there.
pub(crate) async fn the_primary_is_killed() {
    let scene = Scene::begin().await;
    let (family, others) = (scene.family(), scene.family());
    let store = bound(family.of("anna"));
    assert_eq!(bound(scene.family().wait_for_replicas(1).of("anna")).swap(0, b"confirmed").await.unwrap(), Swap::Done);
    all_listen(std::slice::from_ref(&store)).await;
    scene.servers[0].signal(Signal::SIGKILL);
    let healed = async {
        loop {
            match store.swap(1, b"anew").await {
                Ok(swapped) => return swapped,
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    assert_eq!(timeout(LONG, healed).await.expect("the replica is never found"), Swap::Done);
    assert_eq!(scene.primary().await, scene.servers[1].port());
    let told = async {
        let mut version = 2;
        while version < 3 {
            store.changed(2).await;
            version = store.load().await.unwrap().unwrap().version();
        }
    };
    let other = bound(others.of("anna"));
    let (swapped, told) = tokio::join!(other.swap(2, b"more"), timeout(LONG, told));
    assert_eq!(swapped.unwrap(), Swap::Done);
    told.expect("it was never told");
}

/// A sentinel that was cut off names a server that is a replica by now. Another one knows better.
pub(crate) async fn named_by_one_that_was_cut_off() {
    let scene = Scene::begin().await;
    let outdated = names(scene.servers[1].port()).await;
    let works = Client::open(scene.sentinel.url()).unwrap();
    for _ in 0..10 {
        let store = bound(RedisStore::sentinel([outdated.clone(), works.clone()], "main", like(), "x"));
        let version = store.load().await.unwrap().map_or(0, |entry| entry.version());
        assert_eq!(store.swap(version, b"data").await.unwrap(), Swap::Done);
    }
    let error = RedisStore::sentinel([outdated], "main", like(), "x").load().await.expect_err("it may be outdated");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("is no primary"), "{error}");
}

/// A sentinel that names this server, whoever asks.
async fn names(port: u16) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::open(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len());
    tokio::spawn(async move {
        loop {
            let (mut peer, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    let greetings = text.matches("SETINFO").map(|_| "+OK\r\n");
                    for answer in greetings.chain(text.matches("SENTINEL").map(|_| &*answer)) {
                        peer.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    client
}

/// How to connect to a server; its address is the sentinels' affair.
fn like() -> Client {
    Client::open("redis://any").unwrap()
}

const LONG: Duration = Duration::from_secs(60);
