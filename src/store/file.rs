//! A file, shared by the processes of one machine.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};
use zeroize::Zeroizing;

use super::{Entry, Lease, StoreError, Swap, TokenStore, identity::hex};
use crate::clock::{Clock, SystemClock};

/// A file that survives restarts, crashes and power cuts, and may be shared by the processes of one machine.
///
/// - Nobody but its owner can ever read it (mode 0600 from its first moment on); one that others may read is refused.
/// - It is replaced, never rewritten: written beside its place, synced, renamed, and the directory synced. What is there is always
///   whole, the old or the new.
/// - A file that is empty, damaged, of a newer version or another program's is refused and left as it is.
/// - Beside it lie `NAME.lock`, which says who is fetching, and for moments `NAME.new`. Neither is ever in the way: locks and leases
///   end with their processes.
///
/// One file is for one token set. The directory must exist; symbolic links are followed. On a network file system locks must work
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
/// let token = LiveToken::spawn(Stored::in_store(RefreshToken::new(endpoint), store).holding(first));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
    /// A file system that hangs costs one thread: a call whose future was dropped goes on, and the next one waits for its end.
    one_at_a_time: Arc<Mutex<()>>,
}

impl FileStore {
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), one_at_a_time: Arc::default() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let turn = self.one_at_a_time.clone().lock_owned().await;
        let work = move || {
            let _until_the_end = turn;
            Place::of(&path).and_then(|place| work(&place))
        };
        spawn_blocking(work).await.map_err(|_| StoreError::unreachable("the runtime is shutting down"))?
    }
}

impl TokenStore for FileStore {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.blocking(Place::load).await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let data = Zeroizing::new(data.to_vec());
        self.blocking(move |place| place.swap(expected, &data)).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let holder = holder.to_owned();
        self.blocking(move |place| place.lease(&holder, time)).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        self.blocking(move |place| place.release(&holder)).await
    }

    async fn changed(&self, known: u64) {
        loop {
            sleep(POLL).await;
            // What is wrong with it, whoever loads it will say.
            match self.blocking(Place::load).await {
                Ok(entry) if entry.as_ref().map_or(0, |entry| entry.version()) == known => {}
                _ => return,
            }
        }
    }
}

/// Where it really is, and what lies beside it.
struct Place {
    file: PathBuf,
    lock: PathBuf,
    new: PathBuf,
    directory: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let mut path = path.to_owned();
        // A link stays a link: what it points to is replaced, or made. (A circle is no more than a path that leads nowhere.)
        for _ in 0..MOST_LINKS {
            let Ok(target) = fs::read_link(&path) else { break };
            path = path.parent().unwrap_or(Path::new("")).join(target);
        }
        let path = path.as_path();
        let failed = |error| failed(path, "can't be reached", &error);
        let file = match fs::canonicalize(path) {
            Ok(file) if file.is_file() => file,
            Ok(_) => return Err(StoreError::unusable(format!("{} is no regular file", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let directory = fs::canonicalize(directory).map_err(failed)?;
                let name = path.file_name().ok_or_else(|| StoreError::unusable("the path names no file"))?;
                directory.join(name)
            }
            Err(error) => return Err(failed(error)),
        };
        let directory = file.parent().ok_or_else(|| StoreError::unusable("the path names no file"))?.to_owned();
        let beside = |suffix: &str| {
            let mut name = file.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self { lock: beside(".lock"), new: beside(".new"), directory, file })
    }

    fn load(&self) -> Result<Option<Entry>, StoreError> {
        let unusable = |what: &str| StoreError::unusable(format!("{} {what}", self.file.display()));
        let mut file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&self.file, "can't be read", &error)),
        };
        let about = file.metadata().map_err(|error| failed(&self.file, "can't be read", &error))?;
        #[cfg(unix)]
        if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
            return Err(unusable("can be read or written by others: take that away from them (chmod 600)"));
        }
        if about.len() > LONGEST {
            return Err(unusable("is longer than any token set: it is another program's"));
        }
        let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1));
        file.read_to_end(&mut content).map_err(|error| failed(&self.file, "can't be read", &error))?;
        if content.is_empty() {
            return Err(unusable("is empty: if nothing is missing from it, remove it"));
        }
        parse(&content).map(Some).map_err(unusable)
    }

    fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let _locked = self.locked()?;
        if self.load()?.map_or(0, |entry| entry.version()) != expected {
            return Ok(Swap::Lost);
        }
        self.replace(expected + 1, data).map_err(|error| failed(&self.file, "can't be written", &error))?;
        Ok(Swap::Done)
    }

    /// Beside its place, synced, renamed, synced.
    fn replace(&self, version: u64, data: &[u8]) -> io::Result<()> {
        // What a crash has left. Whoever has the lock owns this name.
        match fs::remove_file(&self.new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = private().write(true).create_new(true).open(&self.new)?;
        new.write_all(head(version, data).as_bytes())?;
        new.write_all(data)?;
        new.sync_all()?;
        drop(new);
        fs::rename(&self.new, &self.file)?;
        #[cfg(unix)]
        match File::open(&self.directory)?.sync_all() {
            // Some network file systems have nothing to sync there.
            Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                return Err(error);
            }
            _ => {}
        }
        Ok(())
    }

    fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut lock = self.locked()?;
        let now = SystemClock.wall();
        let failed = |error| failed(&self.lock, "can't be written", &error);
        if let Some(left) = Leased::read(&mut lock).map_err(failed)?.left(holder, now) {
            return Ok(Lease::Held(left));
        }
        let leased = Leased { from: to_ms(now), until: to_ms(now + time), holder: holder.to_owned() };
        leased.write(&mut lock).map_err(failed)?;
        Ok(Lease::Granted)
    }

    fn release(&self, holder: &str) -> Result<(), StoreError> {
        let mut lock = self.locked()?;
        let failed = |error| failed(&self.lock, "can't be written", &error);
        if Leased::read(&mut lock).map_err(failed)?.holder == holder {
            lock.set_len(0).map_err(failed)?;
        }
        Ok(())
    }

    /// The lock file, locked until it is dropped: for moments, by threads and processes alike, and never longer than its process lives.
    fn locked(&self) -> Result<File, StoreError> {
        let failed = |error| failed(&self.lock, "can't be locked", &error);
        for _ in 0..LOCK_ATTEMPTS {
            let lock =
                private().read(true).write(true).create(true).truncate(false).open(&self.lock).map_err(failed)?;
            match lock.try_lock() {
                // One that somebody has removed meanwhile locks nothing.
                Ok(()) if self.is_the_lock(&lock) => return Ok(lock),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let text = format!("another process keeps {} locked: is it stopped?", self.lock.display());
        Err(StoreError::unreachable(text))
    }

    /// Whether this is the file that others would lock now.
    #[cfg(unix)]
    fn is_the_lock(&self, lock: &File) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let (ours, named) = (lock.metadata().map(identity), fs::metadata(&self.lock).map(identity));
        matches!((ours, named), (Ok(ours), Ok(named)) if ours == named)
    }

    /// Where an open file can't be removed.
    #[cfg(not(unix))]
    fn is_the_lock(&self, _: &File) -> bool {
        true
    }
}

