//! aliri_reqwest: a middleware for reqwest-middleware, with a token that a task of aliri_tokens renews.

use std::time::Duration;

use ::aliri_reqwest::AccessTokenMiddleware;
use aliri_clock::DurationSecs;
use aliri_tokens::{
    ClientId, ClientSecret, TokenLifetimeConfig, TokenWatcher,
    backoff::ErrorBackoffConfig,
    jitter::NullJitter,
    sources::oauth2::{ClientCredentialsTokenSource, dto},
};
use async_trait::async_trait;
use http::{Extensions, HeaderValue};
use reqwest_012::{Method, Request, Response};
use reqwest_middleware_04::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};

use crate::{
    candidate::{About, Client, Failed, HEADERS, Peer, Renews, URL},
    endpoint::Endpoint,
    inner::{Inner, bearer},
};

pub struct AliriReqwest;

/// The last of the stack answers at once and doesn't go on to the network, as in its own tests.
struct Last<I>(I);

#[async_trait]
impl<I: Inner> Middleware for Last<I> {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        self.0.receive(&request, |request| bearer(request.headers()));
        Ok(http::Response::new("").into())
    }
}

#[derive(Clone)]
pub struct Stack(ClientWithMiddleware);

impl Client for Stack {
    type Request = Request;

    fn request() -> Request {
        let mut request = Request::new(Method::GET, URL.parse().expect("a URL"));
        for (name, value) in HEADERS {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        request
    }

    async fn send(&mut self, request: Request) -> std::result::Result<(), Failed> {
        self.0.execute(request).await?;
        Ok(())
    }
}

impl Peer for AliriReqwest {
    const ABOUT: About = About {
        name: "aliri_reqwest",
        crates: &["aliri_reqwest", "aliri_tokens"],
        how: "`AccessTokenMiddleware` with a `TokenWatcher` on client credentials. The requests are \
              `reqwest::Request`; a last middleware responds",
        life: Duration::from_secs(2),
        usable: Duration::from_secs(1),
        renews: Renews::InTheBackground,
    };

    type Client<I: Inner> = Stack;
    type Bare<I: Inner> = Stack;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Stack {
        let credentials = dto::ClientCredentialsWithAudience {
            credentials: dto::ClientCredentials {
                client_id: ClientId::from_static("client"),
                client_secret: ClientSecret::from_static("secret"),
            }
            .into(),
            audience: aliri::jwt::Audience::from_static("api"),
        };
        // Its default keeps a token for at least 30 s, whatever its life; for shorter lives that has to be said otherwise.
        let lifetime = match endpoint.life().as_secs() {
            0..60 => TokenLifetimeConfig::new(0.5, DurationSecs(1)),
            _ => TokenLifetimeConfig::default(),
        };
        let url = endpoint.url().parse().expect("a URL");
        let source = ClientCredentialsTokenSource::new(reqwest_012::Client::new(), url, credentials, lifetime);
        // Jitter comes off the time in whole seconds, of which there are none here.
        let watcher = TokenWatcher::spawn_from_token_source(source, NullJitter, ErrorBackoffConfig::default()).await;
        let authorize = AccessTokenMiddleware::new(watcher.expect("a token"));
        Stack(ClientBuilder::new(reqwest_012::Client::new()).with(authorize).with(Last(inner)).build())
    }

    fn bare<I: Inner>(inner: I) -> Stack {
        Stack(ClientBuilder::new(reqwest_012::Client::new()).with(Last(inner)).build())
    }
}
