//! The options of a store on Redis, and of a family of them.

use std::time::Duration;

use super::{Durability, RedisFamily, RedisStore};

impl RedisStore {
    /// How long Redis may take to answer, and how long to connect. Default: 1 s each; at most 4 s.
    ///
    /// A call that finds its connection closed connects and asks again, so it may take longer than one limit.
    /// [`Stored`](crate::oauth2::Stored) gives up a call after 5 s, and its [lease](crate::oauth2::Stored::lease) is 1 s by default: if the
    /// server is often slower, make the lease longer as well.
    ///
    /// Call it before the store is used. A store of a family has connections of its own from then on: set the limit
    /// [of the family](RedisFamily::answer_limit) instead.
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
        self.shared = self.shared.with_limit(limit);
        self
    }

    /// A write counts when so many replicas have it in memory (`WAIT`). Default: when the primary has it.
    ///
    /// A replica that takes over may lack the primary's last writes. With this a refresh token is spent only after the replicas know that
    /// it will be, and the next one only after they have the set that it brought. Name as many replicas as a failover can choose from:
    /// with one of two, the other may be behind.
    ///
    /// If there are too few within half of the [answer limit](Self::answer_limit), the call is an error, [`StoreError::unreachable`](crate::store::StoreError::unreachable). The
    /// primary has the data then, and the store waits for the replicas again before it uses the data. Writes that come while others wait are
    /// sent together after them, so they may take twice as long.
    ///
    /// This replaces [`wait_for_disks`](Self::wait_for_disks).
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

    /// A write counts when the primary and so many replicas have it on their disks (`WAITAOF`). Default: when the primary has it.
    ///
    /// For servers with `appendfsync everysec`, which may lose the last second. It needs Redis 7.2 and `appendonly yes`. Without them every
    /// write is an error, [`StoreError::unusable`](crate::store::StoreError::unusable). Everything else is as for [`wait_for_replicas`](Self::wait_for_replicas), which this
    /// replaces.
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
}

impl RedisFamily {
    /// As [`RedisStore::answer_limit`], for all stores that this family makes from now on. Call it before the first one: stores that are
    /// there already keep the connections that they have.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let client = redis::Client::open("rediss://redis.example.com")?;
    /// let users = RedisStore::family(client, "users").answer_limit(Duration::from_secs(2));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        self.shared = self.shared.with_limit(limit);
        self
    }

    /// As [`RedisStore::wait_for_replicas`], for all stores that this family makes from now on.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let client = redis::Client::open("rediss://redis.example.com")?;
    /// let users = RedisStore::family(client, "users").wait_for_replicas(1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn wait_for_replicas(mut self, replicas: u32) -> Self {
        self.durability = Durability::Replicas(replicas);
        self
    }

    /// As [`RedisStore::wait_for_disks`], for all stores that this family makes from now on.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// # fn main() -> Result<(), redis::RedisError> {
    /// let client = redis::Client::open("rediss://redis.example.com")?;
    /// let users = RedisStore::family(client, "users").wait_for_disks(0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn wait_for_disks(mut self, replicas: u32) -> Self {
        self.durability = Durability::Disks(replicas);
        self
    }
}
