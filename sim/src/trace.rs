//! What happened, in the order in which it did. Times count from the beginning, and go on while the machine sleeps.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_bearer::State;

use crate::plan::{Body, Route, What};

/// Written by everybody in a run, read when it is over.
#[derive(Clone)]
pub struct Trace {
    start: Instant,
    /// How long the machine has slept, in milliseconds.
    slept: Arc<AtomicU64>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// To the microsecond: the crate's own pauses are no whole milliseconds.
    pub at: Duration,
    pub what: Happened,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// Somebody wants to send a request.
    Made { request: u64, route: Route, body: Body },
    /// The layer got it. `had_token`: there was a valid token at that moment.
    Called { request: u64, had_token: bool },
    /// The layer sent it on, with this token.
    Sent { request: u64, token: Option<u64> },
    /// It arrived at the API.
    Arrived { request: u64, token: Option<u64>, status: u16 },
    /// Its body isn't what was sent.
    Mangled { request: u64 },
    /// It arrived at another origin than the API's.
    Strayed { request: u64 },
    /// Its sender has an answer, or an error.
    Ended { request: u64, result: Result<u16, String> },
    /// Somebody kept the client ready since then, and sent nothing.
    Blocked { since: Duration, program: usize },
    /// An exchange arrived at the token endpoint: so many of this program are there, and of all programs.
    Asked { program: usize, exchange: u64, at_once: u64, in_all: u64 },
    /// It was answered.
    Answered { exchange: u64, outcome: Outcome },
    /// The server takes somebody for a thief: everything is revoked. `heard`: when the first answer had arrived.
    Reused { heard: Option<Duration> },
    /// A request or a task panicked.
    Panicked,
    /// A request doesn't end.
    Stuck,
    /// An event of the plan.
    Event(What),
    /// It is over, where that takes its time.
    Over(What),
    /// Everything has been well for long; whether the authorization lives.
    Well { lives: bool },
    /// The same, and requests were refused or served since then, for as long again.
    Later { lives: bool },
    /// The user has authorized again, and that was some time ago.
    Authorized,
    /// A program started.
    Started { program: usize },
    /// It died.
    Crashed { program: usize },
    /// It ended as it should.
    Stopped { program: usize },
    /// What a program's live token shows of itself from now on. `lives`: the server would have taken its refresh token for a
    /// minute.
    Shows { program: usize, state: State, usable: bool, ending: bool, lives: bool },
    /// In the end the store has this refresh token, and the one that somebody heard of last came then.
    Kept { stored: Option<u64>, heard: u64, at: Duration },
    /// Everybody is gone; so many tasks and bodies of requests are left.
    Left { tasks: usize, bodies: usize },
    /// Somebody reads the clock for ever while no time passes.
    Spins,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An access token, which ends then as far as anybody was told; and the authorization.
    Issued {
        token: u64,
        ends: Duration,
        authorization_ends: Option<Duration>,
    },
    Refused {
        status: u16,
        retry_after: Option<Duration>,
    },
    Lost,
}

impl Trace {
    /// Empty, and it begins now.
    pub fn begin() -> Self {
        Self { start: Instant::now(), slept: Arc::default(), entries: Arc::default() }
    }

    pub fn note(&self, what: Happened) {
        let at = self.now();
        self.entries.lock().expect("nobody panics with it").push(Entry { at, what });
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.start.elapsed() + self.slept()
    }

    /// What monotonic clocks leave out of it.
    pub fn slept(&self) -> Duration {
        Duration::from_millis(self.slept.load(Ordering::Relaxed))
    }

    pub fn sleep(&self, millis: u64) {
        self.slept.fetch_add(millis, Ordering::Relaxed);
    }

    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().expect("nobody panics with it"))
    }

    /// A run's trace as text, a line for each entry.
    pub fn story(trace: &[Entry]) -> String {
        trace.iter().map(|entry| format!("{entry}\n")).collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: &Duration| format!("{:.3} s", time.as_secs_f64());
        let with = |token: &Option<u64>| token.map_or("without a token".into(), |token| format!("with token {token}"));
        write!(f, "{:>16}  ", seconds(&self.at))?;
        match &self.what {
            Happened::Made { request, .. } => write!(f, "request {request} is made"),
            Happened::Called { request, had_token: true } => write!(f, "request {request} is called"),
            Happened::Called { request, had_token: false } => {
                write!(f, "request {request} is called, and there is no valid token")
            }
            Happened::Sent { request, token } => write!(f, "request {request} is sent {}", with(token)),
            Happened::Arrived { request, token, status } => {
                write!(f, "request {request} arrives {}: {status}", with(token))
            }
            Happened::Mangled { request } => write!(f, "request {request} has another body"),
            Happened::Strayed { request } => write!(f, "request {request} arrives elsewhere"),
            Happened::Ended { request, result: Ok(status) } => write!(f, "request {request} is answered {status}"),
            Happened::Ended { request, result: Err(error) } => write!(f, "request {request} fails: {error}"),
            Happened::Blocked { since, program } => {
                write!(f, "program {program} gives the client back that was ready since {}", seconds(since))
            }
            Happened::Asked { program, exchange, at_once, in_all } => {
                write!(f, "exchange {exchange} arrives, of program {program}")?;
                if *in_all > 1 { write!(f, ", one of {at_once} at once, {in_all} in all") } else { Ok(()) }
            }
            Happened::Answered { exchange, outcome } => write!(f, "exchange {exchange} {outcome}"),
            Happened::Reused { heard: None } => f.write_str("a spent refresh token is shown again: all are revoked"),
            Happened::Reused { heard: Some(at) } => {
                write!(f, "a spent refresh token is shown again, answered at {}: all are revoked", seconds(at))
            }
            Happened::Panicked => f.write_str("somebody panics"),
            Happened::Stuck => f.write_str("a request doesn't end"),
            Happened::Event(what) => write!(f, "--- {what:?}"),
            Happened::Over(what) => write!(f, "--- over: {what:?}"),
            Happened::Well { .. } => f.write_str("--- everything has been well for long"),
            Happened::Later { .. } => f.write_str("--- it still is"),
            Happened::Authorized => f.write_str("--- the user has authorized again"),
            Happened::Started { program } => write!(f, "program {program} starts"),
            Happened::Crashed { program } => write!(f, "program {program} dies"),
            Happened::Stopped { program } => write!(f, "program {program} has ended"),
            Happened::Shows { program, state, usable, ending, lives } => {
                let usable = if *usable { "" } else { ", no valid token" };
                let ending = if *ending { ", the authorization is ending" } else { "" };
                let lives = if *lives { "" } else { " (the authorization is dead)" };
                write!(f, "program {program} shows {state:?}{usable}{ending}{lives}")
            }
            Happened::Kept { stored, heard, at } => {
                write!(f, "the store has refresh token {stored:?}, and {heard} came last, at {}", seconds(at))
            }
            Happened::Left { tasks, bodies } => write!(f, "{tasks} tasks and {bodies} bodies are left"),
            Happened::Spins => f.write_str("somebody spins"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued { token, ends, authorization_ends } => {
                write!(f, "brings token {token}, which ends at {:.3} s", ends.as_secs_f64())?;
                match authorization_ends {
                    Some(ends) => write!(f, ", the authorization at {:.3} s", ends.as_secs_f64()),
                    None => Ok(()),
                }
            }
            Self::Refused { status, retry_after: None } => write!(f, "is answered {status}"),
            Self::Refused { status, retry_after: Some(wait) } => {
                write!(f, "is answered {status}, retry after {wait:?}")
            }
            Self::Lost => f.write_str("gets no answer"),
        }
    }
}
