//! The one owner of a token set: it alone spends it, stores it, and hands its access token on.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::{Grant, TokenSet};
use crate::{
    AccessToken, FetchError, FetchReason, FetchRequest, TokenSource,
    clock::{Moment, SystemClock, Timeline},
    store::{Memory, Swap, TokenStore},
};

/// A grant with the token set it has brought, as a [`TokenSource`].
///
/// From the answer of a token endpoint to the store nothing can be dropped: an exchange runs to its end on a task of its own,
/// whatever becomes of the fetch that began it, and the next fetch goes on with it.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let source = Stored::new(RefreshToken::new(endpoint)).holding(TokenSet::of_refresh_token("from elsewhere"));
/// let account = source.handle();
/// let token = LiveToken::spawn(source);
///
/// // Weeks later the refresh token is dead, and the user authorizes again: the same `token` goes on.
/// account.adopt(TokenSet::of_refresh_token("a new one")).await;
/// # Ok(())
/// # }
/// ```
pub struct Stored<G, S = Memory> {
    keeper: Arc<Keeper<G, S>>,
    under_way: Option<JoinHandle<Result<Handed, FetchError>>>,
    /// The version that was handed on last, 0 for none.
    handed: u64,
}

struct Keeper<G, S> {
    grant: G,
    store: S,
    time: Timeline,
    inbox: Arc<Inbox>,
}

/// What came from elsewhere, on its way to the requests.
#[derive(Default)]
struct Inbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Default)]
struct Letters {
    /// Not stored yet.
    set: Option<TokenSet>,
    /// Who waits for that.
    unread: Vec<oneshot::Sender<()>>,
    /// Who waits for what was stored to be carried by requests.
    read: Vec<oneshot::Sender<()>>,
    /// A copy of what is stored.
    held: Option<TokenSet>,
    /// There is nobody any more who takes anything up.
    closed: bool,
}

/// An access token, how old it was at which moment, and the version of the set it is from.
struct Handed {
    token: AccessToken,
    age: Duration,
    at: Moment,
    version: u64,
}

/// Gives a [`Stored`] that is at work already another token set; made by [`Stored::handle`].
#[derive(Clone)]
pub struct StoredHandle(Arc<Inbox>);

impl StoredHandle {
    /// From now on this set is used and renewed, instead of the one there was: for a user who has authorized again. The live
    /// token takes it up at once, whatever its state.
    ///
    /// Returns when requests carry its access token, or when it turned out that they can't: the status says why. After
    /// [`LiveToken::shutdown`](crate::LiveToken::shutdown), and when the live token is gone, it returns at once and does nothing.
    ///
    /// # Cancel safety
    /// The set is adopted whether the future is polled or not.
    pub fn adopt(&self, set: TokenSet) -> impl Future<Output = ()> + Send + 'static {
        let (sender, taken_up) = oneshot::channel();
        self.0.put(set, Some(sender));
        // An error means that nobody is there to take it up any more.
        async move { drop(taken_up.await) }
    }

    /// The set in use now: for giving its refresh token back when the user logs out ([`TokenEndpoint::revoke`]). With rotation it
    /// is another one after each renewal. `None` before the first.
    ///
    /// [`TokenEndpoint::revoke`]: super::TokenEndpoint::revoke
    #[must_use]
    pub fn token_set(&self) -> Option<TokenSet> {
        let letters = self.0.lock();
        letters.set.as_ref().or(letters.held.as_ref()).cloned()
    }
}

