//! What outlives a fetch, a process, or a machine: the stores that a token set is kept in.
//!
//! A [`TokenStore`] keeps one entry of bytes with a version, and says who may work on it. [`Stored`](crate::oauth2::Stored) does
//! the rest, with every store alike: it reads again before it spends a refresh token, writes down that it is about to, stores what
//! it got before anybody relies on it, and takes over what another process stored.
//!
//! | store | shared by | survives |
//! |---|---|---|
//! | [`Memory`] | nobody | nothing |
//! | [`FileStore`] | the processes of one machine | restarts, crashes, power cuts |
#![cfg_attr(feature = "redis", doc = "| [`RedisStore`] | a fleet | what the server survives |")]
#![cfg_attr(not(feature = "redis"), doc = "| `RedisStore` (feature `redis`) | a fleet | what the server survives |")]
//!
//! # What can be seen of it
//!
//! [`Status::storage`](crate::Status::storage) says how it is with the store, and so do [metrics and events](crate::telemetry). Why
//! it failed, `tracing` is told at the level warn: "the token store failed", and "a token set that nobody uses any more could not be
//! stored: given up", both with the field `error`; "the token store was set back: what is missing is put there again"; "announcements of
//! the token store can't be heard; this is tried again, less and less often" (`error`); and "the group of a token file could read or write
//! it: taken away (chmod 600)" (`path`).
//!
//! # What is stored
//!
//! JSON, format 2. What is unknown (a newer format, another program's file) is refused and left as it is.
//!
//! | member | |
//! |---|---|
//! | `format` | 2 |
//! | `generation` | counts every change; a store that was set back has a lower one than its users have seen |
//! | `account` | whose tokens these are: `server`, `client`, `subject` of an [`Account`] |
//! | `set` | `access_token`, `refresh_token`, `scope`, `lifetime_ms`, `requested_at_ms`, `refresh_lifetime_ms`, `refresh_requested_at_ms` (times since the Unix epoch) |
//! | `authorized_at_ms` | when the authorization began: a later one replaces an earlier one, whatever their generations |
//! | `renewals` | how many sets came in this authorization: one that was replaced is older, whoever has put it back |
//! | `restored_at_ms` | when somebody put back what the store had lost, or found it empty: for one lease nobody spends, so that whoever knows more comes first |
//! | `asks` | what the access token was asked for, hashed |
//! | `rotates` | whether renewals bring another refresh token |
//! | `from_seed` | the one of `seeds` that the authorization began with |
//! | `seeds` | hashes of the sets that configurations began with, the last one last, so that a restart doesn't go back to one |
//! | `intent` | `at_ms`, `by`: a refresh token is about to be spent; if it stays, an answer was lost |
//! | `dead` | `end`, `text`, `refused_with`, `salt`: why the refresh token in `set`, or the password, is not used any more, and marks of the client's credentials that were told so |
//! | `failure` | `count`, `at_ms`, `until_ms`, `asked`, `by`, `of` (a mark of the configuration), `text`, `guess`: how the last fetch failed, how long everybody waits, and what the server seems to say |

use std::{fmt, future::Future, time::Duration};

use zeroize::Zeroizing;

mod account;
mod error;
mod file;
mod memory;
pub(crate) mod record;
#[cfg(feature = "redis")]
mod redis;
mod token_set;

#[cfg(feature = "oauth2")]
pub(crate) use account::tenant;
pub use account::{Account, Credentials};
pub use error::{StoreError, StoreErrorKind};
pub use file::FileStore;
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use token_set::TokenSet;

