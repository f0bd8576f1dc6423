//! The one owner of a token set: it alone spends it, stores it, and hands its access token on.
//!
//! `mod` is the source that a live token calls; `keeper` does the work, waiting; `plan` decides it, pure; `saving` is for what is
//! not stored yet, `news` for what others have stored; `memo` is what an owner remembers; `handle` gives it another set.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync, task::JoinHandle};
use tracing::Instrument;

use super::{Grant, TokenSet};
use crate::{
    AccessToken, FetchError, FetchRequest, Storage, TokenSource,
    clock::{Clock, SystemClock, Timeline},
    store::{Memory, TokenStore},
};

mod handle;
mod keeper;
mod memo;
mod news;
mod plan;
mod saving;

#[cfg(test)]
mod tests;

pub use handle::StoredHandle;
use keeper::{Handed, Keeper, Options};

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
    /// **A store is for one user's tokens.** Grants that go on for a user, such as [`RefreshToken`](super::RefreshToken), don't know which
    /// user it is: two of them need two files, or two names in Redis.
    pub fn in_store(grant: G, mut store: S) -> Self {
        let identity = grant.identity();
        store.bind(&identity);
        let keeper = Keeper {
            grant,
            store,
            identity,
            time: Timeline::new(Arc::new(SystemClock)),
            inbox: Arc::default(),
            options: Options { grace: GRACE, lease: LEASE },
            me: format!("{:016x}", getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))),
            state: Mutex::default(),
            saving: sync::Mutex::default(),
        };
        Self { keeper: Arc::new(keeper), under_way: None }
    }

    /// Begins with this set: tokens that came from elsewhere, or what an authorization has just brought.
    ///
    /// A store that outlives the process knows which set a configuration began with: when the process is started anew with the
    /// same one, it goes on with what is stored, and with another one it begins anew. Not with one that works once and that it began
    /// with before: that is spent, and whoever still has it is an old process in the middle of a rollout.
    #[must_use]
    pub fn holding(self, set: TokenSet) -> Self {
        self.keeper.inbox.plant(set);
        self
    }

    /// How long after a refresh token was spent it is sent once more, if the answer was lost on its way: as long as the server
    /// answers it again instead of taking it for stolen. One minute unless said otherwise; zero: never. By the wall clock, because it counts
    /// while no process runs as well.
    ///
    /// After that the user must authorize again ([`State::ReauthorizationRequired`](crate::State::ReauthorizationRequired)).
    #[must_use]
    pub fn replay_grace(self, grace: Duration) -> Self {
        self.option(|options| options.grace = grace)
    }

    /// How long the right to fetch lasts when its holder doesn't prolong it: so long the others wait when a process dies while it
    /// fetches. One second unless said otherwise; for stores that answer slowly it should be longer.
    #[must_use]
    pub fn lease(self, time: Duration) -> Self {
        self.option(|options| options.lease = time.max(SHORTEST_LEASE))
    }

    /// Another wall clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        if let Some(keeper) = Arc::get_mut(&mut self.keeper) {
            keeper.time = Timeline::new(Arc::new(clock));
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

impl<G, S> fmt::Debug for Stored<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("identity", &self.keeper.identity).finish_non_exhaustive()
    }
}

/// What Okta allows at most, and twice what an exchange may take.
const GRACE: Duration = Duration::from_secs(60);

/// Long enough for a few round trips to a store, short enough to wait for when its holder dies.
const LEASE: Duration = Duration::from_secs(1);

/// It is prolonged every third of it.
const SHORTEST_LEASE: Duration = Duration::from_millis(30);
