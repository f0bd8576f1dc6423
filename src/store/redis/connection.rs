//! A connection for commands to one server. It is made when it is needed, and ends with the first error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use super::{redis_error::redis_error, sentinel::Sentinels};
use crate::store::StoreError;

/// One connection at a time, and none before it is needed.
///
/// Any error ends it. After a failover the old server still answers, with `READONLY`, `MASTERDOWN`, `LOADING` or `MOVED`, and only a new
/// connection leads to the new server. A list of such responses would never be complete. A new connection after each failed call is cheap,
/// because callers slow down while the store fails. There is one exception: a key of a wrong type is wrong on every server, and must not
/// end the connection for all others.
pub(super) struct Connection {
    server: Server,
    /// Where a redirection concerns one key, and says nothing about the server.
    is_node: bool,
    limit: Duration,
    slot: Mutex<Slot>,
    /// How often connecting has failed.
    failed: AtomicU64,
    /// The number of the last connection that has worked.
    worked: AtomicU64,
    replaced: watch::Sender<u64>,
}

/// Where to connect.
#[derive(Clone)]
pub(super) enum Server {
    /// A server, or what leads to it: a DNS name, a proxy.
    At(Client),
    /// The primary that sentinels name.
    NamedBy(Sentinels),
}

#[derive(Default)]
struct Slot {
    /// Counts the connections.
    number: u64,
    connection: Option<MultiplexedConnection>,
    /// Why there is none.
    failure: Option<StoreError>,
}

/// The responses to the commands. The first one is no error.
pub(super) struct Answers {
    pub(super) values: Vec<Value>,
    /// Why an earlier connection ended over which the commands were sent before. They may have been executed then.
    pub(super) doubt: Option<StoreError>,
    /// The connection that brought them, and its number.
    pub(super) connection: (Arc<Connection>, u64),
}

/// Why there are no responses.
pub(super) struct Failure {
    pub(super) why: Why,
    /// The connection was made for these commands, so that another one would not be better.
    pub(super) was_new: bool,
    /// The connection is as good as before.
    pub(super) is_about_the_key: bool,
}

pub(super) enum Why {
    /// There is no connection, so nothing was done.
    NotConnected(StoreError),
    /// Redis refused the commands, so nothing was done.
    Refused(RedisError),
    /// The connection ended. The commands may have been executed.
    Ended(StoreError),
    /// There was no answer within the limit.
    Late(StoreError),
}

