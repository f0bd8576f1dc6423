//! Giving an owner another token set while it is at work.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::TokenSet;

/// Gives a [`Stored`](super::Stored) that is at work already another token set; made by [`Stored::handle`](super::Stored::handle).
#[derive(Clone)]
pub struct StoredHandle(pub(super) Arc<Inbox>);

/// What came from elsewhere, on its way to the requests.
#[derive(Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    pub(super) arrived: Notify,
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

impl StoredHandle {
    /// From now on this set is used and renewed, instead of the one there was: for a user who has authorized again. The live
    /// token takes it up at once, whatever its state, and so do the other processes that share the store.
    ///
    /// Returns when requests carry its access token, or when it turned out that they can't: the status says why. After
    /// [`LiveToken::shutdown`](crate::LiveToken::shutdown), and when the live token is gone, it returns at once and does nothing.
    ///
    /// # Cancel safety
    /// The set is adopted whether the future is polled or not.
    pub fn adopt(&self, set: TokenSet) -> impl Future<Output = ()> + Send + 'static {
        let (sender, taken_up) = oneshot::channel();
        self.0.put(set, sender);
        // An error means that nobody is there to take it up any more.
        async move { drop(taken_up.await) }
    }

    /// The set in use now: for giving its refresh token back when the user logs out ([`TokenEndpoint::revoke`]). With rotation it
    /// is another one after each renewal. `None` before the first.
    ///
    /// [`TokenEndpoint::revoke`]: crate::oauth2::TokenEndpoint::revoke
    #[must_use]
    pub fn token_set(&self) -> Option<TokenSet> {
        let letters = self.0.lock();
        letters.set.as_ref().or(letters.held.as_ref()).or(letters.seed.as_ref()).cloned()
    }
}

impl Inbox {
    fn put(&self, set: TokenSet, sender: oneshot::Sender<()>) {
        let mut letters = self.lock();
        if letters.closed {
            return;
        }
        letters.set = Some(set);
        letters.unread.push(sender);
        drop(letters);
        self.arrived.notify_one();
    }

    pub(super) fn plant(&self, seed: TokenSet) {
        self.lock().seed = Some(seed);
    }

    pub(super) fn seed(&self) -> Option<TokenSet> {
        self.lock().seed.clone()
    }

    /// The configuration's set was looked at.
    pub(super) fn planted(&self) {
        self.lock().seed = None;
    }

    pub(super) fn take(&self) -> Option<TokenSet> {
        let mut letters = self.lock();
        let unread = std::mem::take(&mut letters.unread);
        letters.read.extend(unread);
        letters.set.take()
    }

    /// What is in use from now on.
    pub(super) fn hold(&self, set: Option<&TokenSet>) {
        self.lock().held = set.cloned();
    }

    pub(super) fn held(&self) -> Option<TokenSet> {
        self.lock().held.clone()
    }

    /// Whoever calls the source again has published what it brought before.
    pub(super) fn confirm(&self) {
        let read = std::mem::take(&mut self.lock().read);
        for sender in read {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
    }

    pub(super) fn has_news(&self) -> bool {
        self.lock().set.is_some()
    }

    /// Whoever waits learns that it is in vain: handles keep this, and would keep the senders with it. What is in use stays to be
    /// given back, and what the configuration began with to be noted beside a set that is still to be stored.
    pub(super) fn close(&self) {
        let mut letters = self.lock();
        let (held, seed) = (letters.held.take(), letters.seed.take());
        let waiting = std::mem::replace(&mut *letters, Letters { held, seed, closed: true, ..Letters::default() });
        drop(letters);
        drop(waiting);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StoredHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHandle").finish_non_exhaustive()
    }
}
