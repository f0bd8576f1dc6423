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
    /// For what an authorization has brought.
    pub(crate) fn new(provider: &Provider, set: TokenSet) -> Result<Self, BoxError> {
        let source = Stored::new(RefreshToken::new(provider.endpoint.clone())).holding(set);
        let stored = source.handle();
        let token = LiveToken::spawn(source);
        let api = Origin::parse(&provider.api_url.origin().ascii_serialization())?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let client = BearerAuthLayer::new(token.clone(), api).layer(http);
        Ok(Self { token, stored, client })
    }

    /// Goes on with what another authorization has brought; returns when requests carry its token.
    pub(crate) async fn adopt(&self, set: TokenSet) {
        // It is a matter of milliseconds. If not, the page says how things are.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.stored.adopt(set)).await;
    }

    /// Asks the API, with whatever token is valid now.
    pub(crate) async fn call(&self, url: &reqwest::Url) -> Result<(StatusCode, String), BoxError> {
        let request = reqwest::Request::new(reqwest::Method::GET, url.clone());
        let response = self.client.clone().ready().await?.call(request).await?;
        Ok((response.status(), response.text().await?))
    }

    pub(crate) fn status(&self) -> Status {
        self.token.status()
    }

    /// No more tokens: waits for a renewal under way, so that no token is left that nobody knows, and gives the last one back.
    pub(crate) async fn end(&self, provider: &Provider) -> Result<Ended, FetchError> {
        self.token.shutdown().await;
        self.revoke(provider).await
    }

    /// Gives the refresh token back (RFC 7009). Servers end with it what was issued with it.
    pub(crate) async fn revoke(&self, provider: &Provider) -> Result<Ended, FetchError> {
        let set = self.stored.token_set();
        match (&provider.revocation_url, set.as_ref().and_then(TokenSet::refresh_token)) {
            (Some(url), Some(token)) => provider.endpoint.revoke(url, token).await.map(|()| Ended::Revoked),
            _ => Ok(Ended::Forgotten),
        }
    }
}

/// How far the end of an authorization has got.
pub(crate) enum Ended {
    /// The provider knows.
    Revoked,
    /// There was nothing to tell the provider, or no way to.
    Forgotten,
}
