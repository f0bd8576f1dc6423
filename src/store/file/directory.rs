//! [`FileDirectory`]: a file for each key, in one directory.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::{FileStore, warnings::Warnings, watch::DirectoryWatch};
use crate::store::account::hex;

/// A directory with a file for each key: for many users on one machine. [`FileStore::directory`] makes it.
///
/// - **Names.** A key may be any text. `anna` is kept in `anna.token`. Other characters than `a` to `z`, digits, `-` and `_` are written as `%`
///   and hexadecimal digits, so different keys have different files, also where upper and lower case are the same. A key of more than
///   [200 bytes](Self::file_name) is hashed. No key leads out of the directory.
/// - **Cost.** All files have one watcher together, from the first call of [`changed`](crate::store::TokenStore::changed) on: on Linux the
///   kernel tells of changes (`inotify`). On other systems, and on network file systems, the directory is looked at four times a second.
///   A file that nobody waits for costs nothing. If the path leads to another directory (a link, a mount), that is noticed within seconds.
///
/// The directory must exist. Its files are used like those of [`FileStore::new`]. A link to a file elsewhere is followed, but changes of it
/// aren't noticed.
#[derive(Clone)]
pub struct FileDirectory {
    watch: Arc<DirectoryWatch>,
    at_once: Arc<Semaphore>,
    warnings: Arc<Warnings>,
}

impl FileDirectory {
    pub(super) fn new(directory: PathBuf) -> Self {
        let at_once = Arc::new(Semaphore::new(MOST_AT_ONCE));
        Self { watch: Arc::new(DirectoryWatch::new(directory)), at_once, warnings: Arc::default() }
    }

    /// The file of a key. It need not exist yet.
    ///
    /// ```
    /// use tower_bearer::store::FileStore;
    ///
    /// let tokens = FileStore::directory("/var/lib/app/tokens");
    /// let (anna, ben) = (tokens.of("anna"), tokens.of("ben@example.com"));
    /// # drop((anna, ben));
    /// ```
    pub fn of(&self, key: impl AsRef<str>) -> FileStore {
        let name = Self::file_name(key.as_ref());
        let mut store = FileStore::new(self.watch.directory().join(&name));
        store.at_once = Some(self.at_once.clone());
        store.warnings = self.warnings.clone();
        store.watch = Some((self.watch.clone(), name.into()));
        store
    }

    /// The name of a key's file, for backups and for moving files that have other names.
    ///
    /// ```
    /// use tower_bearer::store::FileDirectory;
    ///
    /// assert_eq!(FileDirectory::file_name("user-42"), "user-42.token");
    /// assert_eq!(FileDirectory::file_name("Anna@example.com"), "%41nna%40example%2ecom.token");
    /// ```
    #[must_use]
    pub fn file_name(key: &str) -> String {
        let mut name = String::with_capacity(key.len() + SUFFIX.len());
        for (at, byte) in key.bytes().enumerate() {
            let is_plain = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
            // Windows has devices of these names in each directory.
            let is_device = at == 0 && is_device(key);
            if is_plain && !is_device {
                name.push(char::from(byte));
            } else {
                name.push('%');
                name.push_str(&hex([byte]));
            }
        }
        let name = match name.len() {
            // No other key is written so: a `%` has digits behind it.
            0 => Cow::Borrowed("%"),
            1..=LONGEST => name.into(),
            // `~` is in no name that isn't hashed.
            _ => format!("~{}", hex(Sha256::digest(key))).into(),
        };
        format!("{name}{SUFFIX}")
    }

    /// The directory.
    ///
    /// ```
    /// use tower_bearer::store::FileStore;
    ///
    /// assert!(FileStore::directory("/var/lib/app/tokens").path().ends_with("tokens"));
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        self.watch.directory()
    }
}

fn is_device(key: &str) -> bool {
    let numbered = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.len() == 1 && rest != "0");
    matches!(key, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

impl fmt::Debug for FileDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileDirectory").field(&self.watch.directory()).finish()
    }
}

const SUFFIX: &str = ".token";

/// File systems allow 255 bytes, with `.token`, and `.lock` or `.new` behind it.
const LONGEST: usize = 200;

/// So many threads wait for the disk at the same time, however many keys there are.
const MOST_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_keys_have_different_names_that_are_names_everywhere() {
        let long = "x".repeat(201);
        let (longer, dots) = (format!("{long}x"), "..".repeat(60));
        let keys = [
            "",
            "%",
            "anna",
            "Anna",
            "ANNA",
            "anna.token",
            "anna%2etoken",
            "%41nna",
            "a/b",
            "a\\b",
            "..",
            ".",
            "../../etc/passwd",
            "/",
            "\0",
            "ü",
            "u\u{308}",
            "~",
            "con",
            "nul",
            "com1",
            "lpt9",
            "com0",
            "console",
            "a b",
            "a\nb",
            "-",
            &long,
            &longer,
            &dots,
            &long[..200],
        ];
        let mut seen = HashSet::new();
        for key in keys {
            let name = FileDirectory::file_name(key);
            assert!(seen.insert(name.to_lowercase()), "{key:?} has the name of another: {name}");
            let whole = Path::new(&name).file_name().is_some_and(|last| last == name.as_str());
            assert!(whole && name.len() <= 240 && !name.starts_with('.'), "{key:?} becomes {name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{key:?} becomes {name}");
            assert!(!["con.token", "nul.token", "com1.token", "lpt9.token"].contains(&&*name), "{name}");
        }
    }
}
