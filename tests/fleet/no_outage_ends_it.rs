//! No outage ends an authorization: the table of tests/outages.rs, on Redis.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};
use tower_bearer::store::{Account, Entry, Lease, RedisStore, StoreError, Swap, TokenStore};

use crate::{
    outage::{Outcome, cells, may_end, run},
    process::say,
    redis_server::RedisServer,
};

pub(crate) async fn on_redis() {
    let redis = RedisServer::start().await;
    let (url, real) = (redis.url(), Handle::current());
    let ended = spawn_blocking(move || {
        // Its clock is paused, and Redis is asked from the one that runs.
        let paused = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        paused.block_on(async {
            let mut ended = 0;
            for (number, cell) in cells().into_iter().enumerate() {
                let store = RedisStore::connect(&url, number.to_string()).unwrap().answer_limit(Duration::from_secs(4));
                let outcome = run(cell, Elsewhere { store: Arc::new(store), real: real.clone() }).await;
                assert!(outcome == Outcome::Live || may_end(cell), "{cell:?}");
                ended += u32::from(outcome == Outcome::Ended);
            }
            ended
        })
    });
    let ended = ended.await.unwrap();
    assert!(ended > 0, "or no answer was ever lost");
    say(&format!("outages on Redis: {ended} of {} ended by the server's word", cells().len()));
}

/// A store that is asked from another runtime. The paused clock stands still meanwhile, as it does for all blocking work.
struct Elsewhere {
    store: Arc<RedisStore>,
    real: Handle,
}

impl Elsewhere {
    async fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<RedisStore>) -> F + Send + 'static,
    ) -> T {
        let (store, real) = (self.store.clone(), self.real.clone());
        spawn_blocking(move || real.block_on(ask(store))).await.unwrap()
    }
}

impl TokenStore for Elsewhere {
    fn bind(&mut self, account: &Account) {
        Arc::get_mut(&mut self.store).expect("nobody else has it yet").bind(account);
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.ask(async |store| store.load().await).await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let data = data.to_vec();
        self.ask(async move |store| store.swap(expected, &data).await).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let holder = holder.to_owned();
        self.ask(async move |store| store.lease(&holder, time).await).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        self.ask(async move |store| store.release(&holder).await).await
    }

    async fn changed(&self, _: u64) {
        sleep(Duration::from_secs(3_600)).await;
    }
}
