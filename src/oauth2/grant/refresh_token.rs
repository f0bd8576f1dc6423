//! The refresh token grant (RFC 6749 §6): renewing what a user has authorized.

use std::{borrow::Cow, time::Duration};

use super::{Grant, GrantKind};
use crate::{
    FetchError,
    oauth2::{
        EndpointError, Form, TokenEndpoint, TokenSet,
        endpoint::form::{Params, Scope},
    },
    store::{Account, Credentials},
};

/// Renews a token set with its refresh token (RFC 6749 §6). The first set comes from an
/// [`AuthorizationCode`](crate::oauth2::AuthorizationCode), or from anywhere else: [`Stored::holding`](crate::oauth2::Stored::holding).
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let set = TokenSet::of_refresh_token("8xLOxBtZp8");
/// let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint)).holding(set));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RefreshToken {
    endpoint: TokenEndpoint,
    scope: Scope,
    params: Params,
    subject: Option<String>,
    lifetime: Option<Duration>,
    reusable: bool,
}

impl RefreshToken {
    /// A grant at this endpoint.
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            scope: Scope::default(),
            params: Params::default(),
            subject: None,
            lifetime: None,
            reusable: false,
        }
    }

    /// Whose refresh token it is: the user's id in your application, or another name that no other user of this client has. Every store
    /// but [`Memory`](crate::store::Memory) needs this. [`FileStore`](crate::store::FileStore) has an example.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds a scope, or several, space-delimited, to ask for less than the user authorized. Default: none is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope.add(scope.as_ref());
        self
    }

    /// Adds a parameter to the token request. The same name may be added several times.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.params.add(name, value);
        self
    }

    /// The lifetime of the provider's refresh tokens, if only its documentation has it. Default: what the token endpoint says. Before
    /// their end there is a warning: [`Status::authorization_left`](crate::Status::authorization_left).
    #[must_use]
    pub fn refresh_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The provider's refresh tokens can be used several times, so a lost response never spends one. Default: each counts as single-use
    /// (RFC 9700 §4.14.2), until a renewal brings no other one.
    ///
    /// The default is safe for both kinds. This only saves a wait: when a response was lost for longer than
    /// [`Stored::replay_grace`](crate::oauth2::Stored::replay_grace), a refresh token that counts as single-use is not sent again before
    /// the access token expires.
    #[must_use]
    pub fn reusable(mut self) -> Self {
        self.reusable = true;
        self
    }

    /// Sends the refresh token.
    pub(super) async fn refresh(
        &self,
        held: Option<&TokenSet>,
        refresh_token: &str,
        limit: Duration,
    ) -> Result<TokenSet, FetchError> {
        let form =
            Form::grant("refresh_token").param("refresh_token", refresh_token).scope(&self.scope).params(&self.params);
        let worked = held.is_some_and(|held| held.worked);
        let mut set = self.endpoint.exchange_as(GrantKind::RefreshToken { worked }, form, limit).await?;
        if set.refresh_token.is_some() {
            set.refresh_lifetime = set.refresh_lifetime.or(self.lifetime);
        }
        Ok(set)
    }
}

impl Grant for RefreshToken {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        match held.and_then(TokenSet::refresh_token) {
            Some(refresh_token) => self.refresh(held, refresh_token, limit).await,
            // The set may be stored under another name, so the text shows this one.
            None => Err(FetchError::reauthorize(EndpointError::unsent(&format!(
                "there is no refresh token to go on with for {}: let the user authorize and adopt what that brings (it may have been \
                 removed by `Stored::remove`); if the client, the server or the user's name was changed in the configuration, change it back \
                 or see `Stored::moved_from`",
                self.account().owner()
            )))),
        }
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        self.reusable && held.is_some_and(|held| held.refresh_token().is_some())
    }

    fn account(&self) -> Account {
        let account = self.params.account(self.endpoint.account().asking(&self.scope.0));
        match &self.subject {
            Some(subject) => account.subject(subject),
            None => account,
        }
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(self.endpoint.credentials())
    }
}
