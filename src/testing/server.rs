//! The handle a test holds.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::Instant};

use crate::testing::{endpoints::api::ApiCounts, fault::Fault, recorded::token_request::TokenRequest};

pub(crate) mod builder;
mod connection;
pub(crate) mod state;
mod user;

use builder::Builder;
use state::{Shared, State};

/// A running OAuth 2.0 authorization server on loopback, with a small API that its tokens open.
///
/// It stops when this handle is dropped: the port closes and so do the connections. It answers:
///
/// | path | answer |
/// |---|---|
/// | `/token` | tokens for the grants on offer, to clients that authenticate by HTTP Basic or in the form |
/// | `/authorize` | a page that asks the user, then a redirect with a code or an error |
/// | `/introspect`, `/revoke` | RFC 7662, RFC 7009 |
/// | `/.well-known/oauth-authorization-server` | RFC 8414 |
/// | `/api/echo` | the request's body and content type |
/// | `/api/forbidden` | 403 `insufficient_scope` |
/// | `/api/unauthorized` | 401 `invalid_token`, whatever the token |
/// | `/api/scope-401` | 401 `insufficient_scope` |
/// | `/api/redirect?to=URL` | 307 to URL |
/// | `/api/open` | as any other, but without a token too |
/// | any other below `/api/` | 200 and a JSON object: `method`, `path`, `body_length` |
/// | `/redirect?to=URL` | 307 to URL, without asking for a token |
/// | any other | 404 |
///
/// Everything below `/api/` but `/api/open` wants `Authorization: Bearer` with a live token of this server, and answers 401
/// with a challenge (RFC 6750 §3) otherwise.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::testing::{AuthorizationServer, Fault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// assert_eq!(server.token_url(), server.url("/token"));
/// assert_eq!(server.api_url("/documents"), format!("{}/api/documents", server.origin()));
///
/// server.faults(3, Fault::status(503).retry_after(Duration::from_secs(1))); // an outage,
/// server.fault(Fault::drop_before_acting()); //                                then a bad connection
/// server.set_secret("client", "rotated");
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "the server stops when it is dropped"]
pub struct AuthorizationServer {
    address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Start, stop, addresses.
impl AuthorizationServer {
    /// Starts a server with the defaults of [`Builder`].
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one whose IO and time drivers are off.
    pub async fn start() -> io::Result<AuthorizationServer> {
        Self::builder().start().await
    }

    /// A server with options: clients, lifetimes, latency, scopes.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn spawn(mut state: State) -> io::Result<AuthorizationServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        state.rules.issuer = format!("http://{address}");
        let shared = Arc::new(Shared::new(state));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(connection::serve(listener, Arc::clone(&shared), stopped));
        Ok(AuthorizationServer { address, shared, stop: Some(stop), task })
    }

    /// The token endpoint: `http://127.0.0.1:PORT/token`, unless it has [another path](Builder::token_path).
    pub fn token_url(&self) -> String {
        let path = self.shared.lock().rules.token_path.clone();
        self.url(&path)
    }

    /// A path of the API: `/documents` gives `http://127.0.0.1:PORT/api/documents`.
    pub fn api_url(&self, path: &str) -> String {
        format!("{}/api/{}", self.origin(), path.trim_start_matches('/'))
    }

    /// Any path of the server: `/redirect` gives `http://127.0.0.1:PORT/redirect`.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.origin(), path.trim_start_matches('/'))
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the server and waits until its port is closed and its connections are cut, answers under way included.
    ///
    /// # Cancel safety
    ///
    /// The server stops even if this future is dropped; it just isn't waited for.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may be gone with its runtime; then it is stopped already.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

/// What it saw.
impl AuthorizationServer {
    /// Every request that reached the token endpoint, those met by a fault included.
    pub fn token_requests(&self) -> u64 {
        *self.shared.token_requests.borrow()
    }

    /// Waits until [`token_requests`](Self::token_requests) is at least `count`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for_token_requests(&self, count: u64) {
        // An error would mean that the sender is gone; `self` holds it.
        let _ = self.shared.token_requests.subscribe().wait_for(|seen| *seen >= count).await;
    }

    /// The access tokens issued so far, also those whose answer was cut off or came too late.
    pub fn tokens_issued(&self) -> u64 {
        self.shared.lock().issued.access.count()
    }

    /// The last 1 024 token requests, oldest first.
    pub fn recorded(&self) -> Vec<TokenRequest> {
        self.shared.lock().recorded.iter().cloned().collect()
    }

    /// How the requests to the API fared.
    pub fn api(&self) -> ApiCounts {
        self.shared.lock().api
    }
}

/// What it does from now on.
impl AuthorizationServer {
    /// Revokes a token: API requests with it are answered 401 `invalid_token`. Says whether it was live until now.
    pub fn revoke(&self, access_token: &str) -> bool {
        self.shared.lock().issued.access.revoke(access_token, Instant::now())
    }

    /// Revokes every live token and says how many they were.
    pub fn revoke_all(&self) -> usize {
        self.shared.lock().issued.access.revoke_all(Instant::now())
    }

    /// The next token request meets `fault`. Faults queue: each call adds one more.
    pub fn fault(&self, fault: Fault) {
        self.faults(1, fault);
    }

    /// The next `times` token requests meet `fault`, after those already queued.
    pub fn faults(&self, times: usize, fault: Fault) {
        self.shared.lock().token_faults.queue(times, fault);
    }

    /// Every token request within `time` from now meets `fault`, except those that take a queued one.
    ///
    /// A second call replaces the first.
    pub fn fault_for(&self, time: Duration, fault: Fault) {
        self.shared.lock().token_faults.set_window(Instant::now(), time, fault);
    }

    /// Every token request meets `fault` unless another is due, until [`clear_faults`](Self::clear_faults).
    ///
    /// A second call replaces the first.
    pub fn fault_always(&self, fault: Fault) {
        self.shared.lock().token_faults.set_always(fault);
    }

    /// Forgets every fault that has not been met yet, of the token endpoint and of the API.
    pub fn clear_faults(&self) {
        let mut state = self.shared.lock();
        state.token_faults.clear();
        state.api_faults.clear();
    }

    /// The next request to the API meets `fault`, whatever token it carries. Faults queue.
    ///
    /// What bends a token answer only ([`Fault::token_type`], [`Fault::member`], …) changes nothing here.
    pub fn api_fault(&self, fault: Fault) {
        self.api_faults(1, fault);
    }

    /// The next `times` requests to the API meet `fault`, after those already queued.
    pub fn api_faults(&self, times: usize, fault: Fault) {
        self.shared.lock().api_faults.queue(times, fault);
    }

    /// The lifetime of tokens issued from now on; see [`Builder::lifetime`].
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.lock().rules.lifetime = lifetime;
    }

    /// The secret of the client `id` from now on: a rotation, or a new client. Empty makes it public.
    pub fn set_secret(&self, id: impl Into<String>, secret: impl Into<String>) {
        self.shared.lock().rules.clients.set(id.into(), secret.into());
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
