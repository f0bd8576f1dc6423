//! [`RedisStore`]: a Redis server, shared by a fleet.
//!
//! | module | what it holds |
//! |---|---|
//! | `family` | the stores of many keys over the same connections |
//! | `options` | the options of a store and of a family |
//! | `servers` | where the entries are: one server, sentinels, a cluster |
//! | `connection` | a connection for commands |
//! | `group` | writes that wait together for replicas or disks |
//! | `cluster` | which node of a cluster has a key |
//! | `sentinel` | which server is the primary |
//! | `calls` | what each call asks the server |
//! | `scripts` | the Lua scripts that the server runs |
//! | `durability` | who must have a write before it counts |
//! | `hub` | the channels that somebody listens to |
//! | `subscription` | the connection that subscribes to them |
//! | `settings` | warnings about the server's configuration |
//! | `redis_error` | what an error of Redis asks for |

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use redis::{Client, Cmd, FromRedisValue, RedisError};
use tokio::sync::watch;

use super::{StoreError, Swap, heard::Heard};

mod calls;
mod cluster;
mod connection;
mod durability;
mod family;
mod group;
mod hub;
mod options;
mod redis_error;
mod scripts;
mod sentinel;
mod servers;
mod settings;
mod subscription;

use connection::{Answers, NoAnswers, Request};
use durability::Durability;
pub use family::RedisFamily;
use family::Shared;
use hub::Seat;
use redis_error::redis_error;
use servers::Place;