impl Connection {
    /// `replaced` counts connections that replaced others and have worked. They may lead to another server.
    pub(super) fn new(server: Server, limit: Duration, replaced: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self::with(server, limit, replaced))
    }

    /// The same to a node of a cluster.
    pub(super) fn to_node(server: Server, limit: Duration, replaced: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self { is_node: true, ..Self::with(server, limit, replaced) })
    }

    fn with(server: Server, limit: Duration, replaced: watch::Sender<u64>) -> Self {
        let (failed, worked) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { server, is_node: false, limit, slot: Mutex::default(), failed, worked, replaced }
    }

    /// Sends these commands together.
    ///
    /// The connection of an earlier call may have been closed, or lead to a server that was demoted. So commands that fail there are sent
    /// again over a new connection.
    pub(super) async fn ask(self: &Arc<Self>, commands: &Pipeline) -> Result<Answers, StoreError> {
        let failure = match self.ask_once(commands, false).await {
            Err(failure) => failure,
            answers => return answers.map_err(StoreError::from),
        };
        let doubt = match failure {
            Failure { was_new: true, .. } | Failure { why: Why::NotConnected(_) | Why::Late(_), .. } => {
                return Err(failure.into());
            }
            Failure { is_about_the_key: true, .. } => return Err(failure.into()),
            Failure { why: Why::Refused(_), .. } => None,
            Failure { why: Why::Ended(error), .. } => Some(error),
        };
        Ok(Answers { doubt, ..self.ask_once(commands, false).await? })
    }

    /// The same, without a second attempt. `is_asking`: the node that has a slot has sent the caller here (`ASK`).
    pub(super) async fn ask_once(self: &Arc<Self>, commands: &Pipeline, is_asking: bool) -> Result<Answers, Failure> {
        let connected = self.connected().await;
        let (number, connection, is_new) = connected.map_err(|error| Failure {
            why: Why::NotConnected(error),
            was_new: true,
            is_about_the_key: false,
        })?;
        match send(connection, commands, is_asking, self.limit).await {
            Ok(values) => {
                self.note_that_it_works(number);
                Ok(Answers { values, doubt: None, connection: (self.clone(), number) })
            }
            Err(why) => {
                let is_about_the_key = matches!(&why, Why::Refused(error) if is_about_the_key(error, self.is_node));
                if !is_about_the_key {
                    self.end(number).await;
                }
                Err(Failure { why, was_new: is_new, is_about_the_key })
            }
        }
    }

    /// Sends commands whose failure means nothing, over the connection that there is.
    pub(super) async fn ask_aside(&self, commands: &Pipeline) -> Option<Vec<Value>> {
        let connection = self.slot.lock().await.connection.clone()?;
        send(connection, commands, false, self.limit).await.ok()
    }

    /// A connection that can subscribe.
    pub(super) async fn subscription(&self) -> Result<PubSub, RedisError> {
        match &self.server {
            Server::At(client) => client.get_async_pubsub().await,
            Server::NamedBy(sentinels) => sentinels.primary().await?.client.get_async_pubsub().await,
        }
    }

    async fn connected(&self) -> Result<(u64, MultiplexedConnection, bool), StoreError> {
        let failed = self.failed.load(Ordering::SeqCst);
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone(), false));
        }
        if let (Some(failure), true) = (&slot.failure, self.failed.load(Ordering::SeqCst) > failed) {
            // It failed while this call waited. If each of many calls tried it for itself, the last one would wait for all of them.
            return Err(failure.clone());
        }
        let connected = match timeout(self.limit, self.connect()).await {
            Ok(connected) => connected.map_err(|error| redis_error(&error)),
            Err(_) => Err(late("connecting", self.limit)),
        };
        match connected {
            Ok(connection) => {
                *slot = Slot { number: slot.number + 1, connection: Some(connection.clone()), failure: None };
                Ok((slot.number, connection, true))
            }
            Err(error) => {
                slot.failure = Some(error.clone());
                self.failed.fetch_add(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        match &self.server {
            Server::At(client) => connect(client).await,
            Server::NamedBy(sentinels) => Ok(sentinels.primary().await?.connection),
        }
    }

    fn note_that_it_works(&self, number: u64) {
        // Once for each connection, whoever used it first: everybody who listens subscribes again.
        if self.worked.load(Ordering::Relaxed) < number
            && self.worked.fetch_max(number, Ordering::SeqCst) < number
            && number > 1
        {
            self.replaced.send_modify(|count| *count += 1);
        }
    }

    /// Ends the connection with this number, unless another one has replaced it.
    pub(super) async fn end(&self, number: u64) {
        let mut slot = self.slot.lock().await;
        if slot.number == number {
            slot.connection = None;
        }
    }
}

/// Connects without a time limit: that is the caller's.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn send(
    mut connection: MultiplexedConnection,
    commands: &Pipeline,
    is_asking: bool,
    limit: Duration,
) -> Result<Vec<Value>, Why> {
    // In front of the first command, and so over the same connection with nothing between them.
    let asking = is_asking.then(|| {
        let mut all = Pipeline::new();
        all.cmd("ASKING");
        for command in commands.cmd_iter() {
            all.add_command(command.clone());
        }
        all
    });
    let commands = asking.as_ref().unwrap_or(commands);
    let sent = timeout(limit, connection.req_packed_commands(commands, 0, commands.len())).await;
    let values = sent.map_err(|_| Why::Late(late("waiting for an answer", limit)))?;
    let mut values = values.map_err(|error| Why::Ended(redis_error(&error)))?;
    if is_asking && !values.is_empty() {
        values.remove(0);
    }
    match values.first() {
        Some(Value::ServerError(error)) => Err(Why::Refused(RedisError::from(error.clone()))),
        _ => Ok(values),
    }
}

