//! The only loop: it waits, fetches and publishes; what to do when is decided in `decide`.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time,
};
use tracing::{Instrument, Span};

use super::{
    Shared,
    cell::Generation,
    decide::{Decider, Outcome},
    demand::{Asks, Attempts, Demand, Demands},
    doubt::Turn,
    status::{Snapshot, State, Status},
    telemetry::{Fingerprint, Telemetry},
};
use crate::{
    AccessToken, BoxTokenSource, FetchError, FetchReason, Storage, TokenSource,
    clock::{Moment, Timeline},
    panics::contained,
};

/// The future that renews a [`LiveToken`](crate::LiveToken): made by [`Builder::pair`](super::Builder::pair), to be polled by
/// whoever made it. It ends when the last handle is gone, or after `shutdown` when the last token has expired.
///
/// It needs a tokio runtime with time enabled around it, because it sleeps.
#[must_use = "the token is fetched only while this future is polled"]
pub struct Driver(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Driver {
    pub(crate) fn new(mut task: Task) -> Self {
        // `run` borrows: an async function keeps its arguments twice, where they were passed and where they are used.
        Self(Box::pin(async move { task.run().await }))
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

pub(crate) struct Task {
    /// `None` when nothing is fetched any more.
    pub(crate) source: Option<BoxTokenSource>,
    pub(crate) decider: Decider,
    pub(crate) desk: Desk,
}

impl Task {
    async fn run(&mut self) {
        let mut storing_pause = STORING_PAUSE;
        self.desk.be_careful_where_time_stands_still();
        loop {
            let demand = self.desk.take_demands(&mut self.decider);
            // First the clocks: after `shutdown`, the end of the token is the end of the task.
            let now = self.desk.check_clocks(&mut self.decider);
            if demand.closed || self.decider.is_over() {
                return;
            }
            match self.decider.next_fetch(now) {
                Some((at, reason)) if at <= now => {
                    // In a box, so that a token that is not being fetched takes no room for it.
                    Box::pin(self.fetch(reason)).await;
                }
                _ => {
                    let stopped = self.decider.is_stopped();
                    let storing = stopped && !storing_pause.is_zero() && self.is_storing();
                    self.desk.report(&self.decider, now);
                    let nap = self.desk.nap(self.decider.wake_at(now), now);
                    let nap = if storing { Some(nap.map_or(storing_pause, |nap| nap.min(storing_pause))) } else { nap };
                    if stopped && !storing {
                        // Whoever waits for it elsewhere learns that it is over. It may panic.
                        let source = self.source.take();
                        contained(|| drop(source));
                    }
                    // What it had to tell last is enough until that was acted upon.
                    let source = self.source.as_mut().filter(|_| !stopped && !self.decider.is_changed());
                    tokio::select! {
                        // First, so that whoever asks after it finds the fetch begun.
                        biased;
                        () = told_of_change(source) => self.decider.source_changed(),
                        () = self.desk.demands.wait() => {}
                        () = sleep(nap) => {}
                    }
                    if storing {
                        // Ever more seldom, and not for ever: the source goes on with it when it is gone from here.
                        storing_pause =
                            if storing_pause < STORING_GIVEN_UP { storing_pause * 2 } else { Duration::ZERO };
                    }
                }
            }
        }
    }

    /// Whether the source still tries to store what it brought last.
    fn is_storing(&mut self) -> bool {
        let Some(source) = &self.source else { return false };
        self.desk.ask_about_storage(source, &mut self.decider) == Storage::Unsaved
    }

    /// One fetch, to its end. Meanwhile the token in use may expire, and demands are taken in.
    async fn fetch(&mut self, reason: FetchReason) {
        let Self { source: Some(source), decider, desk } = self else { return };
        let longest = decider.longest_fetch();
        let started = desk.time.now();
        let request = decider.begin(started, reason);
        let under_way = desk.begin();
        let span = desk.tell(|telemetry| telemetry.fetching(reason)).unwrap_or_else(Span::none);

        // A panic in a source is a failure like others, and its message, which may hold anything, stays where it was.
        let fetch = time::timeout(longest, async { source.fetch(request).await });
        // A subscriber that is told of the span may panic, too.
        let mut fetch = Box::pin(AssertUnwindSafe(fetch.instrument(span)).catch_unwind());
        let fetched = loop {
            let now = desk.check_clocks(decider);
            // Whoever waits must learn that a fetch runs, and that it answers what was asked meanwhile as well.
            desk.report(decider, now);
            let nap = desk.nap(decider.wake_at(now), now);
            tokio::select! {
                biased;
                ended = &mut fetch => break flatten(ended, longest),
                () = desk.demands.wait() => drop(desk.take_demands(decider)),
                () = sleep(nap) => {}
            }
        };

        // A source that was given up may panic once more.
        contained(|| drop(fetch));
        desk.ask_about_storage(source, decider);
        desk.take_demands(decider);
        let now = desk.time.now();
        let (failures_before, _) = decider.failures();
        let fetched = fetched.map(|token| token.aged(&desk.time, started));
        let outcome = decider.finish(now, desk.time.wall(), fetched);
        let new = desk.publish(outcome, now);
        desk.answer(under_way, decider.failures().0 == 0);
        if decider.may_answer_refusals() {
            desk.settle();
        }
        desk.report(decider, now);
        let took = now.since(started);
        desk.tell(|telemetry| match decider.failures() {
            (failures, Some(error)) => {
                let headroom = Status::new(decider.snapshot(now, 0, 0), &desk.time).headroom();
                telemetry.failed(reason, took, failures, headroom, error);
            }
            (_, None) => telemetry.fetched(reason, took, decider.generation(), new, failures_before),
        });
    }
}

type Ended = Result<Result<Result<AccessToken, FetchError>, time::error::Elapsed>, Box<dyn std::any::Any + Send>>;

fn flatten(ended: Ended, longest: Duration) -> Result<AccessToken, FetchError> {
    match ended {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(_)) => {
            Err(FetchError::try_again(format!("the token source took longer than {longest:?} and was dropped")))
        }
        Err(_panic) => Err(FetchError::try_again("the token source panicked")),
    }
}

/// What the task shares with the handles. It does not keep them alive: they keep it.
pub(crate) struct Desk {
    pub(crate) time: Arc<Timeline>,
    pub(crate) demands: Arc<Demands>,
    pub(crate) shared: Weak<Shared>,
    /// When the present generation came.
    pub(crate) since: Option<Moment>,
    pub(crate) seen: u64,
    pub(crate) settled: u64,
    pub(crate) asks: Asks,
}

impl Desk {
    /// Takes in what was asked for since last time.
    fn take_demands(&mut self, decider: &mut Decider) -> Demand {
        let demand = self.demands.look();
        decider.demand(self.time.now(), &demand);
        self.seen = demand.last;
        self.take_turns(decider);
        if decider.is_settled() {
            self.settle();
            if decider.is_stopped() {
                self.asks.declined = self.seen;
            }
        }
        demand
    }

    /// Requests go back to the token before, or forward to the present one.
    fn take_turns(&mut self, decider: &mut Decider) {
        let now = self.time.now();
        let turn = decider.turn(now);
        let Some(shared) = self.shared.upgrade() else { return };
        shared.cell.doubt(decider.doubted());
        match (turn, decider.carried()) {
            (Some(Turn::Believe), _) => drop(self.demands.refuse(decider.generation(), Attempts::Last)),
            // Who waits for a fetch that is under way waits on.
            (Some(turn @ Turn::Again), _) => {
                self.demands.try_again();
                contained(|| shared.telemetry.turned(turn, decider.generation()));
            }
            (Some(turn), Some((token, generation, expires_at))) => {
                shared.cell.publish(token, generation, expires_at);
                contained(|| shared.telemetry.turned(turn, decider.generation()));
                self.settle();
            }
            _ => return,
        }
        self.report(decider, now);
    }

    /// A fetch begins: whoever asks from now on is answered by it only if it works.
    fn begin(&self) -> u64 {
        self.demands.take_asked(self.seen);
        self.seen
    }

    /// A fetch has ended that answers up to this one, whatever came of it. One that worked is what those wanted, too, who asked meanwhile.
    fn answer(&mut self, under_way: u64, worked: bool) {
        let answered = if worked { self.seen } else { under_way };
        self.demands.take_asked(answered);
        self.asks.answered = self.asks.answered.max(answered);
    }

    /// Everything that was taken in has been answered.
    fn settle(&mut self) {
        self.settled = self.seen;
        self.demands.settle(self.settled);
    }

    /// Marks a token that has ended.
    fn check_clocks(&mut self, decider: &mut Decider) -> Moment {
        let now = self.time.now();
        self.take_turns(decider);
        decider.compare_with_wall(now, self.time.wall());
        if let Some(left) = decider.warn_of_authorization(now) {
            self.tell(|telemetry| telemetry.authorization_ends(left));
            self.report(decider, now);
        }
        if decider.expire(now)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.cell.clear();
            self.report(decider, now);
            contained(|| shared.telemetry.expired(decider.generation(), decider.failures().0));
        }
        now
    }

    /// What requests carry from now on; tells a token from the one before.
    fn publish(&mut self, outcome: Outcome<'_>, now: Moment) -> Option<Fingerprint> {
        let Outcome::Publish { token, generation, expires_at, doubted } = outcome else { return None };
        let shared = self.shared.upgrade()?;
        // Before the first request with it.
        shared.cell.doubt(if doubted { generation } else { Generation::NONE });
        shared.cell.publish(token, generation, expires_at);
        let new = shared.status.borrow().generation != generation;
        if new {
            self.since = Some(now);
        }
        new.then(|| Fingerprint::of(token))
    }

    fn tell<T>(&self, tell: impl FnOnce(&Telemetry) -> T) -> Option<T> {
        // A subscriber may panic, and so may what a source's error says.
        self.shared.upgrade().and_then(|shared| contained(|| tell(&shared.telemetry)))
    }

    /// A runtime of one thread drives its tasks only while somebody is in `block_on`, and looks at its timers after that.
    fn be_careful_where_time_stands_still(&self) {
        if Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.cell.be_careful();
        }
    }

    /// How long to sleep until then at the most; `None` if there is nothing to wait for.
    fn nap(&self, wake_at: Option<Moment>, now: Moment) -> Option<Duration> {
        let beat = self.tell(Telemetry::beat).flatten();
        let wait = wake_at.map(|at| at.since(now).min(HEARTBEAT));
        [beat, wait].into_iter().flatten().min()
    }

    /// How it is with the source's store.
    fn ask_about_storage(&self, source: &BoxTokenSource, decider: &mut Decider) -> Storage {
        // It may be anybody's, and panic.
        let storage = contained(|| source.storage()).unwrap_or_default();
        if decider.stored(storage) {
            self.tell(|telemetry| telemetry.stored(storage));
        }
        storage
    }

    /// Tells everybody how things are; wakes those who wait only if it concerns them.
    fn report(&self, decider: &Decider, now: Moment) {
        let Some(shared) = self.shared.upgrade() else { return };
        let snapshot = Snapshot { asks: self.asks, ..decider.snapshot(now, self.seen, self.settled) };
        contained(|| shared.telemetry.refresh(&snapshot, self.since, &self.time));
        let is_new = shared.status.send_if_modified(|known| {
            let is_new = is_news(known, &snapshot);
            *known = snapshot;
            is_new
        });
        if is_new {
            shared.news.notify_waiters();
        }
    }
}

