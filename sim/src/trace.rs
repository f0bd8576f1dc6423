//! What happened, in the order in which it did. Times are in milliseconds since the beginning.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// Written by everybody in a run, read when it is over.
#[derive(Clone)]
pub struct Trace {
    start: Instant,
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
    /// A request was made. `had_token`: there was a valid token at that moment.
    Made { request: u64, had_token: bool },
    /// It arrived at the API, with this token.
    Arrived { request: u64, token: Option<u64>, status: u16 },
    /// Its sender has an answer, or an error.
    Ended { request: u64, result: Result<u16, String> },
    /// An exchange arrived at the token endpoint.
    Asked { program: usize, exchange: u64, at_once: u64 },
    /// It was answered.
    Answered { exchange: u64, outcome: Outcome },
    /// The server takes somebody for a thief: all refresh tokens are revoked.
    Reused,
    /// An event of the plan, or the end of one.
    Event(String),
    /// A program started.
    Started { program: usize },
    /// It died.
    Crashed { program: usize },
    /// Somebody reads the clock for ever while no time passes.
    Spins,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An access token, which ends then.
    Issued {
        token: u64,
        ends: Duration,
    },
    Refused(u16),
    Lost,
}

impl Trace {
    /// Empty, and it begins now.
    pub fn begin() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }

    pub fn note(&self, what: Happened) {
        let at = self.now();
        self.entries.lock().expect("nobody panics with it").push(Entry { at, what });
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().expect("nobody panics with it"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.3} s  ", self.at.as_secs_f64())?;
        match &self.what {
            Happened::Made { request, had_token: true } => write!(f, "request {request} is made"),
            Happened::Made { request, had_token: false } => {
                write!(f, "request {request} is made, without a valid token")
            }
            Happened::Arrived { request, token: Some(token), status } => {
                write!(f, "request {request} arrives with token {token}: {status}")
            }
            Happened::Arrived { request, token: None, status } => {
                write!(f, "request {request} arrives without a token: {status}")
            }
            Happened::Ended { request, result: Ok(status) } => write!(f, "request {request} is answered {status}"),
            Happened::Ended { request, result: Err(error) } => write!(f, "request {request} fails: {error}"),
            Happened::Asked { program, exchange, at_once: 1 } => {
                write!(f, "exchange {exchange} arrives, of program {program}")
            }
            Happened::Asked { program, exchange, at_once } => {
                write!(f, "exchange {exchange} arrives, of program {program}, one of {at_once} at once")
            }
            Happened::Answered { exchange, outcome: Outcome::Issued { token, ends } } => {
                write!(f, "exchange {exchange} brings token {token}, which ends at {:.3} s", ends.as_secs_f64())
            }
            Happened::Answered { exchange, outcome: Outcome::Refused(status) } => {
                write!(f, "exchange {exchange} is answered {status}")
            }
            Happened::Answered { exchange, outcome: Outcome::Lost } => write!(f, "exchange {exchange} gets no answer"),
            Happened::Reused => f.write_str("a spent refresh token is shown again: all are revoked"),
            Happened::Event(event) => write!(f, "--- {event}"),
            Happened::Started { program } => write!(f, "program {program} starts"),
            Happened::Crashed { program } => write!(f, "program {program} dies"),
            Happened::Spins => f.write_str("somebody spins"),
        }
    }
}
