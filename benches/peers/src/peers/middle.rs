//! middle: client credentials, renewed by a task of its own. It gives a header.

use std::{sync::Arc, time::Duration};

use ::middle::{Authorizer, BasicClientCredentialAuthorizer};
use http::header::AUTHORIZATION;
use tower::Service;

use crate::{
    candidate::{About, Client, Failed, HttpRequest, Peer, Renews, http_request},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct Middle;

#[derive(Clone)]
pub struct Authorized<I> {
    authorizer: BasicClientCredentialAuthorizer,
    inner: End<I>,
}

impl<I: Inner> Client for Authorized<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    /// What its `HttpClient::get` does with a `reqwest::RequestBuilder`, which can't be taken out of it.
    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        let header = self.authorizer.authorization_header()?;
        request.headers_mut().insert(AUTHORIZATION, Arc::unwrap_or_clone(header));
        self.inner.call(request).await?;
        Ok(())
    }
}

impl Peer for Middle {
    const ABOUT: About = About {
        name: "middle",
        crates: &["middle"],
        how: "`authorizer.authorization_header()`, put on the request as its `HttpClient` does",
        life: Duration::from_secs(2),
        usable: Duration::from_secs(1),
        renews: Renews::InTheBackground,
    };

    type Client<I: Inner> = Authorized<I>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Authorized<I> {
        let url = endpoint.url().parse().expect("a URL");
        let builder = BasicClientCredentialAuthorizer::basic_builder("client", "secret", url);
        Authorized { authorizer: builder.build().await.expect("a token"), inner: End(inner) }
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}
