//! Options of the server that all grants share, and its start.

use std::{fmt, io, time::Duration};

use super::{AuthorizationServer, state::State};
mod grant_options;

use crate::testing::{
    issued::{Issued, tokens},
    rules::Rules,
};

/// Start.
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
///     .token_len(1024)
///     .remember(1_000_000)
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

    /// Registers a client. Call it again for more clients, or with the same `id` for another secret.
    ///
    /// An empty `secret` makes a public client, which only sends its id. Default: one client, `client` with the secret
    /// `secret`.
    ///
    /// Example: [`Builder`].
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.rules.clients.set(id.into(), secret.into());
        self
    }

    /// The lifetime of access tokens. Default: 3 600 s.
    ///
    /// With `None`, answers have no `expires_in`, and tokens never expire. If the lifetime is no whole number of seconds,
    /// `expires_in` is a fraction (`0.5`). The server enforces the exact lifetime.
    ///
    /// Example: [`Builder`].
    pub fn lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.rules.lifetime = lifetime;
        self
    }

    /// How late each answer of the token endpoint is, faults included. Default: 0 s.
    ///
    /// Example: [`Builder`].
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The scopes that the server knows. It answers `invalid_scope` to any other. Default: every scope.
    ///
    /// Example: [`Builder`].
    pub fn scopes(mut self, scopes: &[&str]) -> Self {
        self.rules.scopes = Some(scopes.iter().copied().map(str::to_owned).collect());
        self
    }

    /// The length of random tokens, in characters of `[A-Za-z0-9]`. Default: 43. Less than 8 counts as 8.
    ///
    /// Example: [`Builder`].
    pub fn token_len(mut self, characters: usize) -> Self {
        self.token_len = characters.max(tokens::MIN_TOKEN_LEN);
        self
    }

    /// How many access tokens the server remembers, and how many refresh tokens, and how many codes. Default: 65 536 each.
    ///
    /// The server forgets older ones, even if they still live. Raise it if a test keeps more tokens in use. Zero counts
    /// as one.
    ///
    /// Example: [`Builder`].
    pub fn remember(mut self, tokens: usize) -> Self {
        self.remember = tokens.max(1);
        self
    }

    /// Starts the server on a free port of 127.0.0.1, on the current tokio runtime.
    ///
    /// Example: [`Builder`].
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one whose IO or time driver is off.
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

/// 256 random bits in base 62.
const DEFAULT_TOKEN_LEN: usize = 43;

/// Some 20 MB of access tokens of the default length, with the map and the queue that hold them.
const DEFAULT_REMEMBER: usize = 65_536;
