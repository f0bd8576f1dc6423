//! google-cloud-auth: the credentials of a user, with its own token cache. It gives headers.

use std::time::Duration;

use ::google_cloud_auth::credentials::{CacheableResource, Credentials, EntityTag, user_account};
use http::{Extensions, HeaderMap};
use tower::Service;

use crate::{
    candidate::{About, Client, Failed, HttpRequest, Peer, Renews, http_request},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct GoogleCloudAuth;

/// The same, by the way that its documentation offers to those who keep something that they made of the headers.
pub struct Tagged;

const ABOUT: About = About {
    name: "",
    crates: &["google-cloud-auth"],
    how: "",
    life: Duration::from_secs(241),
    usable: Duration::from_secs(1),
    renews: Renews::InTheBackground,
};

#[derive(Clone)]
pub struct Untagged<I> {
    credentials: Credentials,
    inner: End<I>,
}

impl<I: Inner> Client for Untagged<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        match self.credentials.headers(Extensions::new()).await? {
            CacheableResource::New { data, .. } => request.headers_mut().extend(data),
            CacheableResource::NotModified => unreachable!("no tag was given"),
        }
        self.inner.call(request).await?;
        Ok(())
    }
}

#[derive(Clone)]
pub struct WithTag<I> {
    credentials: Credentials,
    known: Option<(EntityTag, HeaderMap)>,
    inner: End<I>,
}

impl<I: Inner> Client for WithTag<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        http_request()
    }

    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        let mut extensions = Extensions::new();
        if let Some((tag, _)) = &self.known {
            extensions.insert(tag.clone());
        }
        if let CacheableResource::New { entity_tag, data } = self.credentials.headers(extensions).await? {
            self.known = Some((entity_tag, data));
        }
        if let Some((_, headers)) = &self.known {
            for (name, value) in headers {
                request.headers_mut().insert(name, value.clone());
            }
        }
        self.inner.call(request).await?;
        Ok(())
    }
}

impl Peer for GoogleCloudAuth {
    const ABOUT: About = About {
        name: "google-cloud-auth",
        how: "`credentials.headers(Extensions::new())` of a user account; the headers are put on the request",
        ..ABOUT
    };

    type Client<I: Inner> = Untagged<I>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Untagged<I> {
        Untagged { credentials: credentials(endpoint), inner: End(inner) }
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}

impl Peer for Tagged {
    const ABOUT: About = About {
        name: "google-cloud-auth-tagged",
        how: "the same with the entity tag of the last headers, which are kept",
        ..ABOUT
    };

    type Client<I: Inner> = WithTag<I>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> WithTag<I> {
        WithTag { credentials: credentials(endpoint), known: None, inner: End(inner) }
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}

fn credentials(endpoint: &Endpoint) -> Credentials {
    let user = serde_json::json!({
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "secret",
        "refresh_token": "refresh",
    });
    user_account::Builder::new(user).with_token_uri(endpoint.url()).build().expect("a complete configuration")
}
