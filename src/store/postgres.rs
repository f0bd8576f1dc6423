//! [`PostgresStore`]: a table in PostgreSQL, shared by a fleet.
//!
//! | module | what it holds |
//! |---|---|
//! | `family` | the stores of many keys |
//! | `database` | the user's pool, and how a statement goes through it |
//! | `statements` | the table, and the SQL |
//! | `listening` | the connection that listens, and polls |
//! | `keys` | which keys somebody waits for |
//! | `postgres_error` | what an error of PostgreSQL asks for |

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{Executor, PgPool, Row, postgres::PgRow};

use super::{
    Account, Entry, Lease, StoreError, Swap, TokenStore,
    heard::{Change, Heard},
};

mod database;
mod family;
mod keys;
mod listening;
mod postgres_error;
mod statements;

use database::{Database, LIMIT, Statement};
pub use family::PostgresFamily;
use keys::Subscription;
use listening::Listening;
use postgres_error::{migration_error, postgres_error};
use statements::{Statements, Table};

/// A table in PostgreSQL, shared by a fleet, through your own pool of `sqlx` 0.8: one process fetches, and all have the new token at once.
///
/// Run [`migrate`](Self::migrate), or create the table as [`SCHEMA`](Self::SCHEMA) says. The role needs `SELECT`, `INSERT` and `UPDATE` on it.
/// Addresses, TLS, names and passwords are the pool's: TLS needs one of sqlx's features `tls-…`.
///
/// - **Durability is the server's.** A swap returns after its commit, so what `synchronous_commit` says has happened. Leave it `on`. With
///   standbys that may take over, name them in `synchronous_standby_names`. A lease may be lost in a failover, so it waits for none of them.
/// - **Tokens are not encrypted.** Everybody who can read the table, its backups or its WAL has them. Notifications have no tokens, but any
///   role of the database may listen to them: they show keys.
/// - **One connection listens** (`LISTEN`), besides those of your pool: one for each `PostgresStore`, or for each [family](Self::family). It
///   is made when somebody waits for news, and closed a minute after the last one who did. It has a query every 30 s. When it fails, it is
///   tried again after 0.25 s, and then less and less often, at least every 30 s. Without it the store is polled every five seconds.
/// - **PgBouncer in transaction mode works, by polling**, because notifications don't arrive there. The store names no prepared statements.
///   PgBouncer refuses a parameter of sqlx: set `ignore_startup_parameters = extra_float_digits` there, or
///   `PgConnectOptions::extra_float_digits(None)`. Your own statements need `PgConnectOptions::statement_cache_capacity(0)`, or a PgBouncer
///   that tracks prepared statements (1.21, `max_prepared_statements`).
/// - **Don't delete rows.** The version of a new row begins with 1 again. [`Stored`](crate::oauth2::Stored) takes that for a store that was
///   set back: a process that knows the token set stores it again. [`Stored::remove`](crate::oauth2::Stored::remove) removes one. When no
///   process uses the key any more, delete its row.
///
/// ```no_run
/// use sqlx::PgPool;
/// use tower_bearer::{LiveToken, oauth2::{ClientCredentials, Stored, TokenEndpoint}, store::PostgresStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = PgPool::connect("postgres://app@db.internal/app").await?;
/// PostgresStore::migrate(&pool).await?;
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let store = PostgresStore::new(pool, "documents");
/// let token = LiveToken::spawn(Stored::in_store(ClientCredentials::new(endpoint), store));
/// # Ok(())
/// # }
/// ```
pub struct PostgresStore {
    name: String,
    key: String,
    listening: Arc<Listening>,
    /// From the first call of `changed` on.
    subscription: OnceLock<Subscription>,
    /// The number of the last event that the caller knows.
    known_events: AtomicU64,
}

impl PostgresStore {
    /// The table. For another [name or schema](Self::table), replace `tower_bearer_token`.
    ///
    /// | column | |
    /// |---|---|
    /// | `key` | `ACCOUNT:NAME` ([`Account::id`], and the store's name) |
    /// | `version` | counts the swaps. 0: there is only a lease |
    /// | `data` | the entry, [JSON](crate::store#what-is-stored) |
    /// | `stored_at` | when it was stored, for people |
    /// | `holder`, `leased_until` | the lease, by the server's clock |
    ///
    /// ```sql
    #[doc = include_str!("postgres/schema.sql")]
    /// ```
    pub const SCHEMA: &str = statements::SCHEMA;

