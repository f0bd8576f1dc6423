//! Finding a token by its number.
//!
//! A request that can't be sent again only needs the token if it is refused. A handle for that would cost every request two
//! writes to a count that all threads share (0.4 of what a static header costs alone, far more on several cores), a number
//! costs nothing. The lock is taken when a token begins, when it ends, when a request is refused, and when one that was sent
//! again is accepted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Shared;

/// The number of a token in this process; 0 is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenId(u64);

impl TokenId {
    pub(crate) const NONE: Self = Self(0);

    /// A number of its own.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on the number leads to this token.
    pub(super) fn enter(self, shared: &Arc<Shared>) {
        tokens().insert(self, Arc::downgrade(shared));
    }

    /// Nobody has the token any more.
    pub(super) fn leave(self) {
        tokens().remove(&self);
    }

    /// The token, if anybody still has it.
    pub(super) fn find(self) -> Option<Arc<Shared>> {
        tokens().get(&self).and_then(Weak::upgrade)
    }
}

fn tokens() -> MutexGuard<'static, BTreeMap<TokenId, Weak<Shared>>> {
    static TOKENS: Mutex<BTreeMap<TokenId, Weak<Shared>>> = Mutex::new(BTreeMap::new());
    // Nothing in here panics with the lock held, and the map is whole at any time.
    TOKENS.lock().unwrap_or_else(PoisonError::into_inner)
}
