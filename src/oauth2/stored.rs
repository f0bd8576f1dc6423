//! The one owner of a token set: it alone spends the refresh token, stores the set, and hands the access token on. `keeper` does the work.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};
use tracing::Instrument;

use super::{
    Grant, TokenSet,
    keeper::{AgedToken, Keeper, Loaded, inbox::Inbox, move_set, options::Options},
};
#[cfg(feature = "sealed")]
use crate::store::{Rewrapped, Sealed};
use crate::{
    AccessToken, FetchError, FetchRequest, Storage, TokenSource,
    clock::{Clock, Timeline},
    store::{Memory, StoreError, Swap, TokenStore},
};

/// A grant with the token set it has brought, as a [`TokenSource`].
///
/// Nothing is lost between the token endpoint's response and the store: each exchange runs to its end on a task of its own. If the
/// fetch that began it is dropped, the next fetch takes its result.
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
/// // Weeks later the refresh token no longer works, and the user authorizes again. The same `token` continues.
/// account.adopt(TokenSet::of_refresh_token("a new one")).await;
/// # Ok(())
/// # }
/// ```
pub struct Stored<G, S = Memory> {
    keeper: Arc<Keeper<G, S>>,
    /// The exchange that runs now.
    under_way: Option<JoinHandle<Result<AgedToken, FetchError>>>,
}

impl<G: Grant> Stored<G> {
    /// Keeps what the grant brings in memory.
    pub fn new(grant: G) -> Self {
        Self::in_store(grant, Memory::default())
    }
}

impl<G: Grant, S: TokenStore> Stored<G, S> {
    /// Keeps what the grant brings in this store. What an earlier run or another process stored there is used.
    ///
    /// **An entry belongs to one account** (server, client, user: see [`Account`](crate::store::Account)), so two users need two
    /// files. A [`RefreshToken`](super::RefreshToken) must say whose it is:
    /// [`RefreshToken::subject`](super::RefreshToken::subject). The client's secret, the scope, the parameters and the path of the
    /// endpoint may change from one run to the next.
    ///
    /// [`FileStore`](crate::store::FileStore) has an example.
    pub fn in_store(grant: G, store: S) -> Self {
        Self { keeper: Arc::new(Keeper::new(grant, store)), under_way: None }
    }

    /// The set to begin with: tokens that came from elsewhere, or those of a new authorization.
    ///
    /// A store that outlives the process remembers this set. When the process starts again with the same one, the stored set is used,
    /// because it is newer. When it starts with another one, that one replaces the stored set. A single-use refresh token that was
    /// configured before is ignored: it is spent. (An old replica may still be configured with it during a rollout.)
    ///
    /// In a store that others share, a new set waits for two seconds if the store is empty: it may have lost the entry, and another process may
    /// know a newer one. For a user who has just authorized, call [`StoredHandle::adopt`] instead.
    ///
    /// While the store can't be reached, the access token in this set is used as long as it is valid.
    ///
    /// [`FileStore`](crate::store::FileStore) has an example.
    #[must_use]
    pub fn holding(self, set: TokenSet) -> Self {
        self.keeper.inbox.put_initial(set);
        self
    }

