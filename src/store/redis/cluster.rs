//! A cluster: which node has a key, and what its redirections ask for.
//!
//! The cluster client of `redis` isn't used. It sends commands again by itself when a connection breaks, so a swap that has arrived would
//! be told as lost. And its `ASKING` may reach the node before another call's command.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{Client, ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, aio::PubSub};
use tokio::{sync::watch, time::timeout};

use super::{
    connection::{Answers, Connection, Failure, NoAnswers, Request, Server, Why, late_error},
    redis_error::redis_error,
    servers::at,
};
use crate::store::StoreError;

mod slots;

use slots::{Range, ranges, slot_of};

/// One connection for commands to each node that has been needed.
pub(super) struct Cluster {
    /// The nodes of the configuration. The first one says how to connect: user, password, TLS.
    seeds: Arc<[Client]>,
    limit: Duration,
    replaced: watch::Sender<u64>,
    map: Mutex<Map>,
    /// One call at a time asks for the map. Counts how often it was asked for.
    turn: tokio::sync::Mutex<()>,
    asked: AtomicU64,
}

/// Host and port.
type Node = (String, u16);

#[derive(Default)]
struct Map {
    /// Which node has which slots. Later ones replace earlier ones.
    ranges: Vec<Range>,
    is_current: bool,
    connections: HashMap<Node, Arc<Connection>>,
}

/// Where a node sends a caller.
#[derive(Debug, PartialEq, Eq)]
enum Redirection {
    /// The slot has another owner.
    Moved(Node),
    /// The slot is on its way, and this key is there already.
    Ask(Node),
}