impl Inbox {
    fn put(&self, set: TokenSet, sender: Option<oneshot::Sender<()>>) {
        let mut letters = self.lock();
        if letters.closed {
            return;
        }
        letters.set = Some(set);
        letters.unread.extend(sender);
        drop(letters);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<TokenSet> {
        let mut letters = self.lock();
        let unread = std::mem::take(&mut letters.unread);
        letters.read.extend(unread);
        letters.set.take()
    }

    /// Whoever calls the source again has published what it brought before.
    fn confirm(&self) {
        let read = std::mem::take(&mut self.lock().read);
        for sender in read {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
    }

    fn has_news(&self) -> bool {
        self.lock().set.is_some()
    }

    /// Whoever waits learns that it is in vain: handles keep this, and would keep the senders with it. What is stored stays to be
    /// given back.
    fn close(&self) {
        let mut letters = self.lock();
        let held = letters.held.take();
        let waiting = std::mem::replace(&mut *letters, Letters { held, closed: true, ..Letters::default() });
        drop(letters);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G: Grant> Stored<G> {
    /// Keeps what the grant brings in memory.
    pub fn new(grant: G) -> Self {
        Self::in_store(grant, Memory::default())
    }
}

impl<G: Grant, S: TokenStore> Stored<G, S> {
    /// Keeps what the grant brings in this store.
    pub fn in_store(grant: G, store: S) -> Self {
        let time = Timeline::new(Arc::new(SystemClock));
        let keeper = Keeper { grant, store, time, inbox: Arc::default() };
        Self { keeper: Arc::new(keeper), under_way: None, handed: 0 }
    }

    /// Begins with this set: tokens that came from elsewhere, or what an authorization has just brought.
    #[must_use]
    pub fn holding(self, set: TokenSet) -> Self {
        self.keeper.inbox.put(set, None);
        self
    }

    /// A handle to give it another set later.
    pub fn handle(&self) -> StoredHandle {
        StoredHandle(self.keeper.inbox.clone())
    }
}

impl<G: Grant, S: TokenStore> TokenSource for Stored<G, S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        self.keeper.inbox.confirm();
        let (keeper, handed) = (&self.keeper, self.handed);
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(keeper.clone().renew(request, handed)));
        let ended = task.await;
        self.under_way = None;
        // A panic in a grant, or the end of the runtime; what it says may hold anything.
        let fetched = ended.map_err(|_| FetchError::try_again("the exchange ended before it was done"))??;
        self.handed = fetched.version;
        // What a fetch brought that was given up before may have lain here for a while.
        let lain = self.keeper.time.now().since(fetched.at);
        Ok(fetched.token.age(fetched.age + lain))
    }

    async fn changed(&mut self) {
        self.keeper.inbox.confirm();
        // What has arrived may have been taken up without this, and what told of it may have led to an older exchange.
        while !self.keeper.inbox.has_news() {
            self.keeper.inbox.arrived.notified().await;
        }
    }
}

impl<G, S> Drop for Stored<G, S> {
    fn drop(&mut self) {
        self.keeper.inbox.close();
    }
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    async fn renew(self: Arc<Self>, request: FetchRequest, handed: u64) -> Result<Handed, FetchError> {
        self.adopt().await?;
        let held = self.store.load().await?;
        self.inbox.lock().held.clone_from(&held);
        if let Some(newer) = held.as_ref().filter(|held| self.is_worth_handing_on(held, handed, &request)) {
            return self.hand_on(newer, newer.age(self.time.wall()));
        }
        let limit = if self.grant.is_repeatable() { request.timeout() } else { UNREPEATABLE };
        // A little early, since the connection may have to be made first: the token then counts as older than it is, never as
        // younger.
        let sent = self.time.now();
        let brought = self.grant.exchange(held.as_ref(), limit).await?.succeed(held.as_ref());
        let before = held.map_or(0, |held| held.version);
        match self.store.swap(before, &brought).await? {
            Swap::Done => {
                self.inbox.lock().held = Some(brought.clone());
                self.hand_on(&brought, self.time.now().since(sent))
            }
            // Somebody else was faster, and whoever reads the store uses theirs: so do we.
            Swap::Lost => match self.store.load().await? {
                Some(theirs) => self.hand_on(&theirs, theirs.age(self.time.wall())),
                None => Err(FetchError::try_again("the store was emptied meanwhile")),
            },
        }
    }

    /// Stores what came from elsewhere. A new authorization takes nothing over from the one before it.
    async fn adopt(&self) -> Result<(), FetchError> {
        let Some(mut set) = self.inbox.take() else { return Ok(()) };
        loop {
            let before = self.store.load().await?.map_or(0, |held| held.version);
            set.version = before + 1;
            if self.store.swap(before, &set).await? == Swap::Done {
                return Ok(());
            }
        }
    }

