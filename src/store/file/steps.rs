//! The steps by which a file is replaced, one by one. The test replays a crash after each of them.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::Path,
};

use super::permissions;

/// Removes what a crash has left.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    record(|| Step::Remove(path.into()));
    Ok(())
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = permissions::private().write(true).create_new(true).open(path)?;
    record(|| Step::Create(path.into()));
    Ok(file)
}

pub(super) fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    record(|| Step::Write(bytes.into()));
    Ok(())
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    file.sync_all()?;
    record(|| Step::Sync);
    Ok(())
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    record(|| Step::Rename(from.into(), to.into()));
    Ok(())
}

#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some network file systems can't sync a directory.
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => return Err(error),
        _ => {}
    }
    record(|| Step::SyncDirectory);
    Ok(())
}

/// A step that was taken. `Write` and `Sync` are about the file that was created last.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Remove(Box<Path>),
    Create(Box<Path>),
    Write(Box<[u8]>),
    Sync,
    Rename(Box<Path>, Box<Path>),
    SyncDirectory,
}

#[cfg(not(test))]
fn record(_: impl FnOnce() -> Step) {}

#[cfg(test)]
fn record(step: impl FnOnce() -> Step) {
    tests::STEPS.with_borrow_mut(|steps| steps.push(step()));
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::{BTreeMap, BTreeSet},
        ffi::OsString,
        path::PathBuf,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::store::{
        Swap,
        file::{atomic_file::AtomicFile, content, warnings::Warnings},
    };

    thread_local! {
        pub(super) static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
    }

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("tower-bearer-crash-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> AtomicFile {
            AtomicFile::of(&self.0.join("token")).unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn swap(file: &AtomicFile, expected: u64, data: &[u8]) -> Vec<Step> {
        STEPS.take();
        assert_eq!(file.swap(expected, data, &Warnings::default()).unwrap(), Swap::Done);
        STEPS.take()
    }

    /// What POSIX promises of a disk: a file's data is there after its sync, and a change of a name after the sync of its directory. Before
    /// that, each may be there or not.
    #[derive(Clone, Default)]
    struct Disk {
        names: BTreeMap<OsString, usize>,
        /// Changes of names that aren't synced.
        pending: Vec<Rename>,
        files: Vec<Data>,
    }

    #[derive(Clone, Default)]
    struct Data {
        written: Vec<u8>,
        synced: usize,
    }

    /// Of a file to a name. `from`: the name that it loses. Without a file, the name is removed.
    #[derive(Clone)]
    struct Rename {
        from: Option<OsString>,
        to: OsString,
        file: Option<usize>,
    }

    type Files = BTreeMap<OsString, Vec<u8>>;

    fn name(path: &Path) -> OsString {
        path.file_name().unwrap().to_owned()
    }

    impl Disk {
        fn after(steps: &[Step], old: Option<&[u8]>) -> Self {
            let mut disk = Self::default();
            if let Some(old) = old {
                disk.files.push(Data { written: old.into(), synced: old.len() });
                disk.names.insert("token".into(), 0);
            }
            steps.iter().for_each(|step| disk.take(step));
            disk
        }

        fn take(&mut self, step: &Step) {
            match step {
                Step::Remove(path) => self.pending.push(Rename { from: None, to: name(path), file: None }),
                Step::Create(path) => {
                    self.files.push(Data::default());
                    self.pending.push(Rename { from: None, to: name(path), file: Some(self.files.len() - 1) });
                }
                Step::Write(bytes) => self.files.last_mut().unwrap().written.extend(bytes),
                Step::Sync => {
                    let file = self.files.last_mut().unwrap();
                    file.synced = file.written.len();
                }
                Step::Rename(from, to) => {
                    let file = Some(self.files.len() - 1);
                    self.pending.push(Rename { from: Some(name(from)), to: name(to), file });
                }
                Step::SyncDirectory => {
                    for rename in std::mem::take(&mut self.pending) {
                        rename.apply(&mut self.names);
                    }
                }
            }
        }

        /// All that may be there after a crash: any of the changes of names, and of what isn't synced nothing, half, all, or zeros.
        fn crashes(&self) -> Vec<Files> {
            let mut found = Vec::new();
            for chosen in 0..1_u32 << self.pending.len() {
                let mut names = self.names.clone();
                for (_, rename) in self.pending.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
                    rename.apply(&mut names);
                }
                for how in [Torn::Nothing, Torn::Half, Torn::All, Torn::Zeros] {
                    let files = names.iter().map(|(name, file)| (name.clone(), self.files[*file].torn(how)));
                    found.push(files.collect());
                }
            }
            found
        }
    }

    #[derive(Clone, Copy)]
    enum Torn {
        Nothing,
        Half,
        All,
        Zeros,
    }

    impl Data {
        fn torn(&self, how: Torn) -> Vec<u8> {
            let (synced, rest) = self.written.split_at(self.synced);
            let rest = match how {
                Torn::Nothing => Vec::new(),
                Torn::Half => rest[..rest.len() / 2].to_vec(),
                Torn::All => rest.to_vec(),
                Torn::Zeros => vec![0; rest.len()],
            };
            [synced, &rest].concat()
        }
    }

    impl Rename {
        fn apply(&self, names: &mut BTreeMap<OsString, usize>) {
            if let Some(from) = &self.from {
                names.remove(from);
            }
            match self.file {
                Some(file) => names.insert(self.to.clone(), file),
                None => names.remove(&self.to),
            };
        }
    }

    /// Looks at what may be there after a crash behind each step. Returns how many crashes there are, or what is wrong after one.
    fn replay(steps: &[Step], old: Option<&[u8]>, new: &[u8]) -> Result<u32, String> {
        let (mut crashes, mut seen) = (0, BTreeSet::new());
        for taken in 0..=steps.len() {
            let is_done = taken == steps.len();
            for files in Disk::after(&steps[..taken], old).crashes() {
                crashes += 1;
                let found = files.get(&OsString::from("token")).map(Vec::as_slice);
                let is_sound = found == Some(new) || (!is_done && found == old);
                if !is_sound {
                    let text = found.map(|found| String::from_utf8_lossy(found).into_owned());
                    return Err(format!("after {:?} there is {text:?}", steps[..taken].last()));
                }
                if seen.insert(files.clone()) {
                    goes_on(&files);
                }
            }
        }
        Ok(crashes)
    }

    /// The next process works with what is there.
    fn goes_on(files: &Files) {
        let directory = Directory::new();
        for (name, data) in files {
            let mut file = permissions::private().write(true).create_new(true).open(directory.0.join(name)).unwrap();
            file.write_all(data).unwrap();
        }
        let file = directory.file();
        let version = file.load(&Warnings::default()).unwrap().map_or(0, |entry| entry.version());
        swap(&file, version, b"after the crash");
        assert_eq!(file.load(&Warnings::default()).unwrap().unwrap().data(), b"after the crash");
    }

    fn bytes(version: u64, data: &[u8]) -> Vec<u8> {
        [content::head(version, data).as_bytes(), data].concat()
    }

    #[test]
    fn a_power_cut_after_any_step_leaves_the_old_file_or_the_new_one() {
        let directory = Directory::new();
        let file = directory.file();
        let (first, second) = (bytes(1, b"the first set"), bytes(2, b"the second set"));
        let steps = swap(&file, 0, b"the first set");
        let mut crashes = replay(&steps, None, &first).unwrap();
        let steps = swap(&file, 1, b"the second set");
        crashes += replay(&steps, Some(&first), &second).unwrap();
        assert!(crashes > 100, "{crashes}");

        // Without one of them, or in another order, a crash is found that loses something.
        let without = |missing: fn(&Step) -> bool| -> Vec<Step> {
            assert!(steps.iter().any(missing), "{steps:?}");
            steps.iter().filter(|step| !missing(step)).cloned().collect()
        };
        for missing in [|step: &Step| *step == Step::Sync, |step: &Step| *step == Step::SyncDirectory] {
            replay(&without(missing), Some(&first), &second).unwrap_err();
        }
        let mut early = steps.clone();
        let (sync, rename) = (
            steps.iter().position(|step| *step == Step::Sync).unwrap(),
            steps.iter().position(|step| matches!(step, Step::Rename(..))).unwrap(),
        );
        early.swap(sync, rename);
        replay(&early, Some(&first), &second).unwrap_err();
    }
}
