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
    handles::Handles,
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
/// // This server doesn't tell the lifetime of its tokens. Its documentation says: an hour.
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

    /// The name of the token in logs and metrics, which [`telemetry`](crate::telemetry) describes. Give each token of a program its own
    /// name, the same at each start. Only tokens with a name are measured. Default: none.
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

    /// The lifetime of tokens that come without one. Default: unknown, so only a 401 renews such a token. See the example of [`Builder`].
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.assumed_lifetime = Some(lifetime);
        self
    }

    /// Renews a token when this share of its lifetime has passed, or within the first quarter of what is left then. The share is between
    /// 0.5 and 0.99. With 0.5 it is renewed earlier than by default; more is for servers that refuse to renew early. Default: at a random point between 0.75 and 0.85. Replaces
    /// [`renew_before`](Self::renew_before).
    ///
    /// If fetches are so slow that there would be no time for one, the renewal begins sooner.
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).renew_at(0.95);
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn renew_at(mut self, share: f64) -> Self {
        // NaN isn't a share.
        let share = if share >= 0.5 { share.min(0.99) } else { 0.5 };
        self.rules.renewal = Renewal::At(share);
        self
    }

    /// Renews a token this long before it expires, or up to a tenth of that earlier, but not in the first half of its lifetime. For
    /// requests that need a token which is valid for that long. Replaces [`renew_at`](Self::renew_at).
    ///
    /// If fetches are so slow that there would be no time for one, the renewal begins sooner.
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

    /// Renews the token ahead only while requests use it. If none has carried it for this long, it is not renewed: the live token is
    /// [asleep](crate::State::Asleep), without a timer, and its source is asked nothing. The next request wakes it. A token that is still
    /// valid is sent at once, and renewed meanwhile; otherwise the request waits for the next one. Default: it is always renewed.
    ///
    /// For programs with many tokens of which few are in use. A refresh token that expires when it isn't used may do so.
    ///
    /// Of each token only the first use is noticed, so that requests pay nothing for this. It counts until the token is due to be renewed.
    /// So a token that is used falls asleep after its lifetime and the next ones that have begun within this time. [`Duration::ZERO`]:
    /// each token is renewed if it was used.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).renew_while_used(Duration::from_secs(600));
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn renew_while_used(mut self, idle: Duration) -> Self {
        self.rules.idle_after = Some(idle);
        self
    }

    /// How long one exchange with a token endpoint may take: at least one second, at most a day. Default: 30 s. An exchange gets all of
    /// this time if there is no valid token, or if it can't be repeated. It gets less while there is time for a second one
    /// ([`FetchRequest::timeout`](crate::FetchRequest::timeout)). A source that keeps to no timeout is dropped after twice this time.
    ///
    /// How long a *request* waits for a token is another option: [`BearerAuthLayer::max_wait`](crate::BearerAuthLayer::max_wait).
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

    /// Another wall clock and another record of suspends, for tests. Timers are tokio's in any case. Default: [`SystemClock`]. See the
    /// example of [`Clock`].
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The seed of everything random in the schedule, for tests that give the same result each time. Default: random.
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, LiveToken};
    /// # let source = AccessToken::new("secret")?;
    /// let builder = LiveToken::builder(source).seed(1);
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Some(Rng::with_seed(seed));
        self
    }

    /// Starts the background task on the current tokio runtime. See the example of [`Builder`].
    ///
    /// A runtime of one thread (`new_current_thread`) runs the task only during `block_on`. Between two calls of `block_on` nothing is
    /// renewed. A token that expires meanwhile is not sent, and not shown as valid. A program that isn't async should keep a runtime with a
    /// worker thread (`new_multi_thread().worker_threads(1)`) and send its requests there.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without time (`enable_time` or `enable_all` of its builder).
    #[track_caller]
    pub fn spawn(self) -> LiveToken {
        // These panic here, where the caller sees it, and not in the task.
        assert!(Handle::try_current().is_ok(), "{OUTSIDE}");
        drop(tokio::time::sleep(Duration::ZERO));
        let (token, driver) = self.pair();
        tokio::spawn(driver);
        token
    }

    /// Returns the task as a future instead of starting it, for programs that run their tasks themselves. Nothing is fetched unless the
    /// future is polled. If it is dropped, the live token is stopped.
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
            cell: Arc::new(Cell::empty(time.clone(), demands.clone())),
            news: Notify::new(),
            status: watch::Sender::new(Snapshot::starting()),
            demands: demands.clone(),
            time: time.clone(),
            warned_not_replayed: AtomicBool::new(false),
            warned_not_asked: AtomicBool::new(false),
            held: AtomicU16::new(0),
            rests: self.rules.idle_after.is_some(),
            waiting: AtomicU16::new(0),
            telemetry: Telemetry::new(self.name),
        });
        if shared.rests {
            shared.cell.notice_use();
        }
        id.enter(&shared);
        let task = Task {
            source: Some(self.source),
            decider: Decider::new(self.rng.unwrap_or_default(), self.rules),
            handles: Handles {
                time,
                demands,
                shared: Arc::downgrade(&shared),
                since: None,
                progress: Progress::default(),
            },
            changed_resumes_at: None,
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

/// A day. A longer timeout is none, and twice the timeout must still be a time that timers accept.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
