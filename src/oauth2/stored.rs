//! The one owner of a token set: it alone spends it, stores it, and hands its access token on.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

use super::{Grant, TokenSet};
use crate::{
    AccessToken, FetchError, FetchRequest, TokenSource,
    clock::{SystemClock, Timeline},
    store::{Memory, Swap, TokenStore},
};

/// A grant with the token set it has brought, as a [`TokenSource`].
///
/// From the answer of a token endpoint to the store nothing can be dropped: an exchange runs to its end on a task of its own,
/// whatever becomes of the fetch that began it, and the next fetch goes on with it.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{ClientCredentials, Stored, TokenEndpoint}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// // The same as `LiveToken::spawn(ClientCredentials::new(endpoint))`.
/// let token = LiveToken::spawn(Stored::new(ClientCredentials::new(endpoint)));
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
}

/// An access token and the version of the set it is from.
struct Handed {
    token: AccessToken,
    version: u64,
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
        Self { keeper: Arc::new(Keeper { grant, store, time }), under_way: None, handed: 0 }
    }
}

impl<G: Grant, S: TokenStore> TokenSource for Stored<G, S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let (keeper, handed) = (&self.keeper, self.handed);
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(keeper.clone().renew(request, handed)));
        let ended = task.await;
        self.under_way = None;
        // A panic in a grant, or the end of the runtime; what it says may hold anything.
        let fetched = ended.map_err(|_| FetchError::try_again("the exchange ended before it was done"))??;
        self.handed = fetched.version;
        Ok(fetched.token)
    }
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    async fn renew(self: Arc<Self>, request: FetchRequest, handed: u64) -> Result<Handed, FetchError> {
        let held = self.store.load().await?;
        if let Some(newer) = held.as_ref().filter(|held| self.is_worth_adopting(held, handed, &request)) {
            return self.hand_on(newer, self.age(newer));
        }
        let limit = if self.grant.is_repeatable() { request.timeout() } else { UNREPEATABLE };
        // A little early, since the connection may have to be made first: the token then counts as older than it is, never as
        // younger.
        let sent = self.time.now();
        let brought = self.grant.exchange(held.as_ref(), limit).await?.succeed(held.as_ref());
        let before = held.map_or(0, |held| held.version);
        match self.store.swap(before, &brought).await? {
            Swap::Done => self.hand_on(&brought, self.time.now().since(sent)),
            // Somebody else was faster, and whoever reads the store uses theirs: so do we.
            Swap::Lost => match self.store.load().await? {
                Some(theirs) => self.hand_on(&theirs, self.age(&theirs)),
                None => Err(FetchError::try_again("the store was emptied meanwhile")),
            },
        }
    }

    /// Whether the set in the store is one that another process brought, or this one before it was started anew, and still good.
    fn is_worth_adopting(&self, set: &TokenSet, handed: u64, request: &FetchRequest) -> bool {
        let refused = request.refused().is_some_and(|token| token.expose_secret() == set.access_token.expose_secret());
        let alive = set.lifetime.is_none_or(|lifetime| self.age(set) < lifetime);
        set.version > handed && alive && !refused
    }

    /// By the wall clock: the set may be from another process. A clock that was set back makes it look new, and a 401 tells.
    fn age(&self, set: &TokenSet) -> Duration {
        self.time.wall().duration_since(set.requested_at).unwrap_or_default()
    }

    fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<Handed, FetchError> {
        Ok(Handed { token: set.to_access_token(age)?, version: set.version })
    }
}

impl<G, S> fmt::Debug for Stored<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("handed", &self.handed).finish_non_exhaustive()
    }
}

/// How long an exchange may take that spends what it sends: giving it up early would lose it.
const UNREPEATABLE: Duration = Duration::from_secs(30);
