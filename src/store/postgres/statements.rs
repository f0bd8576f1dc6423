//! The statements, with the name of the table.

use std::fmt;

use crate::store::StoreError;

/// The table, as [`PostgresStore::SCHEMA`](super::PostgresStore::SCHEMA) shows it.
pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// One at a time: of two `CREATE TABLE IF NOT EXISTS` at the same moment one would fail.
pub(super) fn migration(table: &Table) -> String {
    let schema = SCHEMA.replacen("tower_bearer_token", &table.to_string(), 1);
    format!("SELECT pg_advisory_xact_lock({MIGRATION}); {schema}")
}

/// What tells the others of a swap. It is one for all keys, because each channel would cost the server a place in a list that it searches
/// with every notification.
pub(super) const CHANNEL: &str = "tower_bearer";

/// The process of the server behind a connection.
pub(super) const BACKEND: &str = "SELECT pg_backend_pid()";

/// `$1`: the payload.
pub(super) const NOTIFY: &str = "SELECT pg_notify('tower_bearer', $1)";

/// The column that says whether the server is a standby.
pub(super) const STANDBY: &str = "is_standby";

/// A lease may be lost, so its commit waits for no standby. While one is missing, a commit that was given up would go on in the server: one
/// for each user, until there is no connection left. (Of those that swap there is only one, because the others wait for it to notify.)
const LEASED: &str = "pg_catalog.set_config('synchronous_commit', 'local', true)";

/// What every call does, for one table. `$1` is always the key.
pub(super) struct Statements {
    /// Returns one row: version and data, which are null if there is no row, and [`STANDBY`].
    pub(super) load: String,
    /// Makes the first entry, of data `$2`. Returns a row if it did. There may be a row already, with a lease.
    pub(super) swap_first: String,
    /// Replaces the entry of version `$3` by data `$2`. Returns a row if it did.
    pub(super) swap_next: String,
    /// The same, if that has the data `$5` (null: whatever it has), and ends the lease of holder `$4`.
    pub(super) swap_and_release: String,
    /// Asks for a lease for holder `$2` and `$3` seconds. Returns whether it was granted, and if not, for how many milliseconds another
    /// holder has it. Who comes too late for one that has just been granted reads null. Then the version and the data, if it was granted: of
    /// the row that was changed, because what the statement saw at its beginning may be older.
    ///
    /// The row is looked at first, because `ON CONFLICT` locks it even if nothing changes: that would be a synced write for each question.
    pub(super) lease: String,
    /// Ends the lease of holder `$2`.
    pub(super) release: String,
    /// The keys of `$1`, an array, that have a row, and their versions.
    pub(super) poll: String,
}

impl Statements {
    pub(super) fn on(table: &Table) -> Self {
        // In the statement that swaps: the notification leaves with the commit, or not at all.
        let tell = format!("SELECT pg_notify('{CHANNEL}', version || ' ' || key) FROM swapped");
        Self {
            load: format!(
                "SELECT version, data, pg_is_in_recovery() AS {STANDBY} FROM (VALUES (1)) AS always LEFT JOIN {table} ON key = $1"
            ),
            swap_first: format!(
                "WITH swapped AS (INSERT INTO {table} AS t (key, version, data, stored_at) VALUES ($1, 1, $2, now()) \
                 ON CONFLICT (key) DO UPDATE SET version = 1, data = EXCLUDED.data, stored_at = EXCLUDED.stored_at \
                 WHERE t.version = 0 RETURNING t.key, t.version) {tell}"
            ),
            swap_next: format!(
                "WITH swapped AS (UPDATE {table} SET version = version + 1, data = $2, stored_at = now() \
                 WHERE key = $1 AND version = $3 RETURNING key, version) {tell}"
            ),
            swap_and_release: format!(
                "WITH swapped AS (UPDATE {table} SET version = version + 1, data = $2, stored_at = now(), \
                 holder = NULLIF(holder, $4), leased_until = CASE WHEN holder = $4 THEN NULL ELSE leased_until END \
                 WHERE key = $1 AND version = $3 AND data = coalesce($5, data) RETURNING key, version) {tell}"
            ),
            lease: format!(
                "WITH held AS (SELECT leased_until - clock_timestamp() AS rest FROM {table} \
                 WHERE key = $1 AND holder <> $2 AND leased_until > clock_timestamp()), \
                 granted AS (INSERT INTO {table} AS t (key, version, holder, leased_until) \
                 SELECT $1, 0, $2, clock_timestamp() + make_interval(secs => $3) WHERE NOT EXISTS (SELECT FROM held) \
                 ON CONFLICT (key) DO UPDATE SET holder = EXCLUDED.holder, leased_until = EXCLUDED.leased_until \
                 WHERE t.holder = EXCLUDED.holder OR (t.leased_until > clock_timestamp()) IS NOT TRUE \
                 RETURNING t.version, t.data, {LEASED}) \
                 SELECT EXISTS (SELECT FROM granted), (SELECT ceil(extract(epoch FROM rest) * 1000)::bigint FROM held), \
                 (SELECT version FROM granted), (SELECT data FROM granted)"
            ),
            release: format!(
                "UPDATE {table} SET holder = NULL, leased_until = NULL WHERE key = $1 AND holder = $2 RETURNING {LEASED}"
            ),
            poll: format!("SELECT key, version FROM {table} WHERE key = ANY($1)"),
        }
    }
}

