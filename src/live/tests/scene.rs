//! The stage: a source that does what its script says and notes when it was called, and a token on it.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::HeaderValue;
use tokio::{sync::watch, task::JoinHandle, time};

use crate::{
    AccessToken, FetchError, FetchReason, FetchRequest, LiveToken, TokenError, TokenSource,
    clock::{Moment, Timeline, tests::ManualClock},
    live::{Builder, Generation},
};

/// What the source does when it is called.
#[derive(Clone, Debug)]
pub(super) struct Act {
    takes: Duration,
    ending: Ending,
}

#[derive(Clone, Debug)]
enum Ending {
    /// The next of `t1`, `t2`, …
    Fresh(Option<Duration>),
    Token(AccessToken),
    Fails(FetchError),
    Panics,
    PanicsAtOnce,
    Hangs,
}

impl Act {
    fn new(ending: Ending) -> Self {
        Self { takes: Duration::ZERO, ending }
    }

    pub(super) fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }
}

/// A token never seen before, with this lifetime.
pub(super) fn fresh(lifetime: Duration) -> Act {
    Act::new(Ending::Fresh(Some(lifetime)))
}

/// A token never seen before of which nothing is known.
pub(super) fn endless() -> Act {
    Act::new(Ending::Fresh(None))
}

pub(super) fn gives(token: AccessToken) -> Act {
    Act::new(Ending::Token(token))
}

pub(super) fn fails(error: FetchError) -> Act {
    Act::new(Ending::Fails(error))
}

pub(super) fn down() -> Act {
    fails(FetchError::try_again("down"))
}

pub(super) fn panics() -> Act {
    Act::new(Ending::Panics)
}

pub(super) fn panics_at_once() -> Act {
    Act::new(Ending::PanicsAtOnce)
}

pub(super) fn hangs() -> Act {
    Act::new(Ending::Hangs)
}

pub(super) fn token(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

/// One call of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// Since the scene began.
    pub(super) at: Duration,
    pub(super) reason: FetchReason,
    pub(super) refused: Option<String>,
    pub(super) timeout: Duration,
    /// When its future was dropped, done or not.
    pub(super) ended: Option<Duration>,
}

/// The source: plays the queue, then the last act for ever.
#[derive(Clone)]
pub(super) struct Script {
    state: Arc<Mutex<State>>,
    called: Arc<watch::Sender<usize>>,
    time: Arc<Timeline>,
    start: Moment,
}

struct State {
    queue: VecDeque<Act>,
    rest: Act,
    issued: u32,
    running: u32,
    calls: Vec<Call>,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn now(&self) -> Duration {
        self.time.now().since(self.start)
    }

    /// What comes next, and what comes after that for ever.
    pub(super) fn play(&self, queue: impl IntoIterator<Item = Act>, rest: Act) {
        let mut state = self.state();
        state.queue = queue.into_iter().collect();
        state.rest = rest;
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }
}

impl TokenSource for Script {
    fn fetch(&mut self, request: FetchRequest) -> impl Future<Output = Result<AccessToken, FetchError>> + Send {
        let at = self.now();
        let mut state = self.state();
        let act = state.queue.pop_front().unwrap_or_else(|| state.rest.clone());
        let number = state.calls.len();
        state.calls.push(Call {
            at,
            reason: request.reason(),
            refused: request.refused().map(|token| token.expose_secret().to_owned()),
            timeout: request.timeout(),
            ended: None,
        });
        state.running += 1;
        assert_eq!(state.running, 1, "two fetches at a time");
        drop(state);
        self.called.send_replace(number + 1);
        let running = Running { script: self.clone(), number };
        if matches!(act.ending, Ending::PanicsAtOnce) {
            panic!("a panic that the test wants, before there is a future");
        }
        let limit = request.timeout();
        async move {
            // Real sources keep to the timeout. A source that hangs doesn't.
            if act.takes > limit {
                time::sleep(limit).await;
                return Err(FetchError::try_again(format!("no answer within {limit:?}")));
            }
            if !act.takes.is_zero() {
                time::sleep(act.takes).await;
            }
            match act.ending {
                Ending::Token(token) => Ok(token),
                Ending::Fails(error) => Err(error),
                Ending::Fresh(lifetime) => {
                    let mut state = running.script.state();
                    state.issued += 1;
                    let token = token(&format!("t{}", state.issued));
                    Ok(lifetime.into_iter().fold(token, AccessToken::expires_in))
                }
                Ending::Panics | Ending::PanicsAtOnce => panic!("a panic that the test wants"),
                Ending::Hangs => std::future::pending().await,
            }
        }
    }
}

