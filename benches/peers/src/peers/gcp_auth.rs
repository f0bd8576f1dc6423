//! gcp_auth: a service account. It gives a token, which its users put into a header.

use std::{sync::Arc, time::Duration};

use ::gcp_auth::{CustomServiceAccount, TokenProvider};
use http::{HeaderValue, header::AUTHORIZATION};
use tower::Service;

use super::service_account;
use crate::{
    candidate::{About, Client, Failed, HttpRequest, Peer, Renews, http_request},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct GcpAuth;

#[derive(Clone)]
pub struct Authorized<I> {
    provider: Arc<dyn TokenProvider>,
    inner: End<I>,
}

impl<I: Inner> Client for Authorized<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        let token = self.provider.token(&["https://www.googleapis.com/auth/cloud-platform"]).await?;
        let value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
        self.inner.call(request).await?;
        Ok(())
    }
}

impl Peer for GcpAuth {
    const ABOUT: About = About {
        name: "gcp_auth",
        crates: &["gcp_auth"],
        how: "`provider.token(&[scope])` of a `CustomServiceAccount`; the token is put into a header",
        life: Duration::from_secs(21),
        usable: Duration::from_secs(1),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Authorized<I>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Authorized<I> {
        let json = service_account::json(&endpoint.url()).to_string();
        let provider = CustomServiceAccount::from_json(&json).expect("a complete configuration");
        Authorized { provider: Arc::new(provider), inner: End(inner) }
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}
