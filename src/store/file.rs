//! [`FileStore`]: a file, shared by the processes of one machine.
//!
//! | module | what it holds |
//! |---|---|
//! | `atomic_file` | where the file is, and how it is read and replaced |
//! | `content` | the bytes in it |
//! | `directory` | many files in one directory |
//! | `watch` | the watcher of a directory |
//! | `steps` | the steps by which a file is replaced |
//! | `lock` | the lock file, with the lease |
//! | `permissions` | who may open the files, and to whom they belong |
//! | `warnings` | what is warned of, once |
//! | `file_error` | what an error of the file system asks for |

use std::{ffi::OsString, fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
    time::sleep,
};
use zeroize::Zeroizing;

use super::{Entry, Lease, StoreError, Swap, TokenStore};

mod atomic_file;
mod content;
mod directory;
mod file_error;
mod lock;
mod permissions;
mod steps;
mod warnings;
mod watch;

use atomic_file::AtomicFile;
pub use directory::FileDirectory;
use warnings::Warnings;
use watch::DirectoryWatch;

/// A file that survives restarts, crashes and power cuts, and may be shared by the processes of one machine.
///
/// - Only its owner can read it: it has mode 0600 from the beginning. A file that everybody may read or write is an error.
/// - The group's rights are removed if this process owns the file. (Kubernetes gives an `fsGroup` such rights each time a pod starts.) If
///   another user owns it, the file is used through its group, and keeps owner and group. So root may use a service's file. The processes
///   that share a file run as one user, or all use it through the group.
/// - It is replaced, never rewritten: a new file is written, synced and renamed, and the directory is synced. So the file is always
///   complete, the old one or the new one.
/// - A file that is empty, damaged, in a newer format or another program's is an error, and is left unchanged.
/// - Beside it are `NAME.lock`, which says who fetches, and for moments `NAME.new`. Both can stay there: locks and leases end with their
///   processes.
///
/// One file holds one token set, and each process reads it four times a second. For many users there is [`directory`](Self::directory). The
/// directory must exist. The path may be a symbolic link; `NAME.lock` must be a regular file. Because the
/// file is replaced, a container must mount the directory, not the file alone. On a network file system locks (`flock`) must work, and the
/// clocks of the machines must agree to a fraction of a second.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet}, store::FileStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let store = FileStore::new("/var/lib/app/account.token");
/// // Used the first time. From then on the stored set is used.
/// let first = TokenSet::of_refresh_token(std::env::var("REFRESH_TOKEN")?);
/// let token = LiveToken::spawn(Stored::in_store(RefreshToken::new(endpoint).subject("account"), store).holding(first));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileStore {
    path: PathBuf,
    /// Held by each call, even after its future was dropped. So a file system that hangs blocks one thread, not one for each call.
    one_at_a_time: Arc<Mutex<()>>,
    /// How many files of a directory are used at once.
    at_once: Option<Arc<Semaphore>>,
    warnings: Arc<Warnings>,
    /// Of the directory, and the name of the file in it. `None`: the file is read four times a second.
    watch: Option<(Arc<DirectoryWatch>, OsString)>,
}

impl FileStore {
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), one_at_a_time: Arc::default(), at_once: None, warnings: Arc::default(), watch: None }
    }

    /// A directory with a file for each key: for many users on one machine.
    ///
    /// ```no_run
    /// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint}, store::FileStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
    /// let tokens = FileStore::directory("/var/lib/app/tokens");
    /// for user in ["anna", "ben"] {
    ///     let grant = RefreshToken::new(endpoint.clone()).subject(user);
    ///     let token = LiveToken::spawn(Stored::in_store(grant, tokens.of(user)));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn directory(path: impl Into<PathBuf>) -> FileDirectory {
        FileDirectory::new(path.into())
    }

    async fn read(&self) -> Result<Option<Entry>, StoreError> {
        let warnings = self.warnings.clone();
        self.blocking(move |file| file.load(&warnings)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let turn = self.one_at_a_time.clone().lock_owned().await;
        let place = match self.at_once.clone() {
            Some(places) => places.acquire_owned().await.ok(),
            None => None,
        };
        let work = move || {
            let _until_the_end = (turn, place);
            AtomicFile::of(&path).and_then(|file| work(&file))
        };
        spawn_blocking(work).await.map_err(|_| StoreError::unreachable("the runtime is shutting down"))?
    }
}

impl TokenStore for FileStore {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.read().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let data = Zeroizing::new(data.to_vec());
        let warnings = self.warnings.clone();
        self.blocking(move |file| file.swap(expected, &data, &warnings)).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let holder = holder.to_owned();
        self.blocking(move |file| file.lease(&holder, time)).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        self.blocking(move |file| file.release(&holder)).await
    }

    async fn changed(&self, known: u64) {
        let mut news = self.watch.as_ref().map(|(watch, name)| (watch.listen(name), watch));
        loop {
            // An error counts as a change: the next load returns it.
            let is_known = match self.read().await {
                Ok(entry) => entry.map_or(0, |entry| entry.version()) == known,
                Err(_) => {
                    sleep(POLL).await;
                    return;
                }
            };
            if !is_known {
                return;
            }
            match &mut news {
                // The sender ends with the watch, and this has the watch.
                Some((news, watch)) => {
                    let _ = news.changed().await;
                    watch.go_on();
                }
                None => sleep(POLL).await,
            }
        }
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How often a process looks for a change: it reads a small file four times a second.
const POLL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use tokio::{sync::oneshot, time::timeout};

    use super::{lock::LOCK_PAUSE, *};

    #[tokio::test]
    async fn a_file_system_that_hangs_costs_one_thread() {
        let store = FileStore::new(std::env::temp_dir().join("never-made"));
        let (go_on, hangs) = mpsc::channel::<()>();
        let begun = Arc::new(AtomicU32::new(0));
        let begins = begun.clone();
        let (tells, told) = oneshot::channel();
        let hung = store.blocking(move |_| {
            begins.fetch_add(1, Ordering::Relaxed);
            let _ = tells.send(());
            let _ = hangs.recv();
            Ok(())
        });
        tokio::select! {
            _ = hung => panic!("it hangs"),
            began = told => began.unwrap(),
        }
        for _ in 0..20 {
            let begins = begun.clone();
            let next = store.blocking(move |_| {
                begins.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            timeout(LOCK_PAUSE, next).await.unwrap_err();
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        drop(go_on);
        assert_eq!(store.load().await.unwrap(), None, "and when it hangs no longer, it goes on");
    }
}
