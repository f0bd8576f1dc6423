//! The handles, as the task sees them: what it tells them, and what it learns from them.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    Shared,
    cell::Generation,
    decide::{Decider, Outcome},
    demand::{Demand, Demands, Progress},
    doubt::Turn,
    status::{Snapshot, State},
    telemetry::{Fingerprint, Telemetry},
};
use crate::{
    BoxTokenSource, FetchReason, Storage, TokenSource,
    clock::{Moment, Timeline},
    panics::contained,
};

/// What the task shares with the handles. It doesn't keep the live token alive: only handles do.
pub(crate) struct Handles {
    pub(crate) time: Arc<Timeline>,
    pub(crate) demands: Arc<Demands>,
    pub(crate) shared: Weak<Shared>,
    /// When the current token came.
    pub(crate) since: Option<Moment>,
    pub(crate) progress: Progress,
}

impl Handles {
    /// Takes in the demands since the last time.
    pub(super) fn take_demands(&mut self, decider: &mut Decider) -> Demand {
        let demand = self.demands.read();
        let was_asleep = decider.is_asleep();
        decider.demand(self.time.now(), &demand);
        if was_asleep && !decider.is_asleep() {
            self.wake();
        }
        self.progress.read = demand.last;
        self.take_turns(decider);
        if decider.is_settled() {
            self.answer_refusals();
            if decider.is_stopped() {
                self.progress.refreshes_declined = self.progress.read;
            }
        }
        demand
    }

