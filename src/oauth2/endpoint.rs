//! The token endpoint (RFC 6749 §3.2): its URL, the client's authentication, and the HTTP client for its requests.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use tower::Service;

use super::response::shape::{AnswerMember, ResponseShape};
use crate::{
    BoxError,
    clock::{Clock, SystemClock},
    store::{Account, Credentials},
};

pub(crate) mod address;
mod client_auth;
pub(crate) mod exchange;
pub(crate) mod form;
mod secrets;
mod transport;

pub use address::InvalidEndpoint;
use client_auth::{Client, ClientAuth};
use form::Encoding;
pub use form::Form;
use transport::Transport;

/// A token endpoint, and how the client authenticates to it.
///
/// ```
/// use tower_bearer::oauth2::TokenEndpoint;
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// assert!(TokenEndpoint::new("http://id.example.com/token").is_err()); // the secret in clear text
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint {
    pub(super) uri: Uri,
    pub(super) insecure: bool,
    pub(super) client: ClientAuth,
    issuer: Option<String>,
    pub(super) encoding: Encoding,
    pub(super) shape: Arc<ResponseShape>,
    /// The user's, or the crate's own. That one is made for the first exchange, because setting up TLS takes milliseconds.
    transport: Arc<OnceLock<Transport>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl TokenEndpoint {
    /// The endpoint at this URL: https, or http on loopback.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] if it is no such URL, or holds user info or a fragment.
    pub fn new(url: &str) -> Result<Self, InvalidEndpoint> {
        Self::at(url, false)
    }

    /// The endpoint at this URL, which may be plain `http` on any host. Anybody on the network path can read the client's secret and
    /// the tokens. For networks that encrypt below HTTP (a service mesh, a VPN).
    ///
    /// ```
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// let endpoint = TokenEndpoint::insecure_http("http://id.mesh.internal/token")?.client_secret_basic("id", "secret");
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidEndpoint`] if it is no http or https URL, or holds user info or a fragment.
    pub fn insecure_http(url: &str) -> Result<Self, InvalidEndpoint> {
        Self::at(url, true)
    }

    fn at(url: &str, insecure: bool) -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            uri: address::parse(url, insecure)?,
            insecure,
            client: ClientAuth::Unset,
            issuer: None,
            encoding: Encoding::default(),
            shape: Arc::default(),
            transport: Arc::default(),
            clock: Arc::new(SystemClock),
        })
    }

    /// The client's id and secret in HTTP Basic, form-encoded first (RFC 6749 §2.3.1).
    ///
    /// This differs from [`client_secret_basic_raw`](Self::client_secret_basic_raw) only if id or secret have other characters than
    /// letters, digits and `-._*`. The example of [`TokenEndpoint`] uses it.
    #[must_use]
    pub fn client_secret_basic(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::Basic(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// The client's id and secret in HTTP Basic without encoding, for servers that don't decode them.
    #[must_use]
    pub fn client_secret_basic_raw(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::BasicRaw(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// HTTP Basic with a value that the provider has encoded already; with or without the word `Basic` before it.
    #[must_use]
    pub fn client_basic_value(self, value: impl Into<String>) -> Self {
        self.client(ClientAuth::BasicValue(value.into().into()))
    }

    /// The client's id and secret as `client_id` and `client_secret` in the form (RFC 6749 §2.3.1).
    #[must_use]
    pub fn client_secret_post(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::Post(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// A client without a secret: `client_id` alone in the form (RFC 6749 §2.1).
    #[must_use]
    pub fn public_client(self, id: impl Into<String>) -> Self {
        self.client(ClientAuth::Public { id: id.into() })
    }

    /// Sends forms as `multipart/form-data` (RFC 7578). Default: form-urlencoded, as RFC 6749 has it. Some providers ask for this.
    #[cfg(feature = "multipart")]
    #[must_use]
    pub fn multipart(mut self) -> Self {
        self.encoding = Encoding::Multipart;
        self
    }

    /// Reads the token out of a member of the response. Default: out of the response itself (RFC 6749 §5.1).
    ///
    /// For servers that wrap it: `{"code":0,"msg":"success","data":{"access_token":…}}`. A path of several members is joined by dots:
    /// `response.data`. (A member with a dot in its name can't be named.) An access token anywhere else is ignored. An error is read
    /// both from the wrapper (`"code":20003,"msg":…`, with `"data":null`) and from within.
    ///
    /// [`answer_member`](Self::answer_member) changes the names within this member. Responses to [`verify`](Self::verify) are read in the
    /// same way, those to [`introspect`](Self::introspect) as RFC 7662 has them. A response that is a form can't be wrapped, and is read
    /// as it is.
    ///
    /// ```
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_post("id", "secret").answer_in("data");
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn answer_in(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        let names = path.split('.').filter(|name| !name.is_empty());
        Arc::make_mut(&mut self.shape).path = names.map(str::to_owned).collect();
        self
    }

    /// Reads a member of the response under another name, and no longer under its own. Default: the names of RFC 6749 §5.1.
    ///
    /// ```
    /// use tower_bearer::oauth2::{AnswerMember, TokenEndpoint};
    ///
    /// // {"code":0,"data":{"token":"…","refreshToken":"…","expiresIn":"1794211200000"}}
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?
    ///     .client_secret_post("id", "secret")
    ///     .answer_in("data")
    ///     .answer_member(AnswerMember::AccessToken, "token")
    ///     .answer_member(AnswerMember::RefreshToken, "refreshToken")
    ///     .answer_member(AnswerMember::ExpiresAt, "expiresIn"); // a moment, whatever it is called
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn answer_member(mut self, member: AnswerMember, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.shape).rename(member, name.into());
        self
    }

    /// Sends the requests through this service: for proxies, client certificates, tracing, or another HTTP library. Default: a
    /// `reqwest::Client` of the crate's own (feature `reqwest`).
    ///
    /// - It must not follow redirects: the client's secret would go with them (RFC 9700 §4.12).
    /// - It should say when a request was certainly not sent, so that a refresh token doesn't count as spent: with
    ///   [`NotSent`](crate::NotSent) in the chain of its error's sources. Refused connections are recognized without that. With the
    ///   features `reqwest` and `hyper-util` so are the other reasons why those clients can't connect (DNS, TLS).
    /// - It should have its own connections. If it shares a limit with the API's requests, token requests wait with them. And all
    ///   streams of an HTTP/2 connection share one flow-control window (RFC 9113 §5.2): unread answers of the API would block the token
    ///   endpoint's.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>(); // for https: `build` with a connector
    /// let endpoint = TokenEndpoint::new("http://localhost:8080/token")?.client_secret_basic("id", "secret").http_service(client);
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn http_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.transport = Arc::new(transport::of_service(service).into());
        self
    }

    /// Sends the requests through this client. Default: one of the crate's own.
    ///
    /// Build it with `redirect(Policy::none())`: a response after a redirect is an error. Don't take the API's client, so that token
    /// requests have their own connections ([`http_service`](Self::http_service) says why).
    ///
    /// ```
    /// use reqwest::{Client, redirect::Policy};
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder().redirect(Policy::none()).build()?;
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret").reqwest_client(client);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "reqwest")]
    #[must_use]
    pub fn reqwest_client(mut self, client: reqwest::Client) -> Self {
        self.transport = Arc::new(transport::with_reqwest::of_client(client).into());
        self
    }

    /// Another wall clock, for tests. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The issuer of the authorization server (RFC 8414 §2). Default: unknown.
    ///
    /// It is the server's name in [`account`](Self::account). With it the URL of the endpoint may change, and the account stays the same.
    ///
    /// ```
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// let [old, new] = ["https://id.example.com/token", "https://login.example.com/token"].map(|url| {
    ///     TokenEndpoint::new(url).map(|endpoint| endpoint.client_secret_basic("id", "secret").issuer("https://id.example.com"))
    /// });
    /// assert_eq!(old?.account().id(), new?.account().id());
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// This client at this authorization server, for [`Grant::account`](super::Grant::account). [`Account::subject`] adds whose tokens
    /// they are. [`Grant`](super::Grant) has an example.
    ///
    /// The server's name is its [`issuer`](Self::issuer). Default: the origin of the URL, and the parts of its path and query that may
    /// name a tenant (`/realms/a`, `?tenant=a`). A version or an OAuth term at the end of the path is left out, and so are other
    /// parameters. If something else tells tenants apart (a header, a client certificate), name them in the issuer or the subject.
    #[must_use]
    pub fn account(&self) -> Account {
        let server = self.issuer.clone().unwrap_or_else(|| address::server(&self.uri));
        Account::new(server, self.client.identity())
    }

    /// The client's credentials, hashed, for [`Grant::credentials`](super::Grant::credentials). [`Grant`](super::Grant) has an example.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.client.credentials()
    }

    fn client(mut self, client: ClientAuth) -> Self {
        self.client = client;
        self
    }

    pub(super) fn transport(&self) -> Result<Transport, BoxError> {
        match self.transport.get() {
            Some(transport) => Ok(transport.clone()),
            #[cfg(feature = "reqwest")]
            None => {
                let transport = transport::with_reqwest::default()?;
                Ok(self.transport.get_or_init(|| transport).clone())
            }
            #[cfg(not(feature = "reqwest"))]
            None => Err("there is no HTTP client: call `http_service`, or enable the feature `reqwest`".into()),
        }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("url", &address::without_query(&self.uri)).finish_non_exhaustive()
    }
}
