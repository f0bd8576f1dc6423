//! The options of a live token.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    Driver, LiveToken, Shared,
    cell::Cell,
    decide::Decider,
    demand::{Demands, Progress},
    desk::Desk,
    registry::TokenId,
    schedule::{Renewal, Rules},
    status::Snapshot,
    task::{STORING_PAUSE, Task},
    telemetry::Telemetry,
};
use crate::{
    BoxTokenSource, IntoTokenSource, TokenSource,
    clock::{Clock, SystemClock, Timeline},
};

/// Options of a [`LiveToken`]; made by [`LiveToken::builder`].
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, LiveToken};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_bearer::InvalidToken> {
/// // The server doesn't say how long its tokens live; by experience it is an hour.
/// let token = LiveToken::builder(AccessToken::new("secret")?)
///     .assume_lifetime(Duration::from_secs(3600))
///     .spawn();
/// # let _ = token;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    source: BoxTokenSource,
    name: Option<Arc<str>>,
    rules: Rules,
    clock: Arc<dyn Clock>,
    rng: Option<Rng>,
}

impl Builder {
    pub(super) fn new(source: impl IntoTokenSource) -> Self {
        Self {
            source: source.into_token_source().boxed(),
            name: None,
            rules: Rules::default(),
            clock: Arc::new(SystemClock),
            rng: None,
        }
    }

    /// What the token is called in logs and metrics, which [`telemetry`](crate::telemetry) describes: one name for each token of a
    /// program, the same from start to start. Only tokens with a name are measured.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, LiveToken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_bearer::InvalidToken> {
    /// let token = LiveToken::builder(AccessToken::new("secret")?).name("agrello").spawn();
    /// assert_eq!(token.name(), Some("agrello"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The lifetime of tokens that come without one. Without this, only a 401 renews such a token.
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.assumed_lifetime = Some(lifetime);
        self
    }

    /// Renews when this share of a token's life is over, between 0.5 and 0.99, or in the first quarter of what is left then: for servers
    /// that refuse to renew earlier. Default: at a random point of 0.75 to 0.85. Takes the place of [`renew_before`](Self::renew_before).
    ///
    /// Where fetches are so slow that there would be no time for one, it is done sooner.
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).renew_at(0.95);
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn renew_at(mut self, share: f64) -> Self {
        // NaN is none.
        let share = if share >= 0.5 { share.min(0.99) } else { 0.5 };
        self.rules.renewal = Renewal::At(share);
        self
    }

    /// Renews this long before a token's end, or up to a tenth of it earlier, but not in the first half of the life: for requests that
    /// need a token that lives that long. Takes the place of [`renew_at`](Self::renew_at).
    ///
    /// Where fetches are so slow that there would be no time for one, it is done sooner.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).renew_before(Duration::from_secs(300));
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn renew_before(mut self, left: Duration) -> Self {
        self.rules.renewal = Renewal::Before(left);
        self
    }

    /// How long one exchange with a token endpoint may take. It gets just that when there is no valid token, or when it can't be repeated,
    /// and less while there is time for a second one ([`FetchRequest::timeout`](crate::FetchRequest::timeout)). A source that keeps to
    /// nothing is given up after twice as long. Default: 30 s; at least one second.
    ///
    /// How long a *request* waits for a token is another thing: [`BearerAuthLayer::max_wait`](crate::BearerAuthLayer::max_wait).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).fetch_timeout(Duration::from_secs(90));
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.rules.longest_exchange = timeout.clamp(Duration::from_secs(1), LONGEST_TIMEOUT);
        self
    }

    /// Another wall clock and another record of suspends, for tests. Timers are tokio's in any case.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The seed of everything random in the schedule, for tests that give the same result every time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Some(Rng::with_seed(seed));
        self
    }

    /// Starts the task on the current tokio runtime.
    ///
    /// A runtime of one thread (`new_current_thread`) runs it only while somebody is in `block_on`: between two of them nothing is renewed,
    /// and a token that ends meanwhile is neither sent nor called valid. A program that isn't async itself keeps a runtime with a worker
    /// thread (`new_multi_thread().worker_threads(1)`) beside it, and hands it what it has to send.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in one without time (`enable_time` or `enable_all` of the runtime's builder).
    #[track_caller]
    pub fn spawn(self) -> LiveToken {
        // These panic here, with what is missing, and not where nobody sees it.
        assert!(Handle::try_current().is_ok(), "{OUTSIDE}");
        drop(tokio::time::sleep(Duration::ZERO));
        let (token, driver) = self.pair();
        tokio::spawn(driver);
        token
    }

    /// Hands over the task as a future instead of starting it, for those who run their tasks themselves. Nothing is fetched
    /// while it isn't polled; when it is dropped, the token is stopped.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, LiveToken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (token, driver) = LiveToken::builder(AccessToken::new("secret")?).pair();
    /// let mut tasks = tokio::task::JoinSet::new();
    /// tasks.spawn(driver);
    /// token.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "the token is fetched only while the driver is polled"]
    pub fn pair(self) -> (LiveToken, Driver) {
        let time = Arc::new(Timeline::new(self.clock));
        let demands = Arc::new(Demands::default());
        let id = TokenId::next();
        let shared = Arc::new(Shared {
            id,
            cell: Arc::new(Cell::empty(time.clone())),
            news: Notify::new(),
            status: watch::Sender::new(Snapshot::starting()),
            demands: demands.clone(),
            time: time.clone(),
            warned: AtomicBool::new(false),
            held: AtomicU16::new(0),
            telemetry: Telemetry::new(self.name),
        });
        id.enter(&shared);
        let task = Task {
            source: Some(self.source),
            decider: Decider::new(self.rng.unwrap_or_default(), self.rules),
            desk: Desk { time, demands, shared: Arc::downgrade(&shared), since: None, progress: Progress::default() },
            deaf_until: None,
            storing_pause: STORING_PAUSE,
        };
        (LiveToken { shared }, Driver::new(task))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

const OUTSIDE: &str = "`LiveToken::spawn` outside of a tokio runtime, which runs the task that renews the token: call it in what \
    `#[tokio::main]` or `Runtime::block_on` runs, or while `Runtime::enter` is in force; or take the task from \
    `LiveToken::builder(source).pair()` and run it yourself";

/// A day: longer is no timeout, and twice as long must be a time still.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
