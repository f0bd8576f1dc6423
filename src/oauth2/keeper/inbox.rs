//! Giving an owner another token set while it is at work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::oauth2::TokenSet;

/// What came from elsewhere, on its way to the requests.
#[derive(Default)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    pub(crate) arrived: Notify,
}

#[derive(Default)]
struct Letters {
    /// Not taken up yet.
    set: Option<TokenSet>,
    /// What the configuration begins with, not looked at yet.
    seed: Option<TokenSet>,
    /// Who waits for that.
    unread: Vec<oneshot::Sender<()>>,
    /// Who waits for what was taken up to be carried by requests.
    read: Vec<oneshot::Sender<()>>,
    /// A copy of what is in use.
    held: Option<TokenSet>,
    /// There is nobody any more who takes anything up.
    closed: bool,
}

impl Inbox {
    /// The set in use now, or the one that is to be.
    pub(crate) fn token_set(&self) -> Option<TokenSet> {
        let letters = self.lock();
        letters.set.as_ref().or(letters.held.as_ref()).or(letters.seed.as_ref()).cloned()
    }

    pub(crate) fn put(&self, set: TokenSet, sender: oneshot::Sender<()>) {
        let mut letters = self.lock();
        if letters.closed {
            return;
        }
        letters.set = Some(set);
        letters.unread.push(sender);
        drop(letters);
        self.arrived.notify_one();
    }

    pub(crate) fn plant(&self, seed: TokenSet) {
        self.lock().seed = Some(seed);
    }

    pub(crate) fn seed(&self) -> Option<TokenSet> {
        self.lock().seed.clone()
    }

    /// The configuration's set was looked at.
    pub(crate) fn planted(&self) {
        self.lock().seed = None;
    }

    pub(crate) fn take(&self) -> Option<TokenSet> {
        let mut letters = self.lock();
        let unread = std::mem::take(&mut letters.unread);
        letters.read.extend(unread);
        letters.set.take()
    }

    /// What is in use from now on.
    pub(crate) fn hold(&self, set: Option<&TokenSet>) {
        self.lock().held = set.cloned();
    }

    pub(crate) fn held(&self) -> Option<TokenSet> {
        self.lock().held.clone()
    }

    /// Whoever calls the source again has published what it brought before.
    pub(crate) fn confirm(&self) {
        let read = std::mem::take(&mut self.lock().read);
        for sender in read {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
    }

    pub(crate) fn has_news(&self) -> bool {
        self.lock().set.is_some()
    }

    /// Whoever waits learns that it is in vain: handles keep this, and would keep the senders with it. What is in use stays to be
    /// given back, and what the configuration began with to be noted beside a set that is still to be stored.
    pub(crate) fn close(&self) {
        let mut letters = self.lock();
        let (held, seed) = (letters.held.take(), letters.seed.take());
        let waiting = std::mem::replace(&mut *letters, Letters { held, seed, closed: true, ..Letters::default() });
        drop(letters);
        drop(waiting);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