    /// Whether the set in the store is one that hasn't been handed on yet, and still good: one that was adopted, one that another
    /// process brought, or this one before it was started anew.
    fn is_worth_handing_on(&self, set: &TokenSet, handed: u64, request: &FetchRequest) -> bool {
        // One that came from elsewhere and can't be sent is no better than none: the refresh token is what is left.
        let Some(token) = set.access_token.as_ref().filter(|token| AccessToken::new(token.expose_secret()).is_ok())
        else {
            return false;
        };
        let refused = request.refused().is_some_and(|refused| refused.expose_secret() == token.expose_secret());
        let alive = set.lifetime.is_none_or(|lifetime| set.age(self.time.wall()) < lifetime);
        // Told that there is something new, and there is not: what is there is handed on again, and nothing is spent.
        let new = set.version > handed || request.reason() == FetchReason::Changed;
        new && alive && !refused
    }

    fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<Handed, FetchError> {
        let token = set.to_access_token(age, self.time.wall());
        let token = token.ok_or_else(|| FetchError::try_again("there is no access token in the set"))?;
        Ok(Handed { token: token?, age, at: self.time.now(), version: set.version })
    }
}

impl<G, S> fmt::Debug for Stored<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("handed", &self.handed).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHandle").finish_non_exhaustive()
    }
}

/// How long an exchange may take that spends what it sends: giving it up early would lose it.
const UNREPEATABLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{LiveToken, State, oauth2::EndpointError};

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes two seconds, and brings `a1`, `a2`, … of a minute each, or refuses for good.
    #[derive(Default)]
    struct Slow {
        calls: Arc<AtomicU32>,
        refuses: bool,
    }

    impl Grant for Slow {
        async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
            let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            sleep(2 * SECOND).await;
            match self.refuses {
                true => Err(FetchError::rejected_for_good(EndpointError::unsent("no"))),
                false => Ok(TokenSet::of_access_token(format!("a{number}")).expires_in(60 * SECOND)),
            }
        }
    }

    async fn fetch(source: &mut Stored<Slow>) -> AccessToken {
        source.fetch(FetchRequest::new(SECOND)).await.unwrap()
    }

    async fn given_up(source: &mut Stored<Slow>) {
        timeout(SECOND, source.fetch(FetchRequest::new(SECOND))).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_at_the_start_is_no_reason_to_ask_twice() {
        let grant = Slow { refuses: true, ..Slow::default() };
        let calls = grant.calls.clone();
        let token = LiveToken::spawn(Stored::new(grant).holding(TokenSet::of_refresh_token("r")));
        token.ready().await.unwrap_err();
        sleep(60 * SECOND).await;
        assert_eq!(token.status().state(), State::Rejected);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "what is rejected for good is not tried again by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_that_comes_while_an_older_exchange_is_finished_is_not_forgotten() {
        let mut source = Stored::new(Slow::default());
        given_up(&mut source).await;
        let adopted = tokio::spawn(source.handle().adopt(TokenSet::of_access_token("new")));
        timeout(SECOND, source.changed()).await.unwrap();
        assert_eq!(fetch(&mut source).await.expose_secret(), "a1");
        timeout(SECOND, source.changed()).await.expect("the new one is not taken up yet");
        assert_eq!(fetch(&mut source).await.expose_secret(), "new");
        timeout(SECOND, source.changed()).await.unwrap_err();
        adopted.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_abandoned_exchange_brought_has_aged_when_it_is_picked_up() {
        let mut source = Stored::new(Slow::default());
        given_up(&mut source).await;
        sleep(40 * SECOND).await;
        let age = fetch(&mut source).await.age_when_fetched().unwrap();
        assert!(age >= 41 * SECOND, "{age:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn adopting_returns_when_there_is_nobody_to_adopt() {
        // Never spawned.
        let source = Stored::new(Slow::default());
        let account = source.handle();
        let waiting = tokio::spawn(account.adopt(TokenSet::of_access_token("early")));
        sleep(SECOND).await;
        drop(source);
        timeout(SECOND, waiting).await.unwrap().unwrap();
        timeout(SECOND, account.adopt(TokenSet::of_access_token("late"))).await.unwrap();

        // Stopped, with a token that serves for ever.
        let source = Stored::new(Slow::default()).holding(TokenSet::of_access_token("a"));
        let account = source.handle();
        let token = LiveToken::spawn(source);
        token.ready().await.unwrap();
        token.shutdown().await;
        timeout(SECOND, account.adopt(TokenSet::of_access_token("late"))).await.unwrap();
        assert!(token.status().is_usable());
    }
}
