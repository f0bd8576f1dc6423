//! Stores for token sets: in memory, in a file, in Redis, in PostgreSQL, or your own.
//!
//! A [`TokenStore`] keeps one entry of bytes with a version, and grants leases on it. [`Stored`](crate::oauth2::Stored) does the rest, in
//! the same way with every store. It reads the entry again before it spends a refresh token. It notes there that it is about to spend it.
//! It stores the new set before anybody relies on it. And it uses what another process has stored.
//!
//! | store | shared by | survives |
//! |---|---|---|
//! | [`Memory`] | nobody | nothing |
//! | [`FileStore`], [`FileDirectory`] for many | the processes of one machine | restarts, crashes, power cuts |
#![cfg_attr(
    feature = "redis",
    doc = "| [`RedisStore`]; [`RedisFamily`] for many users | a fleet | what the server survives |"
)]
#![cfg_attr(
    not(feature = "redis"),
    doc = "| `RedisStore`; `RedisFamily` for many users (feature `redis`) | a fleet | what the server survives |"
)]
#![cfg_attr(feature = "postgres", doc = "| [`PostgresStore`] | a fleet | what the server survives |")]
#![cfg_attr(
    not(feature = "postgres"),
    doc = "| `PostgresStore` (feature `postgres`) | a fleet | what the server survives |"
)]
//!
#![cfg_attr(feature = "sealed", doc = "[`Sealed`] encrypts what is in any of them.")]
#![cfg_attr(not(feature = "sealed"), doc = "`Sealed` (feature `sealed`) encrypts what is in any of them.")]
//!
//! # Status, metrics and events
//!
//! [`Status::storage`](crate::Status::storage) says whether the set is stored, and so do [metrics and events](crate::telemetry). Events of
//! `tracing` at the level warn say why it isn't:
//!
//! | event | field |
//! |---|---|
//! | "the token store failed" | `error` |
//! | "a token set that nobody uses any more could not be stored: given up" | `error` |
//! | "the token store was set back: what is missing is put there again" | |
//! | "announcements of the token store can't be heard; this is tried again, less and less often" | `error` |
//! | "Redis may evict token sets: set maxmemory-policy to noeviction" | `maxmemory_policy` |
//! | "Redis keeps nothing on disk: when it restarts, authorizations end that no process remembers; set appendonly to yes" | |
//! | "Redis keeps snapshots only: when it restarts, older token sets come back; set appendonly to yes" | `save` |
//! | "Redis doesn't wait for its disk: after a power cut, older token sets come back; set appendfsync to always" | |
//! | "the group of a token file could read or write it: taken away (chmod 600)" | `path` |
//! | "the group of a token file can read or write it, and that can't be taken away" | `path`, `error` |
//! | "what was stored for … is replaced by a new authorization of …" | |
//! | "everybody may remove or replace the token files in this directory: take that away from others (chmod o-w)" | `path` |
//!
//! # What is stored
//!
//! JSON, format 2. An entry in a newer format, or another program's, is left unchanged, and is an error.
//!
//! | member | |
//! |---|---|
//! | `format` | 2 |
//! | `generation` | counts every change; in a store that was set back it is lower than before |
//! | `account` | whose tokens these are: `server`, `client`, `subject` of an [`Account`] |
//! | `set` | `access_token`, `refresh_token`, `scope`, `lifetime_ms`, `requested_at_ms`, `refresh_lifetime_ms`, `refresh_requested_at_ms` (times since the Unix epoch) |
//! | `authorized_at_ms` | when the authorization began. A later one replaces an earlier one, whatever their generations |
//! | `renewals` | how many sets this authorization has brought. A set with fewer is older |
//! | `restored_at_ms` | when a process restored an entry that the store had lost, or found the store empty. For one lease nobody spends, so that a process that knows a newer set can store it |
//! | `asks` | what the access token was asked for (scope, parameters), hashed |
//! | `rotates` | whether renewals bring new refresh tokens |
//! | `from_seed` | the initial set that the authorization began with, one of `seeds` |
//! | `seeds` | hashes of the initial sets of all configurations, the newest last. A restart with one of them doesn't go back to it |
//! | `intent` | `at_ms`, `by` (the lease): a refresh token is about to be spent. If this stays, a response was lost |
//! | `dead` | `end`, `text`, `refused_with`, `salt`: why the refresh token in `set`, or the password, is no longer used, and marks of the client credentials that were refused |
//! | `failure` | `count`, `at_ms`, `until_ms` (nobody tries again before), `asked` (the server asked for that wait), `by` (the process), `of` (a mark of the configuration), `text`, `guess` (what the failure seems to mean), `refused` (the server refused the client, which asked for this, hashed): the last failed fetch |

use std::{fmt, future::Future, time::Duration};

use zeroize::Zeroizing;

mod account;
#[cfg(test)]
mod captured_warnings;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod entry_name;
mod error;
mod file;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod heard;
pub(crate) mod in_parts;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod record;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sealed")]
mod sealed;
mod token_set;

#[cfg(feature = "oauth2")]
pub(crate) use account::tenant;
pub use account::{Account, Credentials};
pub use error::{StoreError, StoreErrorKind};
pub use file::{FileDirectory, FileStore};
pub use memory::Memory;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresFamily, PostgresStore};
#[cfg(feature = "redis")]
pub use redis::{RedisFamily, RedisStore};
#[cfg(feature = "sealed")]
pub use sealed::{InvalidKey, Keyring, Rewrapped, Sealed, SealingKey};
pub use token_set::TokenSet;