/// A Redis server, shared by a fleet: one process fetches, and all have the new token at once.
///
/// The store reconnects by itself, also after a failover behind a DNS name or a proxy: any error ends the connection, and the next call
/// makes a new one. Addresses, TLS (`rediss://`), user names and passwords are the client's: see [`redis::Client`].
///
/// | to have | call |
/// |---|---|
/// | one token set | [`connect`](Self::connect), [`new`](Self::new) |
/// | a token set for each user | [`RedisFamily::connect`], [`family`](Self::family) |
/// | the same behind sentinels | [`sentinel`](Self::sentinel), [`RedisFamily::sentinel`] |
/// | the same in a cluster | [`cluster`](Self::cluster), [`RedisFamily::cluster`] |
///
/// - **Durability is the server's.** For single-use refresh tokens set `appendonly yes`, `appendfsync always` and `maxmemory-policy
///   noeviction`. The settings are read once, after the first response, and [events](super#status-metrics-and-events) say which of them
///   may cost token sets. With replicas that may take over, call [`wait_for_replicas`](Self::wait_for_replicas) or
///   [`wait_for_disks`](Self::wait_for_disks).
/// - **Tokens are not encrypted**, unless you wrap the store in `Sealed`. Everybody who can read the database has them, so create a Redis user
///   for them, with these rights:
///
///   ```text
///   ACL SETUSER app on >password ~tower-bearer:* &tower-bearer:*
///     +eval +hmget +hget +hset +get +set +del +pttl +pexpire +publish +subscribe +unsubscribe +ping
///   ```
///
///   `wait_for_replicas` needs `+wait` as well, `wait_for_disks` `+waitaof`, the primary behind sentinels `+role`, a cluster `+cluster|slots`
///   and `+asking`, and the warnings about settings `+config|get` (or `+info`, for evictions alone).
/// - **There are two connections**: one for commands, made when it is first needed, and one for announcements of changes. The second one
///   has a `PING` every 30 s. When it fails, it is tried again after 0.25 s, and then less and less often, at least every 30 s. Writes that
///   wait for replicas or disks have a third one, because they hold it up. All stores of a [family](RedisFamily) share them.
/// - **Each token set has three keys**: `tower-bearer:{ACCOUNT:NAME}` (a hash of `version` and `data`), the same with `:lease`, and with
///   `:changed` for the channel. They are in one slot of a cluster. To forget a user, call [`Stored::remove`](crate::oauth2::Stored::remove);
///   when no process uses the key any more, delete it.
/// - **Other servers** with the same protocol and Lua scripts (Valkey, KeyDB, Dragonfly) should do as well. This crate is tested with Redis
///   only; `testing::StoreCheck` says what yours keeps.
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
    shared: Arc<Shared>,
    /// Where the announcements of other processes are heard, from the first call of `changed` on.
    seat: Mutex<Option<Seat>>,
    /// The number of the last event that the caller knows.
    known_events: AtomicU64,
    /// The number of the last write that must be confirmed, and of the last one that is.
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
    /// The token set with this name on the server at this URL (`redis://`, `rediss://`, `unix://`). The store connects when it is used
    /// first.
    ///
    /// The name tells applications apart. Different accounts ([`Account`](super::Account): server, client, user) have different keys under the same name.
    /// [`RedisStore`] has an example.
    ///
    /// # Errors
    /// [`StoreError`] if this is no such URL.
    pub fn connect(url: &str, name: impl Into<String>) -> Result<Self, StoreError> {
        Ok(Self::new(client(url)?, name))
    }

    /// The token set with this name, through your own client: for certificates, and other options that a URL doesn't have.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let client = redis::Client::open("rediss://redis.example.com")?;
    /// let store = RedisStore::new(client, "documents");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self::alone(Place::server(client), name)
    }

    /// The token set with this name in a cluster. `nodes` are some of its nodes: the others are found by them.
    ///
    /// [`RedisFamily::cluster`] says more.
    ///
    /// ```
    /// use redis::Client;
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let nodes = [Client::open("rediss://app:password@node-1:6379")?, Client::open("rediss://app:password@node-2:6379")?];
    /// let store = RedisStore::cluster(nodes, "documents");
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster(nodes: impl IntoIterator<Item = Client>, name: impl Into<String>) -> Self {
        Self::alone(Place::cluster(nodes), name)
    }

    /// The token set with this name on the primary that sentinels know as `service`. Everything of `like` but its address says how to
    /// connect to the primary: user, password, database, TLS.
    ///
    /// [`RedisFamily::sentinel`] says more.
    ///
    /// ```
    /// use redis::Client;
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let sentinels = [Client::open("redis://sentinel-1:26379")?, Client::open("redis://sentinel-2:26379")?];
    /// let store = RedisStore::sentinel(sentinels, "main", Client::open("redis://app:password@any")?, "documents");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sentinel(
        sentinels: impl IntoIterator<Item = Client>,
        service: impl Into<String>,
        like: Client,
        name: impl Into<String>,
    ) -> Self {
        Self::alone(Place::sentinel(sentinels, service.into(), like), name)
    }

    /// Stores of many keys, such as the users of an application, over the same two connections, through your own client.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let users = RedisStore::family(redis::Client::open("rediss://redis.example.com")?, "users");
    /// let (anna, bob) = (users.of("anna"), users.of("bob"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn family(client: Client, prefix: impl Into<String>) -> RedisFamily {
        RedisFamily::new(Place::server(client), prefix)
    }

    /// A family of one.
    fn alone(place: Place, name: impl Into<String>) -> Self {
        Self::in_family(Shared::new(place), Durability::Primary, name.into())
    }

    fn in_family(shared: Arc<Shared>, durability: Durability, name: String) -> Self {
        Self {
            keys: Keys::of("unbound", &name),
            name,
            durability,
            shared,
            seat: Mutex::default(),
            known_events: AtomicU64::new(0),
            written: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }

    /// Runs a script that writes. If it wrote, waits until enough servers have the write.
    async fn write(&self, script: Cmd) -> Result<Swap, NoAnswers> {
        let request = Request { command: script, wait: self.durability.wait(self.shared.limit()) };
        if request.wait.is_none() {
            return Ok(swapped(self.shared.ask(&self.keys.entry, &request).await?)?);
        }
        // Counted before it is sent: if the future is dropped, the write may arrive or not.
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let answers = match self.shared.ask(&self.keys.entry, &request).await {
            Err(no_answers) => {
                if no_answers.is_split {
                    self.note_nothing_written(number);
                }
                return Err(no_answers);
            }
            Ok(answers) => answers,
        };
        let (connection, used) = answers.connection.clone();
        let judged = self.durability.judge(answers.waited.as_ref().unwrap_or(&redis::Value::Nil));
        let swapped = swapped(answers)?;
        match (swapped, judged) {
            (Swap::Lost, _) => self.note_nothing_written(number),
            (Swap::Done, Ok(())) => {
                self.confirmed.fetch_max(number, Ordering::SeqCst);
            }
            (Swap::Done, Err(error)) => {
                connection.doubt(used).await;
                return Err(error.into());
            }
        }
        Ok(swapped)
    }

    /// So nothing must be confirmed.
    fn note_nothing_written(&self, number: u64) {
        let _ = self.confirmed.compare_exchange(number - 1, number, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn is_in_doubt(&self) -> bool {
        self.confirmed.load(Ordering::SeqCst) < self.written.load(Ordering::SeqCst)
    }

    /// Sends one command.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswers> {
        let request = Request { command: command.clone(), wait: None };
        Ok(read(self.shared.ask(&self.keys.entry, &request).await?.value)?)
    }

    /// Listens to announcements from now on.
    fn listen(&self) -> watch::Receiver<Heard> {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = self.shared.listen(&mut seat, &self.keys.channel);
        let now = *heard.borrow();
        if now.is_silent() {
            // A channel counts on from those before it. What they had is no news, and the subscription will be.
            self.note_known_events(now.number);
        }
        heard
    }

    fn heard_so_far(&self) -> Heard {
        let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        seat.as_ref().map(Seat::heard).unwrap_or_default()
    }

    fn note_known_events(&self, number: u64) {
        self.known_events.fetch_max(number, Ordering::SeqCst);
    }
}

fn client(url: &str) -> Result<Client, StoreError> {
    // The error of `redis` may show the URL, with the password.
    Client::open(url).map_err(|_| {
        StoreError::unusable("that is no Redis URL; it should look like rediss://user:password@host:6379/0")
    })
}

/// The result of a script that writes.
fn swapped(answers: Answers) -> Result<Swap, StoreError> {
    match (read(answers.value)?, answers.doubt) {
        (true, _) => Ok(Swap::Done),
        (false, None) => Ok(Swap::Lost),
        // This call's own first attempt may have changed the entry.
        (false, Some(doubt)) => Err(doubt),
    }
}

fn read<T: FromRedisValue>(value: redis::Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| redis_error(&RedisError::from(error)))
}

