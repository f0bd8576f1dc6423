//! A file that several users have to do with: a service and root, or the members of a group.
//!
//! Such a test runs itself again as another user.

use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tower_bearer::store::{FileStore, Lease, StoreErrorKind, Swap, TokenStore};

use super::{Directory, mode};

/// An administrator runs a command of the application, as root.
#[tokio::test]
#[ignore = "needs root: it runs itself as another user"]
async fn root_leaves_a_file_to_its_owner() {
    if let Some(again) = Again::here() {
        return swaps_once(&again).await;
    }
    let directory = of_a_service();
    let again = Again::of("owners::root_leaves_a_file_to_its_owner", &directory);
    again.run_as(SERVICE, SERVICE);
    let store = FileStore::new(directory.path());
    assert_eq!(store.swap(1, b"by root").await.unwrap(), Swap::Done);
    assert_eq!(owner(&directory.path()), (SERVICE, SERVICE, 0o600));
    again.run_as(SERVICE, SERVICE);
    // With a group's rights on it as well, which aren't root's to take.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(store.swap(3, b"by root").await.unwrap(), Swap::Done);
    assert_eq!(owner(&directory.path()), (SERVICE, SERVICE, 0o660));
}

#[tokio::test]
#[ignore = "needs root: it runs itself as another user"]
async fn a_lock_that_root_made_is_for_the_owner_of_the_file() {
    if let Some(again) = Again::here() {
        return swaps_once(&again).await;
    }
    let directory = of_a_service();
    let again = Again::of("owners::a_lock_that_root_made_is_for_the_owner_of_the_file", &directory);
    again.run_as(SERVICE, SERVICE);
    let (store, lock) = (FileStore::new(directory.path()), directory.0.join("token.lock"));
    fs::remove_file(&lock).unwrap();
    assert_eq!(store.lease("root", Duration::from_millis(1)).await.unwrap(), Lease::Granted);
    assert_eq!(owner(&lock), (SERVICE, SERVICE, 0o600));
    store.release("root").await.unwrap();
    again.run_as(SERVICE, SERVICE);
    // One that was left there by an earlier version.
    chown(&lock, Some(0), Some(0)).unwrap();
    store.release("root").await.unwrap();
    again.run_as(SERVICE, SERVICE);
}

/// As root in a container without the right to give files away.
#[tokio::test]
#[ignore = "needs root: it runs itself as another user"]
async fn a_file_that_cannot_be_left_to_its_owner_is_not_replaced() {
    if let Some(again) = Again::here() {
        let path = again.directory().join("token");
        if again.is_root() {
            let error = FileStore::new(&path).swap(1, b"by root").await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unusable);
            assert!(error.to_string().contains("belongs to the user 65534"), "{error}");
            return;
        }
        return swaps_once(&again).await;
    }
    let directory = of_a_service();
    let again = Again::of("owners::a_file_that_cannot_be_left_to_its_owner_is_not_replaced", &directory);
    again.run_as(SERVICE, SERVICE);
    let before = fs::read(directory.path()).unwrap();
    again.run_by(Command::new("setpriv").arg("--bounding-set=-chown"));
    assert_eq!(fs::read(directory.path()).unwrap(), before);
    assert_eq!(owner(&directory.path()), (SERVICE, SERVICE, 0o600));
    assert_eq!(directory.names(), ["program", "token", "token.lock"]);
    again.run_as(SERVICE, SERVICE);
}

/// As in a volume with an `fsGroup`: it belongs to root, and to a group that the service is in.
#[tokio::test]
#[ignore = "needs root: it runs itself as another user"]
async fn the_members_of_a_group_share_a_file_that_is_none_of_theirs() {
    if let Some(again) = Again::here() {
        return swaps_once(&again).await;
    }
    let directory = Directory::new();
    let store = FileStore::new(directory.path());
    store.swap(0, b"by root").await.unwrap();
    chown(&directory.0, Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o2770)).unwrap();
    for path in [directory.path(), directory.0.join("token.lock")] {
        chown(&path, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    }
    let again = Again::of("owners::the_members_of_a_group_share_a_file_that_is_none_of_theirs", &directory);
    again.run_as(SERVICE, GROUP);
    assert_eq!(owner(&directory.path()), (SERVICE, GROUP, 0o660));
    again.run_as(SERVICE - 1, GROUP);
    assert_eq!(owner(&directory.path()), (SERVICE - 1, GROUP, 0o660));
    // A lock that is made anew is for all of them as well.
    fs::remove_file(directory.0.join("token.lock")).unwrap();
    again.run_as(SERVICE, GROUP);
    again.run_as(SERVICE - 1, GROUP);
    assert_eq!(store.load().await.unwrap().unwrap().version(), 5);
}

/// What a service does: it has the lease, reads, and stores.
async fn swaps_once(again: &Again) {
    let store = FileStore::new(again.directory().join("token"));
    assert_eq!(store.lease("service", Duration::from_secs(60)).await.unwrap(), Lease::Granted);
    let version = store.load().await.unwrap().map_or(0, |entry| entry.version());
    assert_eq!(store.swap(version, b"by the service").await.unwrap(), Swap::Done);
    store.release("service").await.unwrap();
}

/// A directory that belongs to a service.
fn of_a_service() -> Directory {
    let directory = Directory::new();
    chown(&directory.0, Some(SERVICE), Some(SERVICE)).expect("this needs root");
    directory
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let about = fs::metadata(path).unwrap();
    (about.uid(), about.gid(), mode(path))
}

/// A test that runs itself again: the same function in another process.
pub(crate) struct Again {
    test: &'static str,
    directory: PathBuf,
}

impl Again {
    /// In that other process.
    pub(crate) fn here() -> Option<Self> {
        env::var_os(DIRECTORY).map(|directory| Self { test: "", directory: directory.into() })
    }

    /// In the first one.
    pub(crate) fn of(test: &'static str, directory: &Directory) -> Self {
        // To a place where other users find it.
        fs::copy(env::current_exe().unwrap(), directory.0.join("program")).unwrap();
        Self { test, directory: directory.0.clone() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn is_root(&self) -> bool {
        fs::metadata("/proc/self").unwrap().uid() == 0
    }

    /// As this user, in no group but this one.
    fn run_as(&self, user: u32, group: u32) {
        let mut command = Command::new(self.directory.join("program"));
        self.run_with(command.uid(user).gid(group));
    }

    /// By another program.
    fn run_by(&self, command: &mut Command) {
        self.run_with(command.arg(self.directory.join("program")));
    }

    /// Where what it mounts is seen by nobody else.
    pub(crate) fn with_its_own_mounts(&self) {
        self.run_by(Command::new("unshare").args(["--mount", "--propagation", "private"]));
    }

    fn run_with(&self, command: &mut Command) {
        command.args(["--exact", self.test, "--include-ignored", "--nocapture"]).env(DIRECTORY, &self.directory);
        let ran = command.output().expect("this needs root, and util-linux");
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }
}

/// Runs a program of the system.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
}

const DIRECTORY: &str = "TOWER_BEARER_DIRECTORY";
const SERVICE: u32 = 65534;
const GROUP: u32 = 4242;
