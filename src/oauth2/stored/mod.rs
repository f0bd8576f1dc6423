//! The one owner of a token set: it alone spends it, stores it, and hands its access token on.
//!
//! `mod` is the source that a live token calls; `keeper` does the work, waiting; `plan` decides it, pure; `saving` is for what could
//! not be stored; `handle` gives an owner another set.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync, task::JoinHandle};

use super::{Grant, TokenSet};
use crate::{
    AccessToken, FetchError, FetchRequest, Storage, TokenSource,
    clock::{SystemClock, Timeline},
    store::{Memory, TokenStore},
};

mod handle;
mod keeper;
mod plan;
mod saving;

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
    /// same one, it goes on with what is stored, and with another one it begins anew.
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
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(keeper.clone().renew(request)));
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

#[cfg(test)]
mod outage;

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
