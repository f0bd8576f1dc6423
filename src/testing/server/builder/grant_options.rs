//! The options of an [`AuthorizationServer`](crate::testing::AuthorizationServer) that belong to a grant or a kind of client.

use std::time::Duration;

use super::Builder;
use crate::testing::rules::clients::ClientAuthMethods;

/// What clients may ask for, and how.
impl Builder {
    /// The grants on offer, by their `grant_type`; another is answered `unsupported_grant_type`.
    ///
    /// Unless said, `client_credentials`, `authorization_code`, `refresh_token`, and `password` if there is a
    /// [user](Self::user). Without `refresh_token` no refresh tokens are issued, without `authorization_code` there is
    /// no authorization endpoint.
    pub fn grants(mut self, grants: &[&str]) -> Self {
        self.rules.grants = Some(grants.iter().copied().map(str::to_owned).collect());
        self
    }

    /// The path of the token endpoint: `/token` unless said.
    ///
    /// # Panics
    ///
    /// Unless it starts with a slash.
    #[track_caller]
    pub fn token_path(mut self, path: &str) -> Self {
        assert!(path.starts_with('/'), "a path starts with a slash, this is {path:?}");
        self.rules.token_path = path.to_owned();
        self
    }

    /// Where clients may put their secret: by HTTP Basic or in the form, unless said.
    pub fn client_auth(mut self, methods: ClientAuthMethods) -> Self {
        self.rules.client_auth = methods;
        self
    }

    /// The token endpoint reads `multipart/form-data` and nothing else; otherwise it reads urlencoded forms only.
    pub fn multipart(mut self) -> Self {
        self.rules.multipart = true;
        self
    }

    /// The authorization and token endpoints answer `invalid_request` to parameters they don't know: no unless said.
    ///
    /// RFC 6749 §3.1 and §3.2 want them ignored, yet such servers exist.
    pub fn reject_unknown_parameters(mut self, reject: bool) -> Self {
        self.rules.reject_unknown = reject;
        self
    }
}

/// The password grant (RFC 6749 §4.3).
impl Builder {
    /// Registers a user who may log in by password; repeat it for more of them. With the first one, the password grant
    /// is on offer.
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
    /// Registers a redirect URI; repeat it for more of them. They are compared as strings (RFC 9700 §2.1).
    ///
    /// Without any, every `http` URI of 127.0.0.1, `[::1]` or localhost is fine, on any port (RFC 8252 §7.3).
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.rules.redirect_uris.push(uri.to_owned());
        self
    }

    /// How long a code can be exchanged: 60 s unless said.
    pub fn code_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.code_lifetime = lifetime;
        self
    }

    /// Every request to authorize needs a code challenge: only those of public clients do unless said (RFC 9700
    /// §2.1.1).
    pub fn require_pkce(mut self, require: bool) -> Self {
        self.rules.require_pkce = require;
        self.rules.pkce |= require;
        self
    }

    /// PKCE's parameters are unknown to the server: it ignores them, or
    /// [rejects](Self::reject_unknown_parameters) them.
    pub fn without_pkce_support(mut self) -> Self {
        self.rules.pkce = false;
        self.rules.require_pkce = false;
        self
    }

    /// Answers to authorization requests carry `iss` (RFC 9207), and the discovery document says so: no unless said.
    pub fn announce_issuer(mut self, announce: bool) -> Self {
        self.rules.announce_issuer = announce;
        self
    }
}

/// The refresh token grant (RFC 6749 §6).
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
impl Builder {
    /// Whether each refresh replaces the refresh token: yes unless said otherwise.
    ///
    /// Then the old one is spent. Shown again, all tokens of the same authorization are revoked, for its owner or a
    /// thief has them (RFC 9700 §4.14.2). Without rotation a refresh token is good until it ends, and answers to a
    /// refresh have none.
    pub fn rotation(mut self, rotation: bool) -> Self {
        self.rules.rotation = rotation;
        self
    }

    /// How long a spent refresh token still gets a fresh answer: not at all unless said.
    ///
    /// The grace runs from the first use. Answers within it don't undo each other: all their tokens are good.
    pub fn refresh_grace(mut self, grace: Duration) -> Self {
        self.rules.refresh_grace = grace;
        self
    }

    /// How long each refresh token lives: for good unless said. A rotated one starts anew.
    pub fn refresh_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.rules.refresh_lifetime = lifetime;
        self
    }

    /// Whether answers say how long, as `refresh_expires_in` in seconds: no unless said, it is no standard.
    pub fn tell_refresh_lifetime(mut self, tell: bool) -> Self {
        self.rules.tell_refresh_lifetime = tell;
        self
    }
}
