//! The authorization code grant (RFC 6749 §4.1): a user agrees in a browser.
//!
//! `mod` has the options and exchanges the code; `request` builds the authorization URL; `pending` is what has to be remembered in
//! between; `callback` reads what the browser brings back, and `redirect_uri` where to; `login` and `pkce` tie the two ends
//! together; `error` says what went wrong.

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

/// Sends a user to the authorization server and gets a [`TokenSet`] for what comes back (RFC 6749 §4.1, with `state` and PKCE as
/// RFC 9700 §2.1 asks).
///
/// Three steps: [`start`](Self::start) makes the URL to send the browser to and a [`PendingAuthorization`] to be kept in the
/// user's session; the server sends the browser back to the redirect URI; [`finish`](Self::finish) takes what it brought and the
/// pending authorization and exchanges the code.
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
    /// With this token endpoint, this authorization endpoint (https, or http on loopback), and this redirect URI, which must be the
    /// registered one to the letter. An empty redirect URI is left out of both requests: the server then takes the registered one,
    /// if there is no other (RFC 6749 §3.1.2.3).
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

    /// The client's id in the authorization URL, which RFC 6749 §4.1.1 requires. Default: the one that the token endpoint was given.
    ///
    /// To be stated if there is none to be read in a [`client_basic_value`](TokenEndpoint::client_basic_value), or if it is encoded
    /// there.
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

    /// Asks for a scope, or for several, space-delimited. May be called again for more.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope.add(scope.as_ref());
        self
    }

    /// One more parameter of the authorization URL, such as `prompt` or `resource`. May be called again for more.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.params.add(name, value);
        self
    }

    /// One more parameter of the token request. May be called again for more.
    #[must_use]
    pub fn token_param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.token_params.add(name, value);
        self
    }

    /// The issuer of the authorization server: a callback must name it as `iss` (RFC 9207). For servers that announce
    /// `authorization_response_iss_parameter_supported`, and needed where a client uses more than one server (mix-up, RFC 9700
    /// §4.4).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// How long the user may take. Default: ten minutes.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// Leaves PKCE (RFC 7636) out, for servers that refuse parameters they don't know. Whoever gets hold of a code on its way
    /// through the browser can then use it, if it can prove to be the client.
    #[must_use]
    pub fn insecure_without_pkce(mut self) -> Self {
        self.pkce = false;
        self
    }

    /// Begins: makes the URL to send the browser to, and what to remember until it comes back.
    ///
    /// # Panics
    /// If the system has no random numbers to give.
    pub fn start(&self) -> PendingAuthorization {
        let state = pkce::random();
        let verifier = self.pkce.then(pkce::random);
        let url = self.url(&state, verifier.as_ref().map(|verifier| verifier.as_str()));
        let now = self.endpoint.clock.wall();
        PendingAuthorization::new(self.login(), url, state, verifier, now, self.valid_for)
    }

    /// Takes what the browser brought to the redirect URI, and exchanges the code in it. Once: whatever comes of it, the pending
    /// authorization is used up. It must be one that this login began: the same token endpoint, client id, redirect URI and issuer.
    ///
    /// | `callback` | must equal the redirect URI in |
    /// |---|---|
    /// | the whole URL: `https://app.example.com/callback?code=…` | scheme, host, port, path, query |
    /// | path and query: `/callback?code=…` | path, query |
    /// | the query alone: `code=…` or `?code=…`; or a form that was posted (`response_mode=form_post`) | nothing |
    ///
    /// The more is handed in, the more is compared. The case of scheme and host, the default port, and percent-encoding that isn't
    /// needed make no difference (RFC 3986 §6.2); a trailing slash does. The query must hold what the redirect URI's own query
    /// holds.
    ///
    /// Behind a proxy that changes scheme, host or port, hand in path and query; if the path is changed as well (a prefix that is
    /// stripped, a nested router), the query alone. Also with a redirect URI that isn't the address of a page
    /// (`urn:ietf:wg:oauth:2.0:oob`).
    ///
    /// # Errors
    /// [`AuthorizationErrorKind`] tells a user who refused from an answer that isn't meant for this session, and from the rest.
    ///
    /// # Cancel safety
    /// Dropping the future may lose the code: the user has to begin again.
    pub async fn finish(&self, pending: PendingAuthorization, callback: &str) -> Result<TokenSet, AuthorizationError> {
        if let Some(part) = pending.difference(&self.login()) {
            return Err(AuthorizationError::wrong_login(part));
        }
        let code = callback::code(callback, &pending, self.endpoint.clock.wall())?;
        // RFC 6749 §4.1.3: the redirect URI as it was in the authorization request, and not there if it wasn't (`field`).
        let form = Form::grant("authorization_code")
            .field("code", code.as_str())
            .field("redirect_uri", &self.redirect_uri)
            .field("code_verifier", pending.verifier().unwrap_or_default())
            .params(&self.token_params);
        self.endpoint.exchange(form, EXCHANGE).await.map_err(AuthorizationError::exchange)
    }

    /// What a pending authorization must have been begun with.
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

/// Long enough to log in and to find the second factor.
const VALID_FOR: Duration = Duration::from_secs(600);

/// A code can be spent once, so its exchange isn't given up early; servers let codes live for ten minutes at most (RFC 6749
/// §4.1.2).
const EXCHANGE: Duration = Duration::from_secs(30);