    /// Creates the table, if it isn't there. Any number of processes may do so at once. [`PostgresStore`] has an example.
    ///
    /// The role needs the right to create tables. A migration of your own may have the text of [`SCHEMA`](Self::SCHEMA) instead.
    ///
    /// # Errors
    /// [`StoreError`] if the database can't be reached, or the role has no right to.
    ///
    /// # Cancel safety
    /// If the future is dropped, the table is there or not.
    pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
        Self::create(pool, &Table::default()).await
    }

    /// The same for a table with [another name](Self::table). Its schema must exist.
    ///
    /// ```no_run
    /// use sqlx::PgPool;
    /// use tower_bearer::store::{PostgresStore, StoreError};
    ///
    /// # async fn family(pool: PgPool) -> Result<(), StoreError> {
    /// PostgresStore::migrate_table(&pool, "auth.token").await?;
    /// let users = PostgresStore::family(pool, "users").table("auth.token")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate), and if this can't be the name of a table.
    ///
    /// # Cancel safety
    /// As for [`migrate`](Self::migrate).
    pub async fn migrate_table(pool: &PgPool, name: &str) -> Result<(), StoreError> {
        Self::create(pool, &Table::named(name)?).await
    }

    async fn create(pool: &PgPool, table: &Table) -> Result<(), StoreError> {
        let sql = statements::migration(table);
        pool.execute(&*sql).await.map(drop).map_err(|error| migration_error(&error))
    }

    /// The token set with this name, through your own pool.
    ///
    /// The name tells applications apart. Different accounts ([`Account`]: server, client, user) have different keys under the same name.
    /// For many token sets, make a [`family`](Self::family): they share one connection. [`PostgresStore`] has an example.
    pub fn new(pool: PgPool, name: impl Into<String>) -> Self {
        let database = Database::new(pool, Table::default(), LIMIT);
        Self::sharing(Arc::new(Listening::new(database)), name.into())
    }

    /// Any number of token sets, whose names begin with this prefix. [`PostgresFamily`] has an example.
    pub fn family(pool: PgPool, prefix: impl Into<String>) -> PostgresFamily {
        PostgresFamily::new(pool, prefix.into())
    }

    fn sharing(listening: Arc<Listening>, name: String) -> Self {
        let (subscription, known_events) = (OnceLock::new(), AtomicU64::new(0));
        Self { key: key("unbound", &name), name, listening, subscription, known_events }
    }

    /// The table, with its schema or without: lower case letters, digits and underscores. Default: `tower_bearer_token`, where the search
    /// path of the role finds it.
    ///
    /// All processes must name the same one. For a family, call [`PostgresFamily::table`] instead: with this call a store leaves it.
    ///
    /// ```
    /// # use sqlx::PgPool;
    /// use tower_bearer::store::{PostgresStore, StoreError};
    ///
    /// # fn store(pool: PgPool) -> Result<(), StoreError> {
    /// let store = PostgresStore::new(pool, "documents").table("auth.tower_bearer_token")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if this can't be the name of a table.
    pub fn table(mut self, name: &str) -> Result<Self, StoreError> {
        let database = self.listening.database.on(Table::named(name)?);
        self.listening = Arc::new(Listening::new(database));
        Ok(self)
    }

    /// How long PostgreSQL may take to answer, and how long the pool to give a connection. Default: 1 s each; at most 4 s.
    ///
    /// [`Stored`](crate::oauth2::Stored) gives up a call after 5 s, and its [lease](crate::oauth2::Stored::lease) is 1 s by default: if the
    /// server is often slower, make the lease longer as well. A call that is given up closes its connection.
    ///
    /// For a family, call [`PostgresFamily::answer_limit`] instead: with this call a store leaves it.
    ///
    /// ```
    /// # use sqlx::PgPool;
    /// use std::time::Duration;
    /// use tower_bearer::store::PostgresStore;
    ///
    /// # fn store(pool: PgPool) {
    /// let far_away = PostgresStore::new(pool, "documents").answer_limit(Duration::from_secs(2));
    /// # }
    /// ```
    #[must_use]
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        let database = self.listening.database.within(limit);
        self.listening = Arc::new(Listening::new(database));
        self
    }

    async fn ask<'q>(&self, query: impl Fn() -> Statement<'q>) -> Result<Vec<PgRow>, StoreError> {
        if self.key.len() > LONGEST_KEY {
            return Err(StoreError::unusable(format!(
                "the name of a token set has at most {LONGEST_KEY} bytes, with the account"
            )));
        }
        self.listening.database.ask(query).await
    }

    /// The entry in a row: version and data, from this column on.
    fn entry(&self, row: &PgRow, column: usize) -> Result<Option<Entry>, StoreError> {
        let version = read::<Option<i64>>(row, column)?.map(u64::try_from);
        match (version, read::<Option<Vec<u8>>>(row, column + 1)?) {
            // Nothing, or a lease.
            (None | Some(Ok(0)), None) => Ok(None),
            (Some(Ok(version)), Some(data)) if version > 0 => Ok(Some(Entry::new(version, data))),
            _ => Err(StoreError::unusable(format!("the row of {} is not whole: restore it, or delete it", self.key))),
        }
    }

    /// The result of a statement that swaps the entry of this version.
    fn swapped(&self, rows: &[PgRow], expected: u64) -> Swap {
        if rows.is_empty() {
            return Swap::Lost;
        }
        let (heard, known_events) = (self.heard_so_far(), self.known_events.load(Ordering::SeqCst));
        if heard.is_covered_by(expected + 1, known_events) {
            self.note_known_events(heard.number);
        }
        Swap::Done
    }

    fn statements(&self) -> &Statements {
        &self.listening.database.statements
    }

    fn heard_so_far(&self) -> Heard {
        self.subscription.get().map(|subscription| *subscription.heard.borrow()).unwrap_or_default()
    }

    fn note_known_events(&self, number: u64) {
        self.known_events.fetch_max(number, Ordering::SeqCst);
    }
}

