//! What the log says of a server's configuration.

use std::time::Duration;

use redis::Client;
use tokio::time::sleep;
use tower_bearer::store::{RedisStore, TokenStore};

#[path = "../../../src/store/captured_warnings.rs"]
mod captured_warnings;

use captured_warnings::Warned;

use crate::{
    on_redis::family::{bound, until},
    redis_server::{Directory, RedisServer},
};

/// Each setting with which token sets may get lost is named once, and a sound server is not mentioned.
pub(crate) async fn are_warned_of() {
    for (more, warned) in [
        (&[][..], &[][..]),
        (&["--appendfsync", "everysec"], &[]),
        (&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"], &[]),
        (&["--maxmemory-policy", "allkeys-lru"], &[]),
        (&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], &["may evict"]),
        (&["--appendonly", "no"], &["keeps nothing on disk"]),
        (&["--appendonly", "no", "--save", "3600 1"], &["keeps snapshots only"]),
        (&["--appendfsync", "no"], &["doesn't wait for its disk"]),
        (
            &["--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-random"],
            &["may evict", "keeps nothing on disk"],
        ),
    ] {
        let more: Vec<_> = more.iter().map(|text| (*text).to_owned()).collect();
        let redis = RedisServer::start_with(Directory::new(), &more).await;
        warns(&redis, &redis.url(), "config|get", warned).await;
    }
}

/// Who may not read the configuration is told of evictions, and of nothing else.
pub(crate) async fn that_may_not_be_read() {
    let directory = Directory::new();
    let users = "user default on nopass ~* &* +@all\nuser app on >secret ~* &* +@all -config\n\
        user strict on >secret ~* &* +@all -config -info\n";
    std::fs::write(directory.file("users.acl"), users).unwrap();
    let file = directory.file("users.acl");
    let more = ["--aclfile", &file, "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = RedisServer::start_with(directory, &more.map(str::to_owned)).await;
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}/", redis.port());
    warns(&redis, &url("app"), "info", &["may evict"]).await;
    warns(&redis, &url("strict"), "info", &[]).await;
}

/// Uses a family of stores at this URL. `read_by`: the command after which the server has told what it may.
async fn warns(redis: &RedisServer, url: &str, read_by: &str, warned: &[&str]) {
    redis.order("CONFIG RESETSTAT").await;
    let warnings = Warned::default();
    let (own, url, (done, ended)) = (warnings.clone(), url.to_owned(), std::sync::mpsc::channel::<()>());
    // The log of a thread of its own, so that other tests don't write there.
    let thread = std::thread::spawn(move || {
        let _told = tracing::subscriber::set_default(own);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let family = RedisStore::family(Client::open(url).unwrap(), "users").answer_limit(Duration::from_secs(4));
            for key in ["anna", "bob", "anna"] {
                bound(family.of(key)).load().await.unwrap();
            }
            while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                sleep(Duration::from_millis(10)).await;
            }
        });
    });
    until("the configuration was asked for", async || {
        let stats: String = redis::from_redis_value(redis.order("INFO commandstats").await).unwrap();
        // Before Redis 7 all `CONFIG` commands are counted as one.
        let whole = read_by.split('|').next().unwrap();
        let names = [format!("cmdstat_{read_by}:"), format!("cmdstat_{whole}:")];
        let was_read = stats.lines().any(|line| names.iter().any(|name| line.starts_with(name)));
        was_read && warnings.events().len() >= warned.len()
    })
    .await;
    // What should not be said would be said by now.
    sleep(Duration::from_millis(300)).await;
    drop(done);
    thread.join().unwrap();
    let told = warnings.events();
    assert_eq!(told.len(), warned.len(), "{told:?} instead of {warned:?}");
    for (told, warned) in told.iter().zip(warned) {
        assert!(told.contains(warned), "{told} instead of {warned}");
    }
}
