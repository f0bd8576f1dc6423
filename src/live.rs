//! The live token: one task renews it, and handles read it.
//!
//! In the order in which a token travels: `task` is the only loop. It asks `decide` what to do (all rules, pure, with `schedule`, `pace`,
//! `refusals`, `doubt`, `idle` and `crate::backoff`). `handles` publishes tokens into `cell` (the lock-free read, with a `shard` for each thread)
//! and updates `status`. `requests` is what a request asks of its live token, and `waiter` says whether its wait is in vain. `demand` is
//! what handles ask of the task: a fetch, a report of a 401, a shutdown. `telemetry` tells all of this to the outside; all of its names are
//! there.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16},
    },
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::{Notify, watch},
    time,
};

use crate::{ErrorKind, IntoTokenSource, Storage, TokenError, clock::Timeline};

mod builder;
mod cell;
mod decide;
mod demand;
mod doubt;
mod handles;
mod idle;
mod pace;
mod refusals;
mod registry;
mod requests;
mod schedule;
mod shard;
mod status;
mod task;
pub mod telemetry;
mod waiter;

#[cfg(test)]
mod tests;

pub use builder::Builder;
pub(crate) use cell::{Cell, CellView, Generation, Reader};
use demand::Demands;
pub(crate) use doubt::FIRST_STEP;
pub(crate) use registry::TokenId;
pub(crate) use requests::{Attempts, MOST_HELD, With};
pub(crate) use schedule::LONGEST_EXCHANGE;
pub(crate) use shard::Sharded;
use status::Snapshot;
pub use status::{State, Status, StatusWatch};
pub use task::Driver;
use telemetry::Telemetry;
use waiter::Waiter;

