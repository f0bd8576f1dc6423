//! Where `call` keeps what a grant brings: nowhere, in a file, on a Redis server.

use tower_bearer::{
    BoxError, BoxTokenSource, TokenSource,
    oauth2::{Grant, Stored, TokenSet},
    store::{FileStore, TokenStore},
};

/// Begins with this set, unless there is a newer one in the store.
pub(crate) fn keep(grant: impl Grant, set: Option<TokenSet>, store: Option<&str>) -> Result<BoxTokenSource, BoxError> {
    match store {
        None => Ok(holding(Stored::new(grant), set)),
        Some(url) if url.contains("://") => on_redis(grant, set, url),
        Some(path) => Ok(holding(Stored::in_store(grant, FileStore::new(path)), set)),
    }
}

#[cfg(feature = "redis")]
fn on_redis(grant: impl Grant, set: Option<TokenSet>, url: &str) -> Result<BoxTokenSource, BoxError> {
    let store = tower_bearer::store::RedisStore::connect(url, "call")?;
    Ok(holding(Stored::in_store(grant, store), set))
}

#[cfg(not(feature = "redis"))]
fn on_redis(_: impl Grant, _: Option<TokenSet>, _: &str) -> Result<BoxTokenSource, BoxError> {
    Err("--store redis://… needs the feature: cargo run --features redis …".into())
}

fn holding<G: Grant, S: TokenStore>(stored: Stored<G, S>, set: Option<TokenSet>) -> BoxTokenSource {
    match set {
        Some(set) => stored.holding(set).boxed(),
        None => stored.boxed(),
    }
}
