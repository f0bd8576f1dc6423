//! What a live token shows to the outside.

use std::{fmt, time::Duration};

use tokio::sync::watch;

use super::{cell::Generation, demand::Progress};
use crate::{
    FetchError, Storage,
    clock::{Moment, Timeline},
};

/// The status of a [`LiveToken`](crate::LiveToken) at one moment.
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
/// assert_eq!((status.state(), status.generation()), (State::Live, 1));
/// assert!(status.is_usable() && !status.is_fetching());
/// assert!(status.time_left() > Some(Duration::from_secs(50)) && status.headroom() > Duration::from_secs(50));
/// assert!(status.next_attempt_in() > Some(Duration::from_secs(40)));
/// assert_eq!((status.failures(), status.last_error().is_none()), (0, true));
/// assert_eq!((status.authorization_left(), status.is_authorization_ending()), (None, false)); // there is no user
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

/// The state of a [`LiveToken`](crate::LiveToken). See the example of [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There was no token yet. The first fetch is under way, or is tried again.
    Starting,
    /// There is a valid token, and the last fetch worked. Only the API's responses show whether the API accepts it: a revoked token is live
    /// until a request is refused.
    Live,
    /// There is a valid token, but the last fetch failed. The task tries again.
    Failing,
    /// The token has expired, and no fetch has worked since. The task tries again.
    Expired,
    /// Nobody has used the token for as long as [`Builder::renew_while_used`](crate::Builder::renew_while_used) says, so it isn't renewed.
    /// The next request wakes it. There may still be a valid token ([`Status::is_usable`]).
    Asleep,
    /// The credentials were rejected, or the store can't be used. Somebody must correct that. There may still be a valid token
    /// ([`Status::is_usable`]).
    Rejected,
    /// The user must authorize again. There may still be a valid token ([`Status::is_usable`]).
    ReauthorizationRequired,
    /// Nothing is fetched any more. There may still be a valid token ([`Status::is_usable`]).
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
                // It has ended, whatever the source said of its end.
                State::ReauthorizationRequired => Some(Duration::ZERO),
                _ => snapshot.authorization_ends.map(left),
            },
            next_attempt_in: snapshot.next_fetch.map(left),
            snapshot,
        }
    }

    /// The state. See the example of [`Status`].
    #[must_use]
    pub fn state(&self) -> State {
        self.snapshot.state
    }

    /// Whether requests find a valid token. See the example of [`Status`].
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.snapshot.usable
    }

    /// How many different tokens there have been, the current one included. See the example of [`Status`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshot.generation.0
    }

    /// For how long the current token is still valid; `None` if there is no valid token, or if its lifetime is unknown. See the example of
    /// [`Status`].
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// How long requests go on if no fetch works from now on: zero without a valid token, [`Duration::MAX`] if the lifetime of the valid
    /// token is unknown. Set alerts on it. See the example of [`Status`].
    #[must_use]
    pub fn headroom(&self) -> Duration {
        match (self.snapshot.usable, self.time_left) {
            (false, _) => Duration::ZERO,
            (true, left) => left.unwrap_or(Duration::MAX),
        }
    }

    /// How long the token can be renewed before the user must authorize again: the lifetime that the refresh token has left. `None` if it
    /// is unknown, zero if the user must authorize now. See the example of [`Status`].
    #[must_use]
    pub fn authorization_left(&self) -> Option<Duration> {
        self.authorization_left
    }

    /// Whether the authorization ends soon, so that it is time to ask the user to authorize again. This begins when a tenth of the
    /// authorization's lifetime is left, but at most three days before its end. If only the end is known, the lifetime counts from when the
    /// end became known. [`LiveToken::watch`](crate::LiveToken::watch) reports when it begins. See the example of [`Status`].
    #[must_use]
    pub fn is_authorization_ending(&self) -> bool {
        self.snapshot.authorization_ending
    }

    /// How many fetches have failed since the last one that worked. See the example of [`Status`].
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.snapshot.failures
    }

    /// Why the last fetch failed; `None` if it worked, or if none has ended yet. See the example of [`Status`].
    #[must_use]
    pub fn last_error(&self) -> Option<&FetchError> {
        self.snapshot.failure.as_ref()
    }

    /// Whether what the source returned last is stored. See the example of [`Storage`].
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.snapshot.storage
    }

    /// How long it is until the next planned fetch; `None` if none is planned, or if one is under way (see [`Status::is_fetching`]). See
    /// the example of [`Status`].
    #[must_use]
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.next_attempt_in
    }

    /// Whether a fetch is under way. See the example of [`Status`].
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
            (true, None) => write!(f, ", token {} of unknown lifetime", self.generation())?,
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
            Self::Asleep => "asleep",
            Self::Rejected => "rejected",
            Self::ReauthorizationRequired => "the user must authorize again",
            Self::Stopped => "stopped",
        })
    }
}

/// Shows a time in the unit in which people would say it.
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

/// Reports changes in the status of a [`LiveToken`](crate::LiveToken); made by [`LiveToken::watch`](crate::LiveToken::watch). It is no
/// handle: it doesn't keep the background task running.
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
    /// What the last call returned.
    pub(crate) last: Option<(State, bool, Generation, u32, bool, Storage)>,
}

impl StatusWatch {
    /// Waits until the status differs from the one that was returned last, and returns it. What counts: the state, the generation, the
    /// number of failures, whether there is a valid token, whether the authorization is ending, and the storage. The first call returns at
    /// once. `None` when the last handle is gone. See the example of [`StatusWatch`].
    ///
    /// A slow caller gets the latest status and misses those in between.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
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
            if self.last.replace(key) != Some(key) {
                return Some(Status::new(snapshot, &self.time));
            }
            self.receiver.changed().await.ok()?;
        }
    }
}

/// What the task tells all handles.
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
    /// The fetch under way was caused by `refresh`, by a change of the source or by the end of a sleep: it may work, whatever failed before.
    pub(crate) hopeful: bool,
    /// The generation that requests carry, if there is a valid token. It may be that of the previous token.
    pub(crate) in_use: Generation,
    /// Refused requests wait until the current token may be tried again.
    pub(crate) doubting: bool,
    /// How often refused requests may have tried the current token again, and whether the API has accepted it.
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

    /// The same at this moment: the token may have expired since the task last ran.
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
