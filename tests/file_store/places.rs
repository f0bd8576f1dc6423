//! What may lie where a store keeps its files, and on which file systems.

use std::{
    fs,
    future::Future,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::timeout;
use tower_bearer::store::{FileStore, StoreError, StoreErrorKind, Swap, TokenStore};

use super::{
    Directory,
    owners::{Again, run},
};

#[tokio::test]
async fn places_that_cannot_be_used_say_why() {
    let directory = Directory::new();
    let unwritable = directory.0.join("unwritable");
    // Root may write anywhere, but not over a directory.
    fs::create_dir(directory.0.join("unwritable.new")).unwrap();
    let device = PathBuf::from("/dev/null");
    fs::create_dir(directory.0.join("folder")).unwrap();
    symlink("circle", directory.0.join("circle")).unwrap();
    for (path, said) in [
        (directory.0.join("nowhere/token"), "nowhere"),
        (directory.0.join("folder"), "no regular file but a directory: name a file in it"),
        (device, "regular file"),
        (directory.0.join("circle"), "in a circle"),
        (directory.0.join("x".repeat(300)), "too long"),
        (PathBuf::from("/"), "regular file"),
        (PathBuf::new(), "names no file"),
        (unwritable, "can't be written"),
    ] {
        let store = FileStore::new(&path);
        let error = store.swap(0, b"x").await.unwrap_err();
        assert!(error.to_string().contains(said), "{}: {error}", path.display());
        assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
    }
    assert!(!PathBuf::from("/dev/null.lock").exists(), "nothing is made where nothing can be stored");
}

/// Whoever may write to the directory could have the store overwrite any file otherwise.
#[tokio::test]
async fn what_lies_in_the_place_of_a_lock_is_left_alone() {
    type Lays = fn(&Path, &Path);
    let cases: [(&str, Lays); 5] = [
        ("a symbolic link", |victim, lock| symlink(victim, lock).unwrap()),
        ("a symbolic link", |_, lock| symlink("nowhere", lock).unwrap()),
        ("another name", |victim, lock| fs::hard_link(victim, lock).unwrap()),
        ("no regular file", |_, lock| fs::create_dir(lock).unwrap()),
        ("no regular file", |_, lock| fifo(lock)),
    ];
    for (said, lay) in cases {
        let directory = Directory::new();
        let victim = directory.0.join("victim");
        fs::write(&victim, b"something precious").unwrap();
        lay(&victim, &directory.0.join("token.lock"));
        let store = FileStore::new(directory.path());
        for error in [
            soon(store.swap(0, b"x")).await.unwrap_err(),
            soon(store.lease("a", Duration::from_secs(1))).await.unwrap_err(),
            soon(store.release("a")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
            assert!(error.to_string().contains("token.lock") && error.to_string().contains(said), "{error}");
        }
        assert_eq!(fs::read(&victim).unwrap(), b"something precious", "{said}");
        assert_eq!(soon(store.load()).await.unwrap(), None);
        assert_eq!(directory.names(), ["token.lock", "victim"], "{said}");
    }
}

#[tokio::test]
async fn what_lies_in_the_place_of_the_next_file_is_replaced_and_not_followed() {
    type Lays = fn(&Path, &Path);
    let cases: [Lays; 4] = [
        |victim, new| symlink(victim, new).unwrap(),
        |_, new| symlink("nowhere", new).unwrap(),
        |victim, new| fs::hard_link(victim, new).unwrap(),
        |_, new| fifo(new),
    ];
    for lay in cases {
        let directory = Directory::new();
        let victim = directory.0.join("victim");
        fs::write(&victim, b"something precious").unwrap();
        lay(&victim, &directory.0.join("token.new"));
        let store = FileStore::new(directory.path());
        assert_eq!(soon(store.swap(0, b"first")).await.unwrap(), Swap::Done);
        assert_eq!(fs::read(&victim).unwrap(), b"something precious");
        assert_eq!(directory.names(), ["token", "token.lock", "victim"]);
    }
}

#[tokio::test]
async fn a_pipe_in_the_place_of_the_file_is_no_trap() {
    let directory = Directory::new();
    fifo(&directory.path());
    let store = FileStore::new(directory.path());
    for error in [soon(store.load()).await.unwrap_err(), soon(store.swap(0, b"x")).await.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::Unusable);
        assert!(error.to_string().contains("regular file"), "{error}");
    }
    assert!(fs::symlink_metadata(directory.path()).unwrap().file_type().is_fifo());
}

/// By `mv`, by `cp`, or by removing it.
#[tokio::test]
async fn an_older_file_that_was_put_back_is_news() {
    let directory = Directory::new();
    let (store, backup) = (FileStore::new(directory.path()), directory.0.join("backup"));
    store.swap(0, b"first").await.unwrap();
    fs::copy(directory.path(), &backup).unwrap();
    for version in 1..5 {
        store.swap(version, b"later").await.unwrap();
    }
    let told = |known| soon(store.changed(known));
    tokio::join!(told(5), async { fs::copy(&backup, directory.path()).unwrap() });
    assert_eq!(store.load().await.unwrap().unwrap().data(), b"first");
    assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done);
    tokio::join!(told(2), async { fs::rename(&backup, directory.path()).unwrap() });
    assert_eq!(store.load().await.unwrap().unwrap().version(), 1);
    tokio::join!(told(1), async { fs::remove_file(directory.path()).unwrap() });
    assert_eq!(store.load().await.unwrap(), None);
}

