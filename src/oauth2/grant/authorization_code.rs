//! The authorization code grant (RFC 6749 §4.1): a user authorizes in a browser.
//!
//! | module | what it holds |
//! |---|---|
//! | `request` | builds the authorization URL |
//! | `pending` | what is remembered until the browser comes back |
//! | `callback`, `redirect_uri` | read the callback: its parameters, and the address that it came to |
//! | `login`, `pkce` | compare the callback with the request that it belongs to |
//! | `error` | why an authorization brought no token |

use std::{borrow::Cow, fmt, time::Duration};

use http::Uri;
use url::Url;

use crate::oauth2::{
    Form, InvalidEndpoint, TokenEndpoint, TokenSet,
    endpoint::{
        address,
        form::{Params, Scope},
    },
};

mod callback;
mod error;
mod login;
mod pending;
mod pkce;
mod redirect_uri;
mod request;

#[cfg(fuzzing)]
pub(crate) use callback::code;
pub use error::{AuthorizationError, AuthorizationErrorKind};
use login::Login;
pub use pending::PendingAuthorization;

/// Sends a user to the authorization server, and exchanges the code that comes back for a [`TokenSet`] (RFC 6749 §4.1, with `state` and
/// PKCE as RFC 9700 §2.1 asks).
///
/// 1. [`start`](Self::start) makes the URL for the browser, and a [`PendingAuthorization`] for the user's session.
/// 2. The server sends the browser back to the redirect URI.
/// 3. [`finish`](Self::finish) takes the callback and the pending authorization, and exchanges the code.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{AuthorizationCode, RefreshToken, Stored, TokenEndpoint}};
///
/// # async fn redirect(_: &str) -> String { String::new() }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let login = AuthorizationCode::new(
///     endpoint.clone(),
///     "https://id.example.com/authorize",
///     "https://app.example.com/callback",
/// )?
/// .scope("document_read offline_access");
///
/// let pending = login.start();
/// let callback = redirect(pending.url()).await; // the user's browser goes there, and comes back with this
/// let set = login.finish(pending, &callback).await?;
/// let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint)).holding(set));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AuthorizationCode {
    endpoint: TokenEndpoint,
    authorize: Url,
    redirect_uri: String,
    client_id: Option<String>,
    scope: Scope,
    params: Params,
    token_params: Params,
    issuer: Option<String>,
    pkce: bool,
    valid_for: Duration,
}

impl AuthorizationCode {
    /// A login at this token endpoint and this authorization endpoint (https, or http on loopback).
    ///
    /// The redirect URI must be exactly the registered one. If it is empty, it is left out of both requests, and the server takes the
    /// registered one, if there is only one (RFC 6749 §3.1.2.3).
    ///
    /// # Errors
    /// [`InvalidEndpoint`] if the authorization endpoint is no such URL.
    pub fn new(
        endpoint: TokenEndpoint,
        authorization_url: &str,
        redirect_uri: impl Into<String>,
    ) -> Result<Self, InvalidEndpoint> {
        let authorize = address::parse_url(authorization_url, endpoint.insecure)?;
        Ok(Self {
            endpoint,
            authorize,
            redirect_uri: redirect_uri.into(),
            client_id: None,
            scope: Scope::default(),
            params: Params::default(),
            token_params: Params::default(),
            issuer: None,
            pkce: true,
            valid_for: VALID_FOR,
        })
    }

