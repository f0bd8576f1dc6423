//! The live token: one task that renews it, and handles that read it.
//!
//! In the order of a token's way: `task` (the only loop) asks `decide` (all rules, pure, with `schedule`, `pace`, `refusals`, `doubt` and
//! `crate::backoff`) what to do; `desk` publishes into `cell` (the lock-free read, with a `shard` for each thread) and tells `status`. `requests` is what requests ask of it (`waiter`: whether waiting is
//! in vain), and `demand` what comes back: first use, a 401, `refresh`.
//! `telemetry` is what is told outside, and where all of its names stand.

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
mod desk;
mod doubt;
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

/// A token that is always valid: a background task renews it before it expires, and handles read it without waiting.
///
/// This is a handle; its clones are handles to the same token. When the last one goes, the task ends. Layers and services hold
/// handles too, and so do requests under way that wait, have waited, can be sent again or were, and all those whose answers the layer
/// [judges](crate::BearerAuthLayer::on_unauthorized).
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, LiveToken, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = LiveToken::spawn(source_fn(async |_request| {
///     // ask whoever knows …
///     Ok(AccessToken::new("mF_9.B5f-4.1JqM")?.expires_in(Duration::from_secs(3600)))
/// }));
/// token.ready().await?; // optional: fail at start-up
/// assert_eq!(token.status().generation(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LiveToken {
    shared: Arc<Shared>,
}

/// What handles and task share.
///
/// What requests read of it is written when a token is published, and not in between: the pointer's reference counts, which handles
/// write, lie on another cache line.
#[repr(align(64))]
pub(crate) struct Shared {
    id: TokenId,
    cell: Arc<Cell>,
    status: watch::Sender<Snapshot>,
    /// Told when there is something new in the status, for requests that wait for a token or another one: with receivers of the status,
    /// ten thousand that are sent at once would all write to the count of receivers, and take a quarter longer.
    news: Notify,
    demands: Arc<Demands>,
    time: Arc<Timeline>,
    warned: AtomicBool,
    /// How much of responses is held that nobody reads, in KiB.
    held: AtomicU16,
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
    /// Starts a task on the current tokio runtime that fetches a token at once and renews it from then on.
    ///
    /// Returns at once: requests wait for the first token, or [`LiveToken::ready`] does.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in one without time (`enable_time` or `enable_all` of the runtime's builder).
    #[track_caller]
    pub fn spawn(source: impl IntoTokenSource) -> Self {
        Self::builder(source).spawn()
    }

    /// The same with options.
    pub fn builder(source: impl IntoTokenSource) -> Builder {
        Builder::new(source)
    }

    /// Waits until there is a valid token.
    ///
    /// It waits through failures that may pass, however long they take. To fail at start-up, [`ready_within`](Self::ready_within) a time.
    ///
    /// # Errors
    /// At once when waiting is in vain: the credentials were rejected, the user must authorize again, or the token was shut
    /// down, and there is no valid token left.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the fetch goes on.
    pub async fn ready(&self) -> Result<(), TokenError> {
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
                        // A source that has just been given something new is asked before it is called hopeless.
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

    /// Waits until there is a valid token, no longer than this: to fail at start-up.
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
    /// [`ErrorKind::Timeout`] when the time is over, with the last failure as its cause, if there was one: the renewing goes on. Otherwise those
    /// of [`ready`](Self::ready), as soon as waiting is in vain.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the fetch goes on.
    pub async fn ready_within(&self, limit: Duration) -> Result<(), TokenError> {
        match time::timeout(limit, self.ready()).await {
            Ok(ready) => ready,
            Err(_) => Err(self.shared.error(ErrorKind::Timeout, &self.shared.status.borrow())),
        }
    }

    /// Fetches a token now, whatever the schedule, a backoff or a pause say; only the distance between two fetches is kept (a
    /// second, or half of the lifetime if that is shorter). Whoever calls meanwhile shares the fetch. One that runs already counts if it
    /// works; if it fails it may have begun before what was wrong was mended, and another one follows. Requests go on with the token in use.
    ///
    /// # Errors
    /// Why the fetch failed. The token in use stays in use.
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
                Err(self.shared.error(ErrorKind::Stopped, &snapshot))
            }
            Some(_) => Err(self.shared.error(snapshot.failure_kind(), &snapshot)),
            None => Ok(()),
        }
    }

    /// How things are now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::new(self.shared.status.borrow().clone(), &self.shared.time)
    }

    /// Tells of every change from now on.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        StatusWatch { receiver: self.shared.status.subscribe(), time: self.shared.time.clone(), seen: None }
    }

    /// What the token was [called](Builder::name).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.telemetry.name()
    }

    /// The value for an `Authorization` header if there is a valid token now, for what is no tower service: the handshake of a
    /// WebSocket, another HTTP library. Doesn't wait. Ask anew for every request.
    ///
    /// The value is marked sensitive. Nothing keeps you from sending it to the wrong place: the layer does.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.current().map(|(header, _)| header)
    }

    /// Fetches nothing any more. Returns when a fetch under way has ended and what it brought is stored; a store that can't be reached
    /// is waited for no longer than ten seconds, and [`Status::storage`] says so then. The token in use serves until it expires;
    /// after that, requests fail with [`ErrorKind::Stopped`].
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back.
    pub async fn shutdown(&self) {
        self.shared.demands.stop();
        let mut status = self.shared.status.subscribe();
        // An error means that the task is gone, which is what is waited for.
        let _ = status.wait_for(|snapshot| snapshot.state == State::Stopped && !snapshot.fetching).await;
        let stored = status.wait_for(|snapshot| snapshot.storage != Storage::Unsaved);
        let _ = time::timeout(LAST_STORING, stored).await;
    }

    /// Why there is no token, for somebody who can't wait and found none.
    #[cfg(feature = "tonic")]
    pub(crate) fn absence(&self) -> TokenError {
        let snapshot = self.shared.status.borrow();
        self.shared.error(snapshot.error_kind(), &snapshot)
    }

    /// The number to [find](Self::find) this token by.
    #[inline]
    pub(crate) fn id(&self) -> TokenId {
        self.shared.id
    }

    /// The token with this number, if anybody still has it.
    pub(crate) fn find(id: TokenId) -> Option<Self> {
        id.find().map(|shared| Self { shared })
    }

    /// Where services read what to send.
    pub(crate) fn cell(&self) -> Arc<Cell> {
        self.shared.cell.clone()
    }

    /// The same for services that must always look first: nothing is ever in it.
    pub(crate) fn empty_cell(&self) -> Arc<Cell> {
        Arc::new(Cell::empty(self.shared.time.clone()))
    }
}

/// How long a store is waited for at the end: supervisors that end a process give it ten to thirty seconds.
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
