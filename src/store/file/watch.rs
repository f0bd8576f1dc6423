//! One watcher for all files of a directory.
//!
//! On Linux the kernel tells which file was changed. Where it can't (another system, a network file system, whose other machines it knows
//! nothing of, or no instance left), the directory is looked at four times a second.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::POLL;
use crate::clock::{Clock, SystemClock};

/// Tells those who wait for it that a file may have changed.
pub(super) struct DirectoryWatch {
    directory: PathBuf,
    listening: Mutex<Listening>,
}

#[derive(Default)]
struct Listening {
    /// By the names of files. A name without receivers is removed now and then.
    names: HashMap<OsString, watch::Sender<()>>,
    removed_at: usize,
    /// The task that watches, and its number.
    task: Option<(u64, Option<AbortHandle>)>,
    tasks: u64,
}

impl DirectoryWatch {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, listening: Mutex::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Changes when the file with this name may have changed. The first call starts the watcher.
    ///
    /// The caller reads the file after this call: what changed before isn't told.
    pub(super) fn listen(self: &Arc<Self>, name: &OsStr) -> watch::Receiver<()> {
        let mut listening = self.lock();
        listening.remove_unused();
        let sender = listening.names.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(()));
        let receiver = sender.subscribe();
        drop(listening);
        self.go_on();
        receiver
    }

    /// Starts the watcher if there is none. It ends with its runtime, and the files may be used in another one.
    pub(super) fn go_on(self: &Arc<Self>) {
        let mut listening = self.lock();
        if listening.task.is_some() {
            return;
        }
        listening.tasks += 1;
        let number = listening.tasks;
        listening.task = Some((number, None));
        drop(listening);
        // A runtime that ends drops the task at once, and that takes the lock.
        let running = Running { watch: Arc::downgrade(self), number };
        let task = tokio::spawn(run(running, self.directory.clone())).abort_handle();
        if let Some((current, handle)) = &mut self.lock().task
            && *current == number
        {
            *handle = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: &OsStr) {
        if let Some(sender) = self.lock().names.get(name) {
            sender.send_replace(());
        }
    }

    fn tell_all(&self) {
        for sender in self.lock().names.values() {
            sender.send_replace(());
        }
    }

    /// The names that somebody waits for.
    fn names(&self) -> Vec<OsString> {
        let listening = self.lock();
        let waited_for = listening.names.iter().filter(|(_, sender)| sender.receiver_count() > 0);
        waited_for.map(|(name, _)| name.clone()).collect()
    }
}

impl Listening {
    /// Each time as many names have come as were left the last time, so that a call costs little.
    fn remove_unused(&mut self) {
        if self.names.len() >= self.removed_at.max(64) {
            self.names.retain(|_, sender| sender.receiver_count() > 0);
            self.removed_at = 2 * self.names.len();
        }
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        if let Some((_, Some(task))) = self.lock().task.take() {
            task.abort();
        }
    }
}

/// Tells that the task has ended, also if its runtime did: who waits in another runtime starts the next one.
struct Running {
    watch: Weak<DirectoryWatch>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(watch) = self.watch.upgrade() else { return };
        let mut listening = watch.lock();
        if listening.task.as_ref().is_some_and(|(number, _)| *number == self.number) {
            listening.task = None;
            drop(listening);
            watch.tell_all();
        }
    }
}

/// Watches the directory, until nobody has the watch any more.
async fn run(running: Running, directory: PathBuf) {
    let watch = &running.watch;
    #[cfg(target_os = "linux")]
    let mut may_be_told = true;
    while watch.strong_count() > 0 {
        #[cfg(target_os = "linux")]
        if may_be_told {
            match kernel::Told::of(&directory).await {
                Ok(told) => told.for_ever(watch).await,
                Err(kernel::Unavailable::ForNow) => {}
                Err(kernel::Unavailable::WithoutIo) => may_be_told = false,
            }
        }
        // An error passes, or there is a reason to look instead.
        looks(watch, &directory, LOOKS).await;
    }
}

