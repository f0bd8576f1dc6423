//! The handle that a test holds: it starts the server, knows its addresses, and stops it.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::testing::endpoints::{AUTHORIZE, INTROSPECT, REVOKE};

pub(crate) mod builder;

mod approve;
mod change;
mod fault_injection;
mod observe;

mod connection;
mod state;

use state::{Shared, State};

/// A running OAuth 2.0 authorization server on loopback, with a small API that accepts its tokens.
///
/// The server stops when this handle is dropped: it closes its port and its connections.
///
/// # Paths
///
/// | path | answer |
/// |---|---|
/// | `/token` | issues tokens for the grants on offer. Clients authenticate by HTTP Basic or in the form |
/// | `/authorize` | a page that asks the user, then a redirect with a code or an error |
/// | `/introspect`, `/revoke` | RFC 7662, RFC 7009 |
/// | `/.well-known/oauth-authorization-server` | RFC 8414 |
/// | `/api/echo` | the body and the content type of the request |
/// | `/api/forbidden` | 403 `insufficient_scope` |
/// | `/api/unauthorized` | 401 `invalid_token`, whatever the token |
/// | `/api/scope-401` | 401 `insufficient_scope` |
/// | `/api/redirect?to=URL` | 307 to the URL |
/// | `/api/open` | like any other path of the API, but without a token too |
/// | any other below `/api/` | 200 and a JSON object: `method`, `path`, `body_length` |
/// | `/redirect?to=URL` | 307 to the URL. No token is needed |
/// | any other | 404 |
///
/// All of `/api/` except `/api/open` needs `Authorization: Bearer` with a live token of this server. Without one, the
/// answer is 401 with a challenge (RFC 6750 §3).
///
/// # Addresses
///
/// ```
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// let origin = server.origin(); // http://127.0.0.1:PORT
/// assert_eq!(server.url("/redirect"), format!("{origin}/redirect"));
/// assert_eq!(server.api_url("/documents"), format!("{origin}/api/documents"));
///
/// assert_eq!(server.token_url(), format!("{origin}/token"));
/// assert_eq!(server.authorization_url(), format!("{origin}/authorize"));
/// assert_eq!(server.introspection_url(), format!("{origin}/introspect"));
/// assert_eq!(server.revocation_url(), format!("{origin}/revoke"));
/// assert_eq!(server.issuer(), origin);
/// # Ok(())
/// # }
/// ```
#[must_use = "the server stops when it is dropped"]
pub struct AuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Addresses.
impl AuthorizationServer {
    /// The token endpoint: `http://127.0.0.1:PORT/token`, or [another path](crate::testing::Builder::token_path).
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn token_url(&self) -> String {
        let path = self.shared.lock().rules.token_path.clone();
        self.url(&path)
    }

    /// The authorization endpoint: `http://127.0.0.1:PORT/authorize`. A browser visits it with a query.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn authorization_url(&self) -> String {
        self.url(AUTHORIZE)
    }

    /// The introspection endpoint (RFC 7662): `http://127.0.0.1:PORT/introspect`.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn introspection_url(&self) -> String {
        self.url(INTROSPECT)
    }

    /// The revocation endpoint (RFC 7009): `http://127.0.0.1:PORT/revoke`.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn revocation_url(&self) -> String {
        self.url(REVOKE)
    }

    /// A path of the API: `/documents` gives `http://127.0.0.1:PORT/api/documents`.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn api_url(&self, path: &str) -> String {
        format!("{}/api/{}", self.origin(), path.trim_start_matches('/'))
    }

    /// Any path of the server: `/redirect` gives `http://127.0.0.1:PORT/redirect`.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.origin(), path.trim_start_matches('/'))
    }

    /// The origin: `http://127.0.0.1:PORT`.
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The issuer: the value of `iss`, and the base of the discovery document's address (RFC 8414 §3).
    ///
    /// Example: [addresses](AuthorizationServer#addresses).
    pub fn issuer(&self) -> String {
        self.origin()
    }
}

/// Stop.
impl AuthorizationServer {
    /// Stops the server, and waits until its port and its connections are closed. Answers under way are cut off.
    ///
    /// ```
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::start().await?;
    /// let url = server.token_url();
    /// server.shutdown().await;
    /// assert!(reqwest::get(url).await.unwrap_err().is_connect());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the server stops all the same. Nobody waits for it then.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // If the task ended with its runtime, it has stopped already.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }

    /// Binds a free port of loopback, and serves it on a task of its own.
    async fn spawn(mut state: State) -> io::Result<AuthorizationServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        state.rules.issuer = format!("http://{address}");
        let shared = Arc::new(Shared::new(state));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(connection::serve(listener, Arc::clone(&shared), stopped));
        Ok(AuthorizationServer { address, shared, stop: Some(stop), task })
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("origin", &self.origin())
            .field("token_requests", &self.token_requests())
            .field("tokens_issued", &self.tokens_issued())
            .field("api", &self.api())
            .finish_non_exhaustive()
    }
}
