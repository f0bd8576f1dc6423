//! Panics in users' code: in a source, in the `Display` of its errors, in a tracing subscriber.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs this and goes on if it panics. A failed log message must not cost anybody the token.
pub(crate) fn contained<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