/// Whether every server would refuse these commands, and none for another key. Before Redis 7 a script's error has another code.
fn is_about_the_key(error: &RedisError, is_node: bool) -> bool {
    let is_redirection = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask));
    let is_of_a_wrong_type =
        error.code() == Some("WRONGTYPE") || error.detail().is_some_and(|text| text.contains("WRONGTYPE"));
    is_of_a_wrong_type || (is_node && is_redirection)
}

/// The same as an error of Redis.
pub(super) fn late_error(what: &str) -> RedisError {
    (ErrorKind::Io, "timed out", what.to_owned()).into()
}

fn late(what: &str, limit: Duration) -> StoreError {
    StoreError::unreachable(format!("Redis: timed out {what} after {limit:?}"))
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.why {
            Why::NotConnected(error) | Why::Ended(error) | Why::Late(error) => error,
            Why::Refused(error) => redis_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::Instant,
    };

    use super::*;

    fn question() -> Pipeline {
        let mut question = Pipeline::new();
        question.cmd("GET").arg("x");
        question
    }

    /// Says the same to each `GET`. Counts its connections.
    async fn says(answer: &'static str) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}/", listener.local_addr().unwrap())).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                        let greetings = text.matches("SETINFO").map(|_| "+OK\r\n");
                        for answer in greetings.chain(text.matches("GET").map(|_| answer)) {
                            peer.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        (client, accepted)
    }

    #[tokio::test]
    async fn an_error_ends_the_connection_unless_it_is_about_one_key() {
        for (answer, connections) in [
            ("-READONLY You can't write against a read only replica.\r\n", 6),
            ("-LOADING Redis is loading the dataset in memory\r\n", 6),
            ("-MOVED 1 127.0.0.1:1\r\n", 6),
            ("-ERR what nobody has ever heard\r\n", 6),
            ("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", 1),
            ("-ERR Error running script: @user_script:2: WRONGTYPE Operation against a key\r\n", 1),
            ("+fine\r\n", 1),
        ] {
            let (client, accepted) = says(answer).await;
            let connection = Connection::new(Server::At(client), Duration::from_secs(10), watch::Sender::new(0));
            for _ in 0..6 {
                assert_eq!(connection.ask(&question()).await.is_ok(), answer.starts_with('+'), "{answer}");
            }
            assert_eq!(accepted.load(Ordering::SeqCst), connections, "{answer}");
        }
    }

    /// It says something about a key there, not about the node.
    #[tokio::test]
    async fn a_redirection_ends_no_connection_to_a_node_of_a_cluster() {
        for answer in ["-MOVED 1 127.0.0.1:1\r\n", "-ASK 1 127.0.0.1:1\r\n"] {
            let (client, accepted) = says(answer).await;
            let connection = Connection::to_node(Server::At(client), Duration::from_secs(10), watch::Sender::new(0));
            for _ in 0..3 {
                let failure = connection.ask_once(&question(), false).await.err().unwrap();
                assert!(failure.is_about_the_key);
            }
            assert_eq!(accepted.load(Ordering::SeqCst), 1, "{answer}");
        }
    }

    /// If each tried it for itself, the last would wait for all of them.
    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_connection_wait_once() {
        // Nobody answers: it accepts nothing, and greets nobody.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}/", listener.local_addr().unwrap())).unwrap();
        let limit = Duration::from_secs(1);
        let connection = Connection::new(Server::At(client), limit, watch::Sender::new(0));
        let began = Instant::now();
        let question = question();
        let calls = (0..100).map(|_| connection.ask(&question));
        for asked in futures_util::future::join_all(calls).await {
            assert!(asked.err().unwrap().to_string().contains("timed out connecting"));
        }
        assert!(began.elapsed() < 3 * limit, "{:?}", began.elapsed());
        let began = Instant::now();
        connection.ask(&question).await.err().unwrap();
        assert!(began.elapsed() >= limit, "who comes later tries it anew");
    }
}
