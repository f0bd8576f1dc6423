//! A connection for commands to one server. It is made when it is needed, and ends with the first error.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use super::{group::Group, redis_error::redis_error, sentinel::Sentinels};
use crate::{
    clock::{Moment, SystemClock, Timeline},
    store::StoreError,
};

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
    open: Mutex<Open>,
    /// How often connecting has failed.
    failed: AtomicU64,
    /// The number of the last connection that has worked.
    worked: AtomicU64,
    replaced: watch::Sender<u64>,
    /// Writes that will be sent together.
    pub(super) group: Group,
    time: Timeline,
    /// When a connection was ended last because replicas were missing.
    was_doubted_at: std::sync::Mutex<Option<Moment>>,
}

/// A command, and perhaps one that waits for what it has written.
pub(super) struct Request {
    pub(super) command: Cmd,
    pub(super) wait: Option<Cmd>,
}

/// Where to connect.
#[derive(Clone)]
pub(super) enum Server {
    /// A server, or what leads to it: a DNS name, a proxy.
    At(Client),
    /// The primary that sentinels name.
    NamedBy(Sentinels),
}

/// The connections that there are.
#[derive(Default)]
struct Open {
    /// Counts the connections.
    number: u64,
    connection: Option<MultiplexedConnection>,
    /// The one for writes that wait. It ends with the other one, so that both lead to the same server.
    waiting: Option<MultiplexedConnection>,
    /// Why there is none.
    failure: Option<StoreError>,
}

/// The responses to a request.
pub(super) struct Answers {
    /// No error.
    pub(super) value: Value,
    pub(super) waited: Option<Value>,
    /// Why an earlier connection ended over which the request was sent before. It may have been executed then.
    pub(super) doubt: Option<StoreError>,
    /// The connection that brought them, and its number.
    pub(super) connection: (Arc<Connection>, u64),
}

/// The error of a call, for the store.
pub(super) struct NoAnswers {
    pub(super) error: StoreError,
    /// The slot is on its way to another node, and each node has one of the keys or none. Nothing was done: ask for one key at a time.
    pub(super) is_split: bool,
}

/// Why there are no responses.
pub(super) struct Failure {
    pub(super) why: Why,
    /// The connection was made for these commands, so that another one would not be better.
    pub(super) was_new: bool,
    /// The connection is as good as before.
    pub(super) is_about_the_key: bool,
}