/// Who is fetching, as it stands in the lock file. By the wall clock, which all processes share.
#[derive(Default)]
struct Leased {
    from: u64,
    until: u64,
    holder: String,
}

impl Leased {
    /// What can't be read was being written when its process died: then nobody has it.
    fn read(lock: &mut File) -> io::Result<Self> {
        let mut text = String::new();
        lock.rewind()?;
        match lock.take(1024).read_to_string(&mut text) {
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Self::default()),
            other => other?,
        };
        let parse = || {
            let mut words = text.strip_suffix('\n')?.split(' ');
            let (from, until) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Self { from, until, holder: words.next()?.to_owned() })
        };
        Ok(parse().unwrap_or_default())
    }

    fn write(&self, lock: &mut File) -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        // In one piece, and not synced: after a power cut nobody is fetching.
        lock.write_all(format!("{} {} {}\n", self.from, self.until, self.holder).as_bytes())
    }

    /// How long somebody else has it.
    fn left(&self, holder: &str, now: SystemTime) -> Option<Duration> {
        let now = to_ms(now);
        // From a future that a clock was set back from: nobody knows when it ends.
        let holds = self.holder != holder && (self.from..self.until).contains(&now);
        holds.then(|| Duration::from_millis(self.until - now))
    }
}

/// The first line: what it is, its version, and a sum that tells a whole file from a torn one.
fn head(version: u64, data: &[u8]) -> String {
    format!("{MAGIC} {FORMAT} {version} {}\n", hex(Sha256::digest(data)))
}

fn parse(content: &[u8]) -> Result<Entry, &'static str> {
    const FOREIGN: &str = "is another program's: choose another path, or move it away";
    const DAMAGED: &str = "is damaged: restore it, or move it away and authorize again";
    let end = content.iter().position(|byte| *byte == b'\n').ok_or(FOREIGN)?;
    let (line, data) = (&content[..end], &content[end + 1..]);
    let mut words = std::str::from_utf8(line).map_err(|_| FOREIGN)?.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(FOREIGN);
    }
    match words.next().and_then(|format| format.parse::<u32>().ok()) {
        Some(FORMAT) => {}
        Some(_) => return Err("was written by a newer version of this crate: update"),
        None => return Err(DAMAGED),
    }
    let version = words.next().and_then(|version| version.parse().ok()).ok_or(DAMAGED)?;
    match words.next() {
        Some(sum) if sum == hex(Sha256::digest(data)) => Ok(Entry::new(version, data.to_vec())),
        _ => Err(DAMAGED),
    }
}

/// Never readable by others, not even between two calls.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// What somebody has to mend, and what may pass by itself.
fn failed(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let text = format!("{} {what}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::Interrupted | ErrorKind::ResourceBusy => {
            StoreError::unreachable(text)
        }
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::Unsupported => StoreError::unusable(text),
        _ => StoreError::unreachable(text),
    }
}

fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

const MAGIC: &str = "tower-bearer-store";
const FORMAT: u32 = 1;

/// Tokens are a few KiB.
const LONGEST: u64 = 1024 * 1024;

/// How often a process looks whether another one has stored something: a read of a small file, four times a second.
const POLL: Duration = Duration::from_millis(250);

/// Two seconds in all; whoever has the lock has it for a few writes to a disk.
const LOCK_ATTEMPTS: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

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
