//! Where the entries are: on one server, behind sentinels, or in a cluster.

use std::{sync::Arc, time::Duration};

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError, aio::PubSub};
use tokio::{sync::watch, time::timeout};

use super::{
    cluster::Cluster,
    connection::{Answers, Connection, NoAnswers, Request, Server, late_error},
    sentinel::Sentinels,
};

/// The connections for commands, and what the one for announcements leads to.
pub(super) struct Servers {
    place: Place,
    limit: Duration,
    replaced: watch::Sender<u64>,
    connections: Connections,
}

#[derive(Clone)]
pub(super) enum Place {
    /// One server at a time has everything.
    One(Box<Server>),
    /// Some nodes of a cluster.
    Cluster(Arc<[Client]>),
}

impl Place {
    pub(super) fn server(client: Client) -> Self {
        Self::One(Box::new(Server::At(client)))
    }

    pub(super) fn cluster(nodes: impl IntoIterator<Item = Client>) -> Self {
        Self::Cluster(nodes.into_iter().collect())
    }

    pub(super) fn sentinel(sentinels: impl IntoIterator<Item = Client>, service: String, like: Client) -> Self {
        let clients = sentinels.into_iter().collect();
        Self::One(Box::new(Server::NamedBy(Sentinels { clients, service: service.into(), like })))
    }
}

enum Connections {
    One(Arc<Connection>),
    Cluster(Cluster),
}

impl Servers {
    pub(super) fn new(place: Place, limit: Duration) -> Self {
        let limit = limit.clamp(SHORTEST, LONGEST);
        let replaced = watch::Sender::new(0);
        let connections = match &place {
            Place::One(server) => Connections::One(Connection::new(Server::clone(server), limit, replaced.clone())),
            Place::Cluster(nodes) => Connections::Cluster(Cluster::new(nodes.clone(), limit, replaced.clone())),
        };
        Self { place, limit, replaced, connections }
    }

    /// The same servers with another limit, over other connections.
    pub(super) fn with_limit(&self, limit: Duration) -> Self {
        Self::new(self.place.clone(), limit)
    }

    /// The time limit of each response, and of connecting.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Changes when a new connection has brought a response. It may lead to another server.
    pub(super) fn replaced(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Asks the server that has this key.
    pub(super) async fn ask(&self, key: &str, request: &Request) -> Result<Answers, NoAnswers> {
        match &self.connections {
            Connections::One(connection) => connection.ask(request).await,
            Connections::Cluster(cluster) => cluster.ask(key, request).await,
        }
    }

    /// A connection that can subscribe.
    pub(super) async fn subscription(&self) -> Result<PubSub, RedisError> {
        match &self.connections {
            Connections::One(connection) => {
                timeout(self.limit, connection.subscription()).await.map_err(|_| late_error("connecting"))?
            }
            Connections::Cluster(cluster) => cluster.subscription().await,
        }
    }
}

/// A client for another address, with everything else as it is here: user, password, TLS.
pub(super) fn at(like: &ConnectionInfo, host: &str, port: u16) -> Result<Client, RedisError> {
    let host = host.to_owned();
    let address = match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Client::open(like.clone().set_addr(address))
}

/// As long as the default lease: a longer wait would lose it.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

const SHORTEST: Duration = Duration::from_millis(1);

/// `Stored` drops a call after 5 s. A late response must be noticed before, or the connection would be used again.
const LONGEST: Duration = Duration::from_secs(4);
