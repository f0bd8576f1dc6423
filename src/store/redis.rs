//! A Redis server, shared by a fleet.

use std::{
    fmt,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use futures_util::StreamExt;
use redis::{
    AsyncCommands, Client, ErrorKind, RedisError, Script, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::{OnceCell, watch},
    time::{sleep, timeout},
};

use super::{Entry, Identity, Lease, StoreError, Swap, TokenStore};

/// A Redis server, or another that speaks its protocol and runs Lua scripts (Valkey, KeyDB, Dragonfly), shared by a fleet: one of
/// its processes fetches, and all have the new token at once.
///
/// Reconnects by itself. Addresses, TLS (`rediss://`), names and passwords are the client's: see [`redis::Client`].
///
/// - **Durable as the server is.** For refresh tokens that work once: `appendonly yes` and `appendfsync always`, and no eviction
///   (`maxmemory-policy noeviction`).
/// - **Not encrypted there.** Whoever can read the database has the tokens, so give it a user of its own (ACL: keys
///   `~tower-bearer:*`, channels `&tower-bearer:*`).
/// - Three names for each token set: `tower-bearer:{IDENTITY:NAME}` (a hash of `version` and `data`), the same with `:lease`, and with
///   `:changed` for the channel. They lie in one slot of a cluster; this
///   client itself follows no redirections, so a cluster needs a proxy, or a name that leads to the node with that slot.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{ClientCredentials, Stored, TokenEndpoint}, store::RedisStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let store = RedisStore::connect("rediss://app:password@redis.internal:6379", "documents")?;
/// let token = LiveToken::spawn(Stored::in_store(ClientCredentials::new(endpoint), store));
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    client: Client,
    name: String,
    keys: Keys,
    connection: OnceCell<ConnectionManager>,
    /// The version that was announced last.
    announced: OnceLock<watch::Receiver<u64>>,
}

#[derive(Clone)]
struct Keys {
    entry: String,
    lease: String,
    channel: String,
}

impl RedisStore {
    /// The token set of this name on the server at this URL (`redis://`, `rediss://`, `unix://`). Connects when it is first used.
    ///
    /// The name tells the users of one application apart, where a grant is for one of them: `user/42`. The client, the scope and so on
    /// tell token sets of the same name apart anyway.
    ///
    /// # Errors
    /// [`StoreError`] if it is no such URL.
    pub fn connect(url: &str, name: impl Into<String>) -> Result<Self, StoreError> {
        // Its own text may hold the URL, with a password in it.
        let client = Client::open(url).map_err(|_| {
            StoreError::unusable("that is no Redis URL; it should look like rediss://user:password@host:6379/0")
        })?;
        Ok(Self::of(client, name))
    }

    /// The same with a client of yours, for certificates and whatever else a URL doesn't say.
    pub fn of(client: Client, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { client, keys: Keys::of("unbound", &name), name, connection: OnceCell::new(), announced: OnceLock::new() }
    }

    async fn connection(&self) -> Result<ConnectionManager, StoreError> {
        let connect = async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(LONGEST_ANSWER))
                .set_response_timeout(Some(LONGEST_ANSWER))
                .set_number_of_retries(RETRIES)
                .set_min_delay(FIRST_PAUSE)
                .set_max_delay(LONGEST_PAUSE);
            ConnectionManager::new_lazy_with_config(self.client.clone(), config)
        };
        self.connection.get_or_try_init(|| connect).await.cloned().map_err(|error| failed(&error))
    }

    /// What was announced last, from the first call on.
    fn announced(&self) -> watch::Receiver<u64> {
        let listen = || {
            let (sender, receiver) = watch::channel(0);
            tokio::spawn(listen(self.client.clone(), self.keys.clone(), sender));
            receiver
        };
        self.announced.get_or_init(listen).clone()
    }
}

impl TokenStore for RedisStore {
    fn bind(&mut self, identity: &Identity) {
        self.keys = Keys::of(identity.as_str(), &self.name);
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        let mut connection = self.connection().await?;
        // As bytes: a version that is no number is somebody's mistake, not an answer to wait for.
        let found = connection.hmget(&self.keys.entry, &["version", "data"]).await;
        let (version, data): (Option<Vec<u8>>, Option<Vec<u8>>) = found.map_err(|error| failed(&error))?;
        let number = version.as_deref().and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
        match (version, number, data) {
            (Some(_), Some(number), Some(data)) => Ok(Some(Entry::new(number, data))),
            (None, _, None) => Ok(None),
            _ => Err(StoreError::unusable(format!("{} is not whole: restore it, or remove it", self.keys.entry))),
        }
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = SWAP.prepare_invoke();
        call.key(&self.keys.entry).arg(expected).arg(expected + 1).arg(data).arg(&self.keys.channel);
        let done: Result<bool, _> = call.invoke_async(&mut connection).await;
        Ok(if done.map_err(|error| failed(&error))? { Swap::Done } else { Swap::Lost })
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut connection = self.connection().await?;
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut call = LEASE.prepare_invoke();
        call.key(&self.keys.lease).arg(holder).arg(time);
        let left: Result<Option<i64>, _> = call.invoke_async(&mut connection).await;
        Ok(match left.map_err(|error| failed(&error))? {
            None => Lease::Granted,
            Some(left) => Lease::Held(Duration::from_millis(left.try_into().unwrap_or_default())),
        })
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let mut call = RELEASE.prepare_invoke();
        call.key(&self.keys.lease).arg(holder);
        call.invoke_async(&mut connection).await.map_err(|error| failed(&error))
    }