/// Looks at the directory so many times.
async fn looks(watch: &Weak<DirectoryWatch>, directory: &Path, times: u32) {
    let mut last = Looked::default();
    for _ in 0..times {
        sleep(POLL).await;
        let Some(watching) = watch.upgrade() else { return };
        let (names, directory) = (watching.names(), directory.to_owned());
        drop(watching);
        let before = std::mem::take(&mut last);
        let look = move || before.again(&directory, names);
        let Ok((now, changed)) = tokio::task::spawn_blocking(look).await else { return };
        last = now;
        let Some(watching) = watch.upgrade() else { return };
        changed.iter().for_each(|name| watching.tell(name));
    }
}

/// What a look at a directory has found.
#[derive(Default)]
struct Looked {
    directory: Option<SystemTime>,
    files: HashMap<OsString, Seen>,
    /// How many looks there were at the directory alone.
    spared: u32,
}

type Seen = Option<(SystemTime, u64)>;

impl Looked {
    /// Looks again: what there is, and the names of the files that have changed. A file that is new here counts as changed.
    fn again(mut self, directory: &Path, names: Vec<OsString>) -> (Self, Vec<OsString>) {
        let changed_at = fs::metadata(directory).and_then(|about| about.modified()).ok();
        // A file that is replaced changes its directory. Times are coarse, so a fresh one may hide another change.
        let is_fresh = changed_at.is_none_or(|at| SystemClock.wall().duration_since(at).is_ok_and(|age| age < COARSE));
        let knows_all = names.iter().all(|name| self.files.contains_key(name));
        if changed_at == self.directory && !is_fresh && knows_all && self.spared < MOST_SPARED {
            self.spared += 1;
            return (self, Vec::new());
        }
        let mut changed = Vec::new();
        let mut files = HashMap::with_capacity(names.len());
        for name in names {
            let now: Seen = fs::symlink_metadata(directory.join(&name)).ok().as_ref().and_then(seen);
            if self.files.get(&name) != Some(&now) {
                changed.push(name.clone());
            }
            files.insert(name, now);
        }
        (Self { directory: changed_at, files, spared: 0 }, changed)
    }
}

fn seen(about: &Metadata) -> Seen {
    #[cfg(unix)]
    let id = std::os::unix::fs::MetadataExt::ino(about);
    #[cfg(not(unix))]
    let id = about.len();
    Some((about.modified().ok()?, id))
}

#[cfg(target_os = "linux")]
mod kernel;

/// File systems may round times to two seconds.
const COARSE: Duration = Duration::from_secs(3);

/// A file that is written in place doesn't change its directory: all are looked at every five seconds.
const MOST_SPARED: u32 = 20;

/// How often it is looked whether the path still leads to the directory of which the kernel tells.
#[cfg(target_os = "linux")]
const SAME: Duration = Duration::from_secs(5);

