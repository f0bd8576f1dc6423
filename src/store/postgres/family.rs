//! [`PostgresFamily`]: the stores of many keys.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::PgPool;

use super::{Database, LIMIT, Listening, PostgresStore, Table};
use crate::store::{StoreError, entry_name};

/// The stores of any number of keys (users, tenants) in one table. They share the pool, and one connection that listens for all of them.
/// Made by [`PostgresStore::family`].
///
/// A store that nobody waits for costs its memory only: no connection, task or poll. The connection that listens is made when somebody waits
/// for the first news, and closed a minute after the last one. While it works, keys that somebody waits for are polled once a minute, all
/// in one query; without it, every five seconds.
///
/// ```no_run
/// use sqlx::PgPool;
/// use tower_bearer::{
///     LiveToken,
///     oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
///     store::PostgresStore,
/// };
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = PgPool::connect("postgres://app@db.internal/app").await?;
/// let family = PostgresStore::family(pool, "documents");
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// for (user, first) in [("anna", "8xLOxBtZp8"), ("ben", "tGzv3JOkF0")] {
///     let grant = RefreshToken::new(endpoint.clone()).subject(user);
///     let source = Stored::in_store(grant, family.of(user)).holding(TokenSet::of_refresh_token(first));
///     let token = LiveToken::spawn(source);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresFamily {
    prefix: String,
    listening: Arc<Listening>,
}

impl PostgresFamily {
    pub(super) fn new(pool: PgPool, prefix: String) -> Self {
        Self { prefix, listening: Arc::new(Listening::new(Database::new(pool, Table::default(), LIMIT))) }
    }

    /// The store of this key.
    ///
    /// Its entry is that of [`PostgresStore::new`] with the name `PREFIX/KEY`, in which `%`, `/` and control characters of the key are
    /// percent-encoded. [`PostgresFamily`] has an example.
    #[must_use]
    pub fn of(&self, key: impl AsRef<str>) -> PostgresStore {
        PostgresStore::sharing(self.listening.clone(), entry_name::of_key(&self.prefix, key.as_ref()))
    }

    /// The table: see [`PostgresStore::table`]. Stores that were made before keep theirs.
    ///
    /// ```
    /// # use sqlx::PgPool;
    /// use tower_bearer::store::{PostgresStore, StoreError};
    ///
    /// # fn family(pool: PgPool) -> Result<(), StoreError> {
    /// let family = PostgresStore::family(pool, "documents").table("auth.tower_bearer_token")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if this can't be the name of a table.
    pub fn table(mut self, name: &str) -> Result<Self, StoreError> {
        self.listening = Arc::new(Listening::new(self.listening.database.on(Table::named(name)?)));
        Ok(self)
    }

    /// The time limit: see [`PostgresStore::answer_limit`]. Stores that were made before keep theirs.
    ///
    /// ```
    /// # use sqlx::PgPool;
    /// use std::time::Duration;
    /// use tower_bearer::store::PostgresStore;
    ///
    /// # fn family(pool: PgPool) {
    /// let far_away = PostgresStore::family(pool, "documents").answer_limit(Duration::from_secs(2));
    /// # }
    /// ```
    #[must_use]
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        self.listening = Arc::new(Listening::new(self.listening.database.within(limit)));
        self
    }
}

impl fmt::Debug for PostgresFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the pool, whose options hold a password.
        f.debug_struct("PostgresFamily").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