/// A container with a single file mounted into it.
#[tokio::test]
#[ignore = "needs root: it mounts"]
async fn a_file_that_is_a_mount_of_its_own_says_what_to_mount() {
    if let Some(again) = Again::here() {
        let path = again.directory().join("token");
        run("mount", &["--bind", &again.file("real"), &again.file("token")]);
        let store = FileStore::new(&path);
        assert_eq!(store.load().await.unwrap().unwrap().version(), 1);
        let error = store.swap(1, b"second").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unusable);
        assert!(error.to_string().contains("mount the directory"), "{error}");
        assert!(!again.directory().join("token.new").exists(), "no copy of the tokens is left");
        assert_eq!(store.load().await.unwrap().unwrap().data(), b"first");
        // It had to be there before it could be mounted, and nobody can remove it.
        run("mount", &["--bind", &again.file("empty"), &again.file("other")]);
        let error = FileStore::new(again.file("other")).load().await.unwrap_err();
        assert!(error.to_string().contains("mount the directory"), "{error}");
        return;
    }
    let directory = Directory::new();
    FileStore::new(directory.0.join("real")).swap(0, b"first").await.unwrap();
    for name in ["token", "empty", "other"] {
        fs::write(directory.0.join(name), b"").unwrap();
        fs::set_permissions(directory.0.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    Again::of("places::a_file_that_is_a_mount_of_its_own_says_what_to_mount", &directory).with_its_own_mounts();
}

/// That passes without anybody touching the file.
#[tokio::test]
#[ignore = "needs root: it mounts"]
async fn a_file_system_that_is_read_only_for_a_while_is_tried_again() {
    if let Some(again) = Again::here() {
        let directory = again.directory().display().to_string();
        let store = FileStore::new(again.directory().join("token"));
        run("mount", &["--bind", &directory, &directory]);
        run("mount", &["-o", "remount,bind,ro", &directory]);
        assert_eq!(store.load().await.unwrap().unwrap().version(), 1);
        let unreachable = |error: StoreError| assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        unreachable(store.swap(1, b"second").await.unwrap_err());
        unreachable(store.lease("a", Duration::from_secs(1)).await.unwrap_err());
        run("mount", &["-o", "remount,bind,rw", &directory]);
        assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done);
        return;
    }
    let directory = Directory::new();
    FileStore::new(directory.path()).swap(0, b"first").await.unwrap();
    Again::of("places::a_file_system_that_is_read_only_for_a_while_is_tried_again", &directory).with_its_own_mounts();
}

fn fifo(path: &Path) {
    run("mkfifo", &[&path.display().to_string()]);
}

/// What hangs is a failure.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), call).await.expect("it hangs")
}