fn is_news(known: &Snapshot, next: &Snapshot) -> bool {
    let key = |snapshot: &Snapshot| {
        // What `shutdown` waits for. A fetch that brings the same token again changes nothing else.
        let ends = snapshot.state == State::Stopped && snapshot.fetching;
        let status = (snapshot.state, snapshot.usable, snapshot.generation, snapshot.failures);
        let asks = (snapshot.asks.answered, snapshot.asks.declined, snapshot.in_use, snapshot.tries);
        (status, snapshot.authorization_ending, snapshot.storage, snapshot.seen, snapshot.settled, asks, ends)
    };
    key(known) != key(next)
}

impl Drop for Desk {
    /// However the task ends (its runtime is shut down, the driver is dropped): with nobody left to mark it, no token may stay
    /// in use, and nobody may wait for one.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.cell.clear();
            shared.status.send_modify(|snapshot| {
                snapshot.state = State::Stopped;
                snapshot.usable = false;
                snapshot.fetching = false;
                snapshot.next_fetch = None;
                snapshot.seen = u64::MAX;
                snapshot.settled = u64::MAX;
                snapshot.asks.declined = u64::MAX;
            });
            shared.news.notify_waiters();
            let snapshot = shared.status.borrow().clone();
            contained(|| shared.telemetry.refresh(&snapshot, self.since, &self.time));
        }
    }
}

/// Waits for the source to say that it has something new; in vain if there is none to ask, or if it panics.
async fn told_of_change(source: Option<&mut BoxTokenSource>) {
    let told = match source {
        Some(source) => AssertUnwindSafe(async { source.changed().await }).catch_unwind().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending().await
    }
}

/// Sleeps this long; for ever if there is nothing to wait for.
async fn sleep(nap: Option<Duration>) {
    match nap {
        Some(nap) => time::sleep(nap).await,
        None => std::future::pending().await,
    }
}

/// How soon a source that stores something after `shutdown` is asked whether it has: the first time.
const STORING_PAUSE: Duration = Duration::from_millis(50);

/// The last pause between two of these questions.
const STORING_GIVEN_UP: Duration = Duration::from_secs(60);

/// Timers stand still while a machine is suspended; after it, the clocks are looked at within this time.
const HEARTBEAT: Duration = Duration::from_secs(30);
