//! A user's account: their live token, and a client that sends it.

use std::time::Duration;

use axum::http::StatusCode;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, FetchError, LiveToken, Origin, Status,
    oauth2::{RefreshToken, Stored, StoredHandle, TokenSet},
    replay,
};

use crate::provider::Provider;

#[derive(Clone)]
pub(crate) struct Account {
    token: LiveToken,
    stored: StoredHandle,
    client: BearerAuth<reqwest::Client, replay::Auto>,
}

impl Account {
    /// A new account for the token set of an authorization.
    pub(crate) fn new(provider: &Provider, set: TokenSet) -> Result<Self, BoxError> {
        let source = Stored::new(RefreshToken::new(provider.endpoint.clone())).holding(set);
        let stored = source.handle();
        let token = LiveToken::spawn(source);
        let api = Origin::parse(&provider.api_url.origin().ascii_serialization())?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let client = BearerAuthLayer::new(token.clone(), api).layer(http);
        Ok(Self { token, stored, client })
    }

    /// Uses the token set of a new authorization from now on. Returns when requests carry its token.
    pub(crate) async fn adopt(&self, set: TokenSet) {
        // This takes milliseconds. If it takes longer, the page shows the state.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.stored.adopt(set)).await;
    }

    /// Calls the API with the current token.
    pub(crate) async fn call(&self, url: &reqwest::Url) -> Result<(StatusCode, String), BoxError> {
        let request = reqwest::Request::new(reqwest::Method::GET, url.clone());
        let response = self.client.clone().ready().await?.call(request).await?;
        Ok((response.status(), response.text().await?))
    }

    pub(crate) fn status(&self) -> Status {
        self.token.status()
    }

    /// Ends the account: waits for a renewal under way, so that no token is left that nobody knows, and revokes the last one.
    pub(crate) async fn end(&self, provider: &Provider) -> Result<Ended, FetchError> {
        self.token.shutdown().await;
        self.revoke(provider).await
    }

    /// Revokes the refresh token (RFC 7009). Servers should then also revoke the access tokens that came with it.
    pub(crate) async fn revoke(&self, provider: &Provider) -> Result<Ended, FetchError> {
        let set = self.stored.token_set();
        match (&provider.revocation_url, set.as_ref().and_then(TokenSet::refresh_token)) {
            (Some(url), Some(token)) => provider.endpoint.revoke(url, token).await.map(|()| Ended::Revoked),
            _ => Ok(Ended::Forgotten),
        }
    }
}

/// How the end of an authorization went.
pub(crate) enum Ended {
    /// The provider has revoked the tokens.
    Revoked,
    /// There was nothing to revoke, or the provider has no revocation endpoint.
    Forgotten,
}
