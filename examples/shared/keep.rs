//! Where `call` and `login` keep their token sets: nowhere, in a file, or on a Redis server.

use tower_bearer::{
    BoxError, BoxTokenSource, TokenSource,
    oauth2::{Grant, Stored, StoredHandle, TokenSet},
    store::{FileStore, TokenStore},
};

/// Where tokens are kept from one run to the next.
#[derive(clap::Args)]
pub(crate) struct Keep {
    /// Where tokens are kept from one run to the next: a file, or a Redis server (with the feature `redis`)
    #[arg(long, value_name = "FILE|redis://HOST", allow_hyphen_values = true)]
    pub(crate) store: Option<String>,
    /// Whose refresh token it is: nobody else's is ever taken from the store
    #[arg(long, value_name = "USER", default_value = "me", allow_hyphen_values = true)]
    pub(crate) subject: String,
}

impl Keep {
    /// A source with this initial token set, unless the store has a newer one; and a handle that gives it another set later.
    pub(crate) fn keep(
        &self,
        grant: impl Grant,
        set: Option<TokenSet>,
    ) -> Result<(BoxTokenSource, StoredHandle), BoxError> {
        match &self.store {
            None => Ok(begin(Stored::new(grant), set)),
            Some(url) if url.contains("://") => on_redis(grant, set, url),
            Some(path) => Ok(begin(Stored::in_store(grant, FileStore::new(path)), set)),
        }
    }
}

#[cfg(feature = "redis")]
fn on_redis(grant: impl Grant, set: Option<TokenSet>, url: &str) -> Result<(BoxTokenSource, StoredHandle), BoxError> {
    let store = tower_bearer::store::RedisStore::connect(url, "call")?;
    Ok(begin(Stored::in_store(grant, store), set))
}

#[cfg(not(feature = "redis"))]
fn on_redis(_: impl Grant, _: Option<TokenSet>, _: &str) -> Result<(BoxTokenSource, StoredHandle), BoxError> {
    Err("--store redis://… needs the feature: cargo run --features redis …".into())
}

fn begin<G: Grant, S: TokenStore>(stored: Stored<G, S>, set: Option<TokenSet>) -> (BoxTokenSource, StoredHandle) {
    let handle = stored.handle();
    match set {
        Some(set) => (stored.holding(set).boxed(), handle),
        None => (stored.boxed(), handle),
    }
}