    /// The client's id in the authorization URL, which RFC 6749 §4.1.1 requires. Default: the token endpoint's.
    ///
    /// Set it if the token endpoint has a [`client_basic_value`](TokenEndpoint::client_basic_value) in which the id can't be read, or is
    /// encoded.
    ///
    /// ```
    /// use tower_bearer::oauth2::{AuthorizationCode, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_basic_value("a-value-without-an-id");
    /// let login = AuthorizationCode::new(endpoint, "https://id.example.com/authorize", "https://app.example.com/cb")?;
    /// assert!(!login.start().url().contains("client_id"));
    /// assert!(login.client_id("my-app").start().url().contains("&client_id=my-app&"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Adds a scope, or several, space-delimited. Default: none is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope.add(scope.as_ref());
        self
    }

    /// Adds a parameter to the authorization URL, such as `prompt` or `resource`.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.params.add(name, value);
        self
    }

    /// Adds a parameter to the token request.
    #[must_use]
    pub fn token_param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.token_params.add(name, value);
        self
    }

    /// The issuer of the authorization server, which the callback must name as `iss` (RFC 9207). Default: not checked.
    ///
    /// For servers that announce `authorization_response_iss_parameter_supported`. A client of more than one server needs this against
    /// mix-up attacks (RFC 9700 §4.4).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// How long the user may take. Default: 10 min.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// Leaves out PKCE (RFC 7636), for servers that refuse unknown parameters. Then somebody who steals the code from the browser can use
    /// it, if they can authenticate as the client.
    #[must_use]
    pub fn insecure_without_pkce(mut self) -> Self {
        self.pkce = false;
        self
    }

    /// Begins an authorization: makes the URL for the browser, and what to remember until it comes back.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn start(&self) -> PendingAuthorization {
        let state = pkce::random();
        let verifier = self.pkce.then(pkce::random);
        let url = self.url(&state, verifier.as_ref().map(|verifier| verifier.as_str()));
        let now = self.endpoint.clock.wall();
        PendingAuthorization::new(self.login(), url, state, verifier, now, self.valid_for)
    }

    /// Reads the callback, and exchanges the code in it.
    ///
    /// The pending authorization must be one of this login: with the same token endpoint, client id, redirect URI and issuer. It can be
    /// used once, even if this fails.
    ///
    /// | `callback` | must equal the redirect URI in |
    /// |---|---|
    /// | the whole URL: `https://app.example.com/callback?code=…` | scheme, host, port, path, query |
    /// | path and query: `/callback?code=…` | path, query |
    /// | the query alone: `code=…` or `?code=…`; or a form that was posted (`response_mode=form_post`) | nothing |
    ///
    /// The longer form is the safer one. The case of scheme and host, the default port and needless percent-encoding make no difference
    /// (RFC 3986 §6.2); a trailing slash does. The query must have all parameters of the redirect URI's own query.
    ///
    /// Behind a proxy that changes scheme, host or port, pass path and query. If the path is changed as well (a stripped prefix, a nested
    /// router), pass the query alone, and also if the redirect URI is no web address (`urn:ietf:wg:oauth:2.0:oob`).
    ///
    /// # Errors
    /// [`AuthorizationErrorKind`] tells apart a user who refused, a callback that belongs to another session, and everything else.
    ///
    /// # Cancel safety
    /// Dropping the future may lose the code. Then the user has to begin again.
    pub async fn finish(&self, pending: PendingAuthorization, callback: &str) -> Result<TokenSet, AuthorizationError> {
        if let Some(part) = pending.difference(&self.login()) {
            return Err(AuthorizationError::wrong_login(part));
        }
        let code = callback::code(callback, &pending, self.endpoint.clock.wall())?;
        // RFC 6749 §4.1.3: the same redirect URI as in the authorization request. An empty one is left out of both (`param`).
        let form = Form::grant("authorization_code")
            .param("code", code.as_str())
            .param("redirect_uri", &self.redirect_uri)
            .param("code_verifier", pending.verifier().unwrap_or_default())
            .params(&self.token_params);
        self.endpoint.exchange(form, EXCHANGE_LIMIT).await.map_err(AuthorizationError::exchange)
    }

    /// What a pending authorization of this login has in common with it.
    fn login(&self) -> Login {
        Login {
            token_endpoint: address::without_query(&self.endpoint.uri),
            client_id: self.known_client_id(),
            redirect_uri: self.redirect_uri.clone(),
            issuer: self.issuer.clone(),
        }
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorize = self.authorize.as_str().parse::<Uri>().map(|uri| address::without_query(&uri));
        f.debug_struct("AuthorizationCode")
            .field("endpoint", &self.endpoint)
            .field("authorize", &authorize.unwrap_or_default())
            .field("redirect_uri", &self.redirect_uri)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Long enough to log in with a second factor.
const VALID_FOR: Duration = Duration::from_secs(600);

/// Generous, because a code can be spent only once. It lives for ten minutes at most (RFC 6749 §4.1.2).
const EXCHANGE_LIMIT: Duration = Duration::from_secs(30);
