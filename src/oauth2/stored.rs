//! The one owner of a token set: it alone spends it, stores it, and hands its access token on. `keeper` does the work.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};
use tracing::Instrument;

use super::{
    Grant, TokenSet,
    keeper::{Handed, Keeper, inbox::Inbox, move_set, options::Options},
};
use crate::{
    AccessToken, FetchError, FetchRequest, Storage, TokenSource,
    clock::{Clock, Timeline},
    store::{Memory, StoreError, Swap, TokenStore},
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
}

impl<G: Grant> Stored<G> {
    /// Keeps what the grant brings in memory.
    pub fn new(grant: G) -> Self {
        Self::in_store(grant, Memory::default())
    }
}

impl<G: Grant, S: TokenStore> Stored<G, S> {
    /// Keeps what the grant brings in this store, and takes up what is there already: of an earlier run, or of another process.
    ///
    /// **An entry is one account's** (server, client, user: see [`Account`](crate::store::Account)): two users need two files. A
    /// [`RefreshToken`](super::RefreshToken) must say whose it is: [`RefreshToken::subject`](super::RefreshToken::subject). The secret,
    /// scope and parameters of the client, and the endpoint's path, may change from one run to the next.
    pub fn in_store(grant: G, store: S) -> Self {
        Self { keeper: Arc::new(Keeper::new(grant, store)), under_way: None }
    }

    /// Begins with this set: tokens that came from elsewhere, or what an authorization has just brought.
    ///
    /// A store that outlives the process knows which set a configuration began with: when the process is started anew with the
    /// same one, it goes on with what is stored, and with another one it begins anew. A single-use refresh token that was configured
    /// before is ignored: it is spent. (An old replica may still be configured with it during a rollout.)
    ///
    /// While the store can't be reached, a good access token in this set is used at once.
    #[must_use]
    pub fn holding(self, set: TokenSet) -> Self {
        self.keeper.inbox.plant(set);
        self
    }

    /// How long after a refresh token was spent it is sent again, if the answer was lost on its way: as long as the server answers it
    /// again instead of taking it for stolen. By the wall clock, because it counts while no process runs as well.
    ///
    /// Default: 60 s. **Set it to zero for a server without a grace**: there a refresh token that is sent again ends the token in use,
    /// too. `docs/fleets.md` has the grace of some servers.
    ///
    /// After that the access token in use serves to its end, and then the refresh token is tried as the last resort. Only the server's
    /// word ends the authorization ([`State::ReauthorizationRequired`](crate::State::ReauthorizationRequired)).
    #[must_use]
    pub fn replay_grace(self, grace: Duration) -> Self {
        self.option(|options| options.grace = grace)
    }

    /// Never sends a refresh token that may be spent after the [grace](Self::replay_grace), for servers that raise an alarm when they see
    /// one: then the user must authorize again, though the answer may never have been lost. Somebody who calls
    /// [`LiveToken::refresh`](crate::LiveToken::refresh) sends it nevertheless. Default: it is sent when nothing else is left.
    #[must_use]
    pub fn without_last_resort(self) -> Self {
        self.option(|options| options.last_resort = false)
    }

    /// How long the right to fetch lasts when its holder doesn't prolong it. When a process dies while it fetches, the others wait for
    /// twice as long: until the lease has ended, and once more in case the store has lost it and its holder is well.
    ///
    /// Default: one second; at most five minutes. Use a longer one for stores that answer slowly, and where processes are paused.
    #[must_use]
    pub fn lease(self, time: Duration) -> Self {
        self.option(|options| options.set_lease(time))
    }

