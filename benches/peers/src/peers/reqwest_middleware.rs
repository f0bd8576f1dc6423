//! The middleware that one writes oneself for reqwest-middleware, which has none for tokens: shaped as the one in its
//! documentation.

use std::{sync::Arc, time::Duration, time::Instant};

use ::reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next, Result};
use async_trait::async_trait;
use http::{Extensions, HeaderValue, header::AUTHORIZATION};
use reqwest::{Method, Request, Response};
use tokio::sync::RwLock;

use super::token_request::{fetch, margin};
use crate::{
    candidate::{About, Client, Failed, HEADERS, Peer, Renews, URL},
    endpoint::Endpoint,
    inner::{Inner, bearer},
};

pub struct ReqwestMiddleware;

/// Asks for a token when the last one is too old; whoever comes meanwhile waits at the lock and finds the new one.
struct Authorize {
    http: reqwest::Client,
    url: String,
    held: RwLock<Option<(String, Instant)>>,
}

impl Authorize {
    async fn token(&self) -> Result<String> {
        let fresh = |held: &Option<(String, Instant)>| {
            held.as_ref().filter(|(_, renew)| Instant::now() < *renew).map(|(secret, _)| secret.clone())
        };
        if let Some(secret) = fresh(&*self.held.read().await) {
            return Ok(secret);
        }
        let mut held = self.held.write().await;
        if let Some(secret) = fresh(&held) {
            return Ok(secret);
        }
        let new = fetch(&self.http, &self.url).await?;
        *held = Some((new.secret.clone(), new.end - margin(new.life)));
        Ok(new.secret)
    }
}

#[async_trait]
impl Middleware for Authorize {
    async fn handle(&self, mut request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.token().await?)).map_err(Error::middleware)?;
        request.headers_mut().insert(AUTHORIZATION, value);
        next.run(request, extensions).await
    }
}

/// The last of the stack answers at once and doesn't go on to the network.
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

impl Peer for ReqwestMiddleware {
    const ABOUT: About = About {
        name: "reqwest-middleware",
        crates: &["reqwest-middleware", "reqwest"],
        how: "a hand-written middleware: a token in a `tokio::sync::RwLock`, fetched by the request that finds it \
              too old. The requests are `reqwest::Request`; a last middleware responds",
        life: Duration::from_millis(500),
        usable: Duration::from_millis(300),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Stack;
    type Bare<I: Inner> = Stack;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Stack {
        let http = reqwest::Client::new();
        let authorize = Authorize { http: http.clone(), url: endpoint.url(), held: RwLock::default() };
        Stack(ClientBuilder::new(http).with_arc(Arc::new(authorize)).with(Last(inner)).build())
    }

    fn bare<I: Inner>(inner: I) -> Stack {
        Stack(ClientBuilder::new(reqwest::Client::new()).with(Last(inner)).build())
    }
}