    /// How long a refresh token may be sent again after a response was lost. Default: 60 s.
    ///
    /// A lost response may have spent the refresh token. Many servers answer the same refresh token once more within a short time, their
    /// grace; later they take it for stolen. **Set this to zero for a server without a grace**: such a server also ends the access
    /// token in use when it sees a refresh token twice. `docs/fleets.md` lists the grace of some servers. The time is measured by the
    /// wall clock, because it also counts while no process runs.
    ///
    /// When the grace is over, the access token is used until it expires. Then the refresh token is sent once more, as the last
    /// resort. Only the server's refusal ends the authorization
    /// ([`State::ReauthorizationRequired`](crate::State::ReauthorizationRequired)).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::oauth2::{RefreshToken, Stored, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
    /// let strict = Stored::new(RefreshToken::new(endpoint)).replay_grace(Duration::ZERO).without_last_resort();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn replay_grace(self, grace: Duration) -> Self {
        self.option(|options| options.grace = grace)
    }

    /// Never sends a refresh token that may be spent after the [grace](Self::replay_grace). Default: it is sent once more, when the
    /// access token has expired.
    ///
    /// This is for servers that raise an alarm when they see a spent refresh token. Its price: the user must authorize again after a
    /// lost response, even if the server never spent the refresh token. [`LiveToken::refresh`](crate::LiveToken::refresh) still sends
    /// it. [`replay_grace`](Self::replay_grace) has an example.
    #[must_use]
    pub fn without_last_resort(self) -> Self {
        self.option(|options| options.last_resort = false)
    }

    /// How long a lease lasts that its holder doesn't renew; at most 5 min. Default: 1 s, or three times as long as this process or its store
    /// has stood still during an exchange of the last half hour (at most 30 s, and a tenth of an access token's lifetime).
    ///
    /// Only the process with the lease fetches. When it dies, the others wait until its lease has ended, and once more for as long as their
    /// own in case the store lost the lease of a process that is well. Choose a longer lease where processes are often paused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::oauth2::{ClientCredentials, Stored, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
    /// let source = Stored::new(ClientCredentials::new(endpoint)).lease(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lease(self, time: Duration) -> Self {
        self.option(|options| options.set_lease(time))
    }

    /// Another wall clock, for tests. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            keeper.time = Timeline::new(Arc::new(clock));
        }
        self
    }

    /// A seed for what is random: the name of this process in the store, and the time to wait after a failure. Tests with a seed give
    /// the same result every time. Default: the system's random numbers.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            keeper.seed(seed);
        }
        self
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        // There is no other reference before the first fetch.
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            set(&mut keeper.options);
        }
        self
    }

    /// A handle that replaces the set later, for example when the user authorizes again.
    pub fn handle(&self) -> StoredHandle {
        StoredHandle(self.keeper.inbox.clone())
    }

    /// Moves the set that is stored under another name, or in another store, to this one. Use it when the user's name in
    /// [`RefreshToken::subject`](crate::oauth2::RefreshToken::subject) changes, or when tokens move from files to Redis.
    ///
    /// Stop the processes that use the old name first. Then call this at each start until everything has moved. Where nothing is left
    /// to move, it does nothing, and a later authorization under the new name stays. When the process dies during a move, the next
    /// call continues it.
    ///
    /// Client and server must be the same: a refresh token belongs to the client that it was issued to (RFC 6749 §6). With another
    /// client or server the user must authorize again. If only the server's host changes,
    /// [`TokenEndpoint::issuer`](crate::oauth2::TokenEndpoint::issuer) keeps the account the same.
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
    /// [`StoreError`] if one of the stores fails or holds something else, or if client or server differ.
    ///
    /// # Cancel safety
    /// When the future is dropped, the set may be stored under the old name, the new one or both: call it again.
    pub async fn moved_from<H: Grant, T: TokenStore>(self, before: Stored<H, T>) -> Result<Self, StoreError> {
        move_set(&before.keeper, &self.keeper).await?;
        Ok(self)
    }

    /// Removes the stored set and returns it, to log a user out.
    ///
    /// Shut the live token down first, call this on a source that is made in the same way, and then revoke what it returns. Other processes
    /// that share the store learn of it with their next renewal or 401. Until then they use their access token, and are `Live`. Deleting the
    /// file or the keys logs nobody out: a process that still runs stores again what it knows.
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
    /// When the future is dropped, the set is either removed or unchanged.
    pub async fn remove(self) -> Result<Option<TokenSet>, StoreError> {
        loop {
            let Loaded { record, version, set_back } = self.keeper.load().await?;
            let (set, asks) = (record.set.clone(), record.asks.clone());
            // An entry that is missing doesn't count as removed: another process may remember the set and store it again.
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

#[cfg(feature = "sealed")]
impl<G: Grant, S: TokenStore> Stored<G, Sealed<S>> {
    /// Encrypts the entry with the newest key of its [`Keyring`](crate::store::Keyring), before an old key is removed. Each renewal does the same,
    /// so this is for entries that nobody renews.
    ///
    /// Call it on a source of its own, while others may use the entry. The exchange of another process is waited for.
    ///
    /// ```
    /// use tower_bearer::{
    ///     oauth2::{RefreshToken, Stored, TokenEndpoint},
    ///     store::{FileStore, Keyring, Rewrapped, Sealed, SealingKey},
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (new, old) = ([8; 32], [7; 32]);
    /// # let directory = std::env::temp_dir();
    /// let keyring = Keyring::new(SealingKey::from_bytes("2026-12", new)?).older(SealingKey::from_bytes("2026-11", old)?);
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
    /// let files = FileStore::directory(directory);
    /// for user in ["anna", "ben"] {
    ///     let grant = RefreshToken::new(endpoint.clone()).subject(user);
    ///     let rewrapped = Stored::in_store(grant, Sealed::new(files.of(user), keyring.clone())).rewrap().await?;
    ///     assert_eq!(rewrapped, Rewrapped::NoEntry);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, if the entry can't be opened, or if others use it for half a minute without a pause.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entry is encrypted with the one key or with the other.
    pub async fn rewrap(self) -> Result<Rewrapped, StoreError> {
        self.keeper.store().rewrap().await
    }
}

impl<G: Grant, S: TokenStore> TokenSource for Stored<G, S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        self.keeper.inbox.confirm_use();
        let keeper = &self.keeper;
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(keeper.clone().renew(request).in_current_span()));
        let ended = task.await;
        self.under_way = None;
        // A panic in a grant, or the end of the runtime. The panic's message isn't shown, because it may hold a secret.
        let fetched = ended.map_err(|_| FetchError::try_again("the exchange ended before it was done"))??;
        // A fetch that was dropped may have finished a while ago.
        let since_then = self.keeper.time.now().since(fetched.at);
        Ok(fetched.token.age(fetched.age + since_then))
    }

    async fn changed(&mut self) {
        self.keeper.inbox.confirm_use();
        // The notification of a set that was adopted may be used up by an earlier exchange, so the set itself counts.
        if !self.keeper.inbox.has_adopted() {
            self.keeper.wait_for_change().await;
        }
    }

    async fn changed_here(&mut self) {
        self.keeper.inbox.confirm_use();
        self.keeper.wait_for_change_here().await;
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

/// Gives a [`Stored`] another token set while it is in use. [`Stored::handle`] makes it, and [`Stored`] has an example.
#[derive(Clone)]
pub struct StoredHandle(Arc<Inbox>);

impl StoredHandle {
    /// Replaces the set: this one is used and renewed from now on. For a user who has authorized again. The live token takes it at
    /// once, whatever its state, and so do the other processes that share the store.
    ///
    /// The future resolves when requests carry the new access token, or when they can't: then the status says why. After
    /// [`LiveToken::shutdown`](crate::LiveToken::shutdown), or when the live token was dropped, this does nothing and the future
    /// resolves at once.
    ///
    /// # Cancel safety
    /// The set is adopted even if the future is never polled.
    pub fn adopt(&self, set: TokenSet) -> impl Future<Output = ()> + Send + 'static {
        let (sender, used) = oneshot::channel();
        self.0.adopt(set, sender);
        // An error means that the live token is gone.
        async move { drop(used.await) }
    }

    /// The set in use now, for example to revoke its refresh token when the user logs out ([`TokenEndpoint::revoke`]). With rotation
    /// it changes with each renewal. `None` before the first set.
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
