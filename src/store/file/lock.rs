//! The lock file: who may write at this moment, and who is fetching.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    thread,
    time::{Duration, SystemTime},
};

use super::{atomic_file::AtomicFile, file_error::file_error, permissions};
use crate::{
    clock::{Clock, SystemClock},
    store::{Lease, StoreError},
};

impl AtomicFile {
    pub(super) fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut lock = self.locked()?;
        let now = SystemClock.wall();
        let failed = |error| file_error(&self.lock, "can't be written", &error);
        if let Some(left) = Leased::read(&mut lock).map_err(failed)?.left(holder, now) {
            return Ok(Lease::Held(left));
        }
        let leased = Leased { from: to_ms(now), until: to_ms(now + time), holder: holder.to_owned() };
        leased.write(&mut lock).map_err(failed)?;
        Ok(Lease::Granted)
    }

    pub(super) fn release(&self, holder: &str) -> Result<(), StoreError> {
        let mut lock = self.locked()?;
        let failed = |error| file_error(&self.lock, "can't be written", &error);
        if Leased::read(&mut lock).map_err(failed)?.holder == holder {
            lock.set_len(0).map_err(failed)?;
        }
        Ok(())
    }

    /// Locks the lock file, until it is dropped or the process ends. It excludes other threads as well as other processes.
    pub(super) fn locked(&self) -> Result<File, StoreError> {
        let failed = |error: &io::Error| file_error(&self.lock, "can't be locked", error);
        for attempt in 1..=LOCK_ATTEMPTS {
            let lock = match self.open_lock() {
                Ok(Some(lock)) => lock,
                // Another process removes or makes it at the moment.
                Ok(None) => continue,
                // Root has just made it, and will give it to the owner of the file.
                Err(LockError::Io(error))
                    if error.kind() == ErrorKind::PermissionDenied && attempt <= GIVEN_ATTEMPTS =>
                {
                    thread::sleep(LOCK_PAUSE);
                    continue;
                }
                Err(LockError::Io(error)) => return Err(failed(&error)),
                Err(LockError::Foreign(what)) => {
                    return Err(StoreError::unusable(format!("{} {what}: remove it", self.lock.display())));
                }
            };
            match lock.try_lock() {
                // A lock file that was removed meanwhile locks nothing.
                Ok(()) if self.is_the_lock(&lock) => {
                    #[cfg(unix)]
                    if let Ok(file) = fs::symlink_metadata(&self.path) {
                        permissions::share(&lock, &file);
                    }
                    return Ok(lock);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
        // Nothing takes a lock from a process that is stopped, so people must know which one it is.
        let who = self.lock_holder().map_or("another process".into(), |pid| format!("the process {pid}"));
        let text = format!("{who} keeps {} locked: is it stopped? Let it go on, or end it", self.lock.display());
        Err(StoreError::unreachable(text))
    }

    /// The process that has the lock, where the kernel tells and it is in this container.
    #[cfg(target_os = "linux")]
    fn lock_holder(&self) -> Option<u32> {
        self.holder_among(&fs::read_to_string("/proc/locks").ok()?)
    }

    #[cfg(target_os = "linux")]
    fn holder_among(&self, locks: &str) -> Option<u32> {
        let named = fs::symlink_metadata(&self.lock).ok()?;
        // The device is another one there for some file systems, and other file systems have the same inodes: nobody should end a process
        // that has another file locked.
        let has_it_open = |pid: &u32| {
            let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
            open.find(|fd| fs::metadata(fd.path()).is_ok_and(|open| permissions::is_same(&open, &named)))
        };
        lockers(locks, std::os::unix::fs::MetadataExt::ino(&named)).find(|pid| has_it_open(pid).is_some())
    }

    #[cfg(not(target_os = "linux"))]
    fn lock_holder(&self) -> Option<u32> {
        None
    }

    /// Opens or makes the lock file. No link is followed, so that nothing is ever written to another file.
    fn open_lock(&self) -> Result<Option<File>, LockError> {
        let named = match fs::symlink_metadata(&self.lock) {
            Ok(named) => named,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match permissions::private().read(true).write(true).create_new(true).open(&self.lock) {
                    Ok(lock) => Ok(Some(lock)),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
                    Err(error) => Err(LockError::Io(error)),
                };
            }
            Err(error) => return Err(LockError::Io(error)),
        };
        if named.is_symlink() {
            return Err(LockError::Foreign("is a symbolic link"));
        }
        if !named.is_file() {
            return Err(LockError::Foreign("is no regular file"));
        }
        #[cfg(unix)]
        if !permissions::has_one_name(&named) {
            return Err(LockError::Foreign("has another name, and may be another program's"));
        }
        let lock = match permissions::careful().read(true).write(true).open(&self.lock) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LockError::Io(error)),
        };
        #[cfg(unix)]
        if !permissions::is_same(&named, &lock.metadata().map_err(LockError::Io)?) {
            // It was replaced meanwhile. Look again.
            return Ok(None);
        }
        Ok(Some(lock))
    }

    /// Whether this is still the file under that name.
    #[cfg(unix)]
    fn is_the_lock(&self, lock: &File) -> bool {
        let (ours, named) = (lock.metadata(), fs::symlink_metadata(&self.lock));
        matches!((ours, named), (Ok(ours), Ok(named)) if permissions::is_same(&ours, &named))
    }

    /// An open file can't be removed on this system.
    #[cfg(not(unix))]
    fn is_the_lock(&self, _: &File) -> bool {
        true
    }
}