impl TokenStore for PostgresStore {
    fn bind(&mut self, account: &Account) {
        self.key = key(&account.id(), &self.name);
        // Its events have numbers of their own.
        (self.subscription, self.known_events) = (OnceLock::new(), AtomicU64::new(0));
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        // The response includes every change that was heard of until now.
        let heard = self.heard_so_far().number;
        let rows = self.ask(|| sqlx::query(&self.statements().load).bind(&self.key)).await?;
        let entry = self.entry(first(&rows)?, 0)?;
        self.note_known_events(heard);
        Ok(entry)
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        // No row has such a version.
        let Ok(version) = i64::try_from(expected) else { return Ok(Swap::Lost) };
        let Statements { swap_first, swap_next, .. } = self.statements();
        let query = || match version {
            0 => sqlx::query(swap_first).bind(&self.key).bind(data),
            _ => sqlx::query(swap_next).bind(&self.key).bind(data).bind(version),
        };
        let rows = self.ask(query).await?;
        Ok(self.swapped(&rows, expected))
    }

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        if expected == 0 {
            let swapped = self.swap(expected, data).await?;
            if swapped == Swap::Done {
                // A lease that can't be released ends by itself.
                let _ = self.release(holder).await;
            }
            return Ok(swapped);
        }
        let Ok(version) = i64::try_from(expected) else { return Ok(Swap::Lost) };
        let sql = &self.statements().swap_and_release;
        let query = || sqlx::query(sql).bind(&self.key).bind(data).bind(version).bind(holder).bind(before);
        let rows = self.ask(query).await?;
        Ok(self.swapped(&rows, expected))
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.lease_and_load(holder, time).await.map(|(lease, _)| lease)
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        // The response includes every change that was heard of until now.
        let heard = self.heard_so_far().number;
        let seconds = time.min(LONGEST_LEASE).as_secs_f64();
        let sql = &self.statements().lease;
        // Another call was granted the lease after this statement began, and this one can't see it: ask again.
        for _ in 0..3 {
            let rows = self.ask(|| sqlx::query(sql).bind(&self.key).bind(holder).bind(seconds)).await?;
            let row = first(&rows)?;
            if read::<bool>(row, 0)? {
                let entry = self.entry(row, 2);
                if entry.is_err() {
                    let _ = self.release(holder).await;
                }
                self.note_known_events(heard);
                return Ok((Lease::Granted, entry?));
            }
            if let Some(left) = read::<Option<i64>>(row, 1)? {
                return Ok((Lease::Held(Duration::from_millis(left.try_into().unwrap_or_default())), None));
            }
        }
        // One after the other has it. All ask for about the same time.
        Ok((Lease::Held(time), None))
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.ask(|| sqlx::query(&self.statements().release).bind(&self.key).bind(holder)).await.map(drop)
    }

    async fn changed(&self, known: u64) {
        let subscription = self.subscription.get_or_init(|| self.listening.subscribe(&self.key));
        // Loaded once, so that of two waiting calls neither takes the other's change.
        let (mut heard, known_events) = (subscription.heard.clone(), self.known_events.load(Ordering::SeqCst));
        let waits = self.listening.wait(subscription);
        loop {
            let now = *heard.borrow_and_update();
            match now.change_for(known_events, known) {
                Change::None => {}
                Change::Known => self.note_known_events(now.number),
                Change::Other => return self.note_known_events(now.number),
            }
            if heard.changed().await.is_err() {
                return std::future::pending().await;
            }
            self.listening.go_on(&waits);
        }
    }
}

