//! The client credentials grant (RFC 6749 §4.4): the client acts for itself.

use std::{borrow::Cow, time::Duration};

use super::Grant;
use crate::{
    FetchError, IntoTokenSource,
    oauth2::{
        Form, Stored, TokenEndpoint, TokenSet,
        endpoint::form::{Params, Scope},
    },
    store::{Account, Credentials, Memory},
};

/// A token for the client itself, for its id and secret (RFC 6749 §4.4).
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{ClientCredentials, TokenEndpoint}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::oauth2::InvalidEndpoint> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_post("id", "secret");
/// let grant = ClientCredentials::new(endpoint)
///     .scope("document_read")
///     .scope("document_write")
///     .param("audience", "https://api.example.com");
/// let token = LiveToken::spawn(grant);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    scope: Scope,
    params: Params,
}

impl ClientCredentials {
    /// A grant at this endpoint.
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self { endpoint, scope: Scope::default(), params: Params::default() }
    }

    /// Adds a scope, or several, space-delimited (RFC 6749 §3.3). Default: none is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope.add(scope.as_ref());
        self
    }

    /// Adds a parameter to the token request, such as `audience` or `resource` (RFC 8707). The same name may be added several times.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.params.add(name, value);
        self
    }
}

impl Grant for ClientCredentials {
    async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        let form = Form::grant("client_credentials").scope(&self.scope).params(&self.params);
        self.endpoint.exchange(form, limit).await
    }

    fn account(&self) -> Account {
        self.params.account(self.endpoint.account().for_client().asking(&self.scope.0))
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(self.endpoint.credentials())
    }
}

// The compiler's notes about the trait say what to use.
#[diagnostic::do_not_recommend]
impl IntoTokenSource for ClientCredentials {
    type Source = Stored<Self, Memory>;

    fn into_token_source(self) -> Self::Source {
        Stored::new(self)
    }
}
