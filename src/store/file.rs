//! A file, shared by the processes of one machine.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};
use zeroize::Zeroizing;

use super::{Entry, Lease, StoreError, Swap, TokenStore};

mod atomic_file;
mod content;
mod file_error;
mod lock;
mod permissions;

use atomic_file::AtomicFile;

/// A file that survives restarts, crashes and power cuts, and may be shared by the processes of one machine.
///
/// - Nobody but its owner can ever read it (mode 0600 from its first moment on). A file that everybody may read or write is refused.
/// - What its group may do (Kubernetes gives an `fsGroup` that each time a pod starts) is taken away if the file is ours. If it is
///   somebody else's, it is used through its group, and stays usable by that group. Otherwise it keeps its owner: root may use the file
///   of a service. So the processes that share a file run as one user, or all of them through the group.
/// - It is replaced, never rewritten: written beside its place, synced, renamed, and the directory synced. What is there is always
///   whole, the old or the new.
/// - A file that is empty, damaged, of a newer version or another program's is refused and left as it is.
/// - Beside it lie `NAME.lock`, which says who is fetching, and for moments `NAME.new`. Neither is ever in the way: locks and leases
///   end with their processes.
///
/// One file is for one token set. The directory must exist. The path may be a symbolic link; `NAME.lock` must be a regular file. The
/// file is replaced, so a container needs the directory as a volume, not the file alone. On a network file system locks must work
/// (`flock`), and machines that share it need clocks that agree to a fraction of a second.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet}, store::FileStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let store = FileStore::new("/var/lib/app/account.token");
/// // The first time it begins with this one; from then on with what is stored.
/// let first = TokenSet::of_refresh_token(std::env::var("REFRESH_TOKEN")?);
/// let token = LiveToken::spawn(Stored::in_store(RefreshToken::new(endpoint).subject("account"), store).holding(first));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
    /// A file system that hangs costs one thread: a call whose future was dropped goes on, and the next one waits for its end.
    one_at_a_time: Arc<Mutex<()>>,
    /// Whether it was said that the group had rights on it.
    warned: Arc<AtomicBool>,
}

impl FileStore {
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), one_at_a_time: Arc::default(), warned: Arc::default() }
    }

    async fn read(&self) -> Result<Option<Entry>, StoreError> {
        let warned = self.warned.clone();
        self.blocking(move |file| file.load(&warned)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let turn = self.one_at_a_time.clone().lock_owned().await;
        let work = move || {
            let _until_the_end = turn;
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
        let warned = self.warned.clone();
        self.blocking(move |file| file.swap(expected, &data, &warned)).await
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
        loop {
            sleep(POLL).await;
            // What is wrong with it, whoever loads it will say.
            match self.read().await {
                Ok(entry) if entry.as_ref().map_or(0, |entry| entry.version()) == known => {}
                _ => return,
            }
        }
    }
}

/// How often a process looks whether another one has stored something: a read of a small file, four times a second.
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