struct Running {
    script: Script,
    number: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = self.script.now();
        let mut state = self.script.state();
        state.running -= 1;
        state.calls[self.number].ended = Some(now);
    }
}

pub(super) struct Scene {
    pub(super) token: LiveToken,
    pub(super) driver: JoinHandle<()>,
    pub(super) script: Script,
    pub(super) clock: Arc<ManualClock>,
}

impl Scene {
    /// A token whose source always does the same.
    pub(super) fn always(act: Act) -> Self {
        Self::new([], act)
    }

    pub(super) fn new(queue: impl IntoIterator<Item = Act>, rest: Act) -> Self {
        Self::with(1, queue, rest, |options| options)
    }

    pub(super) fn with(
        seed: u64,
        queue: impl IntoIterator<Item = Act>,
        rest: Act,
        options: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let clock = ManualClock::at_noon();
        let time = Arc::new(Timeline::new(clock.clone()));
        let state =
            State { queue: queue.into_iter().collect(), rest, issued: 0, running: 0, calls: Vec::with_capacity(16) };
        let script = Script { state: Arc::new(Mutex::new(state)), called: Arc::default(), start: time.now(), time };
        let builder = LiveToken::builder(script.clone()).seed(seed).clock(Shared(clock.clone()));
        let (token, driver) = options(builder).pair();
        Self { token, driver: tokio::spawn(driver), script, clock }
    }

    /// When the source was called, in seconds.
    pub(super) fn times(&self) -> Vec<f64> {
        self.script.calls().iter().map(|call| call.at.as_secs_f64()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.script.state().calls.len()
    }

    pub(super) fn last(&self) -> Call {
        self.script.state().calls.last().cloned().expect("the source was called")
    }

    /// The token that a request would carry now.
    pub(super) fn sent(&self) -> Option<String> {
        let header = self.token.authorization()?;
        Some(header.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned())
    }

    pub(super) fn generation(&self) -> Generation {
        self.token.current().expect("there is a token").1
    }

    /// Goes on until this moment, counted from the start.
    pub(super) async fn until(&self, moment: Duration) {
        let now = self.script.now();
        assert!(now <= moment, "{now:?} is later than {moment:?}");
        time::sleep(moment - now).await;
    }

    /// Goes on until the source was called this often; gives the time.
    pub(super) async fn until_call(&self, number: usize) -> Duration {
        let mut called = self.script.called.subscribe();
        within(100 * DAY, called.wait_for(|calls| *calls >= number)).await.unwrap();
        self.script.state().calls[number - 1].at
    }
}

/// The test can move this clock.
struct Shared(Arc<ManualClock>);

impl crate::clock::Clock for Shared {
    fn wall(&self) -> std::time::SystemTime {
        self.0.wall()
    }

    fn suspended(&self) -> Duration {
        self.0.suspended()
    }
}

/// Lets all tasks run that can, within a few milliseconds.
pub(super) async fn settle() {
    time::sleep(3 * MILLI).await;
}

/// A request that waits for a token, as a task of its own.
pub(super) fn acquires(
    token: LiveToken,
    max_wait: Duration,
) -> JoinHandle<Result<(HeaderValue, Generation), TokenError>> {
    tokio::spawn(async move { token.acquire(max_wait).await })
}

/// The result of what must be over after at most this time.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    match time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => panic!("not over after {limit:?}"),
    }
}

/// The result of what must not wait at all.
pub(super) async fn at_once<T>(future: impl Future<Output = T>) -> T {
    within(3 * MILLI, future).await
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const MILLI: Duration = millis(1);
pub(super) const HOUR: Duration = secs(3600);
pub(super) const DAY: Duration = secs(24 * 3600);
