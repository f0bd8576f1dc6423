//! A Redis server, shared by a fleet.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError};
use tokio::sync::watch;

use super::{Account, Entry, Lease, StoreError, Swap, TokenStore};

mod announcements;
mod connection;
mod durability;
mod redis_error;
mod scripts;

use announcements::{Heard, News};
use connection::{Answers, Connection, LIMIT};
use durability::Durability;
use redis_error::redis_error;

/// A Redis server, or another that speaks its protocol and runs Lua scripts (Valkey, KeyDB, Dragonfly), shared by a fleet: one of
/// its processes fetches, and all have the new token at once.
///
/// Reconnects by itself, also after a failover behind a name or a proxy: any error ends the connection, and the next call makes a new one.
/// Addresses, TLS (`rediss://`), names and passwords are the client's: see [`redis::Client`].
///
/// - **Durable as the server is.** For refresh tokens that work once: `appendonly yes` and `appendfsync always`, and no eviction
///   (`maxmemory-policy noeviction`). With replicas that may take over: [`wait_for_replicas`](Self::wait_for_replicas) or
///   [`wait_for_disks`](Self::wait_for_disks).
/// - **Not encrypted there.** Whoever can read the database has the tokens, so give it a user of its own (ACL: keys
///   `~tower-bearer:*`, channels `&tower-bearer:*`).
/// - **Two connections**: one for commands, made when it is first needed, and one that hears what others have stored. The second one is
///   kept alive by a `PING` every 30 seconds. When it can't be made, it is tried again after a quarter of a second, and then less and less
///   often, up to every 30 seconds.
/// - Three names for each token set: `tower-bearer:{ACCOUNT:NAME}` (a hash of `version` and `data`), the same with `:lease`, and with
///   `:changed` for the channel. They lie in one slot of a cluster; this
///   client itself follows no redirections, so a cluster needs a proxy, or a name that leads to the node with that slot.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{ClientCredentials, Stored, TokenEndpoint}, store::RedisStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let store = RedisStore::connect("rediss://app:password@redis.internal:6379", "documents")?;
/// let token = LiveToken::spawn(Stored::in_store(ClientCredentials::new(endpoint), store));
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    name: String,
    keys: Keys,
    durability: Durability,
    connection: Arc<Connection>,
    /// What others have announced, from the first question on.
    heard: OnceLock<watch::Receiver<Heard>>,
    /// The number of the event up to which the caller knows everything.
    told: AtomicU64,
    /// Counts the writes that must be confirmed, and the last one of which it is known that enough have it.
    written: AtomicU64,
    confirmed: AtomicU64,
}

#[derive(Clone)]
struct Keys {
    entry: String,
    lease: String,
    channel: String,
}

impl RedisStore {
    /// The token set of this name on the server at this URL (`redis://`, `rediss://`, `unix://`). Connects when it is first used.
    ///
    /// The name tells applications apart. Token sets of different accounts ([`Account`]: server, client, user) have keys of their own under the
    /// same name.
    ///
    /// # Errors
    /// [`StoreError`] if it is no such URL.
    pub fn connect(url: &str, name: impl Into<String>) -> Result<Self, StoreError> {
        // Its own text may hold the URL, with a password in it.
        let client = Client::open(url).map_err(|_| {
            StoreError::unusable("that is no Redis URL; it should look like rediss://user:password@host:6379/0")
        })?;
        Ok(Self::of(client, name))
    }

    /// The same with a client of yours, for certificates and whatever else a URL doesn't say.
    pub fn of(client: Client, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            keys: Keys::of("unbound", &name),
            name,
            durability: Durability::Primary,
            connection: Arc::new(Connection::new(client, LIMIT)),
            heard: OnceLock::new(),
            told: AtomicU64::new(0),
            written: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }

