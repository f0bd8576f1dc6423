//! What happened, as everybody in a run wrote it down.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Method;
use tower_bearer::ErrorKind;

use super::plan::{Side, What};

/// Clones are the same.
#[derive(Clone)]
pub struct Trace {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the beginning.
    pub at: Duration,
    pub what: Happened,
}

/// A connection, by the port of its client's end.
pub type Port = u16;

#[derive(Clone, Debug)]
pub enum Happened {
    /// A request is handed to the layer. `has_token`: there is a valid one.
    Made { request: u64, method: Method, has_token: bool },
    /// The layer has taken it, and there still is, or was, one.
    Taken { request: u64, has_token: bool },
    /// The layer hands it to the HTTP client.
    Sent { request: u64, attempt: usize, token: Option<u64>, is_home: bool },
    /// The API got it.
    Arrived { request: u64, attempt: usize, status: u16 },
    /// The HTTP client has an answer, or none.
    Answered { request: u64, attempt: usize, port: Option<Port>, answer: Answer },
    /// Its sender has it.
    Ended { request: u64, end: End },
    /// An exchange is handed to the HTTP client.
    Asked { exchange: u64, at_once: u64 },
    /// The token endpoint has acted on it.
    Acted { exchange: u64, shown: Option<u64>, issued: Option<u64> },
    /// The HTTP client has its whole answer, or not.
    Brought { exchange: u64, port: Option<Port>, answer: Answer },
    /// The server takes somebody for a thief.
    Reused,
    /// All access tokens have ended.
    Revoked,
    /// A proxy did something to a connection, or does so until then.
    Touched { on: Side, port: Port, what: What, until: Option<Duration> },
    /// Everything has been well for long enough.
    Well,
    /// The run is over: what is under way is dropped.
    Over,
    /// The machine stood still for so long.
    Late(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Whole(u16),
    /// Why there is none.
    Failed(String),
    /// Nobody waits for it any more.
    GivenUp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Status(u16),
    /// There was an answer, but its body broke off.
    Cut(String),
    Failed(ErrorKind, String),
}

impl Trace {
    pub fn begin() -> Self {
        Self { start: now(), entries: Arc::default() }
    }

    pub fn note(&self, what: Happened) {
        let mut entries = self.entries.lock().expect("nobody panics with it");
        // With the lock, so that they are in order.
        let at = self.now();
        entries.push(Entry { at, what });
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment when so many milliseconds have passed.
    pub fn moment(&self, millis: u64) -> tokio::time::Instant {
        (self.start + Duration::from_millis(millis)).into()
    }

    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().expect("nobody panics with it"))
    }
}

fn now() -> Instant {
    Instant::now()
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s  ", self.at.as_secs_f64())?;
        match &self.what {
            Happened::Made { request, method, has_token: true } => write!(f, "request {request} is made, a {method}"),
            Happened::Made { request, method, has_token: false } => {
                write!(f, "request {request} is made, a {method}, without a valid token")
            }
            Happened::Taken { request, .. } => write!(f, "request {request} is taken by the layer"),
            Happened::Sent { request, attempt, token: Some(token), is_home } => {
                let elsewhere = if *is_home { "" } else { " TO A FOREIGN ORIGIN" };
                write!(f, "request {request} is sent with token {token}, attempt {attempt}{elsewhere}")
            }
            Happened::Sent { request, attempt, token: None, .. } => {
                write!(f, "request {request} is sent WITHOUT a token, attempt {attempt}")
            }
            Happened::Arrived { request, attempt, status } => {
                write!(f, "        request {request} arrives, attempt {attempt}: {status}")
            }
            Happened::Answered { request, attempt, port, answer } => {
                write!(f, "request {request}, attempt {attempt}{}: {answer}", on(*port))
            }
            Happened::Ended { request, end: End::Status(status) } => write!(f, "request {request} ends: {status}"),
            Happened::Ended { request, end: End::Cut(error) } => {
                write!(f, "request {request} ends: its answer broke off: {error}")
            }
            Happened::Ended { request, end: End::Failed(kind, error) } => {
                write!(f, "request {request} fails: {kind:?}: {error}")
            }
            Happened::Asked { exchange, at_once: 1 } => write!(f, "exchange {exchange} is sent"),
            Happened::Asked { exchange, at_once } => {
                write!(f, "exchange {exchange} is sent, ONE OF {at_once} AT ONCE")
            }
            Happened::Acted { exchange, shown, issued } => {
                write!(f, "        exchange {exchange} arrives")?;
                shown.map_or(Ok(()), |shown| write!(f, " with refresh token {shown}"))?;
                match issued {
                    Some(token) => write!(f, ": token {token} is issued"),
                    None => write!(f, ": refused"),
                }
            }
            Happened::Brought { exchange, port, answer } => write!(f, "exchange {exchange}{}: {answer}", on(*port)),
            Happened::Reused => write!(f, "        a refresh token that was spent is shown again: all are revoked"),
            Happened::Revoked => write!(f, "        all access tokens are revoked"),
            Happened::Touched { on, port, what, until } => {
                write!(f, "    --- proxy of {on:?}, connection {port}: {what:?}")?;
                until.map_or(Ok(()), |until| write!(f, " until {:.3} s", until.as_secs_f64()))
            }
            Happened::Well => write!(f, "    --- everything has been well for long enough"),
            Happened::Over => write!(f, "    --- the run is over"),
            Happened::Late(by) => write!(f, "    --- the machine stood still for {by:?}"),
        }
    }
}

fn on(port: Option<Port>) -> String {
    port.map_or_else(|| " on no connection".into(), |port| format!(" on connection {port}"))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(status) => write!(f, "{status}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::GivenUp => write!(f, "given up"),
        }
    }
}
