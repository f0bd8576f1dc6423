//! The user's pool, and how a statement goes through it.

use std::time::Duration;

use sqlx::{
    Connection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

use super::{
    postgres_error::{is_refused, leaves_a_connection, postgres_error},
    statements::{BACKEND, NOTIFY, STANDBY, Statements, Table},
};
use crate::store::StoreError;

/// The pool and the table.
pub(super) struct Database {
    pool: PgPool,
    table: Table,
    pub(super) statements: Statements,
    limit: Duration,
}

impl Database {
    pub(super) fn new(pool: PgPool, table: Table, limit: Duration) -> Self {
        Self { statements: Statements::on(&table), pool, table, limit: limit.clamp(SHORTEST, LONGEST) }
    }

    /// The same with another table.
    pub(super) fn on(&self, table: Table) -> Self {
        Self::new(self.pool.clone(), table, self.limit)
    }

    /// The same with another limit.
    pub(super) fn within(&self, limit: Duration) -> Self {
        Self::new(self.pool.clone(), self.table.clone(), limit)
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How long the pool may take to give a connection, and the server to answer.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Tells all who listen.
    pub(super) async fn notify(&self, payload: &str) -> Result<(), StoreError> {
        self.ask(|| sqlx::query(NOTIFY).bind(payload)).await.map(drop)
    }

    /// The process of the server behind a connection of the pool.
    pub(super) async fn backend(&self) -> Result<i32, StoreError> {
        let rows = self.ask(|| sqlx::query(BACKEND)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(|row| row.try_get(0)).map_err(|error| postgres_error(&error))
    }

    /// Runs a statement, and returns its rows.
    ///
    /// It goes again if the server refused it. After a failover the pool may still have connections to the old server, which only reads:
    /// each of them is closed and the next one tried.
    pub(super) async fn ask<'q>(&self, query: impl Fn() -> Statement<'q>) -> Result<Vec<PgRow>, StoreError> {
        // The pool counts a connection a moment after it gives it away, so this may be below zero for a moment, which is a huge number.
        let most = usize::try_from(self.pool.options().get_max_connections()).unwrap_or(1);
        let mut left = self.pool.num_idle().min(most) + 1;
        loop {
            match self.attempt(query()).await? {
                Ok(rows) => return Ok(rows),
                Err(refusal) if refusal.may_pass_at_once() && left > 0 => left -= 1,
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    async fn attempt(&self, query: Statement<'_>) -> Result<Result<Vec<PgRow>, Refusal>, StoreError> {
        let connection = timeout(self.limit, self.pool.acquire()).await;
        let connection = connection.map_err(|_| {
            late("waiting for a connection of the pool, which is used up, or can't connect", self.limit)
        })?;
        let mut guarded = match connection {
            Ok(connection) => Guarded { connection, is_sound: false },
            Err(error) => return Ok(Err(Refusal::Error(error))),
        };
        let answer = timeout(self.limit, self.transact(&mut guarded.connection, query)).await;
        let answer = match answer.map_err(|_| late("waiting for an answer", self.limit))? {
            Ok(rows) if is_from_a_standby(&rows) => Err(Refusal::Standby),
            Ok(rows) => Ok(rows),
            Err(error) => Err(Refusal::Error(error)),
        };
        guarded.is_sound = answer.as_ref().map_or_else(Refusal::leaves_a_connection, |_| true);
        Ok(answer)
    }

    /// In a transaction, so that all of it goes to one server connection: PgBouncer may give each transaction another one. There the
    /// statement has no name, because a name would be unknown in the next connection.
    async fn transact(
        &self,
        connection: &mut PoolConnection<Postgres>,
        query: Statement<'_>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut transaction = connection.begin_with(self.begin()).await?;
        let rows = query.persistent(false).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// - A process that stands still before its commit has the row locked: the server ends its transaction.
    /// - Nobody waits for a lock longer than the caller does.
    fn begin(&self) -> String {
        let limit = self.limit.as_millis().max(1);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = {}; \
             SET LOCAL lock_timeout = {limit}",
            2 * limit
        )
    }
}

/// A statement and its arguments.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Why there are no rows.
enum Refusal {
    Error(sqlx::Error),
    /// The connection leads to a standby, which may have older entries.
    Standby,
}

impl Refusal {
    fn may_pass_at_once(&self) -> bool {
        match self {
            Self::Error(error) => is_refused(error),
            Self::Standby => true,
        }
    }

    fn leaves_a_connection(&self) -> bool {
        match self {
            Self::Error(error) => leaves_a_connection(error),
            Self::Standby => false,
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Error(error) => postgres_error(&error),
            Refusal::Standby => {
                Self::unreachable("PostgreSQL: this server is a standby, and the entries of the primary may be newer")
            }
        }
    }
}

fn is_from_a_standby(rows: &[PgRow]) -> bool {
    rows.first().is_some_and(|row| row.try_get(STANDBY).unwrap_or(false))
}

/// A connection of the pool. It is closed unless the statement ended well: if a call is dropped, or its answer too late, nobody should wait
/// for that answer.
struct Guarded {
    connection: PoolConnection<Postgres>,
    is_sound: bool,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.is_sound {
            self.connection.close_on_drop();
        }
    }
}

/// The time limit is as long as the default lease: a longer wait would lose it.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

const SHORTEST: Duration = Duration::from_millis(1);

/// `Stored` drops a call after 5 s.
const LONGEST: Duration = Duration::from_secs(4);

fn late(what: &str, limit: Duration) -> StoreError {
    StoreError::unreachable(format!("PostgreSQL: timed out {what} after {limit:?}"))
}