    /// Another wall clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            keeper.time = Timeline::new(Arc::new(clock));
        }
        self
    }

    /// The seed of everything random, for tests that give the same result every time: the name by which stores know this owner, and how
    /// long a failure is waited out.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            keeper.seed(seed);
        }
        self
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        // Nobody else has it before it is at work.
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            set(&mut keeper.options);
        }
        self
    }

    /// A handle to give it another set later.
    pub fn handle(&self) -> StoredHandle {
        StoredHandle(self.keeper.inbox.clone())
    }

    /// Takes up what is stored under another name, or in another store: the user's name in
    /// [`RefreshToken::subject`](crate::oauth2::RefreshToken::subject) is written in another way, or tokens move from files to Redis.
    /// Nothing is left there.
    ///
    /// Call it at each start until everything has moved: where nothing is left to take up it does nothing, and what was authorized
    /// here later stays. When the process dies in between, the next call goes on. Stop the processes that use the old name first.
    ///
    /// It is for the same refresh token under another name. When client or server are other ones, the user must authorize again: a refresh
    /// token belongs to the client that it was issued to (RFC 6749 §6). Of a server that has moved to another host,
    /// [`TokenEndpoint::issuer`](crate::oauth2::TokenEndpoint::issuer) keeps the name.
    ///
    /// ```
    /// # use tower_bearer::oauth2::{RefreshToken, Stored, TokenEndpoint};
    /// # use tower_bearer::store::{FileStore, StoreError};
    /// # async fn begin(endpoint: TokenEndpoint) -> Result<(), StoreError> {
    /// let before = RefreshToken::new(endpoint.clone()).subject("anna@example.com");
    /// let before = Stored::in_store(before, FileStore::new("/var/lib/app/anna.token"));
    /// let grant = RefreshToken::new(endpoint).subject("user/42");
    /// let source = Stored::in_store(grant, FileStore::new("/var/lib/app/42.token")).moved_from(before).await?;
    /// # drop(source);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if one of the stores fails or holds something else, and if client or server are other ones.
    ///
    /// # Cancel safety
    /// When the future is dropped, the set may be in the old place, in the new one or in both: call it again.
    pub async fn moved_from<H: Grant, T: TokenStore>(self, before: Stored<H, T>) -> Result<Self, StoreError> {
        move_set(&before.keeper, &self.keeper).await?;
        Ok(self)
    }

    /// Removes what is stored, and returns it: to log a user out. Other processes that share the store renew it no more; an access token that they
    /// have serves to its end, unless it is revoked.
    ///
    /// Whoever only deletes the file or the keys doesn't log anybody out: a process that still runs puts back what it knows.
    ///
    /// ```
    /// # use tower_bearer::oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet};
    /// # use tower_bearer::store::{FileStore, StoreError};
    /// # async fn log_out(endpoint: TokenEndpoint) -> Result<(), StoreError> {
    /// let grant = RefreshToken::new(endpoint).subject("user/42");
    /// if let Some(set) = Stored::in_store(grant, FileStore::new("/var/lib/app/42.token")).remove().await? {
    ///     // Give its refresh token back, with `TokenEndpoint::revoke`.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or holds another account's set.
    ///
    /// # Cancel safety
    /// It may be removed or not when the future is dropped, and nothing between.
    pub async fn remove(self) -> Result<Option<TokenSet>, StoreError> {
        loop {
            let (record, version, set_back) = self.keeper.load().await?;
            let (set, asks) = (record.set.clone(), record.asks.clone());
            // Where nothing is stored, somebody may remember what was.
            let is_removed = set.is_none() && record.authorized_at.is_some() && !set_back;
            if is_removed
                || self.keeper.swap(version, &record.authorized(None, &asks, self.keeper.time.wall())).await?
                    == Swap::Done
            {
                return Ok(set);
            }
        }
    }
}

impl<G: Grant, S: TokenStore> TokenSource for Stored<G, S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        self.keeper.inbox.confirm();
        let keeper = &self.keeper;
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(keeper.clone().renew(request).in_current_span()));
        let ended = task.await;
        self.under_way = None;
        // A panic in a grant, or the end of the runtime; what it says may hold anything.
        let fetched = ended.map_err(|_| FetchError::try_again("the exchange ended before it was done"))??;
        // What a fetch brought that was given up before may have lain here for a while.
        let lain = self.keeper.time.now().since(fetched.at);
        Ok(fetched.token.age(fetched.age + lain))
    }

    async fn changed(&mut self) {
        self.keeper.inbox.confirm();
        // What has arrived may have been taken up without this, and what told of it may have led to an older exchange.
        if !self.keeper.inbox.has_news() {
            self.keeper.news().await;
        }
    }

    fn storage(&self) -> Storage {
        self.keeper.storage()
    }
}

impl<G, S> Drop for Stored<G, S> {
    fn drop(&mut self) {
        self.keeper.inbox.close();
    }
}

/// Gives a [`Stored`] that is at work already another token set; made by [`Stored::handle`].
#[derive(Clone)]
pub struct StoredHandle(Arc<Inbox>);

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
        self.0.token_set()
    }
}

impl fmt::Debug for StoredHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHandle").finish_non_exhaustive()
    }
}

impl<G, S> fmt::Debug for Stored<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("account", &self.keeper.account).finish_non_exhaustive()
    }
}
