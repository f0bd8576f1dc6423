//! Who may open the files, and to whom they belong.
//!
//! On systems other than Unix the directory decides on that.

use std::fs::OpenOptions;

#[cfg(unix)]
pub(super) use unix::{Tightened, has_one_name, inherit, is_same, share, tighten};

/// Never readable by others, not even between two calls.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWN);
    options
}

/// Opens what is there, and nothing that a link leads to. A pipe that has just taken the place of a file keeps nobody waiting.
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
    };

    use super::{GROUP, OTHERS, OWN};

    /// What became of the rights of others on a file.
    pub(in super::super) enum Tightened {
        /// There were none, or they are its group's, and the file belongs to somebody else.
        Sound,
        /// Its group had some, and we own it.
        Taken(io::Result<()>),
        /// Everybody has some.
        Open,
    }

    /// Takes away what the group may do with a file of ours: a volume that is mounted with an `fsGroup` gives it that each time.
    ///
    /// If the file is somebody else's, its group may be how we come to use it, and others as well.
    pub(in super::super) fn tighten(file: &File, about: &Metadata) -> Tightened {
        match about.mode() {
            mode if mode & OTHERS != 0 => Tightened::Open,
            mode if mode & GROUP != 0 && own_user() == Some(about.uid()) => {
                Tightened::Taken(file.set_permissions(Permissions::from_mode(OWN)))
            }
            _ => Tightened::Sound,
        }
    }

    /// Gives the file that is to take the place of another one its owner, its group and what that group may do.
    ///
    /// A member of the group that has all the rights may become the owner, because all of them still have theirs then.
    ///
    /// # Errors
    /// If it can't be given to the owner, who would be locked out then.
    pub(in super::super) fn inherit(old: &Metadata, new: &File) -> io::Result<()> {
        let ours = new.metadata()?;
        if old.uid() == ours.uid() {
            // Which group has no rights on it hardly matters.
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

    /// Makes a lock usable by all who may use the file. Who may not do that has found it usable, and that must do.
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

    /// Whether both are one file.
    pub(in super::super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// Whether there is no other name under which somebody may know it as something else.
    pub(in super::super) fn has_one_name(about: &Metadata) -> bool {
        about.nlink() <= 1
    }

    /// Whose process this is, where the system tells: nothing is taken from a group otherwise until the file is replaced.
    fn own_user() -> Option<u32> {
        fs::metadata("/proc/self").ok().map(|about| about.uid())
    }

    const READ_AND_WRITE: u32 = 0o060;
}

#[cfg(unix)]
const OWN: u32 = 0o600;
#[cfg(unix)]
const GROUP: u32 = 0o070;
#[cfg(unix)]
const OTHERS: u32 = 0o007;