    /// The source has changed. That ends a sleep until the next fetch is due, but it is no use of the token.
    pub(super) fn hear(&self, decider: &mut Decider) {
        if decider.rouse()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.cell.rouse();
        }
        decider.source_changed();
    }

    fn wake(&self) {
        if let Some(shared) = self.shared.upgrade() {
            match shared.cell.generation() {
                // Whoever wants a token waits for it, and is counted.
                Generation::NONE => shared.cell.notice_use(),
                _ => shared.cell.wake(),
            }
        }
    }

    /// Whether the token falls asleep now, because nobody uses it.
    pub(super) fn falls_asleep(&self, decider: &mut Decider, now: Moment) -> bool {
        if !decider.may_sleep(now) {
            return false;
        }
        let Some(shared) = self.shared.upgrade() else { return false };
        // Who waits is counted before the task is told of it: so either this sees the count, or the task is woken.
        if shared.waiting.load(Ordering::SeqCst) > 0 || !shared.cell.sleep() {
            decider.used(now);
            return false;
        }
        decider.sleep();
        true
    }

    /// Makes requests carry the previous token, or the current one again.
    fn take_turns(&mut self, decider: &mut Decider) {
        let now = self.time.now();
        let turn = decider.turn(now);
        let Some(shared) = self.shared.upgrade() else { return };
        shared.cell.doubt(decider.doubted());
        if turn.is_some() && shared.rests {
            // Somebody uses it. And services may have kept the header that they carry now, whose use isn't noticed.
            decider.used(now);
            shared.cell.wake();
        }
        match (turn, decider.carried()) {
            (Some(Turn::Believe), _) => drop(self.demands.refuse(decider.generation(), true)),
            // Requests that wait for a fetch under way go on waiting.
            (Some(turn @ Turn::Again), _) => {
                self.demands.try_again(decider.may_wait_for_another(now));
                contained(|| shared.telemetry.turned(turn, decider.generation()));
            }
            (Some(turn), Some((token, generation, expires_at))) => {
                shared.cell.publish(token, generation, expires_at);
                contained(|| shared.telemetry.turned(turn, decider.generation()));
                self.answer_refusals();
            }
            _ => return,
        }
        self.report(decider, now);
    }

    /// A fetch begins. It counts for later calls of `refresh` only if it brings another token. If news are its reason, for earlier ones too:
    /// the source may answer it without a request.
    pub(super) fn begin(&self, reason: FetchReason) -> u64 {
        if reason == FetchReason::Changed {
            return self.progress.refreshes_answered;
        }
        self.demands.answer_refreshes(self.progress.read);
        self.progress.read
    }

    /// A fetch has ended. It answers the demands up to `under_way`, whatever its result. `is_for_all`: it also answers those that came
    /// meanwhile.
    pub(super) fn answer(&mut self, under_way: u64, is_for_all: bool) {
        let answered = if is_for_all { self.progress.read } else { under_way };
        self.demands.answer_refreshes(answered);
        self.progress.refreshes_answered = self.progress.refreshes_answered.max(answered);
    }

    /// Answers all refusals that the task knows of.
    pub(super) fn answer_refusals(&mut self) {
        self.progress.refusals_answered = self.progress.read;
        self.demands.answer_refusals(self.progress.read);
    }

    /// Marks a token that has expired.
    pub(super) fn check_clocks(&mut self, decider: &mut Decider) -> Moment {
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
            self.take_use(decider, now);
            shared.cell.clear();
            if shared.rests && !decider.is_asleep() {
                // From now on whoever wants a token waits for it, and is counted.
                shared.cell.notice_use();
            }
            self.report(decider, now);
            if decider.is_asleep() {
                return now;
            }
            contained(|| shared.telemetry.expired(decider.generation(), decider.failures().0));
        }
        now
    }

    /// Publishes what requests carry from now on. Returns the fingerprint of a new token.
    pub(super) fn publish(&mut self, outcome: Outcome<'_>, now: Moment) -> Option<Fingerprint> {
        let Outcome::Publish { token, generation, expires_at, doubted } = outcome else { return None };
        let shared = self.shared.upgrade()?;
        // Before the first request carries it.
        shared.cell.doubt(if doubted { generation } else { Generation::NONE });
        let new = shared.status.borrow().generation != generation;
        if new {
            self.since = Some(now);
        }
        if shared.rests && new {
            shared.cell.notice_use();
        } else if shared.cell.generation() == Generation::NONE {
            // It had expired. Services may have kept its header, whose use isn't noticed.
            shared.cell.wake();
        }
        shared.cell.publish(token, generation, expires_at);
        new.then(|| Fingerprint::of(token))
    }

    /// Tells the decider of a use of the current token, before another one takes its place.
    pub(super) fn take_use(&self, decider: &mut Decider, now: Moment) {
        if self.shared.upgrade().is_some_and(|shared| shared.rests && shared.cell.was_used()) {
            decider.used(now);
        }
    }

    pub(super) fn tell<T>(&self, tell: impl FnOnce(&Telemetry) -> T) -> Option<T> {
        // A subscriber may panic, and so may the `Display` of a source's error.
        self.shared.upgrade().and_then(|shared| contained(|| tell(&shared.telemetry)))
    }

    /// A runtime of one thread runs its tasks only during `block_on`, and looks at its timers after that.
    pub(super) fn be_careful_where_time_stands_still(&self) {
        if Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.cell.be_careful();
        }
    }

    /// How long to sleep at most until this moment; `None` if there is nothing to wait for.
    pub(super) fn nap(&self, wake_at: Option<Moment>, now: Moment) -> Option<Duration> {
        let beat = self.tell(Telemetry::beat).flatten();
        let wait = wake_at.map(|at| at.since(now).min(HEARTBEAT));
        [beat, wait].into_iter().flatten().min()
    }

    /// Asks the source whether its tokens are stored.
    pub(super) fn ask_about_storage(&self, source: &BoxTokenSource, decider: &mut Decider) -> Storage {
        // It is the user's code and may panic.
        let storage = contained(|| source.storage()).unwrap_or_default();
        if decider.stored(storage) {
            self.tell(|telemetry| telemetry.stored(storage));
        }
        storage
    }

    /// Updates the status for all handles. Wakes those who wait only if something has changed for them.
    pub(super) fn report(&self, decider: &Decider, now: Moment) {
        let Some(shared) = self.shared.upgrade() else { return };
        let snapshot = decider.snapshot(now, self.progress);
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
        // `shutdown` waits for this. A fetch that brings the same token again changes nothing else.
        let ends = snapshot.state == State::Stopped && snapshot.fetching;
        let status = (snapshot.state, snapshot.usable, snapshot.generation, snapshot.failures);
        let requests = (snapshot.in_use, snapshot.tries, snapshot.doubting);
        (status, snapshot.authorization_ending, snapshot.storage, snapshot.progress, requests, ends)
    };
    key(known) != key(next)
}

impl Drop for Handles {
    /// The task may end in any way: its runtime is shut down, or the driver is dropped. Then nobody marks the end of the token, so it must
    /// not stay in use, and nobody may wait for another.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.cell.clear();
            shared.status.send_modify(|snapshot| {
                snapshot.state = State::Stopped;
                snapshot.usable = false;
                snapshot.fetching = false;
                snapshot.hopeful = false;
                snapshot.next_fetch = None;
                let all = u64::MAX;
                snapshot.progress =
                    Progress { read: all, refusals_answered: all, refreshes_declined: all, ..snapshot.progress };
            });
            shared.news.notify_waiters();
            let snapshot = shared.status.borrow().clone();
            contained(|| shared.telemetry.refresh(&snapshot, self.since, &self.time));
        }
    }
}

/// Timers stand still while a machine is suspended. Afterwards the clocks are read within this time.
const HEARTBEAT: Duration = Duration::from_secs(30);