/// The processes that have a file with this inode locked: "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF".
#[cfg(target_os = "linux")]
fn lockers(locks: &str, inode: u64) -> impl Iterator<Item = u32> {
    locks.lines().filter_map(move |line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words[..] else { return None };
        (place.rsplit(':').next()?.parse() == Ok(inode)).then(|| pid.parse().ok()).flatten()
    })
}

/// Why the lock file can't be used.
enum LockError {
    Io(io::Error),
    /// It is something else.
    Foreign(&'static str),
}

/// The lease in the lock file, by the wall clock, which all processes share.
#[derive(Default)]
struct Leased {
    from: u64,
    until: u64,
    holder: String,
}

impl Leased {
    /// Reads the lease. If it can't be read, its process died while it wrote it, so nobody has it.
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
        // One write. It isn't synced, because after a power cut nobody has a lease.
        lock.write_all(format!("{} {} {}\n", self.from, self.until, self.holder).as_bytes())
    }

    /// How long another holder has it.
    fn left(&self, holder: &str, now: SystemTime) -> Option<Duration> {
        let now = to_ms(now);
        // A lease that begins in the future was written before the clock was set back. It doesn't count.
        let holds = self.holder != holder && (self.from..self.until).contains(&now);
        holds.then(|| Duration::from_millis(self.until - now))
    }
}

fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 2 s in all. The lock is held for a few writes to a disk.
const LOCK_ATTEMPTS: u32 = 400;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// 100 ms, for two system calls of another process.
const GIVEN_ATTEMPTS: u32 = 20;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_has_this_file_locked_is_named() {
        use std::os::unix::fs::MetadataExt;
        let directory = std::env::temp_dir().join(format!("tower-bearer-locked-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let file = AtomicFile::of(&directory.join("token")).unwrap();
        let locked = file.locked().unwrap();
        assert_eq!(file.lock_holder(), Some(std::process::id()));
        // On another file system another file has the same inode.
        let inode = locked.metadata().unwrap().ino();
        let locks = format!(
            "1: FLOCK  ADVISORY  WRITE 1 00:2f:{inode} 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 3 00:2f:{inode} 0 EOF\n\
             2: POSIX  ADVISORY  WRITE 2 08:01:{inode} 0 EOF\n3: FLOCK  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF\n"
        );
        assert_eq!(lockers(&locks, inode).collect::<Vec<_>>(), [1, 4711]);
        assert_eq!(file.holder_among(&locks), None, "neither has it open");
        let own = std::process::id();
        assert_eq!(
            file.holder_among(&format!("{locks}4: FLOCK  ADVISORY  WRITE {own} 08:01:{inode} 0 EOF")),
            Some(own)
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
