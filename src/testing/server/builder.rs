//! The options of an [`AuthorizationServer`] that every grant shares.

use std::{fmt, io, time::Duration};

use super::{AuthorizationServer, state::State};
mod grant_options;

use crate::testing::{
    issued::{Issued, tokens},
    rules::Rules,
};

impl AuthorizationServer {
    /// Starts a server with the defaults of [`Builder`].
    ///
    /// Example: [the module's](crate::testing#example).
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one whose IO or time driver is off.
    pub async fn start() -> io::Result<AuthorizationServer> {
        Self::builder().start().await
    }

    /// The options of a server: clients, lifetimes, latency, scopes.
    ///
    /// Example: [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }
}

/// Options of an [`AuthorizationServer`], from [`AuthorizationServer::builder`].
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::builder()
///     .client("orders", "s3cr3t")
///     .lifetime(Some(Duration::from_millis(200)))
///     .latency(Duration::from_millis(50))
///     .scopes(&["document_read", "document_write"])
///     .start()
///     .await?;
/// assert!(server.token_url().starts_with("http://127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start` is called"]
pub struct Builder {
    pub(crate) rules: Rules,
    latency: Duration,
    token_len: usize,
    remember: usize,
}

impl Builder {
    fn new() -> Self {
        Self {
            rules: Rules::default(),
            latency: Duration::ZERO,
            token_len: DEFAULT_TOKEN_LEN,
            remember: DEFAULT_REMEMBER,
        }
    }

    /// Registers a client; repeat it for more of them, or with the same `id` for another secret.
    ///
    /// With an empty `secret` it is a public client, which only has to name itself. Without any call there is one
    /// client, `client` with the secret `secret`.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.rules.clients.set(id.into(), secret.into());
        self
    }

    /// How long tokens live: 3 600 s unless said otherwise.
    ///
    /// With `None`, answers have no `expires_in` and tokens live on. A lifetime that is not a whole number of seconds
    /// is announced as a fraction (`"expires_in":0.5`); the server enforces it exactly.
    pub fn lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.rules.lifetime = lifetime;
        self
    }

    /// How long each answer of the token endpoint is held back, faults included: none unless said otherwise.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The scopes the server knows; a request for another is answered `invalid_scope`. Unless said, all are fine.
    pub fn scopes(mut self, scopes: &[&str]) -> Self {
        self.rules.scopes = Some(scopes.iter().copied().map(str::to_owned).collect());
        self
    }

    /// The length of the random tokens, in characters of `[A-Za-z0-9]`: 43 unless said, never below 8.
    pub fn token_len(mut self, characters: usize) -> Self {
        self.token_len = characters.max(tokens::MIN_TOKEN_LEN);
        self
    }

    /// How many tokens, the newest ones, the server remembers: 65 536 unless said, at least one. As many refresh tokens
    /// and codes besides.
    ///
    /// Older ones are unknown to it, whether they still lived or not. A test that keeps more tokens in use raises it.
    pub fn remember(mut self, tokens: usize) -> Self {
        self.remember = tokens.max(1);
        self
    }

    /// Starts the server on a free port of 127.0.0.1, on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one whose IO and time drivers are off.
    pub async fn start(mut self) -> io::Result<AuthorizationServer> {
        if self.rules.clients.is_empty() {
            self.rules.clients.set("client".to_owned(), "secret".to_owned());
        }
        let issued = Issued::new(self.token_len, self.remember);
        AuthorizationServer::spawn(State::new(self.rules, self.latency, issued)).await
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rules", &self.rules)
            .field("latency", &self.latency)
            .field("token_len", &self.token_len)
            .field("remember", &self.remember)
            .finish()
    }
}

/// 256 bits in base 62.
const DEFAULT_TOKEN_LEN: usize = 43;

/// Some 20 MB of access tokens of the default length, counting the parts of the map and the queue.
const DEFAULT_REMEMBER: usize = 65_536;
