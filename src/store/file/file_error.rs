//! What an error of the file system asks for.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use crate::store::StoreError;

/// What somebody has to mend, and what may pass by itself.
///
/// Passing is what becomes of a file system without anybody touching the file: it was full, it was read-only after an error or while
/// a volume moved, a server was away. A directory that is missing, and a file that may not be opened, can be a volume that isn't mounted
/// yet, but they are nearly always a wrong path or a wrong user: who starts a program with one should read so at once. Both are looked
/// at again anyway.
pub(super) fn file_error(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let text = format!("{} {what}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => StoreError::unusable(text),
        _ => StoreError::unreachable(text),
    }
}

/// The file can't be replaced: what a rename says where the file is a mount of its own.
pub(super) fn not_replaced(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => StoreError::unusable(format!(
            "{} can't be replaced, because it is mounted by itself: mount the directory instead of the file ({error})",
            path.display()
        )),
        _ => file_error(path, "can't be written", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind::{self, Unreachable, Unusable};

    #[test]
    fn what_passes_without_anybody_touching_the_file_is_tried_again() {
        let kind = |kind: ErrorKind| file_error(Path::new("x"), "can't be written", &kind.into()).kind();
        for (error, expected) in [
            (ErrorKind::ReadOnlyFilesystem, Unreachable),
            (ErrorKind::StorageFull, Unreachable),
            (ErrorKind::QuotaExceeded, Unreachable),
            (ErrorKind::StaleNetworkFileHandle, Unreachable),
            (ErrorKind::TimedOut, Unreachable),
            (ErrorKind::ResourceBusy, Unreachable),
            (ErrorKind::Other, Unreachable),
            (ErrorKind::PermissionDenied, Unusable),
            (ErrorKind::NotFound, Unusable),
            (ErrorKind::InvalidFilename, Unusable),
        ] {
            assert_eq!(kind(error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_mount_is_named_where_a_file_is_one() {
        let said = |error: io::Error| not_replaced(Path::new("x"), &error);
        let mut mounts = vec![ErrorKind::ResourceBusy.into(), ErrorKind::CrossesDevices.into()];
        // As systems say it: EBUSY, EXDEV.
        #[cfg(unix)]
        mounts.extend([16, 18].map(io::Error::from_raw_os_error));
        for error in mounts {
            let error = said(error);
            assert_eq!(error.kind(), StoreErrorKind::Unusable);
            assert!(error.to_string().contains("mount the directory instead of the file"), "{error}");
        }
        assert!(!said(ErrorKind::StorageFull.into()).to_string().contains("mount"));
    }
}
