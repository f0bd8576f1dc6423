//! What requests ask of a live token: a header now, a header to wait for, another one after a 401. And what they report to it.

use std::{
    pin::pin,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use http::HeaderValue;
use tokio::time;

use super::{Generation, LiveToken, Shared, telemetry::Waiting, waiter::Waiter};
use crate::{ErrorKind, TokenError, clock::Timeline};

/// How many KiB of response bodies may be held that nobody reads: half of the default window that all streams of an HTTP/2 connection share
/// (RFC 9113 §6.9.2).
pub(crate) const MOST_HELD: u16 = 32;

/// How often a request can still be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// Once, with another token.
    Last,
    /// More than once: first with the same token, which may not be valid yet.
    More,
}

/// What a refused request is sent again with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Another,
    /// The same token, which may be valid by now.
    TheSame,
}

/// Somebody waits for a token that rests while nobody uses it.
pub(super) struct Wanted<'a> {
    waiting: &'a AtomicU16,
    /// The number of the demand.
    number: u64,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Wakes the task, and keeps it awake until the guard is dropped. `None` if it never sleeps.
    pub(super) fn want(&self) -> Option<Wanted<'_>> {
        if !self.rests {
            return None;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Some(Wanted { waiting: &self.waiting, number: self.demands.want() })
    }
}

impl LiveToken {
    /// The timeline of this live token.
    pub(crate) fn time(&self) -> &Timeline {
        &self.shared.time
    }

    /// The header to send now, for where the cost doesn't matter.
    pub(crate) fn current(&self) -> Option<(HeaderValue, Generation)> {
        self.shared.cell.load()
    }

