//! The options of a live token.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use fastrand::Rng;
use tokio::sync::{Notify, watch};

use super::{
    Driver, LiveToken, Shared,
    cell::Cell,
    decide::Decider,
    demand::Demands,
    registry::TokenId,
    status::Snapshot,
    task::{Desk, Task},
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
    assumed_lifetime: Option<Duration>,
    clock: Arc<dyn Clock>,
    rng: Option<Rng>,
}

impl Builder {
    pub(super) fn new(source: impl IntoTokenSource) -> Self {
        Self {
            source: source.into_token_source().boxed(),
            name: None,
            assumed_lifetime: None,
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
        self.assumed_lifetime = Some(lifetime);
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
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(self) -> LiveToken {
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
            cell: Arc::new(Cell::empty()),
            news: Notify::new(),
            status: watch::Sender::new(Snapshot::starting()),
            demands: demands.clone(),
            time: time.clone(),
            warned: AtomicBool::new(false),
            telemetry: Telemetry::new(self.name),
        });
        id.enter(&shared);
        let task = Task {
            source: Some(self.source),
            decider: Decider::new(self.rng.unwrap_or_default(), self.assumed_lifetime),
            desk: Desk { time, demands, shared: Arc::downgrade(&shared), since: None, seen: 0, settled: 0 },
        };
        (LiveToken { shared }, Driver::new(task))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish_non_exhaustive()
    }
}
