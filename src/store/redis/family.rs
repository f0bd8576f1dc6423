//! [`RedisFamily`]: the stores of many keys over the same connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::Client;
use tokio::sync::watch;

use super::{
    Durability, RedisStore, client,
    connection::{Answers, NoAnswers, Request},
    hub::{Hub, Seat},
    servers::{LIMIT, Place, Servers},
    settings,
    subscription::PING_EVERY,
};
use crate::store::{StoreError, entry_name, heard::Heard};

/// Stores on Redis for many keys, such as the users of an application. They share one connection for commands and one for announcements,
/// however many they are. With [`wait_for_replicas`](Self::wait_for_replicas) or [`wait_for_disks`](Self::wait_for_disks) there is a third
/// one, for writes that wait.
///
/// A store that nobody uses costs memory only: no connection, task or poll. When a store is dropped, its channel is left.
///
/// The token set of the key `anna` in the family `users` is the one that a store with the name `users/anna` has. So an application that has a
/// [`RedisStore`] for each user can go over to a family and keep its token sets. In keys `%`, `/` and control characters are
/// percent-encoded: for the key `a/b` the name is `users/a%2Fb`.
///
/// ```
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint}, store::{RedisFamily, RedisStore}};
///
/// fn user(id: &str, endpoint: &TokenEndpoint, users: &RedisFamily) -> LiveToken {
///     let grant = RefreshToken::new(endpoint.clone()).subject(id);
///     LiveToken::spawn(Stored::in_store(grant, users.of(id)))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = RedisStore::family(redis::Client::open("rediss://app:password@redis.internal:6379")?, "users");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisFamily {
    prefix: Arc<str>,
    pub(super) durability: Durability,
    pub(super) shared: Arc<Shared>,
}

/// What all stores of a family have together.
pub(super) struct Shared {
    servers: Arc<Servers>,
    hub: Arc<Hub>,
    settings_were_read: AtomicBool,
}

impl RedisFamily {
    pub(super) fn new(place: Place, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into().into(), durability: Durability::Primary, shared: Shared::new(place) }
    }

    /// Stores on the server at this URL (`redis://`, `rediss://`, `unix://`), whose names begin with the prefix. [`RedisStore::family`] takes a
    /// client of your own instead.
    ///
    /// ```
    /// use tower_bearer::store::RedisFamily;
    ///
    /// # fn main() -> Result<(), tower_bearer::store::StoreError> {
    /// let users = RedisFamily::connect("rediss://app:password@redis.internal:6379", "users")?;
    /// let (anna, bob) = (users.of("anna"), users.of("bob"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if this is no such URL.
    pub fn connect(url: &str, prefix: impl Into<String>) -> Result<Self, StoreError> {
        Ok(Self::new(Place::server(client(url)?), prefix))
    }

    /// The same in a cluster. `nodes` are some of its nodes: the others are found by them. The user, the password and the TLS options of the
    /// first one are used for all nodes.
    ///
    /// There are such connections to each node that is needed, and one subscription to any of them. The store follows the
    /// redirections `MOVED` and `ASK`, so slots can be moved while it is used, and nothing that was stored is lost by that. The new node's
    /// replicas may not have the data yet, whatever [`wait_for_replicas`](Self::wait_for_replicas) says: it is about writes, and the move is
    /// Redis's own.
    ///
    /// When a node fails, its token sets can't be reached until one of its replicas has taken over. The other nodes are asked where they are
    /// then (`CLUSTER SLOTS`); a user without the right to ask learns it by redirections.
    ///
    /// ```
    /// use redis::Client;
    /// use tower_bearer::store::RedisFamily;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let nodes = [Client::open("rediss://app:password@node-1:6379")?, Client::open("rediss://app:password@node-2:6379")?];
    /// let users = RedisFamily::cluster(nodes, "users");
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster(nodes: impl IntoIterator<Item = Client>, prefix: impl Into<String>) -> Self {
        Self::new(Place::cluster(nodes), prefix)
    }

    /// The same on the primary that sentinels know as `service`. Everything of `like` but its address says how to connect to the primary:
    /// user, password, database, TLS. Those of the sentinels are in `sentinels`.
    ///
    /// The sentinels are asked before each connection, all at once, and the server that they name must say itself that it is a primary. An
    /// error ends the connection, so a failover is found by the next call.
    ///
    /// ```
    /// use redis::Client;
    /// use tower_bearer::store::RedisFamily;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let sentinels = [Client::open("redis://sentinel-1:26379")?, Client::open("redis://sentinel-2:26379")?];
    /// let users = RedisFamily::sentinel(sentinels, "main", Client::open("redis://app:password@any")?, "users")
    ///     .wait_for_replicas(1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sentinel(
        sentinels: impl IntoIterator<Item = Client>,
        service: impl Into<String>,
        like: Client,
        prefix: impl Into<String>,
    ) -> Self {
        Self::new(Place::sentinel(sentinels, service.into(), like), prefix)
    }

    /// The store of this key. Each call returns another store, as another process would have.
    ///
    /// [`RedisFamily`] has an example.
    #[must_use]
    pub fn of(&self, key: impl AsRef<str>) -> RedisStore {
        let name = entry_name::of_key(&self.prefix, key.as_ref());
        RedisStore::in_family(self.shared.clone(), self.durability, name)
    }
}

impl Shared {
    pub(super) fn new(place: Place) -> Arc<Self> {
        Self::on(Servers::new(place, LIMIT))
    }

    fn on(servers: Servers) -> Arc<Self> {
        Arc::new(Self {
            servers: Arc::new(servers),
            hub: Hub::new(PING_EVERY),
            settings_were_read: AtomicBool::new(false),
        })
    }

    /// The same with another limit, over other connections.
    pub(super) fn with_limit(&self, limit: Duration) -> Arc<Self> {
        Self::on(self.servers.with_limit(limit))
    }

    pub(super) fn limit(&self) -> Duration {
        self.servers.limit()
    }

    /// Asks the server that has this key.
    pub(super) async fn ask(&self, key: &str, request: &Request) -> Result<Answers, NoAnswers> {
        let answers = self.servers.ask(key, request).await?;
        if !self.settings_were_read.load(Ordering::Relaxed) && !self.settings_were_read.swap(true, Ordering::Relaxed) {
            let connection = answers.connection.0.clone();
            // No call waits for it.
            tokio::spawn(async move { settings::check(&connection).await });
        }
        Ok(answers)
    }

    /// Called by those who wait when something was heard.
    pub(super) fn go_on(&self) {
        self.hub.go_on(&self.servers);
    }

    /// Listens in this channel from now on.
    pub(super) fn listen(&self, seat: &mut Option<Seat>, channel: &str) -> watch::Receiver<Heard> {
        self.hub.listen(&self.servers, seat, channel)
    }

    /// Lets a test announce something, with no task beside it that could do so as well.
    #[cfg(test)]
    pub(super) fn without_task(&self) -> &Hub {
        self.hub.without_task();
        &self.hub
    }
}

impl fmt::Debug for RedisFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, whose address may hold a password.
        f.debug_struct("RedisFamily").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
