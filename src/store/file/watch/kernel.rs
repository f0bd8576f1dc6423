//! What the kernel tells of a directory (inotify(7)).

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    pin::pin,
    sync::Weak,
};

use nix::{
    errno::Errno,
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent},
        statfs::statfs,
    },
};
use tokio::{io::unix::AsyncFd, time::sleep};

use super::{DirectoryWatch, SAME};
use crate::panics::contained;

/// What the kernel tells of a directory.
pub(super) struct Told(AsyncFd<Instance>, Identity);

/// Which directory it is: device and inode.
type Identity = (u64, u64);

fn identity(directory: &Path) -> Option<Identity> {
    fs::metadata(directory).ok().map(|about| (about.dev(), about.ino()))
}

/// Why there is nothing to hear.
pub(super) enum Unavailable {
    /// It may be otherwise later.
    ForNow,
    /// This runtime has no I/O.
    WithoutIo,
}

struct Instance(Inotify);

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Told {
    /// # Errors
    /// [`Unavailable`] if the kernel can't tell.
    pub(super) async fn of(directory: &Path) -> Result<Self, Unavailable> {
        let directory = directory.to_owned();
        // A file system that hangs must not stop the runtime.
        let watched = tokio::task::spawn_blocking(move || {
            if is_network(&directory) {
                return None;
            }
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            // Before the watch: if the path leads elsewhere meanwhile, that is noticed later.
            let id = identity(&directory)?;
            inotify.add_watch(&directory, CHANGES).ok()?;
            Some((Instance(inotify), id))
        });
        let (instance, id) = watched.await.ok().flatten().ok_or(Unavailable::ForNow)?;
        #[allow(
            deprecated,
            reason = "what replaces it is unsafe; the descriptor is the instance's own, and stays the same"
        )]
        let register = || AsyncFd::new(instance).ok();
        // A runtime without I/O panics here.
        contained(register).ok_or(Unavailable::WithoutIo)?.map(|told| Self(told, id)).ok_or(Unavailable::ForNow)
    }

    /// Tells the names of changed files, until there is an error or nobody has the watch any more.
    pub(super) async fn for_ever(self, watch: &Weak<DirectoryWatch>) {
        // What changed before this moment wasn't told.
        match watch.upgrade() {
            Some(watching) => watching.tell_all(),
            None => return,
        }
        let mut looks_again = pin!(sleep(SAME));
        loop {
            let ready = tokio::select! {
                // First, or a busy directory would be watched for ever.
                biased;
                () = &mut looks_again => {
                    // Nothing is told when the path leads to another directory: by a link, a mount, or a new name of a parent.
                    let directory = match watch.upgrade() {
                        Some(watching) => watching.directory.clone(),
                        None => return,
                    };
                    let id = self.1;
                    match tokio::task::spawn_blocking(move || identity(&directory) == Some(id)).await {
                        Ok(true) => looks_again.set(sleep(SAME)),
                        _ => return,
                    }
                    continue;
                }
                ready = self.0.readable() => ready,
            };
            let Ok(mut ready) = ready else { return };
            let events = match self.0.get_ref().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let Some(watching) = watch.upgrade() else { return };
            for event in &events {
                match &event.name {
                    Some(name) if !is_lost(event) => watching.tell(name),
                    // Events were lost, or the directory itself is gone or changed.
                    _ => watching.tell_all(),
                }
            }
            if events.iter().any(|event| event.mask.intersects(GONE)) {
                return;
            }
        }
    }
}

fn is_lost(event: &InotifyEvent) -> bool {
    event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW.union(GONE))
}

/// Whether other machines may change files here, of which this kernel hears nothing.
fn is_network(directory: &Path) -> bool {
    // Where it can't be told, it is looked at.
    statfs(directory).map_or(true, |about| NETWORK.contains(&(about.filesystem_type().0 as u32)))
}

const CHANGES: AddWatchFlags = AddWatchFlags::IN_MOVED_TO
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

const GONE: AddWatchFlags = AddWatchFlags::IN_IGNORED
    .union(AddWatchFlags::IN_UNMOUNT)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// linux/magic.h: NFS, SMB, CIFS, SMB 2, FUSE, 9P, AFS, Coda, Ceph, GFS 2, OCFS 2, Lustre; GPFS, BeeGFS, OrangeFS; and the folders that
/// VirtualBox, VMware and Parallels share with their host.
const NETWORK: [u32; 18] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x5346_414f,
    0x7375_7245,
    0x00c3_6400,
    0x0116_1970,
    0x7461_636f,
    0x0bd0_0bd0,
    0x4750_4653,
    0x1983_0326,
    0x2003_0528,
    0x786f_4256,
    0xbacb_acbc,
    0x7c7c_6673,
];