impl Keys {
    fn of(account: &str, name: &str) -> Self {
        // The text in the first braces decides the slot of a cluster. The account's id is never empty, and has no braces.
        let entry = format!("tower-bearer:{{{account}:{name}}}");
        Self { lease: format!("{entry}:lease"), channel: format!("{entry}:changed"), entry }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, whose address may hold a password.
        f.debug_struct("RedisStore").field("key", &self.keys.entry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::{servers::LIMIT, *};
    use crate::store::TokenStore;

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
        store.shared.without_task();
        store.listen();
        let hears = |known| timeout(LIMIT, store.changed(known));
        let announce =
            |version| store.shared.without_task().tell(&store.keys.channel, |heard| heard.announced(Some(version)));
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
        store.shared.without_task();
        store.listen();
        let announced =
            async { store.shared.without_task().tell(&store.keys.channel, |heard| heard.announced(Some(2))) };
        let hears = || timeout(LIMIT, store.changed(1));
        let (one, other, ()) = tokio::join!(hears(), hears(), announced);
        one.and(other).unwrap();
    }

    #[test]
    fn an_account_that_is_bound_later_has_news_of_its_own() {
        let mut store = RedisStore::connect("redis://127.0.0.1:1", "x").unwrap();
        store.note_known_events(7);
        store.written.fetch_add(1, Ordering::SeqCst);
        store.bind(&crate::store::Account::new("https://id.example.com", "client"));
        assert_eq!(store.known_events.load(Ordering::SeqCst), 0);
        assert!(!store.is_in_doubt(), "nothing was written there");
    }

    #[test]
    fn a_url_that_is_none_is_not_repeated() {
        let error = RedisStore::connect("redis//app:secret@host", "x").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let store = RedisStore::connect("redis://app:secret@host", "x").unwrap();
        assert!(!format!("{store:?}").contains("secret"));
    }
}
