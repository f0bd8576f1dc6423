//! Panics of others: in the `Display` of an error that a source made, in a tracing subscriber, in a source.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does it, and goes on if it panics: nobody loses a token because something could not be told.
pub(crate) fn contained<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
