//! yup-oauth2: a service account. It gives a token, which its users put into a header.

use std::time::Duration;

use ::yup_oauth2::{ServiceAccountAuthenticator, authenticator::DefaultAuthenticator};
use http::{HeaderValue, header::AUTHORIZATION};
use tower::Service;

use super::service_account;
use crate::{
    candidate::{About, Client, Failed, HttpRequest, Peer, Renews, http_request},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct YupOauth2;

#[derive(Clone)]
pub struct Authorized<I> {
    authenticator: DefaultAuthenticator,
    inner: End<I>,
}

impl<I: Inner> Client for Authorized<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        let token = self.authenticator.token(&["https://www.googleapis.com/auth/cloud-platform"]).await?;
        let token = token.token().ok_or_else(|| Failed("an answer without a token".into()))?;
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
        self.inner.call(request).await?;
        Ok(())
    }
}

impl Peer for YupOauth2 {
    const ABOUT: About = About {
        name: "yup-oauth2",
        crates: &["yup-oauth2"],
        how: "`authenticator.token(&[scope])` of a service account; the token is put into a header",
        life: Duration::from_secs(61),
        usable: Duration::from_secs(1),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Authorized<I>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Authorized<I> {
        let key = serde_json::from_value(service_account::json(&endpoint.url())).expect("a complete configuration");
        let authenticator = ServiceAccountAuthenticator::builder(key).build().await.expect("the key can be read");
        Authorized { authenticator, inner: End(inner) }
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}
