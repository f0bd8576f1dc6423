//! What an error of the file system asks for.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use crate::store::StoreError;

/// The store's error for an error of the file system: one that somebody has to mend, or one that may pass by itself.
///
/// An error may pass if nobody has to touch the file: the file system is full, or read-only for a while, or its server is away. A missing
/// directory, or missing rights, may be a volume that isn't mounted yet. But they are nearly always a wrong path or a wrong user, which
/// people should read at once. Both are tried again anyway.
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

/// The store's error for a failed rename. A file that is mounted by itself can't be replaced.
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
