//! The password grant (RFC 6749 §4.3): for providers that offer nothing better.

use std::{borrow::Cow, fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{Grant, RefreshToken};
use crate::{
    FetchError, IntoTokenSource,
    oauth2::{
        Form, Stored, TokenEndpoint, TokenSet,
        endpoint::form::{Params, Scope},
    },
    store::{Account, Credentials, Memory},
};

/// A token for a user's name and password (RFC 6749 §4.3), for providers that offer nothing better. RFC 9700 §2.4 forbids this grant: the
/// client sees the password, and a second factor is impossible.
///
/// Refresh tokens are used if the provider issues them. When one no longer works, the password is sent again. A password that was
/// rejected is sent again only on [`LiveToken::refresh`](crate::LiveToken::refresh), because repeated failures lock accounts.
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{LegacyPassword, TokenEndpoint}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/oauth2/token")?.client_basic_value("aWQ6c2VjcmV0");
/// let grant = LegacyPassword::new(endpoint, "user@example.com", "password").param("expiration_time", "3600");
/// let token = LiveToken::spawn(grant);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LegacyPassword {
    endpoint: TokenEndpoint,
    refresh: RefreshToken,
    username: String,
    password: SecretString,
    scope: Scope,
    params: Params,
}

impl LegacyPassword {
    /// A grant at this endpoint, for this user.
    pub fn new(endpoint: TokenEndpoint, username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            refresh: RefreshToken::new(endpoint.clone()),
            endpoint,
            username: username.into(),
            password: password.into().into(),
            scope: Scope::default(),
            params: Params::default(),
        }
    }

    /// Adds a scope, or several, space-delimited. Default: none is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope.add(scope.as_ref());
        self
    }

    /// Adds a parameter to every token request, refreshes included. The same name may be added several times.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.refresh = self.refresh.param(name.clone(), value.clone());
        self.params.add(name, value);
        self
    }
}

impl Grant for LegacyPassword {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        if let Some(refresh_token) = held.and_then(TokenSet::refresh_token) {
            match self.refresh.refresh(held, refresh_token, limit).await {
                // The refresh token no longer works. The password may.
                Err(error) if error.is_about_the_user() => {}
                other => return other,
            }
        }
        let form = Form::grant("password")
            .param("username", &self.username)
            .param("password", self.password.expose_secret())
            .scope(&self.scope)
            .params(&self.params);
        self.endpoint.exchange(form, limit).await
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        // The password can be sent again, a refresh token can't.
        held.is_none_or(|held| held.refresh_token().is_none())
    }

    fn account(&self) -> Account {
        self.params.account(self.endpoint.account().subject(&self.username).asking(&self.scope.0))
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(self.endpoint.credentials().with(self.password.expose_secret()))
    }
}

// The compiler's notes about the trait say what to use.
#[diagnostic::do_not_recommend]
impl IntoTokenSource for LegacyPassword {
    type Source = Stored<Self, Memory>;

    fn into_token_source(self) -> Self::Source {
        Stored::new(self)
    }
}

impl fmt::Debug for LegacyPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyPassword").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
