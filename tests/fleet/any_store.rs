//! The store that a URL, or a path, stands for.

use std::{path::Path, time::Duration};

use redis::Client;
use tower_bearer::store::{
    Account, Entry, FileStore, Keyring, Lease, PostgresStore, RedisStore, Sealed, SealingKey, StoreError, Swap,
    TokenStore,
};

use crate::postgres_server::pool;

pub(crate) enum AnyStore {
    File(FileStore),
    Postgres(PostgresStore),
    Redis(RedisStore),
    SealedFile(Sealed<FileStore>),
    SealedPostgres(Sealed<PostgresStore>),
    SealedRedis(Sealed<RedisStore>),
}

/// In front of a URL or a path: what is stored there is encrypted.
pub(crate) const SEALED: &str = "sealed+";

/// In front of a URL: the store is one of a family.
pub(crate) const FAMILY: &str = "family+";

/// In front of the path of a directory with a file for each key.
pub(crate) const DIRECTORY: &str = "directory+";

impl AnyStore {
    /// `postgres://…`, `redis://…` or `family+` and one of these, a path, or `directory+` and a path; or `sealed+` and any of these.
    pub(crate) fn open(place: &str) -> Self {
        match place.strip_prefix(SEALED) {
            Some(place) => Self::open_plain(place).sealed(),
            None => Self::open_plain(place),
        }
    }

    fn open_plain(place: &str) -> Self {
        if let Some(url) = place.strip_prefix(FAMILY) {
            if url.starts_with("postgres://") {
                return Self::Postgres(PostgresStore::family(pool(url, 2), "fleet").of("Anna/1"));
            }
            return Self::Redis(RedisStore::family(Client::open(url).unwrap(), "fleet").of("Anna/1"));
        }
        if place.starts_with("postgres://") {
            Self::Postgres(PostgresStore::new(pool(place, 2), "fleet"))
        } else if place.starts_with("redis://") {
            Self::Redis(RedisStore::connect(place, "fleet").unwrap())
        } else if let Some(path) = place.strip_prefix(DIRECTORY) {
            Self::File(FileStore::directory(Path::new(path)).of("Anna/1"))
        } else {
            Self::File(FileStore::new(place))
        }
    }

    fn sealed(self) -> Self {
        match self {
            Self::File(store) => Self::SealedFile(sealed(store)),
            Self::Postgres(store) => Self::SealedPostgres(sealed(store)),
            Self::Redis(store) => Self::SealedRedis(sealed(store)),
            sealed => sealed,
        }
    }
}

pub(crate) fn sealed<S: TokenStore>(store: S) -> Sealed<S> {
    Sealed::new(store, Keyring::new(SealingKey::from_bytes("fleet", [7; 32]).unwrap()))
}

macro_rules! each {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            Self::File($store) => $call,
            Self::Postgres($store) => $call,
            Self::Redis($store) => $call,
            Self::SealedFile($store) => $call,
            Self::SealedPostgres($store) => $call,
            Self::SealedRedis($store) => $call,
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

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        each!(self, store => store.swap_and_release(expected, before, data, holder).await)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        each!(self, store => store.lease(holder, time).await)
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        each!(self, store => store.lease_and_load(holder, time).await)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        each!(self, store => store.release(holder).await)
    }

    async fn changed(&self, known: u64) {
        each!(self, store => store.changed(known).await);
    }
}