    /// How long Redis may take to answer, and how long it may take to connect. Default: 1 s each. At most 4 s.
    ///
    /// A call that finds its connection closed connects and asks once more, so it may take longer than one of these.
    /// [`Stored`](crate::oauth2::Stored) gives up a call after five seconds, whatever is set here, and its lease lasts for a second by
    /// default. If the server often takes longer than that, make the lease longer as well.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), tower_bearer::store::StoreError> {
    /// let far_away = RedisStore::connect("rediss://redis.example.com", "documents")?.answer_limit(Duration::from_secs(2));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        self.connection = Arc::new(Connection::new(self.connection.client().clone(), limit));
        self
    }

    /// Counts as stored what so many replicas have in memory (`WAIT`). Default: what the primary has.
    ///
    /// A replica that takes over may lack the last writes of its primary. With this, a refresh token is spent only after the replicas
    /// have been told so, and until they have what it brought, nothing more is spent. Ask for as many replicas as a failover can
    /// choose from: with one of two, the other may still be behind.
    ///
    /// Too few of them within half of the [answer limit](Self::answer_limit) are an error, [`StoreError::unreachable`]. The primary has
    /// the data then, and before it is used, this store waits for the replicas again.
    ///
    /// Replaces [`wait_for_disks`](Self::wait_for_disks).
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), tower_bearer::store::StoreError> {
    /// let store = RedisStore::connect("rediss://redis.example.com", "documents")?.wait_for_replicas(1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn wait_for_replicas(mut self, replicas: u32) -> Self {
        self.durability = Durability::Replicas(replicas);
        self
    }

    /// Counts as stored what the primary and so many replicas have on their disks (`WAITAOF`). Default: what the primary has.
    ///
    /// This is for servers with `appendfsync everysec`, which could lose the last second otherwise. It needs Redis 7.2 and
    /// `appendonly yes`; without them every call that writes a token set is an error, [`StoreError::unusable`]. All else is as for
    /// [`wait_for_replicas`](Self::wait_for_replicas), which this replaces.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), tower_bearer::store::StoreError> {
    /// let store = RedisStore::connect("rediss://redis.example.com", "documents")?
    ///     // Such a server writes to its disk once a second.
    ///     .answer_limit(Duration::from_secs(4))
    ///     .wait_for_disks(1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn wait_for_disks(mut self, replicas: u32) -> Self {
        self.durability = Durability::Disks(replicas);
        self
    }

    /// Runs a script that writes, and waits until enough have what it wrote: if it says that it did.
    async fn write(&self, script: Cmd) -> Result<Swap, StoreError> {
        let mut commands = Pipeline::new();
        commands.add_command(script);
        let Some(wait) = self.durability.wait(self.connection.limit()) else {
            return self.connection.ask(&commands).await.and_then(swapped);
        };
        commands.add_command(wait);
        // Counted before it is sent: the future may be dropped, and then it may be written or not.
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let answers = self.connection.ask(&commands).await?;
        let over = answers.connection;
        let judged = self.durability.judge(answers.values.get(1).unwrap_or(&redis::Value::Nil));
        let swapped = swapped(answers)?;
        match (swapped, judged) {
            (Swap::Lost, _) => {
                // Nothing was written: it is as it was before.
                let _ = self.confirmed.compare_exchange(number - 1, number, Ordering::SeqCst, Ordering::SeqCst);
            }
            (Swap::Done, Ok(())) => {
                self.confirmed.fetch_max(number, Ordering::SeqCst);
            }
            (Swap::Done, Err(error)) => {
                // A primary without replicas may be one that was replaced and doesn't know: the next call looks for another.
                self.connection.end(over).await;
                return Err(error);
            }
        }
        Ok(swapped)
    }

    fn is_in_doubt(&self) -> bool {
        self.confirmed.load(Ordering::SeqCst) < self.written.load(Ordering::SeqCst)
    }

    /// Asks one thing.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut commands = Pipeline::new();
        commands.add_command(command.clone());
        read(self.connection.ask(&commands).await?.values.swap_remove(0))
    }

    /// What was announced, from the first call on.
    fn heard(&self) -> watch::Receiver<Heard> {
        let listen = || {
            let (sender, receiver) = watch::channel(Heard::default());
            tokio::spawn(announcements::listen(self.connection.clone(), self.keys.channel.clone(), sender));
            receiver
        };
        self.heard.get_or_init(listen).clone()
    }

    fn heard_so_far(&self) -> Heard {
        self.heard.get().map(|heard| *heard.borrow()).unwrap_or_default()
    }

    fn note_told(&self, number: u64) {
        self.told.fetch_max(number, Ordering::SeqCst);
    }
}

