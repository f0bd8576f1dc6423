//! The connection for commands. It is made when it is needed, and ends with the first error.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use super::redis_error::redis_error;
use crate::store::StoreError;

/// One connection at a time, and none before it is needed.
///
/// Any error ends it. After a failover the old server still answers, with `READONLY`, `MASTERDOWN`, `LOADING` or `MOVED`, and only a new
/// connection leads to the new server. A list of such responses would never be complete. A new connection after each failed call is cheap,
/// because callers slow down while the store fails.
pub(super) struct Connection {
    client: Client,
    limit: Duration,
    slot: Mutex<Slot>,
    /// The number of the last connection that replaced another one and has worked.
    replaced: watch::Sender<u64>,
}

#[derive(Default)]
struct Slot {
    /// Counts the connections.
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// The responses to the commands. The first one is no error.
pub(super) struct Answers {
    pub(super) values: Vec<Value>,
    /// Why an earlier connection ended over which the commands were sent before. They may have been executed then.
    pub(super) doubt: Option<StoreError>,
    /// The number of their connection.
    pub(super) connection: u64,
}

/// Why there are no responses.
enum Failure {
    /// Redis refused the commands, so nothing was done.
    Refused(StoreError),
    /// The connection ended. The commands may have been executed.
    Ended(StoreError),
    /// There was no answer within the limit.
    Late(StoreError),
}

impl Connection {
    pub(super) fn new(client: Client, limit: Duration) -> Self {
        let limit = limit.clamp(SHORTEST, LONGEST);
        Self { client, limit, slot: Mutex::default(), replaced: watch::Sender::new(0) }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The time limit of each response, and of connecting.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Changes when a new connection has brought a response. It may lead to another server.
    pub(super) fn replaced(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Sends these commands together.
    ///
    /// The connection of an earlier call may have been closed, or lead to a server that was demoted. So commands that fail there are sent
    /// again over a new connection.
    pub(super) async fn ask(&self, commands: &Pipeline) -> Result<Answers, StoreError> {
        let (number, connection, is_new) = self.connected().await?;
        let failure = match send(connection, commands, self.limit).await {
            Ok(values) => {
                if is_new {
                    self.note_that_it_works(number);
                }
                return Ok(Answers { values, doubt: None, connection: number });
            }
            Err(failure) => failure,
        };
        self.end(number).await;
        let doubt = match failure {
            Failure::Late(error) => return Err(error),
            Failure::Refused(error) | Failure::Ended(error) if is_new => return Err(error),
            Failure::Refused(_) => None,
            Failure::Ended(error) => Some(error),
        };
        let (number, connection, _) = self.connected().await?;
        match send(connection, commands, self.limit).await {
            Ok(values) => {
                self.note_that_it_works(number);
                Ok(Answers { values, doubt, connection: number })
            }
            Err(Failure::Refused(error) | Failure::Ended(error) | Failure::Late(error)) => {
                self.end(number).await;
                Err(error)
            }
        }
    }

    async fn connected(&self) -> Result<(u64, MultiplexedConnection, bool), StoreError> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone(), false));
        }
        // This also limits how long other calls wait for the lock.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(self.limit, connecting).await.map_err(|_| late("connecting", self.limit))?;
        let connection = connection.map_err(|error| redis_error(&error))?;
        slot.number += 1;
        slot.connection = Some(connection.clone());
        Ok((slot.number, connection, true))
    }

    fn note_that_it_works(&self, number: u64) {
        if number > 1 {
            self.replaced.send_replace(number);
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

async fn send(
    mut connection: MultiplexedConnection,
    commands: &Pipeline,
    limit: Duration,
) -> Result<Vec<Value>, Failure> {
    let sent = timeout(limit, connection.req_packed_commands(commands, 0, commands.len())).await;
    let values = sent.map_err(|_| Failure::Late(late("waiting for an answer", limit)))?;
    let values = values.map_err(|error| Failure::Ended(redis_error(&error)))?;
    match values.first() {
        Some(Value::ServerError(error)) => Err(Failure::Refused(redis_error(&RedisError::from(error.clone())))),
        _ => Ok(values),
    }
}

fn late(what: &str, limit: Duration) -> StoreError {
    StoreError::unreachable(format!("Redis: timed out {what} after {limit:?}"))
}

/// As long as the default lease: a longer wait would lose it.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

const SHORTEST: Duration = Duration::from_millis(1);

/// `Stored` drops a call after 5 s. A late response must be noticed before, or the connection would be used again.
const LONGEST: Duration = Duration::from_secs(4);
