//! Who may open the files, and to whom they belong.
//!
//! On systems other than Unix the rights of the directory decide.

use std::fs::OpenOptions;

#[cfg(unix)]
pub(super) use unix::{Tightened, has_one_name, inherit, is_same, others_may_replace, share, tighten};

/// Options for a new file that others can never read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWN);
    options
}

/// Options for an existing file. On Linux they follow no link, and don't wait for a pipe.
pub(super) fn careful() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(target_os = "linux")]
    {
        use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NOFOLLOW | O_NONBLOCK);
    }
    options
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, File, Metadata, Permissions},
        io,
        os::unix::fs::{MetadataExt, PermissionsExt, fchown},
        path::Path,
    };

    use super::{GROUP, OTHERS, OWN};

    /// The rights of others on a file, after the group's were removed.
    pub(in super::super) enum Tightened {
        /// None, or the group's on another user's file.
        Sound,
        /// The group had rights on a file of this process' user. Whether they were removed.
        Taken(io::Result<()>),
        /// Everybody has rights.
        Open,
    }

    /// Removes the group's rights on a file that this process owns. A volume with an `fsGroup` gives them each time it is mounted.
    ///
    /// Another user's file keeps them, because this process, and others, may use it through the group.
    pub(in super::super) fn tighten(file: &File, about: &Metadata) -> Tightened {
        match about.mode() {
            mode if mode & OTHERS != 0 => Tightened::Open,
            mode if mode & GROUP != 0 && own_user() == Some(about.uid()) => {
                Tightened::Taken(file.set_permissions(Permissions::from_mode(OWN)))
            }
            _ => Tightened::Sound,
        }
    }

    /// Gives a new file the owner, the group and the group's rights of the file that it replaces.
    ///
    /// If the group may read and write, this process may stay the owner, because everybody keeps their access.
    ///
    /// # Errors
    /// If the file can't be given to the owner, who would lose access.
    pub(in super::super) fn inherit(old: &Metadata, new: &File) -> io::Result<()> {
        let ours = new.metadata()?;
        if old.uid() == ours.uid() {
            // An error doesn't matter: the group has no rights.
            if old.gid() != ours.gid() {
                let _ = fchown(new, None, Some(old.gid()));
            }
            return Ok(());
        }
        let shared = old.mode() & READ_AND_WRITE;
        if let Err(error) = fchown(new, Some(old.uid()), Some(old.gid())) {
            if shared != READ_AND_WRITE {
                return Err(error);
            }
            fchown(new, None, Some(old.gid()))?;
        }
        if shared == 0 { Ok(()) } else { new.set_permissions(Permissions::from_mode(OWN | shared)) }
    }

    /// Gives the lock file the owner, the group and the group's rights of the file. An error doesn't matter: this process could open it.
    pub(in super::super) fn share(lock: &File, file: &Metadata) {
        let Ok(about) = lock.metadata() else { return };
        if (about.uid(), about.gid()) != (file.uid(), file.gid())
            && fchown(lock, Some(file.uid()), Some(file.gid())).is_err()
        {
            let _ = fchown(lock, None, Some(file.gid()));
        }
        let mode = OWN | (file.mode() & READ_AND_WRITE);
        if about.mode() & (OWN | GROUP | OTHERS) != mode {
            let _ = lock.set_permissions(Permissions::from_mode(mode));
        }
    }

    /// Whether everybody may remove files of others in this directory, and put theirs in their place.
    pub(in super::super) fn others_may_replace(directory: &Path) -> bool {
        fs::metadata(directory).is_ok_and(|about| about.mode() & ANYBODY_WRITES != 0 && about.mode() & STICKY == 0)
    }

    /// Whether both are the same file.
    pub(in super::super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// Whether the file has no other hard link, which could be another program's file.
    pub(in super::super) fn has_one_name(about: &Metadata) -> bool {
        about.nlink() <= 1
    }

    /// The user of this process. `None` on systems that don't tell: then the group's rights stay until the file is replaced.
    fn own_user() -> Option<u32> {
        fs::metadata("/proc/self").ok().map(|about| about.uid())
    }

    const READ_AND_WRITE: u32 = 0o060;
    const ANYBODY_WRITES: u32 = 0o002;
    /// As `/tmp` has: there only the owner of a file may remove it.
    const STICKY: u32 = 0o1000;
}

#[cfg(unix)]
const OWN: u32 = 0o600;
#[cfg(unix)]
const GROUP: u32 = 0o070;
#[cfg(unix)]
const OTHERS: u32 = 0o007;
