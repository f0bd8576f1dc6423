//! How often is the token endpoint asked when 128 requests come at once and there is no token yet?

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    candidate::{Client, Peer},
    endpoint::Endpoint,
    inner::Gate,
    refresh::{LATENCY, TASKS},
};

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct ColdStart {
    /// Token requests in all, and how many of them before the peer could be used: some fetch when they are made.
    pub fetches: u64,
    pub when_made: u64,
    pub failed: u64,
}

pub async fn measure<P: Peer>() -> ColdStart {
    let endpoint = Endpoint::start(std::time::Duration::from_secs(3_600), LATENCY).expect("a loopback port");
    let gate = Gate::default();
    let client = P::client(&endpoint, gate.clone()).await;
    let when_made = endpoint.requests();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let mut client = client.clone();
        tasks.spawn(async move { client.send(P::Client::<Gate>::request()).await });
    }
    let mut failed = 0;
    while let Some(sent) = tasks.join_next().await {
        failed += u64::from(sent.expect("no panic").is_err());
    }
    ColdStart { fetches: endpoint.requests(), when_made, failed: failed + gate.missing() + gate.expired() }
}
