//! Token sets in a file: what is there is whole, private, and never another program's.
#![cfg(all(feature = "oauth2", unix))]

#[path = "file_store/owners.rs"]
mod owners;
#[path = "file_store/places.rs"]
mod places;
mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tower_bearer::{
    ErrorKind, LiveToken, Storage,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::{FileStore, Lease, StoreErrorKind, Swap, TokenStore},
    testing::StoreCheck,
};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tower-bearer-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("token")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn it_keeps_every_promise_of_a_store() {
    let directory = Directory::new();
    let place = directory.0.clone();
    let report = StoreCheck::new(move |name| FileStore::new(place.join(name))).run().await;
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
}

#[tokio::test]
async fn nobody_else_can_read_it_at_any_moment() {
    let directory = Directory::new();
    let store = FileStore::new(directory.path());
    // Watched while it is written, over and over: every file that ever is in the directory.
    let (stop, path) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), directory.0.clone());
    let watcher = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&path).unwrap().flatten() {
                    if let Ok(about) = entry.metadata() {
                        seen.insert((entry.file_name(), about.permissions().mode() & 0o777));
                    }
                }
            }
            seen
        }
    });
    for version in 0..300 {
        assert_eq!(store.swap(version, b"secret").await.unwrap(), Swap::Done);
    }
    store.lease("a", std::time::Duration::from_secs(1)).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    assert!(seen.iter().any(|(name, _)| name == "token.new"), "the moment was never seen: {seen:?}");
    assert!(seen.iter().all(|(_, mode)| *mode == 0o600), "{seen:?}");
    assert_eq!(directory.names(), ["token", "token.lock"]);
}

#[tokio::test]
async fn one_that_others_may_read_is_refused() {
    for bits in [0o604, 0o602, 0o601, 0o666, 0o644] {
        let directory = Directory::new();
        let store = FileStore::new(directory.path());
        store.swap(0, b"secret").await.unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(bits)).unwrap();
        let error = store.load().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unusable);
        assert!(error.to_string().contains("chmod 600"), "{error}");
        store.swap(1, b"more").await.unwrap_err();
    }
}

/// Kubernetes does this to a volume with an `fsGroup` each time a pod starts.
#[tokio::test]
async fn what_a_group_was_given_of_ones_own_file_is_taken_away() {
    for bits in [0o640, 0o660, 0o620, 0o670] {
        let directory = Directory::new();
        let store = FileStore::new(directory.path());
        store.swap(0, b"secret").await.unwrap();
        for path in [directory.path(), directory.0.join("token.lock")] {
            fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        }
        assert_eq!(store.load().await.unwrap().unwrap().data(), b"secret", "{bits:o}");
        assert_eq!(mode(&directory.path()), 0o600, "{bits:o}");
        assert_eq!(store.swap(1, b"more").await.unwrap(), Swap::Done);
        assert_eq!((mode(&directory.path()), mode(&directory.0.join("token.lock"))), (0o600, 0o600), "{bits:o}");
    }
}