    async fn changed(&self, known: u64) {
        let mut announced = self.announced();
        // Not merely another one: what is older was announced before `known` was stored, and where nobody hears announcements any more
        // (the connection went silently) it would be news for ever.
        if announced.wait_for(|version| *version > known).await.is_err() {
            // Nobody listens any more: the runtime is shutting down.
            std::future::pending().await
        }
    }
}

impl Keys {
    fn of(identity: &str, name: &str) -> Self {
        // What stands in the first braces decides on the slot of a cluster; the identity is never empty, and has no braces.
        let entry = format!("tower-bearer:{{{identity}:{name}}}");
        Self { lease: format!("{entry}:lease"), channel: format!("{entry}:changed"), entry }
    }
}

/// Passes on what others announce, for as long as somebody wants to know.
async fn listen(client: Client, keys: Keys, sender: watch::Sender<u64>) {
    tokio::select! {
        () = sender.closed() => {}
        () = async {
            loop {
                // Whatever went wrong: until it works again, everybody finds out in their own time.
                let _ = listen_once(&client, &keys, &sender).await;
                sleep(LONGEST_PAUSE).await;
            }
        } => {}
    }
}

async fn listen_once(client: &Client, keys: &Keys, sender: &watch::Sender<u64>) -> Result<(), RedisError> {
    let connect = async {
        let mut listening = client.get_async_pubsub().await?;
        listening.subscribe(&keys.channel).await?;
        // What was announced before this.
        let mut asking = client.get_multiplexed_async_connection().await?;
        let version: Option<u64> = asking.hget(&keys.entry, "version").await?;
        Ok::<_, RedisError>((listening, version))
    };
    let late = |_| RedisError::from((ErrorKind::Io, "no answer in time"));
    let (mut listening, version) = timeout(LONGEST_ANSWER, connect).await.map_err(late)??;
    sender.send_replace(version.unwrap_or_default());
    let mut messages = listening.on_message();
    while let Some(message) = messages.next().await {
        sender.send_replace(message.get_payload()?);
    }
    Ok(())
}

/// What somebody has to mend, and what may pass by itself.
fn failed(error: &RedisError) -> StoreError {
    let lasting = match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        _ => matches!(error.code(), Some("WRONGTYPE" | "NOAUTH" | "WRONGPASS" | "NOPERM")),
    };
    let text = match error.kind() {
        // Their own text shows the answer, which may be a token.
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => "Redis: an answer that makes no sense".to_owned(),
        _ => format!("Redis: {error}"),
    };
    if lasting { StoreError::unusable(text) } else { StoreError::unreachable(text) }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: its address may hold a password.
        f.debug_struct("RedisStore").field("key", &self.keys.entry).finish_non_exhaustive()
    }
}

/// Compare and swap. That nobody may publish must not stop it half way.
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local version = redis.call('HGET', KEYS[1], 'version') or '0'
        if version ~= ARGV[1] then return 0 end
        redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
        redis.pcall('PUBLISH', ARGV[4], ARGV[2])
        return 1",
    )
});

/// Nothing if it was granted or prolonged, otherwise how many milliseconds somebody else has it.
static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return nil end
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.call('PTTL', KEYS[1]) end
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        return nil",
    )
});

static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(r"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"));

/// As long as a lease by default: who has waited longer has lost it.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);

/// How a lost connection is made anew before a command fails.
const RETRIES: usize = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_set_lie_in_one_slot_whatever_its_name() {
        for name in ["a", "", "}", "{", "{}", "a}b{c"] {
            let keys = Keys::of(Identity::of("x").as_str(), name);
            let tag = |key: &str| {
                let inside = key.split_once('{').unwrap().1;
                inside.split_once('}').unwrap().0.to_owned()
            };
            assert!(!tag(&keys.entry).is_empty());
            assert_eq!((tag(&keys.entry), tag(&keys.entry)), (tag(&keys.lease), tag(&keys.channel)), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_before_is_no_news() {
        let store = RedisStore::connect("redis://127.0.0.1:1", "x").unwrap();
        let (sender, receiver) = watch::channel(3);
        store.announced.set(receiver).unwrap();
        let hears = |known| timeout(LONGEST_ANSWER, store.changed(known));
        hears(2).await.unwrap();
        hears(3).await.unwrap_err();
        hears(5).await.unwrap_err();
        sender.send_replace(6);
        hears(5).await.unwrap();
    }

    #[test]
    fn a_url_that_is_none_is_not_repeated() {
        let error = RedisStore::connect("redis//app:secret@host", "x").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let store = RedisStore::connect("redis://app:secret@host", "x").unwrap();
        assert!(!format!("{store:?}").contains("secret"));
    }

    #[test]
    fn what_was_found_instead_is_not_repeated() {
        let found = redis::Value::BulkString(b"secret".to_vec());
        let error = redis::from_redis_value::<u64>(found).map_err(RedisError::from).unwrap_err();
        assert!(error.to_string().contains("secret"), "or this is about nothing: {error}");
        let error = failed(&error);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