/// A token that is kept valid: a background task renews it before it expires, and requests read it without waiting.
///
/// This is a handle. Clones are handles to the same live token. The background task ends when the last handle is dropped. Handles are also
/// held by:
///
/// - layers and services;
/// - requests under way that wait or have waited for a token, and those that can be or were sent again;
/// - all requests under way of a layer with [`on_unauthorized`](crate::BearerAuthLayer::on_unauthorized).
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, LiveToken, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = LiveToken::spawn(source_fn(async |_request| {
///     // ask the service that issues tokens …
///     Ok(AccessToken::new("mF_9.B5f-4.1JqM")?.expires_in(Duration::from_secs(3600)))
/// }));
/// token.ready().await?; // optional: wait for the first token
/// assert_eq!(token.status().generation(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LiveToken {
    shared: Arc<Shared>,
}

/// What the handles and the task share.
///
/// Requests read it, and it is written only when a token is published. The alignment puts the reference counts of the `Arc`, which handles
/// write, on another cache line.
#[repr(align(64))]
pub(crate) struct Shared {
    id: TokenId,
    cell: Arc<Cell>,
    status: watch::Sender<Snapshot>,
    /// Wakes requests that wait when the status has changed. If each of ten thousand requests had a receiver of the status, all would write
    /// its count of receivers, which takes a quarter longer.
    news: Notify,
    demands: Arc<Demands>,
    time: Arc<Timeline>,
    warned_not_replayed: AtomicBool,
    warned_not_asked: AtomicBool,
    /// How many KiB of response bodies are held that nobody reads.
    held: AtomicU16,
    /// Whether the token rests while nobody uses it.
    rests: bool,
    /// How many wait for a token that rests while nobody uses it.
    waiting: AtomicU16,
    telemetry: Telemetry,
}

impl Shared {
    /// What somebody is told who has no token.
    fn error(&self, kind: ErrorKind, snapshot: &Snapshot) -> TokenError {
        TokenError::new(kind, snapshot.failure.clone()).of(self.telemetry.shared_name())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.id.leave();
        self.demands.close();
        self.telemetry.leave();
    }
}

impl LiveToken {
    /// Starts a background task on the current tokio runtime. It fetches a token at once and renews it from then on.
    ///
    /// Returns at once: requests wait for the first token, and so does [`LiveToken::ready`]. See the example of [`LiveToken`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without time (`enable_time` or `enable_all` of its builder).
    #[track_caller]
    pub fn spawn(source: impl IntoTokenSource) -> Self {
        Self::builder(source).spawn()
    }

    /// The same with options. See the example of [`Builder`].
    pub fn builder(source: impl IntoTokenSource) -> Builder {
        Builder::new(source)
    }

    /// Waits until there is a valid token.
    ///
    /// Failures that may pass don't end the wait, however long they last. To fail at start-up, use [`ready_within`](Self::ready_within).
    /// See the example of [`LiveToken`].
    ///
    /// # Errors
    /// At once if waiting is in vain: there is no valid token, and the credentials were rejected, the user must authorize again, or the
    /// live token was shut down.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. The fetch goes on.
    pub async fn ready(&self) -> Result<(), TokenError> {
        let _wanted = self.shared.want();
        let mut status = self.shared.status.subscribe();
        let mut looked_up = None;
        loop {
            {
                let snapshot = status.borrow_and_update();
                if snapshot.usable {
                    return Ok(());
                }
                if let Some(kind) = snapshot.in_vain(Waiter::Start) {
                    match looked_up {
                        // The source may have got something new since: the task looks once more before the wait counts as in vain.
                        None if kind != ErrorKind::Stopped => looked_up = Some(self.shared.demands.ping()),
                        Some(number) if snapshot.progress.read < number => {}
                        _ => return Err(self.shared.error(kind, &snapshot)),
                    }
                }
            }
            if status.changed().await.is_err() {
                return Err(self.shared.error(ErrorKind::Stopped, &status.borrow()));
            }
        }
    }

    /// Waits until there is a valid token, but at most this long. For programs that should fail at start-up.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::{ErrorKind, FetchError, LiveToken, source_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = LiveToken::spawn(source_fn(async |_| Err(FetchError::try_again("the host has no address"))));
    /// let error = token.ready_within(Duration::from_millis(10)).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Timeout);
    /// assert!(error.to_string().contains("the host has no address"));
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if there was no valid token in this time. Its cause is the last failure, if there was one. The task goes on.
    /// Otherwise those of [`ready`](Self::ready), as soon as waiting is in vain.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. The fetch goes on.
    pub async fn ready_within(&self, limit: Duration) -> Result<(), TokenError> {
        match time::timeout(limit, self.ready()).await {
            Ok(ready) => ready,
            Err(_) => Err(self.shared.error(ErrorKind::Timeout, &self.shared.status.borrow())),
        }
    }

    /// Fetches a token now, whatever the schedule, a backoff or a pause say. Only the gap between two fetches is kept: a second, or half of
    /// the lifetime if that is shorter. Requests go on with the current token.
    ///
    /// Concurrent calls share one fetch. If a fetch already runs and brings another token, it counts. If it fails, it may have begun before
    /// the cause was repaired, so another one follows.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, LiveToken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// token.refresh().await?; // for example after somebody has corrected the client's secret
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why the fetch failed; [`ErrorKind::Stopped`] after `shutdown`. The current token stays in use.
    ///
    /// # Cancel safety
    /// Dropping the future doesn't cancel the fetch.
    pub async fn refresh(&self) -> Result<(), TokenError> {
        let number = self.shared.demands.refresh();
        let mut status = self.shared.status.subscribe();
        let is_over = |snapshot: &Snapshot| {
            snapshot.progress.refreshes_answered.max(snapshot.progress.refreshes_declined) >= number
        };
        let is_stopped = status.wait_for(is_over).await.is_err();
        let snapshot = status.borrow();
        match &snapshot.failure {
            _ if is_stopped || snapshot.progress.refreshes_answered < number => {
                Err(self.shared.error(ErrorKind::Stopped, &snapshot).of_refresh(snapshot.usable))
            }
            Some(_) => Err(self.shared.error(snapshot.failure_kind(), &snapshot).of_refresh(snapshot.usable)),
            None => Ok(()),
        }
    }

    /// The status now. See the example of [`Status`].
    #[must_use]
    pub fn status(&self) -> Status {
        Status::new(self.shared.status.borrow().clone(), &self.shared.time)
    }

    /// Reports each change of the status from now on. See the example of [`StatusWatch`].
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        StatusWatch { receiver: self.shared.status.subscribe(), time: self.shared.time.clone(), last: None }
    }

    /// The [name](Builder::name) of the token. See the example there.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.telemetry.name()
    }

    /// The value of the `Authorization` header, if there is a valid token now. For everything that isn't a tower service: the handshake of
    /// a WebSocket, another HTTP library. Doesn't wait. Call it for each request.
    ///
    /// The value is marked sensitive. Unlike the layer, this doesn't check where you send it.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, LiveToken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// token.ready().await?;
    /// assert_eq!(token.authorization().unwrap(), "Bearer secret");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.current().map(|(header, _)| header)
    }

    /// Ends the fetching. Returns when a fetch under way has ended and its token set is stored. If the store can't be reached, this waits
    /// at most ten seconds for it, and then [`Status::storage`] says that the set is unsaved. Requests carry the current token until it
    /// expires. After that they fail with [`ErrorKind::Stopped`].
    ///
    /// ```
    /// use tower_bearer::{AccessToken, LiveToken, State};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// token.ready().await?;
    /// token.shutdown().await;
    /// assert_eq!(token.status().state(), State::Stopped);
    /// assert!(token.authorization().is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future doesn't undo the shutdown.
    pub async fn shutdown(&self) {
        self.shared.demands.stop();
        let mut status = self.shared.status.subscribe();
        // An error means that the task is gone, and that is what this waits for.
        let _ = status.wait_for(|snapshot| snapshot.state == State::Stopped && !snapshot.fetching).await;
        let stored = status.wait_for(|snapshot| snapshot.storage != Storage::Unsaved);
        let _ = time::timeout(LAST_STORING, stored).await;
    }

    /// Why there is no token, for a caller that can't wait.
    #[cfg(feature = "tonic")]
    pub(crate) fn absence(&self) -> TokenError {
        let snapshot = self.shared.status.borrow();
        self.shared.error(snapshot.error_kind(), &snapshot)
    }

    /// The number by which [`find`](Self::find) finds this live token.
    #[inline]
    pub(crate) fn id(&self) -> TokenId {
        self.shared.id
    }

    /// The live token with this number, if it still has a handle.
    pub(crate) fn find(id: TokenId) -> Option<Self> {
        id.find().map(|shared| Self { shared })
    }

    /// The cell in which services read their header.
    pub(crate) fn cell(&self) -> Arc<Cell> {
        self.shared.cell.clone()
    }

    /// A cell that stays empty, for services that must inspect each request first.
    pub(crate) fn empty_cell(&self) -> Arc<Cell> {
        Arc::new(Cell::empty(self.shared.time.clone(), self.shared.demands.clone()))
    }
}

/// How long `shutdown` waits for a store. Supervisors give a process ten to thirty seconds to end.
const LAST_STORING: Duration = Duration::from_secs(10);

impl fmt::Debug for LiveToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.shared.status.borrow();
        f.debug_struct("LiveToken")
            .field("name", &self.name())
            .field("state", &snapshot.state)
            .field("generation", &snapshot.generation.0)
            .finish_non_exhaustive()
    }
}
