//! The token endpoint (RFC 6749 §3.2): where it is, how the client proves itself to it, and what carries the requests.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use tower::Service;

use super::answer::shape::{AnswerMember, AnswerShape};
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

/// A token endpoint, and how the client proves to it who it is.
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
    pub(super) shape: Arc<AnswerShape>,
    /// The user's, or the crate's own from the first exchange on: setting up TLS takes milliseconds.
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

    /// The same, with plain `http` to any host: whoever is on the way can read the client's secret and the tokens. For networks
    /// that encrypt below HTTP (a service mesh, a VPN).
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

    /// Id and secret in HTTP Basic, form-encoded first, as RFC 6749 §2.3.1 asks. Makes a difference to
    /// [`client_secret_basic_raw`](Self::client_secret_basic_raw) only if there is more in them than letters, digits and `-._*`.
    #[must_use]
    pub fn client_secret_basic(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::Basic(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// Id and secret in HTTP Basic as they are, for servers that don't decode them.
    #[must_use]
    pub fn client_secret_basic_raw(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::BasicRaw(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// HTTP Basic from the value that the provider hands out encoded already; with or without the word `Basic` before it.
    #[must_use]
    pub fn client_basic_value(self, value: impl Into<String>) -> Self {
        self.client(ClientAuth::BasicValue(value.into().into()))
    }

    /// Id and secret as `client_id` and `client_secret` in the form (RFC 6749 §2.3.1).
    #[must_use]
    pub fn client_secret_post(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.client(ClientAuth::Post(Client { id: id.into(), secret: secret.into().into() }))
    }

    /// A client without a secret: `client_id` alone in the form (RFC 6749 §2.1).
    #[must_use]
    pub fn public_client(self, id: impl Into<String>) -> Self {
        self.client(ClientAuth::Public { id: id.into() })
    }

    /// Sends forms as `multipart/form-data` (RFC 7578), which RFC 6749 doesn't know but some providers ask for.
    #[cfg(feature = "multipart")]
    #[must_use]
    pub fn multipart(mut self) -> Self {
        self.encoding = Encoding::Multipart;
        self
    }

    /// Reads the token out of a member of the answer, for servers that wrap it: `{"code":0,"msg":"success","data":{"access_token":…}}`.
    /// A path of members is joined by dots: `response.data`. (So a member with a dot in its name can't be named.) Default: the answer itself,
    /// as RFC 6749 §5.1 has it. What [`answer_member`](Self::answer_member) calls otherwise is looked for in there. A form is read as it is:
    /// it has nothing to wrap them in.
    ///
    /// An access token anywhere else is not taken. What the wrapper says of an error (`"code":20003,"msg":…`, with `"data":null`) is read
    /// as one, and so is an error within. Answers to [`verify`](Self::verify) are read in the same way, those to
    /// [`introspect`](Self::introspect) as RFC 7662 has them.
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

    /// Reads a member of the answer under another name, and no longer under its own; within [`answer_in`](Self::answer_in), if that is
    /// said. Default: the names of RFC 6749 §5.1.
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
        Arc::make_mut(&mut self.shape).call(member, name.into());
        self
    }

    /// Sends the requests through this service instead of the crate's own client: for proxies, client certificates, tracing,
    /// or an HTTP library of your own.
    ///
    /// - It must not follow redirects: the client's secret would go with them (RFC 9700 §4.12).
    /// - It should say when a request was certainly not sent, so that a refresh token isn't taken for spent: with [`NotSent`](crate::NotSent) in the chain
    ///   of its error's sources. Refused connections are known without that, and with the features `reqwest` and `hyper-util`
    ///   whatever keeps those clients from connecting (names that don't resolve, TLS that fails).
    /// - A connection of its own is wanted: where requests wait for a limit that the API's requests use up, so do token requests. And
    ///   all streams of an HTTP/2 connection share one window (RFC 9113 §5.2): answers of the API that nobody reads keep the token
    ///   endpoint's out.
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

    /// Sends the requests through this client. Build it with `redirect(Policy::none())`: an answer that came by a redirect is
    /// refused. A client of its own is wanted, not that of the API: with it goes a connection of its own, where both are on one
    /// server ([`http_service`](Self::http_service) says why).
    #[cfg(feature = "reqwest")]
    #[must_use]
    pub fn reqwest_client(mut self, client: reqwest::Client) -> Self {
        self.transport = Arc::new(transport::with_reqwest::of_client(client).into());
        self
    }

    /// Another wall clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The issuer of the authorization server (RFC 8414 §2), as a part of [`account`](Self::account): with it, path and query of the
    /// endpoint may change without a change of the account. Default: none.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// This client at this authorization server, for a [`Grant::account`](super::Grant::account). Say whose tokens it is about:
    /// [`Account::subject`].
    ///
    /// The server is known by its [`issuer`](Self::issuer). Default: the origin, with what in path and query may name a tenant
    /// (`/realms/a`, `?tenant=a`). A version or a word of OAuth at the end of the path doesn't count, and neither do other parameters.
    /// Where something else tells tenants apart (a header, a client certificate), name them by the issuer or the subject.
    #[must_use]
    pub fn account(&self) -> Account {
        let server = self.issuer.clone().unwrap_or_else(|| address::server(&self.uri));
        Account::new(server, self.client.identity())
    }

    /// What the client proves itself with, for a [`Grant::credentials`](super::Grant::credentials).
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
