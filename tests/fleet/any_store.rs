//! The store that a URL, or a path, stands for.

use std::time::Duration;

use tower_bearer::store::{Account, Entry, FileStore, Lease, PostgresStore, RedisStore, StoreError, Swap, TokenStore};

use crate::postgres_server::pool;

pub(crate) enum AnyStore {
    File(FileStore),
    Postgres(PostgresStore),
    Redis(RedisStore),
}

impl AnyStore {
    /// `postgres://…`, `redis://…`, or a path.
    pub(crate) fn open(place: &str) -> Self {
        if place.starts_with("postgres://") {
            Self::Postgres(PostgresStore::of(pool(place, 2), "fleet"))
        } else if place.starts_with("redis://") {
            Self::Redis(RedisStore::connect(place, "fleet").unwrap())
        } else {
            Self::File(FileStore::new(place))
        }
    }
}

macro_rules! each {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            Self::File($store) => $call,
            Self::Postgres($store) => $call,
            Self::Redis($store) => $call,
        }
    };
}

impl TokenStore for AnyStore {
    fn bind(&mut self, account: &Account) {
        each!(self, store => store.bind(account));
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        each!(self, store => store.load().await)
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        each!(self, store => store.swap(expected, data).await)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        each!(self, store => store.lease(holder, time).await)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        each!(self, store => store.release(holder).await)
    }

    async fn changed(&self, known: u64) {
        each!(self, store => store.changed(known).await);
    }
}