    /// Whether the acceptance of a request with this generation must be reported.
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.shared.cell.is_doubted(generation)
    }

    /// Whether requests carry this generation now.
    pub(crate) fn is_current(&self, generation: Generation) -> bool {
        self.shared.cell.generation() == generation
    }

    /// Whether a 401 for this generation is a reason to fetch, and not the consequence of a fetch: servers that allow one token per client
    /// end the old token when they issue the next, while the token response is still on its way.
    pub(crate) fn is_reason_to_fetch(&self, refused: Generation) -> bool {
        self.is_current(refused) && !self.shared.status.borrow().fetching
    }

    /// Waits for a valid token, at most this long. Returns what is left of the wait.
    pub(crate) async fn wait(&self, max_wait: Duration) -> Result<Duration, TokenError> {
        let deadline = self.shared.time.now() + max_wait;
        self.acquire(max_wait).await?;
        Ok(deadline.since(self.shared.time.now()))
    }

    /// Waits for a valid token, at most this long.
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
        let wanted = self.shared.want();
        let found = self.news(max_wait, || {
            // If there is a token, return it without reading the status: all waiters would contend for its lock.
            if let Some(found) = self.current() {
                return Some(Ok(found));
            }
            let in_vain = {
                let snapshot = self.shared.status.borrow();
                if wanted.as_ref().is_some_and(|wanted| snapshot.progress.read < wanted.number) {
                    // The task may be asleep, and doesn't know of this request yet.
                    return None;
                }
                let kind = snapshot.in_vain(Waiter::Request { until: deadline });
                kind.map(|kind| self.shared.error(kind, &snapshot))
            };
            self.current().map(Ok).or(in_vain.map(Err))
        });
        let timeout = || Err(self.shared.error(ErrorKind::Timeout, &self.shared.status.borrow()));
        found.await.unwrap_or_else(timeout)
    }

    /// Looks now, and whenever something has changed, until a look finds something; at most this long.
    async fn news<T>(&self, max_wait: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let limit = time::sleep(max_wait);
        let mut limit = pin!(limit);
        loop {
            // Before the look, so that no later change is missed.
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

    /// Warns, once for each live token, that requests of this type are not sent again.
    pub(crate) fn warn_not_replayed<R>(&self) {
        if !self.shared.warned_not_replayed.swap(true, Ordering::Relaxed) {
            self.shared.telemetry.not_replayed::<R>();
        }
    }

    /// Warns, once for each live token, that options of requests of this type can't be read.
    #[cold]
    pub(crate) fn warn_not_asked<R>(&self) {
        if !self.shared.warned_not_asked.swap(true, Ordering::Relaxed) {
            self.shared.telemetry.not_asked::<R>();
        }
    }

    /// A 401 came from another server than the one that the request was sent to: it says nothing about the token.
    pub(crate) fn report_refused_elsewhere(&self) {
        self.shared.telemetry.refused_elsewhere();
    }

    /// The API refused a request with this generation. Nobody waits for what follows.
    pub(crate) fn report_refused(&self, refused: Generation) {
        self.shared.telemetry.refused();
        if self.is_current(refused) {
            self.shared.demands.refuse(refused, false);
        }
    }

    /// The API refused a request with this generation. Waits, at most this long, until it is worth sending the request again. Returns what
    /// is left of the wait, and what to send it with. `None` if it isn't worth it.
    pub(crate) async fn replace(
        &self,
        refused: Generation,
        max_wait: Duration,
        attempts: Attempts,
    ) -> Option<(Duration, With)> {
        self.shared.telemetry.refused();
        let waiting = Waiting::after_refusal(&self.shared);
        let deadline = self.shared.time.now() + max_wait;
        let replaced = self.wait_for_another(refused, max_wait, attempts).await;
        let left = deadline.since(self.shared.time.now());
        match replaced {
            Some(_) => waiting.with_token(),
            None if left.is_zero() => waiting.timed_out(),
            None => waiting.failed(),
        }
        replaced.map(|with| (left, with))
    }

    /// The same for the tests of sources, which know nothing of attempts: whether the request can be sent again.
    #[cfg(test)]
    pub(crate) async fn replaced(&self, refused: Generation, max_wait: Duration) -> bool {
        self.replace(refused, max_wait, Attempts::More).await.is_some()
    }

    async fn wait_for_another(&self, refused: Generation, max_wait: Duration, attempts: Attempts) -> Option<With> {
        // Not only a newer one: the previous token is carried while the API doesn't accept a new one yet.
        let another = |shared: &Shared| ![refused, Generation::NONE].contains(&shared.cell.generation());
        let found = |shared: &Shared| another(shared).then_some(With::Another);
        if another(&self.shared) {
            return Some(With::Another);
        }
        if self.is_current(Generation::NONE) {
            // The token has expired meanwhile. Wait for the next one, like a request that comes now.
            return self.wait_for_token(max_wait).await.ok().map(|_| With::Another);
        }
        let (tries, mut present) = {
            let snapshot = self.shared.status.borrow();
            (snapshot.tries.0, snapshot.generation)
        };
        let _wanted = self.shared.want();
        let mut number = self.shared.demands.refuse(refused, attempts == Attempts::Last);
        let deadline = self.shared.time.now() + max_wait;
        let ended = self.news(max_wait, || {
            if another(&self.shared) {
                return Some(Some(With::Another));
            }
            let snapshot = self.shared.status.borrow();
            let (now, accepted) = snapshot.tries;
            if now != tries && snapshot.generation == refused && (attempts == Attempts::More || accepted) {
                return Some(Some(With::TheSame));
            }
            if snapshot.in_use == refused && snapshot.generation != present {
                // The next token has come, and this one is carried in its place. The refusal was reported for this one as the current
                // token, so report it again.
                present = snapshot.generation;
                drop(snapshot);
                number = self.shared.demands.refuse(refused, attempts == Attempts::Last);
                return None;
            }
            snapshot.in_vain(Waiter::Refused { number, until: deadline }).map(|_| None)
        });
        // Whatever ended the wait: what counts is whether there is another token now.
        ended.await.flatten().or_else(|| found(&self.shared))
    }

    /// Takes room for a response body that nobody reads for a while. `false` if there is none, unless `in_any_case`.
    pub(crate) fn make_room(&self, kib: u16, in_any_case: bool) -> bool {
        let held = &self.shared.held;
        let take = |taken: u16| {
            let after = taken.saturating_add(kib);
            (in_any_case || kib == 0 || after <= MOST_HELD).then_some(after)
        };
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Frees that room: the body is read, or dropped.
    pub(crate) fn free_room(&self, kib: u16) {
        let free = |taken: u16| Some(taken.saturating_sub(kib));
        let _ = self.shared.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
    }

    /// The API accepted a request that was sent for the first time with this generation.
    pub(crate) fn report_accepted(&self, generation: Generation) {
        if self.shared.cell.is_doubted(generation) {
            self.shared.demands.accept(generation);
        }
    }

    /// The API accepted a request that was sent again with this generation. `has_its_fetch`: the token was fetched because of this
    /// request's own 401.
    pub(crate) fn report_recovered(&self, generation: Generation, has_its_fetch: bool) {
        self.shared.telemetry.recovered();
        if has_its_fetch {
            self.shared.demands.recover(generation);
        } else {
            self.report_accepted(generation);
        }
    }
}