#[tokio::test]
async fn what_is_not_whole_or_not_ours_is_refused_and_left_alone() {
    let directory = Directory::new();
    let (path, store) = (directory.path(), FileStore::new(directory.path()));
    store.swap(0, b"some tokens, and more of them").await.unwrap();
    let whole = fs::read(&path).unwrap();
    let line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let newer = String::from_utf8(whole.clone()).unwrap().replacen("store 1 ", "store 2 ", 1).into_bytes();
    let mut longer = whole.clone();
    longer.push(b'x');
    for (content, said) in [
        (Vec::new(), "empty"),
        (b"{\"access_token\":\"of another program\"}\n".to_vec(), "another program's"),
        (b"\x7fELF\0\0\0".to_vec(), "another program's"),
        (vec![b'x'; 2 * 1024 * 1024], "longer"),
        (whole[..5].to_vec(), "another program's"),
        (whole[..line].to_vec(), "another program's"),
        (whole[..=line].to_vec(), "damaged"),
        (whole[..whole.len() - 1].to_vec(), "damaged"),
        (longer, "damaged"),
        (flipped, "damaged"),
        (newer, "newer version"),
        (b"tower-bearer-store x y z\n".to_vec(), "damaged"),
        (b"tower-bearer-store\n".to_vec(), "damaged"),
    ] {
        fs::write(&path, &content).unwrap();
        for error in [
            store.load().await.unwrap_err(),
            store.swap(0, b"x").await.unwrap_err(),
            store.swap(1, b"x").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
            assert!(error.to_string().contains(said), "{error} should say {said}");
            assert!(error.to_string().contains("token") && !error.to_string().contains("more of them"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

/// Whoever reads it must not look for the mistake in the client's secret.
#[tokio::test]
async fn a_file_that_cannot_be_used_is_no_matter_of_the_credentials() {
    let directory = Directory::new();
    let file = |name: &str, content: &[u8]| {
        let path = directory.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let open = file("open", b"");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    // Root may write anywhere, but not over a directory.
    fs::create_dir(directory.0.join("unwritable.new")).unwrap();
    fs::create_dir(directory.0.join("unlockable.lock")).unwrap();
    for (path, said) in [
        (directory.0.join("nowhere/token"), "can't be reached"),
        (directory.0.clone(), "is no regular file"),
        (open, "chmod 600"),
        (file("foreign", b"something else\n"), "another program's"),
        (file("empty", b""), "is empty"),
        (directory.0.join("unwritable"), "can't be written"),
        (directory.0.join("unlockable"), "remove it"),
    ] {
        let endpoint = TokenEndpoint::new("http://127.0.0.1:1/token").unwrap().client_secret_basic("id", "secret");
        let grant = RefreshToken::new(endpoint).subject("ann");
        let source = Stored::in_store(grant, FileStore::new(&path)).holding(TokenSet::of_refresh_token("held"));
        let token = LiveToken::spawn(source);
        let error = token.ready().await.unwrap_err();
        assert_eq!((error.kind(), token.status().storage()), (ErrorKind::Rejected, Storage::Unreachable), "{error}");
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(text.contains("the token store can't be used") && text.contains(said), "{text} should say {said}");
        assert!(!text.contains("credentials"), "{text}");
    }
}

#[tokio::test]
async fn what_a_crash_has_left_is_in_nobodys_way() {
    let directory = Directory::new();
    let store = FileStore::new(directory.path());
    store.swap(0, b"first").await.unwrap();
    // Half of a file that was to be the next, readable by all; half of a lease.
    fs::write(directory.0.join("token.new"), b"tower-bearer-store 1 2 abc").unwrap();
    fs::set_permissions(directory.0.join("token.new"), fs::Permissions::from_mode(0o644)).unwrap();
    for torn in ["99999", "0 99999999999999", "\u{fffd}\n\n\n", "1 2 3 4 5", "99999999999999 99999999999999 x\n"] {
        fs::write(directory.0.join("token.lock"), torn).unwrap();
        assert_eq!(store.lease("a", std::time::Duration::from_secs(1)).await.unwrap(), Lease::Granted, "{torn}");
    }
    assert_eq!(store.load().await.unwrap().unwrap().data(), b"first");
    assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done);
    assert_eq!(mode(&directory.path()), 0o600);
    assert_eq!(store.load().await.unwrap().unwrap().data(), b"second");
}

#[tokio::test]
async fn a_link_stays_a_link() {
    let directory = Directory::new();
    fs::create_dir(directory.0.join("real")).unwrap();
    symlink("real/token", directory.path()).unwrap();
    let (by_link, direct) = (FileStore::new(directory.path()), FileStore::new(directory.0.join("real/token")));
    // It points to nothing yet.
    assert_eq!(by_link.swap(0, b"first").await.unwrap(), Swap::Done);
    assert_eq!(by_link.swap(1, b"second").await.unwrap(), Swap::Done);
    assert_eq!(directory.names(), ["real", "token"]);
    assert!(fs::symlink_metadata(directory.path()).unwrap().is_symlink());
    assert_eq!(direct.load().await.unwrap().unwrap().data(), b"second");
}

#[tokio::test]
async fn a_lock_file_that_was_removed_is_made_anew() {
    let directory = Directory::new();
    let store = FileStore::new(directory.path());
    store.swap(0, b"first").await.unwrap();
    // Somebody tidies up while it is locked: who comes next must not lock another file and think that it is alone.
    let old = fs::File::open(directory.0.join("token.lock")).unwrap();
    old.lock().unwrap();
    fs::remove_file(directory.0.join("token.lock")).unwrap();
    assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done);
    let new = fs::File::open(directory.0.join("token.lock")).unwrap();
    new.lock().unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.swap(2, b"third").await }
    });
    // It has the file open by now, or soon, and the name goes once more.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::remove_file(directory.0.join("token.lock")).unwrap();
    drop(new);
    assert_eq!(waiting.await.unwrap().unwrap(), Swap::Done);
    assert!(directory.0.join("token.lock").exists());
}

#[tokio::test]
async fn a_lock_that_is_never_given_back_is_an_error_and_no_hang() {
    let directory = Directory::new();
    let store = FileStore::new(directory.path());
    store.swap(0, b"first").await.unwrap();
    let lock = fs::File::open(directory.0.join("token.lock")).unwrap();
    lock.lock().unwrap();
    assert!(store.load().await.is_ok(), "reading needs no lock");
    let error = store.swap(1, b"second").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("locked"), "{error}");
    if cfg!(target_os = "linux") {
        assert!(error.to_string().contains(&format!("the process {} keeps", std::process::id())), "{error}");
    }
    drop(lock);
    assert_eq!(store.swap(1, b"second").await.unwrap(), Swap::Done);
}