impl Cluster {
    pub(super) fn new(seeds: Arc<[Client]>, limit: Duration, replaced: watch::Sender<u64>) -> Self {
        Self {
            seeds,
            limit,
            replaced,
            map: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }

    /// Asks the node with this key. The request is sent again where a node refers to another one, and once more if a node fails.
    pub(super) async fn ask(&self, key: &str, request: &Request) -> Result<Answers, NoAnswers> {
        let slot = slot_of(key.as_bytes());
        self.refresh(None).await;
        let (mut node, mut is_asking) = (self.owner(slot)?, false);
        let (mut doubt, mut was_sent_again, mut redirections) = (None, false, 0);
        loop {
            let failure = match self.connection(&node)?.ask_once(request, is_asking).await {
                Ok(answers) => return Ok(Answers { doubt, ..answers }),
                Err(failure) => failure,
            };
            if let Some(redirection) = redirection(&failure, &node) {
                redirections += 1;
                if redirections > MOST_REDIRECTIONS {
                    return Err(failure.into());
                }
                (node, is_asking) = match redirection {
                    Redirection::Moved(owner) => {
                        self.map().moved(slot, owner.clone());
                        (owner, false)
                    }
                    Redirection::Ask(owner) => (owner, true),
                };
                continue;
            }
            if failure.is_about_the_key {
                return Err(failure.into());
            }
            // A replica may have taken over. Noted before the next await, at which this future may be dropped.
            self.map().is_current = false;
            if was_sent_again || matches!(failure.why, Why::Late(_)) {
                return Err(failure.into());
            }
            self.refresh(Some(&node)).await;
            let owner = self.owner(slot)?;
            if owner == node && failure.was_new {
                return Err(failure.into());
            }
            if let Why::Ended(error) = failure.why {
                doubt = Some(error);
            }
            (node, is_asking, was_sent_again) = (owner, false, true);
        }
    }

    /// A connection that can subscribe, to any node: announcements reach all of them.
    pub(super) async fn subscription(&self) -> Result<PubSub, RedisError> {
        self.refresh(None).await;
        let mut why = RedisError::from((ErrorKind::InvalidClientConfig, "no node of the cluster is configured"));
        for node in self.nodes().into_iter().take(AT_ONCE) {
            let connection = self.connection(&node).map_err(|_| why.clone())?;
            match timeout(self.limit, connection.subscription()).await {
                Ok(Ok(subscription)) => return Ok(subscription),
                Ok(Err(error)) => why = error,
                Err(_) => why = late_error("connecting"),
            }
        }
        Err(why)
    }

    /// Asks which node has which slots, if that may have changed: some nodes at once, so that one that hangs delays nobody.
    async fn refresh(&self, failed: Option<&Node>) {
        if self.map().is_current {
            return;
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let _turn = self.turn.lock().await;
        // Somebody asked meanwhile, for all who waited.
        if self.map().is_current || self.asked.load(Ordering::SeqCst) > asked {
            return;
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let question = &Request { command: redis::cmd("CLUSTER").arg("SLOTS").to_owned(), wait: None };
        let asked = self.nodes().into_iter().filter(|node| Some(node) != failed).take(AT_ONCE);
        let mut asked: FuturesUnordered<_> = asked
            .filter_map(|node| Some((self.connection(&node).ok()?, node)))
            .map(async |(connection, node)| {
                let answers = connection.ask_once(question, false).await?;
                Ok::<_, Failure>(ranges(answers.value, &node.0))
            })
            .collect();
        let mut may_ask = false;
        while let Some(found) = asked.next().await {
            match found {
                Ok(Some(ranges)) => {
                    if self.map().replace(ranges) {
                        self.replaced.send_modify(|count| *count += 1);
                    }
                    return;
                }
                Err(Failure { why: Why::Refused(error), .. }) if matches!(error.code(), Some("NOPERM" | "ERR")) => {}
                _ => may_ask = true,
            }
        }
        // A user without the right to ask learns of the nodes by redirections.
        self.map().is_current |= !may_ask;
    }

    /// The node with this slot, as far as is known.
    fn owner(&self, slot: u16) -> Result<Node, StoreError> {
        let owner = self.map().owner(slot).cloned();
        owner
            .or_else(|| self.nodes().pop())
            .ok_or_else(|| StoreError::unusable("Redis: no node of the cluster is configured"))
    }

    /// The known nodes: first those with slots, then those of the configuration.
    fn nodes(&self) -> Vec<Node> {
        let mut seeds: Vec<_> = self.seeds.iter().filter_map(address).collect();
        fastrand::shuffle(&mut seeds);
        let mut nodes: Vec<_> = self.map().owners().into_iter().collect();
        fastrand::shuffle(&mut nodes);
        seeds.retain(|seed| !nodes.contains(seed));
        nodes.extend(seeds);
        nodes
    }

    fn connection(&self, node: &Node) -> Result<Arc<Connection>, StoreError> {
        let mut map = self.map();
        if let Some(connection) = map.connections.get(node) {
            return Ok(connection.clone());
        }
        let seed = self.seeds.iter().find(|seed| address(seed).as_ref() == Some(node));
        let client = match (seed, self.seeds.first()) {
            (Some(seed), _) => Ok(seed.clone()),
            (None, Some(first)) => {
                at(first.get_connection_info(), &node.0, node.1).map_err(|error| redis_error(&error))
            }
            (None, None) => Err(StoreError::unusable("Redis: no node of the cluster is configured")),
        };
        let connection = Connection::to_node(Server::At(client?), self.limit, self.replaced.clone());
        map.connections.insert(node.clone(), connection.clone());
        Ok(connection)
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Node> {
        self.ranges.iter().rev().find(|range| range.slots.contains(&slot)).map(|range| &range.node)
    }

    fn owners(&self) -> HashSet<Node> {
        self.ranges.iter().map(|range| range.node.clone()).collect()
    }

    fn moved(&mut self, slot: u16, node: Node) {
        self.ranges.retain(|range| range.slots != (slot..=slot));
        self.ranges.push(Range { slots: slot..=slot, node });
        self.is_current = false;
    }

    /// Takes a new map over. Returns whether other nodes have slots than before: one without slots may leave the cluster, and then it hears
    /// no announcements.
    fn replace(&mut self, ranges: Vec<Range>) -> bool {
        let before = self.owners();
        (self.ranges, self.is_current) = (ranges, true);
        let now = self.owners();
        self.connections.retain(|node, _| now.contains(node));
        !before.is_empty() && before != now
    }
}

fn redirection(failure: &Failure, from: &Node) -> Option<Redirection> {
    let Why::Refused(error) = &failure.why else { return None };
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    // Without a host it is the one that was asked.
    let host = if host.is_empty() { &from.0 } else { host };
    let node = (host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?);
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Some(Redirection::Moved(node)),
        _ => Some(Redirection::Ask(node)),
    }
}

fn address(client: &Client) -> Option<Node> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
        _ => None,
    }
}

/// As many as two changes of one slot can cause, and more would be a circle.
const MOST_REDIRECTIONS: u32 = 5;

/// How many nodes are asked for the map at once, or tried for a subscription.
const AT_ONCE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        (name.to_owned(), 7_000)
    }

    fn range(slots: std::ops::RangeInclusive<u16>, name: &str) -> Range {
        Range { slots, node: node(name) }
    }

    #[test]
    fn a_redirection_names_a_node() {
        let from = ("10.0.0.1".to_owned(), 7_000);
        let of = |text: &str| {
            let error = redis::parse_redis_value(text.as_bytes()).unwrap().extract_error().unwrap_err();
            redirection(&Failure { why: Why::Refused(error), was_new: false, is_about_the_key: true }, &from)
        };
        let to = |host: &str, port| (host.to_owned(), port);
        for (text, expected) in [
            ("-MOVED 3999 10.0.0.2:7001\r\n", Some(Redirection::Moved(to("10.0.0.2", 7_001)))),
            ("-ASK 3999 node-2.example.com:7001\r\n", Some(Redirection::Ask(to("node-2.example.com", 7_001)))),
            ("-MOVED 3999 :7001\r\n", Some(Redirection::Moved(to("10.0.0.1", 7_001)))),
            ("-MOVED 3999 2001:db8::1:7001\r\n", Some(Redirection::Moved(to("2001:db8::1", 7_001)))),
            ("-MOVED 3999 [2001:db8::1]:7001\r\n", Some(Redirection::Moved(to("2001:db8::1", 7_001)))),
            ("-MOVED 3999 nonsense\r\n", None),
            ("-CLUSTERDOWN The cluster is down\r\n", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_node_said_last_of_a_slot_counts_until_there_is_a_new_map() {
        let mut map = Map::default();
        assert!(!map.is_current && map.owner(5).is_none());
        assert!(!map.replace(vec![range(0..=9, "a"), range(10..=19, "b")]), "who listens has heard nothing before");
        assert_eq!((map.owner(5), map.owner(10), map.owner(20)), (Some(&node("a")), Some(&node("b")), None));
        assert!(map.is_current);
        for owner in ["b", "c", "b"] {
            map.moved(5, node(owner));
            assert!(!map.is_current);
            assert_eq!((map.owner(5), map.owner(6)), (Some(&node(owner)), Some(&node("a"))));
        }
        assert_eq!(map.ranges.len(), 3, "one for a slot");
        assert!(!map.replace(vec![range(0..=4, "a"), range(5..=19, "b")]), "the same nodes");
        assert!(map.replace(vec![range(0..=19, "b")]), "who listens to the other one may hear nothing any more");
    }
}
