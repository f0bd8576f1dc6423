//! Finds a live token by its number.
//!
//! A request that can't be sent again needs the live token only if it is refused. A handle would cost each request two writes to a count
//! that all threads share (0.4 of what a static header costs alone, far more on several cores). A number costs nothing. The lock is taken
//! only when a live token begins or ends, when a request is refused, and when a request that was sent again is accepted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Shared;

/// The number of a live token in this process. 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenId(u64);

impl TokenId {
    pub(crate) const NONE: Self = Self(0);

    /// A new number.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on the number leads to this live token.
    pub(super) fn enter(self, shared: &Arc<Shared>) {
        tokens().insert(self, Arc::downgrade(shared));
    }

    /// The last handle is gone.
    pub(super) fn leave(self) {
        tokens().remove(&self);
    }

    /// The live token, if it still has a handle.
    pub(super) fn find(self) -> Option<Arc<Shared>> {
        tokens().get(&self).and_then(Weak::upgrade)
    }
}

fn tokens() -> MutexGuard<'static, BTreeMap<TokenId, Weak<Shared>>> {
    static TOKENS: Mutex<BTreeMap<TokenId, Weak<Shared>>> = Mutex::new(BTreeMap::new());
    // Nothing here panics while it holds the lock, and the map is consistent at any time.
    TOKENS.lock().unwrap_or_else(PoisonError::into_inner)
}