/// The name of a table. `Display` quotes it for SQL.
#[derive(Clone)]
pub(super) struct Table {
    schema: Option<String>,
    name: String,
}

impl Table {
    /// Where the search path finds it.
    pub(super) fn default() -> Self {
        Self { schema: None, name: "tower_bearer_token".into() }
    }

    /// `TABLE` or `SCHEMA.TABLE`, of lower case letters, digits and underscores.
    pub(super) fn named(text: &str) -> Result<Self, StoreError> {
        let (schema, name) = text.split_once('.').map_or((None, text), |(schema, name)| (Some(schema), name));
        if schema.into_iter().chain([name]).all(is_name) {
            Ok(Self { schema: schema.map(Into::into), name: name.into() })
        } else {
            Err(StoreError::unusable(format!(
                "{text:?} can't be the table: lower case letters, digits and underscores, as in auth.tower_bearer_token"
            )))
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In quotes, because the name may be a reserved word.
        if let Some(schema) = &self.schema {
            write!(f, "\"{schema}\".")?;
        }
        write!(f, "\"{}\"", self.name)
    }
}

/// Upper case is left out: PostgreSQL turns it into lower case, but not in quotes.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    // PostgreSQL cuts off longer ones.
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.as_bytes()[0].is_ascii_digit()
}

/// Any number that no other program locks.
const MIGRATION: i64 = 0x746f_7765_725f_6265;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_plain_name_and_nothing_else() {
        for (text, sql) in
            [("tokens", "\"tokens\""), ("auth.tokens", "\"auth\".\"tokens\""), ("_a1.user", "\"_a1\".\"user\"")]
        {
            assert_eq!(Table::named(text).unwrap().to_string(), sql);
        }
        let long = "a".repeat(64);
        let injected = "tokens\"; DROP TABLE users; --";
        for text in
            ["", ".", "a.", ".a", "a.b.c", "Tokens", "to kens", "1a", "a-b", "tökens", "a\"b", "a'b", &long, injected]
        {
            let error = Table::named(text).map(|table| table.to_string()).unwrap_err();
            assert!(error.to_string().contains("can't be the table"), "{error}");
        }
    }

    #[test]
    fn every_statement_is_about_the_table_that_was_chosen() {
        let Statements { load, swap_first, swap_next, swap_and_release, lease, release, poll } =
            Statements::on(&Table::named("auth.tokens").unwrap());
        for sql in [load, swap_first, swap_next, swap_and_release, lease, release, poll] {
            assert!(sql.contains("\"auth\".\"tokens\"") && !sql.contains("tower_bearer_token"), "{sql}");
        }
        assert!(SCHEMA.contains(&Table::default().name));
    }

    #[test]
    fn the_guide_shows_the_same_table() {
        assert!(include_str!("../../../docs/guide/stores.md").contains(SCHEMA));
    }
}
