//! What is warned of, once for each store.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tracing::warn;

use crate::panics::contained;

/// Which warnings there were.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    group: AtomicBool,
    directory: AtomicBool,
}

impl Warnings {
    /// The group had rights on the file. `taken`: whether they were removed.
    pub(super) fn of_group(&self, path: &Path, taken: &io::Result<()>) {
        let path = path.display();
        once(&self.group, || match taken {
            Ok(()) => warn!(%path, "the group of a token file could read or write it: taken away (chmod 600)"),
            Err(error) => {
                warn!(%path, %error, "the group of a token file can read or write it, and that can't be taken away")
            }
        });
    }

    /// Everybody may write to the directory.
    pub(super) fn of_directory(&self, path: &Path) {
        let path = path.display();
        once(&self.directory, || {
            warn!(%path, "everybody may remove or replace the token files in this directory: take that away from others (chmod o-w)");
        });
    }
}

fn once(done: &AtomicBool, warn: impl FnOnce()) {
    if !done.swap(true, Relaxed) {
        contained(warn);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::store::{captured_warnings::Warned, file::atomic_file::AtomicFile};

    #[test]
    fn a_directory_where_everybody_may_put_a_file_in_the_place_of_ones_own_is_warned_of_once() {
        let directory = std::env::temp_dir().join(format!("tower-bearer-open-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let file = AtomicFile::of(&directory.join("token")).unwrap();
        let warnings_of = |mode, version| {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            let (warned, warnings) = (Warned::default(), Warnings::default());
            tracing::subscriber::with_default(warned.clone(), || {
                for version in [version, version + 1] {
                    file.swap(version, b"data", &warnings).unwrap();
                }
            });
            warned.events()
        };
        // A directory of the group's, and one as `/tmp` is.
        for (round, sound) in [0o700, 0o755, 0o775, 0o1777].into_iter().enumerate() {
            assert_eq!(warnings_of(sound, 2 * round as u64), [""; 0], "{sound:o}");
        }
        let events = warnings_of(0o777, 8);
        assert!(events.len() == 1 && events[0].contains("chmod o-w"), "{events:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
