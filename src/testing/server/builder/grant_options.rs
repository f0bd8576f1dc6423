//! Options of the server for a grant or a kind of client.

use std::time::Duration;

use super::Builder;
use crate::testing::rules::clients::ClientAuthMethods;

/// Grants and requests.
impl Builder {
    /// The grants on offer, by their `grant_type`. The server answers `unsupported_grant_type` to any other.
    ///
    /// A grant that RFC 6749 doesn't have (an extension grant, §4.5), such as `urn:ietf:params:oauth:grant-type:jwt-bearer`, gets an access
    /// token as client credentials do. The server doesn't look at its parameters:
    /// [`recorded`](crate::testing::AuthorizationServer::recorded) shows them to the test.
    ///
    /// Default: `client_credentials`, `authorization_code`, `refresh_token`, and `password` if there is a
    /// [user](Self::user). Without `refresh_token` the server issues no refresh tokens. Without `authorization_code` it
    /// has no authorization endpoint.
    ///
    /// ```
    /// use tower_bearer::testing::{AuthorizationServer, ClientAuthMethods};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::builder()
    ///     .grants(&["authorization_code", "refresh_token"])
    ///     .token_path("/oauth2/token")
    ///     .client_auth(ClientAuthMethods::Post)
    ///     .multipart()
    ///     .reject_unknown_parameters(true)
    ///     .start()
    ///     .await?;
    /// assert!(server.token_url().ends_with("/oauth2/token"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn grants(mut self, grants: &[&str]) -> Self {
        self.rules.grants = Some(grants.iter().copied().map(str::to_owned).collect());
        self
    }

    /// The path of the token endpoint. Default: `/token`.
    ///
    /// Example: [`grants`](Self::grants).
    ///
    /// # Panics
    ///
    /// If it doesn't start with a slash.
    #[track_caller]
    pub fn token_path(mut self, path: &str) -> Self {
        assert!(path.starts_with('/'), "a path starts with a slash, this is {path:?}");
        self.rules.token_path = path.to_owned();
        self
    }

    /// Where clients may put their secret. Default: by HTTP Basic or in the form.
    ///
    /// Example: [`ClientAuthMethods`].
    pub fn client_auth(mut self, methods: ClientAuthMethods) -> Self {
        self.rules.client_auth = methods;
        self
    }

    /// The token endpoint reads `multipart/form-data` only. Default: it reads urlencoded forms only.
    ///
    /// Example: [`grants`](Self::grants).
    pub fn multipart(mut self) -> Self {
        self.rules.multipart = true;
        self
    }

    /// The authorization and token endpoints answer `invalid_request` to unknown parameters. Default: no.
    ///
    /// RFC 6749 §3.1 and §3.2 require that they are ignored. Some servers reject them all the same.
    ///
    /// Example: [`grants`](Self::grants).
    pub fn reject_unknown_parameters(mut self, reject: bool) -> Self {
        self.rules.reject_unknown = reject;
        self
    }
}

/// The password grant (RFC 6749 §4.3).
impl Builder {
    /// Registers a user of the password grant. Call it again for more users. With the first one, the grant is on offer.
    ///
    /// ```
    /// use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = AuthorizationServer::builder().user("ann", "pa55word").start().await?;
    /// let request = Client::new().post(server.token_url()).basic_auth("client", Some("secret"));
    /// let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    /// let answer = request.body("grant_type=password&username=ann&password=wrong").send().await?;
    /// assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    /// assert_eq!(server.password_attempts("ann").rejected, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.rules.users.set(name.into(), password.into());
        self
    }
}