/// Keeps one entry: bytes that it doesn't look into, and their version.
///
/// To be implemented for other databases. Two things must be true of it, whatever crashes: [`swap`](Self::swap) is atomic, and when
/// it has returned, the entry is there to stay. The version is what fences: a process that was paused past its lease finds another
/// version, and changes nothing. So versions never start anew while somebody uses the entry, and leases need not be exact: two
/// holders at once cost a token request, never a token. A holder is named anew for each fetch.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::store::{Entry, Lease, StoreError, Swap, TokenStore};
/// # use std::io;
/// # struct Database;
/// # impl Database {
/// #     async fn row(&self, _: &str) -> io::Result<Option<(u64, Vec<u8>)>> { Ok(None) }
/// #     async fn change(&self, _: &str, _: u64, _: &[u8]) -> io::Result<u64> { Ok(1) }
/// # }
///
/// /// The one row of a table `token (version, data, holder, until)`. What stands for parameters is left out here.
/// struct Row(Database);
///
/// impl TokenStore for Row {
///     async fn load(&self) -> Result<Option<Entry>, StoreError> {
///         let row = self.0.row("SELECT version, data FROM token WHERE version > 0").await;
///         Ok(row.map_err(StoreError::unreachable)?.map(|(version, data)| Entry::new(version, data)))
///     }
///
///     async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
///         // One statement, so that it is atomic; committed when this returns.
///         let sql = "UPDATE token SET version = $1 + 1, data = $2 WHERE version = $1";
///         let rows = self.0.change(sql, expected, data).await.map_err(StoreError::unreachable)?;
///         Ok(if rows == 1 { Swap::Done } else { Swap::Lost })
///     }
///
///     async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
///         let sql = "UPDATE token SET holder = $2, until = now() + $1 WHERE holder = $2 OR until < now()";
///         let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
///         let rows = self.0.change(sql, milliseconds, holder.as_bytes()).await.map_err(StoreError::unreachable)?;
///         Ok(if rows == 1 { Lease::Granted } else { Lease::Held(time) })
///     }
///
///     async fn release(&self, holder: &str) -> Result<(), StoreError> {
///         let sql = "UPDATE token SET until = now() WHERE holder = $2";
///         self.0.change(sql, 0, holder.as_bytes()).await.map_err(StoreError::unreachable)?;
///         Ok(())
///     }
///
///     async fn changed(&self, _: u64) {
///         // Or listen to notifications of the database.
///         tokio::time::sleep(Duration::from_secs(1)).await;
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no store of tokens",
    label = "no token set can be kept in this",
    note = "a path becomes a store by `FileStore::new(path)`; with the feature `redis` there is `RedisStore`; `Stored::new` keeps in memory",
    note = "a type of your own implements `TokenStore`"
)]
pub trait TokenStore: Send + Sync + 'static {
    /// Called once, before anything else: whose tokens these are, for stores that derive from it where they keep them.
    fn bind(&mut self, account: &Account) {
        _ = account;
    }

    /// Whether anybody else, or a later run, may find what is kept here. Then it must be known whose tokens these are: see
    /// [`Account::subject`]. Default: yes.
    fn is_shared(&self) -> bool {
        true
    }

    /// The entry, if there is one.
    ///
    /// # Errors
    /// [`StoreError::unreachable`] if trying again may help, [`StoreError::unusable`] if somebody has to do something.
    fn load(&self) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Puts `data` in the place of the entry of version `expected` (0: of none), as version `expected + 1`.
    ///
    /// # Errors
    /// As for [`load`](Self::load). Then the data may be there or not, or arrive later, while the version is still `expected`.
    ///
    /// # Cancel safety
    /// The future is dropped when it takes longer than five seconds, as those of all other calls are. That may leave it done or not, but
    /// nothing between.
    fn swap(&self, expected: u64, data: &[u8]) -> impl Future<Output = Result<Swap, StoreError>> + Send;

    /// Asks for the right to work on the entry, for so long; or prolongs it, if `holder` has it.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    fn lease(&self, holder: &str, time: Duration) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Gives that right back, if `holder` still has it.
    ///
    /// # Errors
    /// As for [`load`](Self::load). Then it ends by itself.
    fn release(&self, holder: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Resolves when there may be an entry of another version than `known`, or a lease may have been given back. The sooner it does,
    /// the less others wait; nothing is lost if it never does. A store that can't tell may sleep for a while and return: one that
    /// returns in vain is asked again at a slowing pace.
    ///
    /// # Cancel safety
    /// The future is dropped and made anew at any time, with each fetch at the least.
    fn changed(&self, known: u64) -> impl Future<Output = ()> + Send;
}

/// What a store keeps. `Debug` doesn't show the data: there are tokens in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    version: u64,
    data: Zeroizing<Vec<u8>>,
}

impl Entry {
    /// An entry as a store has found it.
    pub fn new(version: u64, data: Vec<u8>) -> Self {
        Self { version, data: Zeroizing::new(data) }
    }

    /// Counts the swaps; the first entry is version 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What was stored. Zeroized when the entry is dropped.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("version", &self.version).finish_non_exhaustive()
    }
}

/// How a [`swap`](TokenStore::swap) went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The data is stored.
    Done,
    /// There was an entry of another version; nothing was changed.
    Lost,
}

/// Who may work on an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The one who asked, for the time asked for.
    Granted,
    /// Somebody else, for at most this time from now on.
    Held(Duration),
}
