//! A token in a file, on a real file system: everything that is done to such files. Whatever it is, the token read last serves on,
//! and the next good one is on requests within five seconds.
#![cfg(unix)]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use support::{now, secs};
use tokio::time::{sleep, timeout};
use tower_bearer::{FetchErrorKind, LiveToken, State, TokenFile};

/// A directory that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-bearer-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sent(token: &LiveToken) -> Option<String> {
    Some(token.authorization()?.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned())
}

/// How long it takes until requests carry this. They always carry something.
async fn until_sent(token: &LiveToken, secret: &str) -> Duration {
    let start = now();
    let seen = async {
        while sent(token).expect("a token that works is kept") != secret {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(secs(60), seen).await.unwrap_or_else(|_| panic!("{secret} never came: {:?}", token.status()));
    start.elapsed()
}

/// A second look at a file that has just been written takes 100 ms of the five seconds more.
const SOON: Duration = Duration::from_millis(5_110);

#[tokio::test(start_paused = true)]
async fn kubernetes_swaps_a_symlink_on_the_way_to_it() {
    let folder = Folder::new("kubernetes");
    // As kubelet's AtomicWriter does: token -> ..data/token, ..data -> ..<time>, and a rename that puts another ..data in place.
    let swap = |time: &str, secret: &str| {
        let new = folder.join(time);
        fs::create_dir(&new).unwrap();
        fs::write(new.join("token"), secret).unwrap();
        let old = fs::read_link(folder.join("..data"));
        symlink(time, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(folder.join(old.to_str().unwrap())).unwrap();
        }
    };
    swap("..2026_01_01_00_00_00.1", "one");
    symlink("..data/token", folder.join("token")).unwrap();
    let token = LiveToken::spawn(TokenFile::new(folder.join("token")));
    token.ready().await.unwrap();
    assert_eq!(sent(&token).as_deref(), Some("one"));
    for number in 2..20 {
        sleep(Duration::from_millis(1_730 * number)).await;
        let secret = format!("token-{number}");
        swap(&format!("..2026_01_01_00_00_00.{number}"), &secret);
        let took = until_sent(&token, &secret).await;
        assert!(took <= SOON, "{took:?}");
    }
    assert_eq!((token.status().generation(), token.status().failures()), (19, 0));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_rewritten_or_replaced() {
    let folder = Folder::new("rewritten");
    let path = folder.join("token");
    fs::write(&path, "one").unwrap();
    let token = LiveToken::spawn(TokenFile::new(&path));
    token.ready().await.unwrap();

    fs::write(&path, "rewritten").unwrap();
    assert!(until_sent(&token, "rewritten").await <= SOON);
    fs::write(folder.join("next"), "renamed").unwrap();
    fs::rename(folder.join("next"), &path).unwrap();
    assert!(until_sent(&token, "renamed").await <= SOON);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "made anew").unwrap();
    // Not a token: nothing comes of it.
    sleep(secs(30)).await;
    assert_eq!(sent(&token).as_deref(), Some("renamed"));
    fs::write(&path, "remade").unwrap();
    assert!(until_sent(&token, "remade").await <= SOON);
    // Nothing else happened in between: the same content is the same token.
    sleep(secs(600)).await;
    assert_eq!(token.status().generation(), 4);
}

/// Puts something in the place of the file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 13] = [
    ("missing", |_| {}),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("blank", |path| fs::write(path, " \r\n").unwrap()),
    ("binary", |path| fs::write(path, b"\xff\xfe\0\x01").unwrap()),
    ("two words", |path| fs::write(path, "marked secret").unwrap()),
    ("huge", |path| fs::write(path, vec![b'm'; 70_000]).unwrap()),
    ("JSON", |path| fs::write(path, r#"{"access_token":"marked"}"#).unwrap()),
    ("in quotes", |path| fs::write(path, "\"marked\"\n").unwrap()),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a dangling symlink", |path| symlink("nowhere", path).unwrap()),
    ("a symlink to itself", |path| symlink(path, path).unwrap()),
    ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("a device that gives no end", |path| symlink("/dev/zero", path).unwrap()),
];

#[tokio::test(start_paused = true)]
async fn whatever_stands_in_its_place_and_for_however_long_the_token_is_kept() {
    let folder = Folder::new("damaged");
    let path = folder.join("token");
    fs::write(&path, "token-0").unwrap();
    let token = LiveToken::spawn(TokenFile::new(&path));
    token.ready().await.unwrap();
    for (number, (what, damage)) in DAMAGES.into_iter().enumerate() {
        for wait in [secs(6), secs(600)] {
            fs::remove_file(&path).unwrap();
            damage(&path);
            sleep(wait).await;
            let status = token.status();
            assert_eq!((status.state(), status.is_usable()), (State::Failing, true), "{what}");
            let error = status.last_error().unwrap();
            assert_eq!(error.kind(), FetchErrorKind::TryAgain, "{what}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{what}: {error}");
            assert!(!error.to_string().contains("marked"), "{what}: {error}");

            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .or_else(|error| match what {
                    "missing" => Ok(()),
                    _ => Err(error),
                })
                .unwrap();
            let next = format!("token-{number}-{}", wait.as_secs());
            fs::write(&path, &next).unwrap();
            let took = until_sent(&token, &next).await;
            assert!(took <= SOON, "{what}: {took:?}");
            assert_eq!(token.status().state(), State::Live);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_may_not_be_read_is_like_a_missing_one() {
    let folder = Folder::new("forbidden");
    let path = folder.join("token");
    fs::write(&path, "one").unwrap();
    let token = LiveToken::spawn(TokenFile::new(&path));
    token.ready().await.unwrap();
    fs::write(&path, "two").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything: then it is a file like others.
    let may = fs::read(&path).is_ok();
    sleep(secs(30)).await;
    assert_eq!(sent(&token).as_deref(), Some(if may { "two" } else { "one" }));
    assert_eq!(token.status().state(), if may { State::Live } else { State::Failing });
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(until_sent(&token, "two").await <= SOON);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_late_is_found_however_long_that_takes() {
    let folder = Folder::new("late");
    let path = folder.join("token");
    let token = LiveToken::spawn(TokenFile::new(&path).recheck_every(secs(2)));
    sleep(secs(7_200)).await;
    assert_eq!(token.status().state(), State::Starting);
    fs::write(&path, "one\n").unwrap();
    let start = now();
    token.ready().await.unwrap();
    assert!(start.elapsed() <= Duration::from_millis(2_110), "{:?}", start.elapsed());
}
