//! What does a request allocate that finds its token there? For each peer, beyond its bare service: `RESULT {"peer": number, …}`.
//!
//! A program of its own: counting costs time, which nobody should pay while time is measured.

use std::time::Duration;

use serde_json::{Map, Value};
use tower_bearer_peers::{
    candidate::{Client, Peer},
    endpoint::Endpoint,
    hot_path::send_now,
    inner::Nowhere,
    roster::{self, Visit},
};

#[tokio::main]
async fn main() {
    let mut counts = Counts(Map::new());
    roster::each(&mut counts).await;
    println!("RESULT {}", Value::Object(counts.0));
}

struct Counts(Map<String, Value>);

impl Visit for Counts {
    async fn visit<P: Peer>(&mut self) {
        let endpoint = Endpoint::start(Duration::from_secs(3_600), Duration::ZERO).expect("a loopback port");
        let mut client = P::client(&endpoint, Nowhere).await;
        client.send(P::Client::<Nowhere>::request()).await.expect("a request is sent");
        // A thread of its own is in no task, which tokio would want to yield after a while.
        let count = tokio::task::spawn_blocking(|| count(client).checked_sub(count(P::bare(Nowhere))));
        let count = count.await.expect("no panic").expect("a token doesn't cost less than none");
        self.0.insert(P::ABOUT.name.into(), count.into());
    }
}

/// The fewest of some tries: a table that grows once isn't what a request costs.
fn count<C: Client>(mut client: C) -> u64 {
    let tries = (0..20).map(|_| {
        let request = C::request();
        allocation_counter::measure(|| send_now(&mut client, request)).count_total
    });
    tries.min().expect("there were tries")
}
