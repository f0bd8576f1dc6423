//! What a test changes while the server runs: tokens, lifetimes, secrets, passwords.

use std::time::Duration;

use tokio::time::Instant;

use super::{AuthorizationServer, state::State};
use crate::testing::issued::tokens::Subject;

/// Tokens.
impl AuthorizationServer {
    /// Revokes an access token: the API answers 401 `invalid_token` to it. Returns whether it was live until now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// assert!(!server.revoke("a-token-that-was-never-issued"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke(&self, access_token: &str) -> bool {
        self.shared.lock().issued.access.revoke(access_token, Instant::now())
    }

    /// Revokes all live access tokens. Returns their number.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// assert_eq!(server.revoke_all(), 0); // none was issued
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_all(&self) -> usize {
        self.shared.lock().issued.access.revoke_all(Instant::now())
    }

    /// Issues a refresh token for the client `id`, as if a user had authorized the client before the test.
    ///
    /// Example: [`Builder::tell_refresh_lifetime`](crate::testing::Builder::tell_refresh_lifetime).
    pub fn issue_refresh_token(&self, id: &str, scope: Option<&str>) -> String {
        let mut state = self.shared.lock();
        let State { rules, issued, .. } = &mut *state;
        let family = Some(issued.new_family());
        let subject = Subject { client: id.into(), user: None, scope: scope.map(Into::into), family };
        issued.issue_refresh_token(subject, rules, Instant::now()).to_string()
    }

    /// Revokes a refresh token, and no access token. Returns whether it could have been used until now.
    ///
    /// The revocation endpoint does more: it revokes all tokens of the authorization.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// let refresh_token = server.issue_refresh_token("client", None);
    /// assert!(server.revoke_refresh_token(&refresh_token));
    /// assert!(!server.revoke_refresh_token(&refresh_token));
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_refresh_token(&self, refresh_token: &str) -> bool {
        let mut state = self.shared.lock();
        let refresh = &mut state.issued.refresh;
        let unspent = refresh.get(refresh_token).is_some_and(|entry| entry.spent.is_none());
        refresh.revoke(refresh_token, Instant::now()) && unspent
    }
}

/// Rules.
impl AuthorizationServer {
    /// Sets the lifetime of access tokens that are issued from now on. See [`Builder::lifetime`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// server.set_lifetime(Some(Duration::from_secs(2)));
    /// server.set_refresh_lifetime(Some(Duration::from_secs(60)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Builder::lifetime`]: crate::testing::Builder::lifetime
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.lock().rules.lifetime = lifetime;
    }

    /// Sets the lifetime of refresh tokens that are issued from now on. See [`Builder::refresh_lifetime`].
    ///
    /// Example: [`set_lifetime`](Self::set_lifetime).
    ///
    /// [`Builder::refresh_lifetime`]: crate::testing::Builder::refresh_lifetime
    pub fn set_refresh_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.lock().rules.refresh_lifetime = lifetime;
    }

    /// Sets the secret of the client `id`: a rotation, or a new client. An empty secret makes it a public client.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// server.set_secret("client", "rotated"); // from now on, the old secret is answered 401 `invalid_client`
    /// server.set_password("ann", "changed"); //  a changed password, or a new user
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_secret(&self, id: impl Into<String>, secret: impl Into<String>) {
        self.shared.lock().rules.clients.set(id.into(), secret.into());
    }

    /// Sets the password of a user: a change, or a new user.
    ///
    /// Example: [`set_secret`](Self::set_secret).
    pub fn set_password(&self, user: impl Into<String>, password: impl Into<String>) {
        self.shared.lock().rules.users.set(user.into(), password.into());
    }
}
