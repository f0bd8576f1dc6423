//! The live token: one task that renews it, and handles that read it.
//!
//! In the order of a token's way: `task` (the only loop) asks `decide` (all rules, pure, with `schedule`, `pace`, `refusals` and `crate::backoff`) what to
//! do, publishes into `cell` (the lock-free read) and tells `status`; `demand` is what comes back: first use, a 401, `refresh`.
//! `telemetry` is what is told outside, and where all of its names stand.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
mod pace;
mod refusals;
mod registry;
mod schedule;
mod status;
mod task;
pub mod telemetry;

#[cfg(test)]
mod tests;

pub use builder::Builder;
pub(crate) use cell::{Cell, Generation, PerThread, Reader};
use demand::Demands;
pub(crate) use registry::TokenId;
pub(crate) use schedule::LONGEST_EXCHANGE;
use status::Snapshot;
pub use status::{State, Status, StatusWatch};
pub use task::Driver;
use telemetry::{Telemetry, Waiting};

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
    telemetry: Telemetry,
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
    /// Use it to fail at start-up. It waits through failures that may pass, however long they take: put a timeout around it if
    /// you can't wait that long, and see [`Status::last_error`] for the reason then.
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
                let kind = snapshot.error_kind();
                // Whatever failed before, a fetch under way may work. (After `shutdown`, what it brings still serves.)
                if kind != ErrorKind::Unavailable && !snapshot.fetching {
                    match looked_up {
                        // A source that has just been given something new is asked before it is called hopeless.
                        None if kind != ErrorKind::Stopped => looked_up = Some(self.shared.demands.ping()),
                        Some(number) if snapshot.seen < number => {}
                        _ => return Err(TokenError::new(kind, snapshot.failure.clone())),
                    }
                }
            }
            if status.changed().await.is_err() {
                return Err(TokenError::new(ErrorKind::Stopped, None));
            }
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
        let number = self.shared.demands.ask();
        let mut status = self.shared.status.subscribe();
        let stopped = TokenError::new(ErrorKind::Stopped, None);
        let is_over = |snapshot: &Snapshot| snapshot.asks.answered.max(snapshot.asks.declined) >= number;
        let snapshot = status.wait_for(is_over).await.map_err(|_| stopped)?;
        match &snapshot.failure {
            failure if snapshot.asks.answered < number => Err(TokenError::new(ErrorKind::Stopped, failure.clone())),
            Some(failure) => Err(TokenError::new(snapshot.failure_kind(), Some(failure.clone()))),
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
        TokenError::new(snapshot.error_kind(), snapshot.failure.clone())
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

    /// The header to send now: where it doesn't matter what it costs.
    pub(crate) fn current(&self) -> Option<(HeaderValue, Generation)> {
        self.shared.cell.load()
    }

    /// Whether it is news that a request with this generation was accepted.
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.shared.cell.is_doubted(generation)
    }

    /// Whether requests carry this generation now.
    pub(crate) fn is_current(&self, generation: Generation) -> bool {
        self.shared.cell.generation() == generation
    }

    /// Whether a 401 for this generation, seen now, is a reason to fetch, not the consequence of a fetch: servers that allow one
    /// token per client end the old one when they issue the next, while its answer is still on the way.
    pub(crate) fn is_reason_to_fetch(&self, refused: Generation) -> bool {
        self.is_current(refused) && !self.shared.status.borrow().fetching
    }

    /// Waits for a valid token, no longer than this, and says what is left of the wait.
    pub(crate) async fn wait(&self, max_wait: Duration) -> Result<Duration, TokenError> {
        let deadline = self.shared.time.now() + max_wait;
        self.acquire(max_wait).await?;
        Ok(deadline.since(self.shared.time.now()))
    }

    /// Waits for a valid token, no longer than this.
    pub(crate) async fn acquire(&self, max_wait: Duration) -> Result<(HeaderValue, Generation), TokenError> {
        let waiting = Waiting::without_token(&self.shared);
        let acquired = self.wait_for_token(max_wait).await;
        match &acquired {
            Ok(_) => waiting.with_token(),
            Err(error) if error.kind() == ErrorKind::Timeout => waiting.timed_out(),
            Err(_) => waiting.failed(),
        }
        acquired
    }

    async fn wait_for_token(&self, max_wait: Duration) -> Result<(HeaderValue, Generation), TokenError> {
        let deadline = self.shared.time.now() + max_wait;
        let found = self.news(max_wait, || {
            // Whoever is woken by a token needs no look at the status, whose lock ten thousand would share.
            if let Some(found) = self.current() {
                return Some(Ok(found));
            }
            let hopeless = self.shared.status.borrow().hopeless(deadline);
            self.current().map(Ok).or(hopeless.map(Err))
        });
        let timeout = || Err(TokenError::new(ErrorKind::Timeout, self.shared.status.borrow().failure.clone()));
        found.await.unwrap_or_else(timeout)
    }

    /// Looks now and whenever there is news until a look finds something, no longer than this.
    async fn news<T>(&self, max_wait: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let limit = time::sleep(max_wait);
        let mut limit = pin!(limit);
        loop {
            // Before the look: what comes after it is heard.
            let news = self.shared.news.notified();
            if let Some(found) = look() {
                return Some(found);
            }
            tokio::select! {
                biased;
                () = news => {}
                () = &mut limit => return None,
            }
        }
    }

    /// Says, once per token, that requests of this type are not sent again.
    pub(crate) fn warn_not_replayed<R>(&self) {
        if !self.shared.warned.swap(true, Ordering::Relaxed) {
            self.shared.telemetry.not_replayed::<R>();
        }
    }

    /// Somebody answered 401 to whom the request was not sent: that says nothing about the token.
    pub(crate) fn report_refused_elsewhere(&self) {
        self.shared.telemetry.refused_elsewhere();
    }

    /// The API answered 401 to a request with this generation. Nobody waits for what follows.
    pub(crate) fn report_refused(&self, refused: Generation) {
        self.shared.telemetry.refused();
        if self.is_current(refused) {
            self.shared.demands.refuse(refused);
        }
    }

    /// The API answered 401 to a request with this generation: waits, no longer than this, until there is a token it has not
    /// refused, and says what is left of the wait. `None` if there will be none.
    pub(crate) async fn replace(&self, refused: Generation, max_wait: Duration) -> Option<Duration> {
        self.shared.telemetry.refused();
        let waiting = Waiting::after_refusal(&self.shared);
        let deadline = self.shared.time.now() + max_wait;
        let replaced = self.wait_for_another(refused, max_wait).await;
        let left = deadline.since(self.shared.time.now());
        match replaced {
            true => waiting.with_token(),
            false if left.is_zero() => waiting.timed_out(),
            false => waiting.failed(),
        }
        replaced.then_some(left)
    }

    async fn wait_for_another(&self, refused: Generation, max_wait: Duration) -> bool {
        // Not only a newer one: the one before a new token serves while the API doesn't take that yet.
        let another = |shared: &Shared| ![refused, Generation::NONE].contains(&shared.cell.generation());
        if another(&self.shared) {
            return true;
        }
        if self.is_current(Generation::NONE) {
            // The token has expired meanwhile: a request that comes now waits for the next one, and so does this.
            return self.wait_for_token(max_wait).await.is_ok();
        }
        let number = self.shared.demands.refuse(refused);
        let deadline = self.shared.time.now() + max_wait;
        let ended = self.news(max_wait, || {
            if another(&self.shared) {
                return Some(());
            }
            let snapshot = self.shared.status.borrow();
            let in_vain = snapshot.seen >= number && !snapshot.doubting && !snapshot.may_bring_a_token_by(deadline);
            (in_vain || snapshot.settled >= number).then_some(())
        });
        // Whatever ended the waiting: what counts is whether there is another token now.
        ended.await;
        another(&self.shared)
    }

    /// A request that was sent for the first time with this generation was accepted.
    pub(crate) fn report_accepted(&self, generation: Generation) {
        if self.shared.cell.is_doubted(generation) {
            self.shared.demands.accept(generation);
        }
    }

    /// A request that was sent again with this generation was accepted; `asked`: it had asked for that token.
    pub(crate) fn report_recovered(&self, generation: Generation, asked: bool) {
        self.shared.telemetry.recovered();
        if asked {
            self.shared.demands.recover(generation);
        }
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
