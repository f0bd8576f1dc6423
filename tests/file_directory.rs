//! A directory with a file for each key: one watcher, whatever becomes of the directory and the runtime.
#![cfg(all(feature = "oauth2", feature = "testing", unix))]

use std::{fs, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};
use tower_bearer::{
    store::{FileDirectory, FileStore, Swap, TokenStore},
    testing::StoreCheck,
};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-bearer-directory-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn put(store: &FileStore, data: &[u8]) -> u64 {
    let version = store.load().await.unwrap().map_or(0, |entry| entry.version());
    assert_eq!(store.swap(version, data).await.unwrap(), Swap::Done);
    version + 1
}

/// Waits for a change while something is done that changes the file.
async fn hears<T>(store: &FileStore, known: u64, change: impl Future<Output = T>) {
    let waiting = timeout(LONG, store.changed(known));
    let changing = async {
        // The watcher begins with the first call.
        sleep(Duration::from_millis(300)).await;
        change.await
    };
    let (heard, _) = tokio::join!(waiting, changing);
    heard.expect("it never heard of the change");
}

#[tokio::test]
async fn its_files_keep_every_promise_of_a_store() {
    let directory = Directory::new("check");
    // Each process has its own.
    let path = directory.0.clone();
    let report = StoreCheck::new(move |name| FileStore::directory(&path).of(name)).run().await;
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
    // Or all keys of one.
    let files = FileStore::directory(&directory.0);
    StoreCheck::new(move |name| files.of(name)).run().await.assert_sound();
}

#[tokio::test]
async fn every_way_to_change_a_file_is_heard_of() {
    let directory = Directory::new("ways");
    let files = FileStore::directory(&directory.0);
    let (store, path) = (files.of("anna"), directory.0.join(FileDirectory::file_name("anna")));
    let other = FileStore::directory(&directory.0).of("anna");
    hears(&store, 0, put(&other, b"first")).await;
    hears(&store, 1, put(&other, b"second")).await;
    let backup = fs::read(&path).unwrap();
    hears(&store, 2, put(&other, b"third")).await;
    // What an operator does: in place, and by other names.
    hears(&store, 3, async { fs::write(&path, &backup).unwrap() }).await;
    hears(&store, 2, async { fs::rename(&path, directory.0.join("away")).unwrap() }).await;
    hears(&store, 0, async { fs::rename(directory.0.join("away"), &path).unwrap() }).await;
    hears(&store, 2, async { fs::remove_file(&path).unwrap() }).await;

    // Of another key's changes nothing is heard.
    let other_key = files.of("ben");
    let waiting = timeout(Duration::from_secs(1), store.changed(0));
    let (heard, _) = tokio::join!(waiting, put(&other_key, b"ben's"));
    assert!(heard.is_err(), "a change of another file");
}

#[tokio::test]
async fn a_directory_that_is_made_anew_is_watched_again() {
    let directory = Directory::new("anew");
    let files = FileStore::directory(&directory.0);
    let store = files.of("anna");
    put(&store, b"first").await;
    hears(&store, 1, async { fs::remove_dir_all(&directory.0).unwrap() }).await;
    fs::create_dir(&directory.0).unwrap();
    let other = FileStore::directory(&directory.0).of("anna");
    hears(&store, 0, put(&other, b"again")).await;
}

/// The watcher ends with its runtime, and so do those who wait there.
#[test]
fn files_work_in_the_next_runtime_as_well_and_in_one_without_input_and_output() {
    let directory = Directory::new("runtimes");
    let files = FileStore::directory(&directory.0);
    let store = files.of("anna");
    for round in 0..4 {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = if round % 2 == 0 { runtime.enable_all() } else { runtime.enable_time() }.build().unwrap();
        runtime.block_on(async {
            hears(&store, round, put(&files.of("anna"), b"data")).await;
        });
    }
}

const LONG: Duration = Duration::from_secs(30);