/// Keeps one entry: opaque bytes, and their version. Implement it for other databases.
///
/// Two things must hold, whatever crashes: [`swap`](Self::swap) is atomic, and when it has returned, the entry is durable.
///
/// The version protects the entry: a process that was paused beyond its lease finds another version, and changes nothing. So versions must
/// never start again from 1 while somebody uses the entry. Leases need not be exact: two holders at once cost a token request, never a
/// token. Each fetch has a new holder name. `testing::StoreCheck` checks all of it.
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
/// /// The only row of a table `token (version, data, holder, until)`.
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
    note = "a path becomes a store by `FileStore::new(path)`; with the features `redis` and `postgres` there are `RedisStore` and `PostgresStore`; `Stored::new` keeps in memory",
    note = "a type of your own implements `TokenStore`"
)]
pub trait TokenStore: Send + Sync + 'static {
    /// Called once, before anything else, with the account whose tokens these are. A store may derive the entry's key from it. Default:
    /// does nothing.
    fn bind(&mut self, account: &Account) {
        _ = account;
    }

    /// Whether another process, or a later run, may read the entry. Then [`Account::subject`] must say whose tokens these are. Default:
    /// yes.
    fn is_shared(&self) -> bool {
        true
    }

    /// The entry, if there is one.
    ///
    /// # Errors
    /// [`StoreError::unreachable`] if trying again may help, [`StoreError::unusable`] if somebody has to mend something.
    fn load(&self) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Replaces the entry of version `expected` with `data`, as version `expected + 1`. With `expected` 0 there must be no entry.
    ///
    /// # Errors
    /// As for [`load`](Self::load). After an error the data may be stored or not, or be stored later if the version is still `expected`.
    ///
    /// # Cancel safety
    /// The future is dropped when it takes longer than 5 s, as those of all other methods are (15 s for those that have several parts). The swap must then be done or not, and
    /// nothing between.
    fn swap(&self, expected: u64, data: &[u8]) -> impl Future<Output = Result<Swap, StoreError>> + Send;

    /// Asks for a lease: the right to work on the entry for this time. If `holder` has it already, it is renewed.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    fn lease(&self, holder: &str, time: Duration) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Releases the lease, if `holder` still has it.
    ///
    /// # Errors
    /// As for [`load`](Self::load). After an error the lease ends by itself.
    fn release(&self, holder: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Asks for a lease, and loads the entry if it was granted. Default: [`lease`](Self::lease), then [`load`](Self::load). A store that can
    /// do both at once saves a round trip. [`TokenStore`] has an example of the parts.
    ///
    /// # Errors
    /// As for [`load`](Self::load). After an error the lease may be held; if the entry can't be loaded, it is released.
    ///
    /// # Cancel safety
    /// The future is dropped when it takes longer than 15 s. The lease may be held then, and ends by itself.
    fn lease_and_load(
        &self,
        holder: &str,
        time: Duration,
    ) -> impl Future<Output = Result<(Lease, Option<Entry>), StoreError>> + Send {
        in_parts::lease_and_load(self, holder, time)
    }

    /// Replaces the entry of version `expected`, and releases the lease if that is [`Done`](Swap::Done). If there is `before`, the entry must
    /// also have this data: a database that was set back may have come to the same version again. Default: [`load`](Self::load),
    /// [`swap`](Self::swap), then [`release`](Self::release). There the entry may be set back between the load and the swap. A store that can do all of it at once saves two round trips.
    /// [`TokenStore`] has an example of the parts.
    ///
    /// # Errors
    /// As for [`swap`](Self::swap). An error of the release is none: the lease ends by itself.
    ///
    /// # Cancel safety
    /// As for [`swap`](Self::swap).
    fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        in_parts::swap_and_release(self, expected, before, data, holder)
    }

    /// Resolves when the entry may have another version than `known`, or a lease may have been released. The sooner it does, the less
    /// other processes wait. Nothing is lost if it never does. A store that can't tell may sleep for a while and return: after each
    /// false report it is called again later.
    ///
    /// # Cancel safety
    /// The future is dropped and called again at any time, at least with each fetch.
    fn changed(&self, known: u64) -> impl Future<Output = ()> + Send;
}

/// A store that takes longer is of no use: a lease of the default length has ended by then.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(5);

/// An entry of a store. `Debug` doesn't show its data, because it holds tokens. [`TokenStore`] has an example.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    version: u64,
    data: Zeroizing<Vec<u8>>,
}

impl Entry {
    /// An entry that a store has read.
    pub fn new(version: u64, data: Vec<u8>) -> Self {
        Self { version, data: Zeroizing::new(data) }
    }

    /// The version, which counts the swaps. The first entry has version 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The stored bytes. They are zeroized when the entry is dropped.
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

/// The result of a [`swap`](TokenStore::swap). [`TokenStore`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The data is stored.
    Done,
    /// The entry had another version. Nothing was changed.
    Lost,
}

/// The result of asking for a [`lease`](TokenStore::lease). [`TokenStore`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The holder has the lease, for the time that it asked for.
    Granted,
    /// Another holder has it, for at most this time from now on.
    Held(Duration),
}
