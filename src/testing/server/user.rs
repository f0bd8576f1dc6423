//! What the handle knows of grants: codes without a browser, refresh tokens, users.

use tokio::time::Instant;

use super::{AuthorizationServer, state::State};
use crate::testing::{
    endpoints::{
        AUTHORIZE, INTROSPECT, REVOKE,
        authorize::{
            self,
            consent::{self, Consent, Stop},
        },
    },
    issued::tokens::Subject,
    rules::PasswordCounts,
};

/// More addresses.
impl AuthorizationServer {
    /// The authorization endpoint: `http://127.0.0.1:PORT/authorize`. A browser goes there with a query.
    pub fn authorization_url(&self) -> String {
        self.url(AUTHORIZE)
    }

    /// The introspection endpoint (RFC 7662): `http://127.0.0.1:PORT/introspect`.
    pub fn introspection_url(&self) -> String {
        self.url(INTROSPECT)
    }

    /// The revocation endpoint (RFC 7009): `http://127.0.0.1:PORT/revoke`.
    pub fn revocation_url(&self) -> String {
        self.url(REVOKE)
    }

    /// The issuer: what `iss` says, and the base of the discovery document's address (RFC 8414 §3).
    pub fn issuer(&self) -> String {
        self.origin()
    }
}

/// The user's part of the code grant, without a browser.
///
/// ```
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// let query = "response_type=code&client_id=client&state=x&redirect_uri=http://127.0.0.1:8421/callback";
/// let url = format!("{}?{query}", server.authorization_url());
/// assert!(server.approve(&url).starts_with("http://127.0.0.1:8421/callback?code="));
/// assert!(server.deny(&url).contains("?error=access_denied&"));
/// # Ok(())
/// # }
/// ```
impl AuthorizationServer {
    /// The user goes to this URL and allows what is asked: the URL of the redirect that follows.
    ///
    /// If the server refuses to ask the user, it is the redirect that tells the client so.
    ///
    /// # Panics
    ///
    /// If the URL is not of this server's authorization endpoint, or gets a page that says why nobody is asked: the
    /// client or the redirect URI is unknown, or a parameter comes twice.
    #[track_caller]
    pub fn approve(&self, authorize_url: &str) -> String {
        self.browse(authorize_url, |state, consent| {
            let State { rules, issued, .. } = state;
            authorize::allow(consent, rules, issued, Instant::now())
        })
    }

    /// The same for a user who does not allow it.
    ///
    /// # Panics
    ///
    /// As [`approve`](Self::approve) does.
    #[track_caller]
    pub fn deny(&self, authorize_url: &str) -> String {
        self.browse(authorize_url, |state, consent| consent.denied(&state.rules))
    }

    #[track_caller]
    fn browse(&self, url: &str, decide: impl FnOnce(&mut State, Consent) -> String) -> String {
        let query = url.strip_prefix(&self.authorization_url()).and_then(|rest| rest.strip_prefix('?'));
        let query = query.expect("a URL of this server's authorization endpoint, with a query");
        let query = query.split('#').next().unwrap_or_default();
        let outcome = {
            let mut state = self.shared.lock();
            assert!(state.rules.offers("authorization_code"), "this server has no authorization endpoint");
            consent::read(query, &state.rules).map(|consent| decide(&mut state, consent))
        };
        match outcome {
            Ok(url) | Err(Stop::Redirect(url)) => url,
            Err(Stop::Page(why)) => panic!("the user sees a page instead of a question: {why}"),
        }
    }
}

/// Refresh tokens and users.
impl AuthorizationServer {
    /// A refresh token for the client `id`, as if a user had authorized it before the test began.
    pub fn issue_refresh_token(&self, id: &str, scope: Option<&str>) -> String {
        let mut state = self.shared.lock();
        let State { rules, issued, .. } = &mut *state;
        let family = Some(issued.new_family());
        let subject = Subject { client: id.into(), user: None, scope: scope.map(Into::into), family };
        issued.issue_refresh_token(subject, rules, Instant::now()).to_string()
    }

    /// The refresh tokens issued so far, also those whose answer was cut off or came too late.
    pub fn refresh_tokens_issued(&self) -> u64 {
        self.shared.lock().issued.refresh.count()
    }

    /// How often a spent refresh token was shown again, later than the [grace](crate::testing::Builder::refresh_grace) allows.
    ///
    /// It counts once for an authorization: that ends its tokens, the spent ones included.
    pub fn reuse_detections(&self) -> u64 {
        self.shared.lock().issued.reuse_detections
    }

    /// Revokes a refresh token and leaves the access tokens alone. Says whether it could have been used until now.
    ///
    /// The revocation endpoint is not as gentle: it ends all tokens of the authorization.
    pub fn revoke_refresh_token(&self, refresh_token: &str) -> bool {
        let mut state = self.shared.lock();
        let refresh = &mut state.issued.refresh;
        let unspent = refresh.get(refresh_token).is_some_and(|entry| entry.spent.is_none());
        refresh.revoke(refresh_token, Instant::now()) && unspent
    }

    /// How the password grant fared for a user; all zeros for an unknown one.
    pub fn password_attempts(&self, user: &str) -> PasswordCounts {
        self.shared.lock().rules.users.counts(user)
    }

    /// The password of a user from now on: a change, or a new user.
    pub fn set_password(&self, user: impl Into<String>, password: impl Into<String>) {
        self.shared.lock().rules.users.set(user.into(), password.into());
    }

    /// The lifetime of refresh tokens issued from now on; see
    /// [`Builder::refresh_lifetime`](crate::testing::Builder::refresh_lifetime).
    pub fn set_refresh_lifetime(&self, lifetime: Option<std::time::Duration>) {
        self.shared.lock().rules.refresh_lifetime = lifetime;
    }
}
