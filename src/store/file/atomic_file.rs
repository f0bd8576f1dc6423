//! A file that is replaced, never rewritten: where it is, what is beside it, how it is read and replaced.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    content::{head, parse},
    file_error::{file_error, not_replaced},
    permissions, steps,
    warnings::Warnings,
};
use crate::store::{Entry, StoreError, Swap};

/// A file, and the files beside it.
pub(super) struct AtomicFile {
    pub(super) path: PathBuf,
    pub(super) lock: PathBuf,
    new: PathBuf,
    directory: PathBuf,
}

impl AtomicFile {
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let mut path = path.to_owned();
        // A link is followed, and stays a link: its target is replaced or made.
        for _ in 0..MOST_LINKS {
            let Ok(target) = fs::read_link(&path) else { break };
            path = path.parent().unwrap_or(Path::new("")).join(target);
        }
        if path.is_symlink() {
            return Err(StoreError::unusable(format!("{} is a link that leads in a circle", path.display())));
        }
        let path = path.as_path();
        let failed = |error| file_error(path, "can't be reached", &error);
        let file = match fs::canonicalize(path) {
            Ok(file) if file.is_file() => file,
            Ok(other) => {
                let what = if other.is_dir() { " but a directory: name a file in it" } else { "" };
                return Err(StoreError::unusable(format!("{} is no regular file{what}", path.display())));
            }
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
        Ok(Self { lock: beside(".lock"), new: beside(".new"), directory, path: file })
    }

    pub(super) fn load(&self, warnings: &Warnings) -> Result<Option<Entry>, StoreError> {
        Ok(self.read(warnings)?.map(|(entry, _)| entry))
    }

    fn read(&self, warnings: &Warnings) -> Result<Option<(Entry, Metadata)>, StoreError> {
        let unusable = |what: &str| StoreError::unusable(format!("{} {what}", self.path.display()));
        let mut file = match permissions::careful().read(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&self.path, "can't be read", &error)),
        };
        let about = file.metadata().map_err(|error| file_error(&self.path, "can't be read", &error))?;
        if !about.is_file() {
            return Err(unusable("is no regular file"));
        }
        #[cfg(unix)]
        match permissions::tighten(&file, &about) {
            permissions::Tightened::Sound => {}
            permissions::Tightened::Open => {
                return Err(unusable("can be read or written by others: take that away from them (chmod 600)"));
            }
            permissions::Tightened::Taken(taken) => warnings.of_group(&self.path, &taken),
        }
        #[cfg(not(unix))]
        let _ = warnings;
        if about.len() > LONGEST {
            return Err(unusable("is longer than any token set: it is another program's"));
        }
        let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1));
        file.read_to_end(&mut content).map_err(|error| file_error(&self.path, "can't be read", &error))?;
        if content.is_empty() {
            // A file that is mounted by itself had to exist before, and can't be removed.
            return Err(unusable(
                "is empty: if nothing is missing from it, remove it; if it is mounted by itself, mount the directory instead of the file",
            ));
        }
        Ok(Some((parse(&content).map_err(unusable)?, about)))
    }

    pub(super) fn swap(&self, expected: u64, data: &[u8], warnings: &Warnings) -> Result<Swap, StoreError> {
        let _locked = self.locked()?;
        #[cfg(unix)]
        if permissions::others_may_replace(&self.directory) {
            warnings.of_directory(&self.directory);
        }
        let old = self.read(warnings)?;
        if old.as_ref().map_or(0, |(entry, _)| entry.version()) != expected {
            return Ok(Swap::Lost);
        }
        let next = expected.checked_add(1).ok_or_else(|| StoreError::unusable("there is no higher version"))?;
        self.replace(next, data, old.as_ref().map(|(_, about)| about))?;
        Ok(Swap::Done)
    }

    /// Writes a new file, syncs it, renames it, and syncs the directory.
    fn replace(&self, version: u64, data: &[u8], old: Option<&Metadata>) -> Result<(), StoreError> {
        let failed = |error: io::Error| file_error(&self.path, "can't be written", &error);
        // A crash may have left this file. The holder of the lock owns it.
        steps::remove(&self.new).map_err(failed)?;
        let new = steps::create(&self.new).map_err(failed)?;
        let renamed = self
            .fill(&new, version, data, old)
            .and_then(|()| steps::rename(&self.new, &self.path).map_err(|error| not_replaced(&self.path, &error)));
        if let Err(error) = renamed {
            // Tokens must not stay in it. If it can't be removed now, the next swap removes it.
            let _ = fs::remove_file(&self.new);
            return Err(error);
        }
        #[cfg(unix)]
        steps::sync_directory(&self.directory).map_err(failed)?;
        Ok(())
    }

    fn fill(&self, new: &File, version: u64, data: &[u8], old: Option<&Metadata>) -> Result<(), StoreError> {
        #[cfg(unix)]
        if let Some(old) = old {
            permissions::inherit(old, new).map_err(|error| {
                let user = std::os::unix::fs::MetadataExt::uid(old);
                StoreError::unusable(format!(
                    "{} belongs to the user {user}, and a new one can't be given to that user ({error}): run this as that user",
                    self.path.display()
                ))
            })?;
        }
        #[cfg(not(unix))]
        let _ = old;
        let write = || {
            steps::write(new, head(version, data).as_bytes())?;
            steps::write(new, data)?;
            steps::sync(new)
        };
        write().map_err(|error| file_error(&self.path, "can't be written", &error))
    }
}

/// Linux follows as many.
const MOST_LINKS: usize = 40;

/// Token sets have a few KiB.
const LONGEST: u64 = 1024 * 1024;