fn key(account: &str, name: &str) -> String {
    format!("{account}:{name}")
}

fn first(rows: &[PgRow]) -> Result<&PgRow, StoreError> {
    rows.first().ok_or_else(|| postgres_error(&sqlx::Error::RowNotFound))
}

fn read<'r, T>(row: &'r PgRow, column: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(|error| postgres_error(&error))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the pool, whose options hold a password.
        f.debug_struct("PostgresStore").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What fits into an index, and into a notification.
const LONGEST_KEY: usize = 2_000;

/// A thousand years would be beyond what PostgreSQL can add.
const LONGEST_LEASE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    fn pool() -> PgPool {
        PgPool::connect_lazy("postgres://app:marked-secret@127.0.0.1:1/app").unwrap()
    }

    #[tokio::test]
    async fn a_family_and_a_single_store_have_the_same_entry() {
        let one = PostgresStore::new(pool(), "users/a%2Fb");
        let other = PostgresStore::family(pool(), "users").of("a/b");
        assert_eq!(one.key, other.key);
    }

    #[tokio::test]
    async fn nothing_shows_the_password() {
        let store = PostgresStore::new(pool(), "x").answer_limit(Duration::from_millis(100));
        let error = store.load().await.unwrap_err();
        let family = PostgresStore::family(pool(), "x");
        let shown = format!("{store:?} {family:?} {error} {error:?}");
        assert!(!shown.contains("marked"), "{shown}");
    }

    /// A family may be used in several runtimes.
    #[test]
    fn a_task_that_ended_with_its_runtime_is_replaced_by_those_who_wait_in_another() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let family = {
            let _within = first.enter();
            PostgresStore::family(pool(), "users")
        };
        let (one, other) = (family.of("one"), family.of("other"));
        let mut waits = std::pin::pin!(other.changed(0));
        let mut waits_for = |time| {
            second.block_on(async {
                tokio::time::timeout(time, waits.as_mut()).await.expect_err("nothing was heard");
                tokio::runtime::Handle::current().metrics().num_alive_tasks()
            })
        };
        let moment = Duration::from_millis(20);
        first.block_on(async { tokio::time::timeout(moment, one.changed(0)).await.unwrap_err() });
        assert_eq!(waits_for(moment), 0, "the task is in the first one");
        drop(first);
        assert_eq!(waits_for(moment), 1, "nobody listens for those who wait");
    }

    #[test]
    fn a_task_that_never_ran_is_replaced_as_well() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = {
            let first = runtime();
            let _within = first.enter();
            let store = PostgresStore::new(pool(), "x");
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(std::pin::pin!(store.changed(0)).poll(&mut context).is_pending());
            store
        };
        runtime().block_on(async {
            tokio::time::timeout(Duration::from_millis(20), store.changed(0)).await.unwrap_err();
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
        });
    }

    #[tokio::test]
    async fn an_account_that_is_bound_later_has_news_of_its_own() {
        let account = Account::new("https://id.example.com", "client");
        let mut store = PostgresStore::new(pool(), "x");
        store.note_known_events(7);
        store.bind(&account);
        assert_eq!(store.known_events.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_name_that_fits_into_no_index_is_refused_before_it_is_sent() {
        let error = PostgresStore::new(pool(), "x".repeat(LONGEST_KEY)).load().await.unwrap_err();
        assert!(error.to_string().contains("at most 2000 bytes"), "{error}");
    }
}
