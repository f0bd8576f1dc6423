//! What can be seen of a live token from outside.

use std::{fmt, time::Duration};

use tokio::sync::watch;

use super::{cell::Generation, demand::Progress};
use crate::{
    FetchError, Storage,
    clock::{Moment, Timeline},
};

/// How a [`LiveToken`](crate::LiveToken) is doing, at one moment.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, LiveToken, State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = LiveToken::spawn(AccessToken::new("secret")?.expires_in(Duration::from_secs(60)));
/// token.ready().await?;
/// let status = token.status();
/// assert_eq!(status.state(), State::Live);
/// assert!(status.headroom() > Duration::from_secs(50));
/// println!("{status}"); // live, token 1, 60.0 s left, next fetch in 48.2 s
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Status {
    snapshot: Snapshot,
    time_left: Option<Duration>,
    authorization_left: Option<Duration>,
    next_attempt_in: Option<Duration>,
}

/// The state of a [`LiveToken`](crate::LiveToken).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There was no token yet; the first fetch runs, or is tried again.
    Starting,
    /// There is a valid token, and the last fetch worked. Whether the API takes it, only its answers say: one that was revoked is live until
    /// a request is refused.
    Live,
    /// There is a valid token, but the last fetch failed. It is tried again.
    Failing,
    /// The token has expired, and fetching another one has not worked yet. It is tried again.
    Expired,
    /// The credentials were rejected, or the store can't be used: it needs somebody. There may be a valid token still ([`Status::is_usable`]).
    Rejected,
    /// The user must authorize again. There may be a valid token still ([`Status::is_usable`]).
    ReauthorizationRequired,
    /// Nothing is fetched any more. There may be a valid token still ([`Status::is_usable`]).
    Stopped,
}

impl Status {
    pub(crate) fn new(snapshot: Snapshot, time: &Timeline) -> Self {
        let now = time.now();
        let left = |until: Moment| until.since(now);
        let snapshot = snapshot.at(now);
        Self {
            time_left: snapshot.expires_at.filter(|_| snapshot.usable).map(left),
            authorization_left: match snapshot.state {
                // Whatever was told: it has ended.
                State::ReauthorizationRequired => Some(Duration::ZERO),
                _ => snapshot.authorization_ends.map(left),
            },
            next_attempt_in: snapshot.next_fetch.map(left),
            snapshot,
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.snapshot.state
    }

    /// Whether requests find a valid token.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.snapshot.usable
    }

    /// How many different tokens there have been, the one in use included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshot.generation.0
    }

    /// The life that the valid token has left; `None` without one, and where its lifetime isn't known.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// How long requests go on if no fetch works from now on: zero without a valid token, [`Duration::MAX`] if the lifetime of
    /// the valid one isn't known. The number to set an alarm on.
    #[must_use]
    pub fn headroom(&self) -> Duration {
        match (self.snapshot.usable, self.time_left) {
            (false, _) => Duration::ZERO,
            (true, left) => left.unwrap_or(Duration::MAX),
        }
    }

    /// How long the token can be renewed before the user must authorize again, as far as that is known: the life that the refresh
    /// token has left. The number to warn users on.
    #[must_use]
    pub fn authorization_left(&self) -> Option<Duration> {
        self.authorization_left
    }

    /// Whether it is time to ask the user to authorize again. It is in the last tenth of the authorization's time, and three days before its
    /// end at the earliest. Where only the end is known, the time counts from when that became known. A
    /// [watch](crate::LiveToken::watch) tells when it begins.
    #[must_use]
    pub fn is_authorization_ending(&self) -> bool {
        self.snapshot.authorization_ending
    }

    /// How many fetches have failed since the last one that worked.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.snapshot.failures
    }

    /// Why the last fetch failed; `None` once one has worked.
    #[must_use]
    pub fn last_error(&self) -> Option<&FetchError> {
        self.snapshot.failure.as_ref()
    }

    /// Whether what the source brought last is stored where it should be.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.snapshot.storage
    }

    /// When the next fetch is planned; `None` if none is (it may run right now, see [`Status::is_fetching`]).
    #[must_use]
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.next_attempt_in
    }

    /// Whether a fetch runs.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.snapshot.fetching
    }
}

