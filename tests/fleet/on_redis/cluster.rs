//! A store on a real cluster: three nodes, and a replica of the first one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use redis::{Client, Value};
use tokio::time::{sleep, timeout};
use tower_bearer::{
    store::{Lease, RedisFamily, RedisStore, Swap, TokenStore},
    testing::StoreCheck,
};

use crate::{
    on_redis::family::{all_listen, bound, until},
    process::say,
    redis_server::RedisServer,
};

/// The nodes, each with a third of the slots, and the replica of the first.
struct Nodes {
    primaries: [RedisServer; 3],
    replica: RedisServer,
}

impl Nodes {
    async fn begin() -> Self {
        let (one, two, three, replica) = tokio::join!(
            RedisServer::start_node(),
            RedisServer::start_node(),
            RedisServer::start_node(),
            RedisServer::start_node()
        );
        let primaries = [one, two, three];
        for (number, (node, slots)) in primaries.iter().zip([0..=5460, 5461..=10922, 10923..=16383]).enumerate() {
            node.order(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await;
            let slots: Vec<String> = slots.map(|slot: u16| slot.to_string()).collect();
            node.order(&format!("CLUSTER ADDSLOTS {}", slots.join(" "))).await;
        }
        let nodes = Self { primaries, replica };
        for node in nodes.all().skip(1) {
            node.order(&format!("CLUSTER MEET 127.0.0.1 {}", nodes.primaries[0].port())).await;
        }
        nodes.agree("cluster_known_nodes:4").await;
        nodes.replica.order(&format!("CLUSTER REPLICATE {}", id(&nodes.primaries[0]).await)).await;
        until("the replica follows", async || {
            text(&nodes.replica, "INFO replication").await.contains("master_link_status:up")
        })
        .await;
        nodes.agree("cluster_state:ok").await;
        nodes
    }

    fn all(&self) -> impl Iterator<Item = &RedisServer> {
        self.primaries.iter().chain([&self.replica])
    }

    async fn agree(&self, what: &str) {
        until(what, async || {
            for node in self.all() {
                if !text(node, "CLUSTER INFO").await.contains(what) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// The number of the primary that has the slot.
    async fn owner(&self, slot: u16) -> usize {
        for (number, node) in self.primaries.iter().enumerate() {
            if has(node, slot).await {
                return number;
            }
        }
        panic!("nobody has the slot {slot}")
    }

    /// By the second node only: the others must be found.
    fn family(&self) -> RedisFamily {
        RedisFamily::cluster([client(&self.primaries[1])], "users").answer_limit(Duration::from_secs(4))
    }
}

pub(crate) async fn keeps_every_promise() {
    let nodes = Nodes::begin().await;
    let seeds: Vec<_> = nodes.primaries.iter().take(2).map(client).collect();
    let family = RedisFamily::cluster(seeds.clone(), "check");
    // Some stores share connections, and some have their own, as those of other processes.
    let shares = AtomicBool::new(false);
    let check = StoreCheck::new(move |name| match shares.fetch_not(Ordering::SeqCst) {
        true => family.of(name),
        false => RedisStore::cluster(seeds.clone(), format!("check/{name}")),
    });
    let report = check.run().await;
    say(&report.to_string());
    report.assert_sound();
    assert!(report.news().is_some(), "{report}");
}

/// While slots go from one node to another and back, everybody goes on storing. No call fails, and nothing that was stored is lost.
pub(crate) async fn slots_are_moved() {
    const USERS: usize = 40;
    let nodes = Nodes::begin().await;
    let (family, others) = (nodes.family(), nodes.family());
    let stores: Vec<_> = (0..USERS).map(|user| bound(family.of(user.to_string()))).collect();
    let other = |user: usize| bound(others.of(user.to_string()));
    // Half of them have an entry before.
    for store in stores.iter().step_by(2) {
        assert_eq!(store.swap(0, b"0").await.unwrap(), Swap::Done);
    }
    let goes_on = AtomicBool::new(true);
    let writes = join_all(stores.iter().enumerate().map(|(user, store)| {
        let goes_on = &goes_on;
        async move {
            let mut version = store.load().await.unwrap().map_or(0, |entry| entry.version());
            while goes_on.load(Ordering::SeqCst) {
                let data = version.to_string();
                assert_eq!(store.swap(version, data.as_bytes()).await.unwrap(), Swap::Done, "user {user}");
                version += 1;
                let read = store.load().await.unwrap().expect("it is there");
                assert_eq!((read.version(), read.data()), (version, data.as_bytes()), "user {user}");
                sleep(Duration::from_millis(5)).await;
            }
            version
        }
    }));
    let moves = async {
        let mut moved = 0;
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            // The slots of the entries. Most of them are at another node, as the first round says.
            for user in 0..USERS {
                let slot = slot_of(&nodes, &other(user)).await;
                moved += usize::from(move_slot(&nodes.primaries[from], &nodes.primaries[to], slot).await);
            }
        }
        goes_on.store(false, Ordering::SeqCst);
        moved
    };
    let began = Instant::now();
    let (versions, moved) = tokio::join!(writes, moves);
    assert!(moved > USERS / 2, "only {moved} slots were moved");
    for (user, version) in versions.iter().enumerate() {
        let stored = other(user).load().await.unwrap().expect("it is there");
        assert_eq!(stored.version(), *version, "user {user}");
    }
    let writes: u64 = versions.iter().sum();
    say(&format!("{moved} slots moved in {:?}, during {writes} writes", began.elapsed()));
}

/// A slot may be on its way for minutes. Its entry is at one node or the other, and a lease that nobody has is at neither.
pub(crate) async fn a_slot_stays_on_its_way() {
    let nodes = Nodes::begin().await;
    let (store, other) = (bound(nodes.family().of("anna")), bound(nodes.family().of("anna")));
    assert_eq!(store.swap(0, b"stored").await.unwrap(), Swap::Done);
    let mut version = 1;
    let slot = slot_of(&nodes, &store).await;
    let from = nodes.owner(slot).await;
    let (from, to) = (&nodes.primaries[from], &nodes.primaries[(from + 1) % 3]);
    begin_to_move(from, to, slot).await;
    for is_at in ["the old node", "the new node"] {
        let (lease, entry) = store.lease_and_load("a-1", LONG).await.expect(is_at);
        assert_eq!((lease, entry.map(|entry| entry.version())), (Lease::Granted, Some(version)), "{is_at}");
        assert!(matches!(other.lease_and_load("b-1", LONG).await.expect(is_at), (Lease::Held(_), None)));
        for (before, expected) in [(&b"another"[..], Swap::Lost), (b"stored", Swap::Done)] {
            let swapped = store.swap_and_release(version, Some(before), b"stored", "a-1").await;
            assert_eq!(swapped.expect(is_at), expected, "{is_at}");
        }
        assert_eq!(other.lease("b-1", LONG).await.expect(is_at), Lease::Granted, "{is_at}");
        other.release("b-1").await.expect(is_at);
        // Its lease has ended before.
        let swapped = store.swap_and_release(version + 1, Some(b"stored"), b"stored", "a-2").await;
        assert_eq!(swapped.expect(is_at), Swap::Done, "{is_at}");
        version += 2;
        move_keys(from, to, slot).await;
    }
    end_move(from, to, slot).await;
    assert_eq!(store.load().await.unwrap().unwrap().version(), version);
}

/// A node is killed, and its replica takes over. What was confirmed is there, and announcements are heard.
pub(crate) async fn a_node_is_killed() {
    const USERS: usize = 30;
    let nodes = Nodes::begin().await;
    let (family, others) = (nodes.family(), nodes.family());
    let stores: Vec<_> = (0..USERS).map(|user| bound(family.of(user.to_string()))).collect();
    // One of its own, because the others have no replicas.
    let mut confirmed = Vec::new();
    for (user, store) in stores.iter().enumerate() {
        if slot_of(&nodes, store).await <= 5_460 {
            let sure = bound(nodes.family().wait_for_replicas(1).of(user.to_string()));
            assert_eq!(sure.swap(0, b"confirmed").await.unwrap(), Swap::Done);
            confirmed.push(user);
        } else {
            assert_eq!(store.swap(0, b"confirmed").await.unwrap(), Swap::Done);
        }
    }
    assert!(!confirmed.is_empty() && confirmed.len() < USERS, "no user at the node, or all: {confirmed:?}");
    all_listen(&stores).await;
    nodes.primaries[0].signal(Signal::SIGKILL);

    let began = Instant::now();
    let healed = join_all(stores.iter().map(|store| async {
        loop {
            match store.load().await {
                Ok(entry) => return entry,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }));
    let healed = timeout(LONG, healed).await.expect("it never heals");
    for entry in healed {
        assert_eq!(entry.expect("it was confirmed").data(), b"confirmed");
    }
    say(&format!("all users are served again {:?} after a node was killed", began.elapsed()));
    for (user, store) in stores.iter().enumerate() {
        let other = bound(others.of(user.to_string()));
        let heard = async {
            while store.load().await.map_or(1, |entry| entry.unwrap().version()) < 2 {
                let _ = timeout(Duration::from_secs(1), store.changed(1)).await;
            }
        };
        let swapped = async {
            while other.load().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
            other.swap(1, b"anew").await.unwrap()
        };
        let (swapped, _) = tokio::join!(swapped, timeout(LONG, heard));
        assert_eq!(swapped, Swap::Done);
    }
    // And by now they are heard as soon as they come.
    let hear = join_all(stores.iter().map(|store| timeout(LONG, store.changed(2))));
    let swap = join_all((0..USERS).map(|user| {
        let other = bound(others.of(user.to_string()));
        async move { other.swap(2, b"more").await.unwrap() }
    }));
    let (heard, swapped) = tokio::join!(hear, swap);
    assert!(swapped.iter().all(|swapped| *swapped == Swap::Done));
    assert!(heard.iter().all(Result::is_ok), "announcements are heard");
}

/// What an operator's tool does, slowly. Returns whether the slot was there.
async fn move_slot(from: &RedisServer, to: &RedisServer, slot: u16) -> bool {
    if !has(from, slot).await {
        return false;
    }
    begin_to_move(from, to, slot).await;
    sleep(Duration::from_millis(20)).await;
    move_keys(from, to, slot).await;
    sleep(Duration::from_millis(20)).await;
    end_move(from, to, slot).await;
    true
}

async fn begin_to_move(from: &RedisServer, to: &RedisServer, slot: u16) {
    to.order(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from).await)).await;
    from.order(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to).await)).await;
}

async fn move_keys(from: &RedisServer, to: &RedisServer, slot: u16) {
    loop {
        let keys: Vec<String> =
            redis::from_redis_value(from.order(&format!("CLUSTER GETKEYSINSLOT {slot} 10")).await).unwrap();
        if keys.is_empty() {
            break;
        }
        for key in keys {
            from.order(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port())).await;
        }
    }
}

async fn end_move(from: &RedisServer, to: &RedisServer, slot: u16) {
    let owner = id(to).await;
    to.order(&format!("CLUSTER SETSLOT {slot} NODE {owner}")).await;
    from.order(&format!("CLUSTER SETSLOT {slot} NODE {owner}")).await;
}

async fn has(node: &RedisServer, slot: u16) -> bool {
    let nodes = text(node, "CLUSTER NODES").await;
    nodes.lines().any(|line| line.contains("myself") && has_slot(line, slot))
}

fn has_slot(line: &str, slot: u16) -> bool {
    line.split(' ').skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    })
}

/// The slot of its entry, whose key its `Debug` shows.
async fn slot_of(nodes: &Nodes, store: &RedisStore) -> u16 {
    let shown = format!("{store:?}");
    let key = shown.split('"').nth(1).expect("a key");
    redis::from_redis_value(nodes.primaries[1].order(&format!("CLUSTER KEYSLOT {key}")).await).unwrap()
}

async fn id(node: &RedisServer) -> String {
    text(node, "CLUSTER MYID").await
}

async fn text(node: &RedisServer, words: &str) -> String {
    match node.order(words).await {
        Value::VerbatimString { text, .. } => text,
        other => redis::from_redis_value(other).unwrap(),
    }
}

fn client(node: &RedisServer) -> Client {
    Client::open(node.url()).unwrap()
}

const LONG: Duration = Duration::from_secs(60);
