//! Token sets that reach a keeper from outside: the initial one of the configuration, and those that users adopt while it works.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::oauth2::TokenSet;

/// What the handles, the configuration and the keeper tell each other.
#[derive(Default)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    /// Notified when a set was adopted, or when one that was unsaved is stored.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Contents {
    /// A set that was adopted, and that the keeper hasn't taken yet.
    adopted: Option<TokenSet>,
    /// The set that the configuration begins with, until it is stored.
    initial: Option<TokenSet>,
    /// Those who wait for `adopted`.
    waiting: Vec<oneshot::Sender<()>>,
    /// Those who wait until requests carry a set that the keeper has taken.
    taken: Vec<oneshot::Sender<()>>,
    /// A copy of the set in use.
    in_use: Option<TokenSet>,
    /// The keeper is gone, so nothing is taken any more.
    is_closed: bool,
}

impl Inbox {
    /// The set in use now, or the one that will be.
    pub(crate) fn token_set(&self) -> Option<TokenSet> {
        let contents = self.lock();
        contents.adopted.as_ref().or(contents.in_use.as_ref()).or(contents.initial.as_ref()).cloned()
    }

    /// Hands a set to the keeper. `used` is told when requests carry it.
    pub(crate) fn adopt(&self, set: TokenSet, used: oneshot::Sender<()>) {
        let mut contents = self.lock();
        if contents.is_closed {
            return;
        }
        contents.adopted = Some(set);
        contents.waiting.push(used);
        drop(contents);
        self.changed.notify_one();
    }

    pub(crate) fn put_initial(&self, set: TokenSet) {
        self.lock().initial = Some(set);
    }

    pub(crate) fn initial(&self) -> Option<TokenSet> {
        self.lock().initial.clone()
    }

    /// The initial set is stored, or an older one than what is stored.
    pub(crate) fn drop_initial(&self) {
        self.lock().initial = None;
    }

    pub(crate) fn has_adopted(&self) -> bool {
        self.lock().adopted.is_some()
    }

    pub(crate) fn take_adopted(&self) -> Option<TokenSet> {
        let mut contents = self.lock();
        let waiting = std::mem::take(&mut contents.waiting);
        contents.taken.extend(waiting);
        contents.adopted.take()
    }

    pub(crate) fn put_in_use(&self, set: Option<&TokenSet>) {
        self.lock().in_use = set.cloned();
    }

    pub(crate) fn in_use(&self) -> Option<TokenSet> {
        self.lock().in_use.clone()
    }

    /// Called when the live token asks again: it has published what it was given before.
    pub(crate) fn confirm_use(&self) {
        let taken = std::mem::take(&mut self.lock().taken);
        for sender in taken {
            // An error means that nobody waits any more.
            let _ = sender.send(());
        }
    }

    /// The keeper goes. Those who wait are told by dropping their senders, which the handles would keep alive. The set in use stays, so
    /// that it can be revoked; the initial one stays, because saving an unsaved set notes it in the store.
    pub(crate) fn close(&self) {
        let mut contents = self.lock();
        let (in_use, initial) = (contents.in_use.take(), contents.initial.take());
        let closed = Contents { in_use, initial, is_closed: true, ..Contents::default() };
        let waiting = std::mem::replace(&mut *contents, closed);
        drop(contents);
        drop(waiting);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