/// The authorization code grant (RFC 6749 §4.1).
impl Builder {
    /// Registers a redirect URI. Call it again for more. They are compared as strings (RFC 9700 §2.1).
    ///
    /// Default: every `http` URI of 127.0.0.1, `[::1]` or localhost, on any port (RFC 8252 §7.3).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::builder()
    ///     .redirect_uri("https://app.example.com/callback")
    ///     .code_lifetime(Duration::from_secs(10))
    ///     .announce_issuer(true)
    ///     .require_pkce(true)
    ///     .start()
    ///     .await?;
    /// let url = format!("{}?response_type=code&client_id=client", server.authorization_url());
    /// let redirect = server.approve(&url); // an error: the code challenge is missing
    /// assert!(redirect.starts_with("https://app.example.com/callback?error=invalid_request&"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.rules.redirect_uris.push(uri.to_owned());
        self
    }

    /// The lifetime of codes. Default: 60 s.
    ///
    /// Example: [`redirect_uri`](Self::redirect_uri).
    pub fn code_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.code_lifetime = lifetime;
        self
    }

    /// Every authorization request needs a code challenge. Default: only requests of public clients (RFC 9700 §2.1.1).
    ///
    /// Example: [`redirect_uri`](Self::redirect_uri).
    pub fn require_pkce(mut self, require: bool) -> Self {
        self.rules.require_pkce = require;
        self.rules.pkce |= require;
        self
    }

    /// The server doesn't support PKCE. Default: it does.
    ///
    /// The parameters of PKCE are unknown then: the server ignores them, or [rejects](Self::reject_unknown_parameters)
    /// them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let builder = tower_bearer::testing::AuthorizationServer::builder();
    /// let server = builder.without_pkce_support().reject_unknown_parameters(true).start().await?;
    /// let query = "response_type=code&client_id=client&redirect_uri=http://127.0.0.1:1/&code_challenge=x";
    /// let redirect = server.approve(&format!("{}?{query}", server.authorization_url()));
    /// assert!(redirect.contains("error=invalid_request"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_pkce_support(mut self) -> Self {
        self.rules.pkce = false;
        self.rules.require_pkce = false;
        self
    }

    /// Answers to authorization requests carry `iss` (RFC 9207), and the discovery document says so. Default: no.
    ///
    /// Example: [`redirect_uri`](Self::redirect_uri).
    pub fn announce_issuer(mut self, announce: bool) -> Self {
        self.rules.announce_issuer = announce;
        self
    }
}

/// The refresh token grant (RFC 6749 §6).
impl Builder {
    /// Each refresh replaces the refresh token. Default: yes.
    ///
    /// The old refresh token is spent then. If it is used again, all tokens of the same authorization are revoked: a thief
    /// may have one of them (RFC 9700 §4.14.2). Without rotation, a refresh token works until it expires, and the answer
    /// to a refresh has no refresh token.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let keeps_them = AuthorizationServer::builder().rotation(false).start().await?;
    /// let forgives = AuthorizationServer::builder().refresh_grace(Duration::from_secs(10)).start().await?;
    /// # drop((keeps_them, forgives));
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotation(mut self, rotation: bool) -> Self {
        self.rules.rotation = rotation;
        self
    }

    /// How long a spent refresh token is still accepted. Default: 0 s.
    ///
    /// The grace starts at the first use. All tokens that are issued within it are valid.
    ///
    /// Example: [`rotation`](Self::rotation).
    pub fn refresh_grace(mut self, grace: Duration) -> Self {
        self.rules.refresh_grace = grace;
        self
    }

    /// The lifetime of refresh tokens. Default: `None`, they never expire. Rotation starts it anew.
    ///
    /// Example: [`tell_refresh_lifetime`](Self::tell_refresh_lifetime).
    pub fn refresh_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.rules.refresh_lifetime = lifetime;
        self
    }

    /// Answers have the lifetime of the refresh token, as `refresh_expires_in` in seconds. Default: no.
    ///
    /// The member is common, but in no standard.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reqwest::{Client, header::CONTENT_TYPE};
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = AuthorizationServer::builder()
    ///     .refresh_lifetime(Some(Duration::from_secs(30 * 86_400)))
    ///     .tell_refresh_lifetime(true)
    ///     .start()
    ///     .await?;
    /// let token = server.issue_refresh_token("client", Some("read"));
    /// let refresh = || {
    ///     let request = Client::new().post(server.token_url()).basic_auth("client", Some("secret"));
    ///     let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    ///     request.body(format!("grant_type=refresh_token&refresh_token={token}")).send()
    /// };
    /// assert_eq!(refresh().await?.status(), 200);
    /// assert_eq!(refresh().await?.status(), 400); // it was rotated
    /// assert_eq!(server.reuse_detections(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tell_refresh_lifetime(mut self, tell: bool) -> Self {
        self.rules.tell_refresh_lifetime = tell;
        self
    }
}
