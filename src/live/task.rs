//! The only loop: it waits, fetches and publishes. `decide` decides what it does and when.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time;
use tracing::{Instrument, Span};

use super::{decide::Decider, handles::Handles, status::Status};
use crate::{
    AccessToken, BoxTokenSource, FetchError, FetchReason, Storage, TokenSource,
    clock::Moment,
    panics::{Contained, contained},
};

/// The future that renews a [`LiveToken`](crate::LiveToken). [`Builder::pair`](super::Builder::pair) makes it, and has an example; whoever
/// calls that must poll it. It ends when the last handle is gone, or after `shutdown` when the last token has expired.
///
/// It must run in a tokio runtime with time enabled, because it sleeps.
#[must_use = "the token is fetched only while this future is polled"]
pub struct Driver(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Driver {
    pub(crate) fn new(mut task: Task) -> Self {
        // `run` borrows its argument: an async function keeps an owned argument twice, where it was passed and where it is used.
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
    pub(crate) handles: Handles,
    /// From when `changed` of the source may be polled again, after it has panicked.
    pub(crate) changed_resumes_at: Option<Moment>,
    /// After `shutdown`: the time until the source is next asked whether it is still storing something. Zero: no more.
    pub(crate) storing_pause: Duration,
}

impl Task {
    async fn run(&mut self) {
        self.handles.be_careful_where_time_stands_still();
        loop {
            let demand = self.handles.take_demands(&mut self.decider);
            // First the clocks: after `shutdown`, the task ends when the token expires.
            let now = self.handles.check_clocks(&mut self.decider);
            if demand.closed || self.decider.is_over() {
                return;
            }
            if self.handles.falls_asleep(&mut self.decider, now) {
                continue;
            }
            match self.decider.next_fetch(now) {
                // In a box, so that a live token takes no memory for a fetch while none is under way.
                Some((at, reason)) if at <= now => Box::pin(self.fetch(reason)).await,
                _ => self.wait(now).await,
            }
        }
    }

    /// Returns when a fetch is due, when somebody uses a token that is asleep, when the source has changed or may be asked again after a panic, when `shutdown` was called, or when
    /// the last handle is gone. After `shutdown`: at the next wake-up.
    fn wait(&mut self, now: Moment) -> impl Future<Output = ()> + Send {
        let stopped = self.decider.is_stopped();
        let storing = stopped && !self.storing_pause.is_zero() && self.is_storing();
        self.handles.report(&self.decider, now);
        let mut longest = None;
        if storing {
            longest = Some(self.storing_pause);
            // More and more rarely, and not for ever: the source goes on storing by itself when it is dropped here.
            let goes_on = self.storing_pause < STORING_GIVEN_UP;
            self.storing_pause = if goes_on { self.storing_pause * 2 } else { Duration::ZERO };
        } else if stopped {
            // Dropping the source tells others that it has ended. That may panic.
            let source = self.source.take();
            contained(|| drop(source));
        }
        let Self { source, decider, handles, changed_resumes_at, .. } = self;
        // A change that was reported counts until the task has acted upon it.
        let asleep = decider.is_asleep();
        let may_be_asked = !stopped && !decider.is_changed() && changed_resumes_at.is_none_or(|until| until <= now);
        let asked = source.as_mut().filter(|_| may_be_asked).map(|source| contained(|| source.news(asleep)));
        if asked.as_ref().is_some_and(Option::is_none) {
            *changed_resumes_at = Some(now + AFTER_A_PANIC);
        }
        let mut news = Contained(asked.flatten());
        let nap_from = |handles: &Handles, decider: &Decider, changed_resumes_at: &Option<Moment>, now| {
            let hears_again = changed_resumes_at.filter(|until| now < *until);
            handles.nap([decider.wake_at(now), hears_again].into_iter().flatten().min(), now)
        };
        let mut nap = [nap_from(handles, decider, changed_resumes_at, now), longest].into_iter().flatten().min();
        async move {
            loop {
                tokio::select! {
                    // First, so that a caller that asks afterwards finds the fetch under way.
                    biased;
                    told = &mut news => {
                        match told {
                            Some(()) => handles.hear(decider),
                            None => *changed_resumes_at = Some(handles.time.now() + AFTER_A_PANIC),
                        }
                        return;
                    }
                    () = handles.demands.wait() => {}
                    () = time::sleep(nap.unwrap_or_default()), if nap.is_some() => {}
                }
                // `news` stays. If it were made again at each wake-up, a source that sleeps for a minute would never report a change.
                let demand = handles.take_demands(decider);
                let now = handles.check_clocks(decider);
                let is_due = decider.next_fetch(now).is_some_and(|(at, _)| at <= now);
                let hears_again = news.0.is_none() && changed_resumes_at.is_some_and(|until| until <= now);
                // Asleep, the source is asked for less news.
                let turns = asleep != decider.is_asleep() || decider.may_sleep(now);
                if stopped || demand.closed || decider.is_stopped() || is_due || hears_again || turns {
                    return;
                }
                handles.report(decider, now);
                nap = nap_from(handles, decider, changed_resumes_at, now);
            }
        }
    }

    /// Whether the source still tries to store what it returned last.
    fn is_storing(&mut self) -> bool {
        let Some(source) = &self.source else { return false };
        self.handles.ask_about_storage(source, &mut self.decider) == Storage::Unsaved
    }

    /// Runs one fetch to its end. Meanwhile the token may expire, and demands are taken in.
    async fn fetch(&mut self, reason: FetchReason) {
        let Self { source: Some(source), decider, handles, .. } = self else { return };
        let longest = decider.longest_fetch();
        let started = handles.time.now();
        let request = decider.begin(started, reason);
        let under_way = handles.begin(reason);
        let span = handles.tell(|telemetry| telemetry.fetching(reason)).unwrap_or_else(Span::none);

        // A panic in a source is a failure like others. Its message is not shown, because it may contain anything.
        let fetch = time::timeout(longest, async { source.fetch(request).await });
        // A subscriber that is told of the span may panic, too.
        let mut fetch = Box::pin(AssertUnwindSafe(fetch.instrument(span)).catch_unwind());
        let fetched = loop {
            let now = handles.check_clocks(decider);
            // Those who wait must learn that a fetch is under way, and that it counts for later demands, too.
            handles.report(decider, now);
            let nap = handles.nap(decider.wake_at(now), now);
            tokio::select! {
                biased;
                ended = &mut fetch => break flatten(ended, longest),
                () = handles.demands.wait() => drop(handles.take_demands(decider)),
                () = sleep(nap) => {}
            }
        };

        // A source that is dropped may panic once more.
        contained(|| drop(fetch));
        handles.ask_about_storage(source, decider);
        handles.take_demands(decider);
        let now = handles.time.now();
        handles.take_use(decider, now);
        let (failures_before, _) = decider.failures();
        let fetched = fetched.map(|token| token.aged(&handles.time, started));
        let outcome = decider.finish(now, handles.time.wall(), fetched);
        let new = handles.publish(outcome, now);
        handles.answer(under_way, decider.failures().0 == 0 && !decider.wants_refresh());
        if decider.may_answer_refusals() {
            handles.answer_refusals();
        }
        handles.report(decider, now);
        let took = now.since(started);
        handles.tell(|telemetry| match decider.failures() {
            (failures, Some(error)) => {
                let headroom = Status::new(decider.snapshot(now, handles.progress), &handles.time).headroom();
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

/// Sleeps this long; for ever if there is nothing to wait for.
async fn sleep(nap: Option<Duration>) {
    match nap {
        Some(nap) => time::sleep(nap).await,
        None => std::future::pending().await,
    }
}

/// How soon `changed` of a source is polled again after it has panicked.
const AFTER_A_PANIC: Duration = Duration::from_secs(30);

/// After `shutdown`: the first time until a source that stores something is asked whether it is done.
pub(crate) const STORING_PAUSE: Duration = Duration::from_millis(50);

/// The longest time between two of these questions.
const STORING_GIVEN_UP: Duration = Duration::from_secs(60);
