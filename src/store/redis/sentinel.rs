//! Sentinels, which say where the primary is.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{Client, ErrorKind, RedisError, Value, aio::MultiplexedConnection};

use super::{connection::connect, servers::at};

/// Some sentinels, and the name that they have for one primary and its replicas.
///
/// They are asked before each connection, all at once: one that hangs delays nobody. One that was cut off may name an old primary. So the
/// server that is named must say itself that it is one.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) clients: Arc<[Client]>,
    pub(super) service: Arc<str>,
    /// How to connect to the primary: everything of this client but the address.
    pub(super) like: Client,
}

/// The primary of the moment.
pub(super) struct Primary {
    pub(super) client: Client,
    pub(super) connection: MultiplexedConnection,
}

impl Sentinels {
    pub(super) async fn primary(&self) -> Result<Primary, RedisError> {
        let named = Mutex::new(HashSet::new());
        let mut asked: FuturesUnordered<_> =
            self.clients.iter().map(|sentinel| self.primary_named_by(sentinel, &named)).collect();
        let mut why = None;
        while let Some(found) = asked.next().await {
            match found {
                Ok(Some(primary)) => return Ok(primary),
                Ok(None) => {}
                // What a sentinel says tells more than that another one is gone.
                Err(error) if why.as_ref().is_none_or(RedisError::is_io_error) => why = Some(error),
                Err(_) => {}
            }
        }
        Err(why.unwrap_or_else(|| (ErrorKind::InvalidClientConfig, "no sentinel is configured").into()))
    }

    /// `None`: another sentinel has named the same server before.
    async fn primary_named_by(
        &self,
        sentinel: &Client,
        named: &Mutex<HashSet<(String, u16)>>,
    ) -> Result<Option<Primary>, RedisError> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&*self.service);
        let answer: Option<(String, u16)> = question.query_async(&mut connect(sentinel).await?).await?;
        let Some((host, port)) = answer else {
            return Err((ErrorKind::MasterNameNotFoundBySentinel, "the sentinels know no primary of this name").into());
        };
        if !named.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert((host.clone(), port)) {
            return Ok(None);
        }
        let client = at(self.like.get_connection_info(), &host, port)?;
        let mut connection = connect(&client).await?;
        let role: Result<Value, RedisError> = redis::cmd("ROLE").query_async(&mut connection).await;
        // A user may lack the right to ask. A replica that is written to says so then.
        match role {
            Ok(Value::Array(role)) if !is_primary(&role) => {
                Err((ErrorKind::MasterNameNotFoundBySentinel, "the server that the sentinels name is no primary")
                    .into())
            }
            _ => Ok(Some(Primary { client, connection })),
        }
    }
}

fn is_primary(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
}