#[derive(Clone)]
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
        Self {
            server,
            is_node: false,
            limit,
            open: Mutex::default(),
            failed: AtomicU64::new(0),
            worked: AtomicU64::new(0),
            replaced,
            group: Group::default(),
            time: Timeline::new(Arc::new(SystemClock)),
            was_doubted_at: std::sync::Mutex::default(),
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// The connection of an earlier call may have been closed, or lead to a server that was demoted. So a request that fails there is sent
    /// again over a new connection.
    pub(super) async fn ask(self: &Arc<Self>, request: &Request) -> Result<Answers, NoAnswers> {
        let failure = match self.ask_once(request, false).await {
            Err(failure) => failure,
            answers => return answers.map_err(NoAnswers::from),
        };
        let doubt = match failure {
            Failure { was_new: true, .. } | Failure { why: Why::NotConnected(_) | Why::Late(_), .. } => {
                return Err(failure.into());
            }
            Failure { is_about_the_key: true, .. } => return Err(failure.into()),
            Failure { why: Why::Refused(_), .. } => None,
            Failure { why: Why::Ended(error), .. } => Some(error),
        };
        Ok(Answers { doubt, ..self.ask_once(request, false).await? })
    }

    /// The same, without a second attempt. `is_asking`: the node that has a slot has sent the caller here (`ASK`).
    pub(super) async fn ask_once(self: &Arc<Self>, request: &Request, is_asking: bool) -> Result<Answers, Failure> {
        if let Some(wait) = &request.wait {
            return self.ask_in_group(&request.command, wait, is_asking).await;
        }
        let connected = self.connected(false).await;
        let (number, connection, was_new) = connected.map_err(|error| Failure {
            why: Why::NotConnected(error),
            was_new: true,
            is_about_the_key: false,
        })?;
        let mut commands = Pipeline::new();
        if is_asking {
            // In the same piece, so that no other call comes between.
            commands.cmd("ASKING");
        }
        commands.add_command(request.command.clone());
        let failure = match send(connection, &commands, self.limit).await.map(|mut values| values.pop()) {
            Ok(Some(Value::ServerError(error))) => self.refused(RedisError::from(error), was_new),
            Ok(value) => {
                self.note_that_it_works(number);
                let value = value.unwrap_or(Value::Nil);
                return Ok(Answers { value, waited: None, doubt: None, connection: (self.clone(), number) });
            }
            Err(why) => Failure { why, was_new, is_about_the_key: false },
        };
        if !failure.is_about_the_key {
            self.end(number).await;
        }
        Err(failure)
    }

    pub(super) fn refused(&self, error: RedisError, was_new: bool) -> Failure {
        let is_about_the_key = is_about_the_key(&error, self.is_node);
        Failure { why: Why::Refused(error), was_new, is_about_the_key }
    }

    /// Sends commands whose failure means nothing, over the connection that there is.
    pub(super) async fn ask_aside(&self, commands: &Pipeline) -> Option<Vec<Value>> {
        let connection = self.open.lock().await.connection.clone()?;
        send(connection, commands, self.limit).await.ok()
    }

    /// A connection that can subscribe.
    pub(super) async fn subscription(&self) -> Result<PubSub, RedisError> {
        match &self.server {
            Server::At(client) => client.get_async_pubsub().await,
            Server::NamedBy(sentinels) => sentinels.primary().await?.client.get_async_pubsub().await,
        }
    }

    /// The connection, its number, and whether it is new. `waits`: the one for writes that wait.
    pub(super) async fn connected(&self, waits: bool) -> Result<(u64, MultiplexedConnection, bool), StoreError> {
        let failed = self.failed.load(Ordering::SeqCst);
        let mut open = self.open.lock().await;
        let there = if waits { &open.waiting } else { &open.connection };
        if let Some(connection) = there {
            return Ok((open.number, connection.clone(), false));
        }
        if let (Some(failure), true) = (&open.failure, self.failed.load(Ordering::SeqCst) > failed) {
            // It failed while this call waited. If each of many calls tried it for itself, the last one would wait for all of them.
            return Err(failure.clone());
        }
        let connected = match timeout(self.limit, self.connect()).await {
            Ok(connected) => connected.map_err(|error| redis_error(&error)),
            Err(_) => Err(late("connecting", self.limit)),
        };
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                open.failure = Some(error.clone());
                self.failed.fetch_add(1, Ordering::SeqCst);
                return Err(error);
            }
        };
        if open.connection.is_none() && open.waiting.is_none() {
            open.number += 1;
        }
        let made = if waits { &mut open.waiting } else { &mut open.connection };
        *made = Some(connection.clone());
        open.failure = None;
        Ok((open.number, connection, true))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        match &self.server {
            Server::At(client) => connect(client).await,
            Server::NamedBy(sentinels) => Ok(sentinels.primary().await?.connection),
        }
    }

    pub(super) fn note_that_it_works(&self, number: u64) {
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
        let mut open = self.open.lock().await;
        if open.number == number {
            (open.connection, open.waiting) = (None, None);
        }
    }

    /// The same where too few replicas have a write: a primary without replicas may have been replaced, without knowing it. Not again and
    /// again while replicas are down, because everybody who listens subscribes anew.
    pub(super) async fn doubt(&self, number: u64) {
        let now = self.time.now();
        let is_due = {
            let mut last = self.was_doubted_at.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = last.is_none_or(|last| now.since(last) >= DOUBT_AGAIN);
            if is_due {
                *last = Some(now);
            }
            is_due
        };
        if is_due {
            self.end(number).await;
        }
    }
}

/// Connects without a time limit: that is the caller's.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

pub(super) async fn send(
    mut connection: MultiplexedConnection,
    commands: &Pipeline,
    limit: Duration,
) -> Result<Vec<Value>, Why> {
    let sent = timeout(limit, connection.req_packed_commands(commands, 0, commands.len())).await;
    let values = sent.map_err(|_| Why::Late(late("waiting for an answer", limit)))?;
    values.map_err(|error| Why::Ended(redis_error(&error)))
}

/// Whether every server would refuse these commands, and none for another key. Before Redis 7 a script's error has another code.
fn is_about_the_key(error: &RedisError, is_node: bool) -> bool {
    let is_redirection = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain)
    );
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

impl From<Failure> for NoAnswers {
    fn from(failure: Failure) -> Self {
        let is_split = matches!(&failure.why, Why::Refused(error) if error.kind() == ServerErrorKind::TryAgain.into());
        Self { error: failure.into(), is_split }
    }
}

impl From<StoreError> for NoAnswers {
    fn from(error: StoreError) -> Self {
        Self { error, is_split: false }
    }
}

impl From<NoAnswers> for StoreError {
    fn from(no_answers: NoAnswers) -> Self {
        no_answers.error
    }
}

/// Between two connections that were ended for missing replicas.
const DOUBT_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn question() -> Request {
        Request { command: redis::cmd("GET").arg("x").to_owned(), wait: None }
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
        let question = question();
        let calls = futures_util::future::join_all((0..100).map(|_| connection.ask(&question)));
        for asked in timeout(3 * limit, calls).await.expect("one waits after the other") {
            assert!(asked.err().unwrap().error.to_string().contains("timed out connecting"));
        }
        let later = timeout(limit / 2, connection.ask(&question)).await;
        assert!(later.is_err(), "who comes later tries it anew");
    }
}