/// After a minute the kernel may be able to tell.
const LOOKS: u32 = 240;

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tower-bearer-watch-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.join("new"), text).unwrap();
            fs::rename(self.0.join("new"), self.0.join(name)).unwrap();
        }

        /// As if nothing had happened for a long time.
        fn age(&self, name: &str) {
            let old = SystemClock.wall() - Duration::from_secs(1000);
            fs::File::open(self.0.join(name)).unwrap().set_modified(old).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn names(names: &[&str]) -> Vec<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_look_finds_the_files_that_were_replaced_removed_or_made() {
        let place = Place::new("looks");
        place.write("a", "1");
        place.write("b", "1");
        let all = names(&["a", "b", "c"]);
        let (first, changed) = Looked::default().again(&place.0, all.clone());
        assert_eq!(changed, all, "what is new to it counts as changed");
        let (second, changed) = first.again(&place.0, all.clone());
        assert_eq!(changed, names(&[]));
        place.write("b", "2");
        let (third, changed) = second.again(&place.0, all.clone());
        assert_eq!(changed, names(&["b"]));
        fs::remove_file(place.0.join("a")).unwrap();
        place.write("c", "1");
        let (_, changed) = third.again(&place.0, all);
        assert_eq!(changed, names(&["a", "c"]));
    }

    #[test]
    fn a_directory_that_rests_is_all_that_is_looked_at_and_a_fresh_one_is_not_trusted() {
        let place = Place::new("rests");
        place.write("a", "1");
        place.age(".");
        let (mut looked, _) = Looked::default().again(&place.0, names(&["a"]));
        // In place, which doesn't change the directory.
        fs::write(place.0.join("a"), "2").unwrap();
        let mut changed;
        for _ in 0..MOST_SPARED {
            (looked, changed) = looked.again(&place.0, names(&["a"]));
            assert_eq!(changed, names(&[]));
        }
        (looked, changed) = looked.again(&place.0, names(&["a"]));
        assert_eq!(changed, names(&["a"]), "it is noticed now and then");

        // Twice within one tick of the file system's clock: the directory has the same time both times.
        let time = fs::metadata(&place.0).unwrap().modified().unwrap();
        place.write("a", "3");
        fs::File::open(&place.0).unwrap().set_modified(SystemClock.wall()).unwrap();
        let fresh = fs::metadata(&place.0).unwrap().modified().unwrap();
        (looked, changed) = looked.again(&place.0, names(&["a"]));
        assert_eq!(changed, names(&["a"]));
        place.write("a", "4");
        fs::File::open(&place.0).unwrap().set_modified(fresh).unwrap();
        (looked, changed) = looked.again(&place.0, names(&["a"]));
        assert_eq!(changed, names(&["a"]), "{time:?}");
        fs::remove_dir_all(&place.0).unwrap();
        (_, changed) = looked.again(&place.0, names(&["a"]));
        assert_eq!(changed, names(&["a"]), "a directory that is gone");
    }

    /// A link to a directory leads to another one, as at a deployment. Nothing tells of that, and the old one may still be busy.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_path_that_leads_to_another_directory_is_followed() {
        use crate::store::{FileStore, TokenStore};
        let place = Place::new("links");
        let (old, new, link) = (place.0.join("old"), place.0.join("new"), place.0.join("link"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&new).unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let files = FileStore::directory(&link);
        let (one, other) = (files.of("one"), files.of("one"));
        let mut waits = std::pin::pin!(one.changed(0));
        tokio::time::timeout(Duration::from_millis(500), waits.as_mut()).await.unwrap_err();
        std::os::unix::fs::symlink(&new, place.0.join("next")).unwrap();
        fs::rename(place.0.join("next"), &link).unwrap();
        other.swap(0, b"data").await.unwrap();
        let busy = async {
            loop {
                fs::write(old.join("another"), "x").unwrap();
                sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            followed = tokio::time::timeout(Duration::from_secs(20), waits) => followed.expect("the old directory is watched"),
            () = busy => {}
        }
    }

    /// The files of a directory may be used in several runtimes.
    #[test]
    fn a_watcher_that_ended_with_its_runtime_is_replaced_by_those_who_wait_in_another() {
        use crate::store::{FileStore, TokenStore};
        let place = Place::new("runtimes");
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let files = FileStore::directory(&place.0);
        let (one, other) = (files.of("one"), files.of("other"));
        let mut waits = std::pin::pin!(other.changed(0));
        let moment = Duration::from_millis(100);
        first.block_on(async { tokio::time::timeout(moment, one.changed(0)).await.unwrap_err() });
        second.block_on(async { tokio::time::timeout(moment, waits.as_mut()).await.unwrap_err() });
        drop(first);
        second.block_on(async {
            tokio::time::timeout(moment, waits.as_mut()).await.unwrap_err();
            files.of("other").swap(0, b"data").await.unwrap();
            tokio::time::timeout(20 * moment, waits).await.expect("nobody watches for those who wait");
        });
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_are_forgotten() {
        let place = Place::new("forgets");
        let watch = Arc::new(DirectoryWatch::new(place.0.clone()));
        let kept = watch.listen(OsStr::new("kept"));
        for number in 0..10_000 {
            drop(watch.listen(OsStr::new(&format!("{number}"))));
        }
        assert!(watch.lock().names.len() <= 64, "{}", watch.lock().names.len());
        assert_eq!(watch.names(), names(&["kept"]));
        drop(kept);
    }
}