impl TokenStore for RedisStore {
    fn bind(&mut self, account: &Account) {
        self.keys = Keys::of(&account.id(), &self.name);
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        if self.is_in_doubt() {
            self.write(script(scripts::TOUCH, &self.keys.entry)).await?;
        }
        // What was announced until now, the answer knows.
        let heard = self.heard_so_far().number;
        let mut command = redis::cmd("HMGET");
        // As bytes: a version that is no number is somebody's mistake, not an answer to wait for.
        let found = self.ask(command.arg(&self.keys.entry).arg(&["version", "data"])).await?;
        let (version, data): (Option<Vec<u8>>, Option<Vec<u8>>) = found;
        let number = version.as_deref().and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
        let entry = match (version, number, data) {
            (Some(_), Some(number), Some(data)) => Some(Entry::new(number, data)),
            (None, _, None) => None,
            _ => {
                return Err(StoreError::unusable(format!(
                    "{} is not whole: restore it, or remove it",
                    self.keys.entry
                )));
            }
        };
        self.note_told(heard);
        Ok(entry)
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let next = expected.checked_add(1).ok_or_else(|| StoreError::unusable("there is no higher version"))?;
        let mut script = script(scripts::SWAP, &self.keys.entry);
        script.arg(expected).arg(next).arg(data).arg(&self.keys.channel);
        let swapped = self.write(script).await?;
        let (heard, told) = (self.heard_so_far(), self.told.load(Ordering::SeqCst));
        if swapped == Swap::Done && heard.is_covered_by(next, told) {
            self.note_told(heard.number);
        }
        Ok(swapped)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let left: Option<i64> = self.ask(script(scripts::LEASE, &self.keys.lease).arg(holder).arg(time)).await?;
        Ok(match left {
            None => Lease::Granted,
            Some(left) => Lease::Held(Duration::from_millis(left.try_into().unwrap_or_default())),
        })
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.ask(script(scripts::RELEASE, &self.keys.lease).arg(holder)).await
    }

    async fn changed(&self, known: u64) {
        // As it is now: of two who wait, none takes the news from the other.
        let (mut heard, told) = (self.heard(), self.told.load(Ordering::SeqCst));
        loop {
            let now = *heard.borrow_and_update();
            match now.for_one_who(told, known) {
                News::None => {}
                News::Known => self.note_told(now.number),
                News::Other => return self.note_told(now.number),
            }
            if heard.changed().await.is_err() {
                // Nobody listens any more: the runtime is shutting down.
                return std::future::pending().await;
            }
        }
    }
}

/// A script that works on one key.
fn script(text: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

/// What a script says that writes.
fn swapped(mut answers: Answers) -> Result<Swap, StoreError> {
    match (read(answers.values.swap_remove(0))?, answers.doubt) {
        (true, _) => Ok(Swap::Done),
        (false, None) => Ok(Swap::Lost),
        // It may have been the first attempt of this very call that has changed it.
        (false, Some(doubt)) => Err(doubt),
    }
}

fn read<T: FromRedisValue>(value: redis::Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| redis_error(&RedisError::from(error)))
}

impl Keys {
    fn of(account: &str, name: &str) -> Self {
        // What stands in the first braces decides on the slot of a cluster; the account's id is never empty, and has no braces.
        let entry = format!("tower-bearer:{{{account}:{name}}}");
        Self { lease: format!("{entry}:lease"), channel: format!("{entry}:changed"), entry }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: its address may hold a password.
        f.debug_struct("RedisStore").field("key", &self.keys.entry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_keys_of_a_set_lie_in_one_slot_whatever_its_name() {
        for name in ["a", "", "}", "{", "{}", "a}b{c"] {
            let keys = Keys::of("x", name);
            let tag = |key: &str| {
                let inside = key.split_once('{').unwrap().1;
                inside.split_once('}').unwrap().0.to_owned()
            };
            assert!(!tag(&keys.entry).is_empty());
            assert_eq!((tag(&keys.entry), tag(&keys.entry)), (tag(&keys.lease), tag(&keys.channel)), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_before_is_no_news() {
        let store = RedisStore::connect("redis://127.0.0.1:1", "x").unwrap();
        let (sender, receiver) = watch::channel(Heard::default());
        store.heard.set(receiver).unwrap();
        let hears = |known| timeout(LIMIT, store.changed(known));
        let announce = |version| sender.send_modify(|heard| heard.announced(Some(version)));
        announce(2);
        hears(2).await.expect("the first one may be of another entry");
        announce(3);
        hears(2).await.unwrap();
        hears(2).await.expect_err("it was told");
        hears(3).await.unwrap_err();
        hears(5).await.unwrap_err();
        announce(6);
        hears(5).await.unwrap();
        announce(7);
        hears(7).await.expect_err("it is known");
        hears(8).await.expect_err("it was known before 8");
        announce(1);
        hears(8).await.expect("8 is gone");
        hears(8).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told() {
        let store = RedisStore::connect("redis://127.0.0.1:1", "x").unwrap();
        let (sender, receiver) = watch::channel(Heard::default());
        store.heard.set(receiver).unwrap();
        let announced = async { sender.send_modify(|heard| heard.announced(Some(2))) };
        let hears = || timeout(LIMIT, store.changed(1));
        let (one, other, ()) = tokio::join!(hears(), hears(), announced);
        one.and(other).unwrap();
    }

    #[test]
    fn a_url_that_is_none_is_not_repeated() {
        let error = RedisStore::connect("redis//app:secret@host", "x").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let store = RedisStore::connect("redis://app:secret@host", "x").unwrap();
        assert!(!format!("{store:?}").contains("secret"));
    }
}