impl fmt::Display for Status {
    /// For people: `live, token 4, 8.6 s left, next fetch in 3.7 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state())?;
        match (self.is_usable(), self.time_left()) {
            (false, _) => f.write_str(", no valid token")?,
            (true, Some(left)) => write!(f, ", token {}, {} left", self.generation(), Span(left))?,
            (true, None) => write!(f, ", token {} of unknown life", self.generation())?,
        }
        match (self.is_fetching(), self.next_attempt_in()) {
            (true, _) => f.write_str(", fetching")?,
            (false, Some(wait)) => write!(f, ", next fetch in {}", Span(wait))?,
            (false, None) => {}
        }
        match self.storage() {
            Storage::Unsaved => f.write_str(", not stored yet")?,
            Storage::Unreachable => f.write_str(", the store is unreachable")?,
            _ => {}
        }
        match self.last_error() {
            Some(error) => write!(f, ", {} failed: {error}", self.failures()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("state", &self.state())
            .field("is_usable", &self.is_usable())
            .field("generation", &self.generation())
            .field("time_left", &self.time_left())
            .field("authorization_left", &self.authorization_left())
            .field("is_authorization_ending", &self.is_authorization_ending())
            .field("failures", &self.failures())
            .field("last_error", &self.last_error())
            .field("next_attempt_in", &self.next_attempt_in())
            .field("is_fetching", &self.is_fetching())
            .field("storage", &self.storage())
            .finish()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Failing => "failing",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::ReauthorizationRequired => "the user must authorize again",
            Self::Stopped => "stopped",
        })
    }
}

/// A time in the unit that people would say it in.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            ..100 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            seconds @ ..7_200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3_600),
            seconds => write!(f, "{} d", seconds / 86_400),
        }
    }
}

/// Tells of changes of a [`LiveToken`](crate::LiveToken); made by [`LiveToken::watch`](crate::LiveToken::watch). Doesn't keep
/// the token alive.
///
/// ```
/// use tower_bearer::{AccessToken, LiveToken, State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let mut watch = token.watch();
/// while let Some(status) = watch.changed().await {
///     if status.state() == State::Live {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StatusWatch {
    pub(crate) receiver: watch::Receiver<Snapshot>,
    pub(crate) time: std::sync::Arc<Timeline>,
    pub(crate) seen: Option<(State, bool, Generation, u32, bool, Storage)>,
}

impl StatusWatch {
    /// Waits until something is another than when this was called last, and returns the status then: the state, the generation,
    /// the number of failures, whether there is a valid token, whether the authorization is ending, or how it is with the store. The
    /// first call returns at once. `None` when the last handle to the token is gone.
    ///
    /// Who is slow sees the latest status and misses those between.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Option<Status> {
        loop {
            let snapshot = self.receiver.borrow_and_update().clone();
            let key = (
                snapshot.state,
                snapshot.usable,
                snapshot.generation,
                snapshot.failures,
                snapshot.authorization_ending,
                snapshot.storage,
            );
            if self.seen.replace(key) != Some(key) {
                return Some(Status::new(snapshot, &self.time));
            }
            self.receiver.changed().await.ok()?;
        }
    }
}

/// What the task tells everybody.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) usable: bool,
    pub(crate) generation: Generation,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) authorization_ends: Option<Moment>,
    pub(crate) authorization_ending: bool,
    pub(crate) failures: u32,
    pub(crate) failure: Option<FetchError>,
    pub(crate) next_fetch: Option<Moment>,
    pub(crate) fetching: bool,
    pub(crate) storage: Storage,
    /// The fetch that runs was asked for, or the source has something new: whatever failed before, this may work.
    pub(crate) hopeful: bool,
    /// What requests carry, if there is a valid token: perhaps the one before the present one.
    pub(crate) in_use: Generation,
    /// Refused requests wait for the present token to be tried again.
    pub(crate) doubting: bool,
    /// How often those that were refused with the present token may have tried it again, and whether it was ever accepted.
    pub(crate) tries: (u8, bool),
    pub(crate) progress: Progress,
}

impl Snapshot {
    pub(crate) fn starting() -> Self {
        Self {
            state: State::Starting,
            usable: false,
            generation: Generation::NONE,
            expires_at: None,
            authorization_ends: None,
            authorization_ending: false,
            failures: 0,
            failure: None,
            next_fetch: None,
            // The first fetch begins as soon as the task runs.
            fetching: true,
            storage: Storage::Sound,
            hopeful: false,
            in_use: Generation::NONE,
            doubting: false,
            tries: (0, false),
            progress: Progress::default(),
        }
    }

    /// The same as it is now: the task may not have run since the token ended.
    pub(crate) fn at(mut self, now: Moment) -> Self {
        if self.usable && self.expires_at.is_some_and(|end| end <= now) {
            self.usable = false;
            if matches!(self.state, State::Live | State::Failing) {
                self.state = State::Expired;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, said) in [
            (9, "9.0 s"),
            (99, "99.0 s"),
            (100, "1 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), said);
        }
    }
}
