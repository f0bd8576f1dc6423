//! The interceptor that one writes oneself for gRPC: tonic's example of authentication, with a string that a task replaces.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use ::tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
};

use super::token_request::{fetch, margin};
use crate::{
    candidate::{About, Peer, Renews},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct Tonic;

#[derive(Clone)]
pub struct Authorize {
    token: Arc<RwLock<String>>,
}

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.token.read().expect("nobody panics"));
        let value: MetadataValue<Ascii> = value.parse().map_err(|_| Status::internal("the token fits no header"))?;
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

impl Peer for Tonic {
    const ABOUT: About = About {
        name: "tonic-interceptor",
        crates: &["tonic"],
        how: "a hand-written `Interceptor` with `Arc<RwLock<String>>`, whose token a hand-written task replaces in \
              time",
        life: Duration::from_millis(500),
        usable: Duration::from_millis(300),
        renews: Renews::InTheBackground,
    };

    type Client<I: Inner> = Tower<InterceptedService<End<I>, Authorize>>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Self::Client<I> {
        let (http, url) = (reqwest::Client::new(), endpoint.url());
        let mut fetched = fetch(&http, &url).await.expect("a token");
        let token = Arc::new(RwLock::new(fetched.secret.clone()));
        let replaced = Arc::downgrade(&token);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep_until((fetched.end - margin(fetched.life)).into()).await;
                let Some(token) = replaced.upgrade() else { return };
                // Without a new token the old one goes on; the example has no answer to that.
                if let Ok(new) = fetch(&http, &url).await {
                    token.write().expect("nobody panics").clone_from(&new.secret);
                    fetched = new;
                }
            }
        });
        Tower(InterceptedService::new(End(inner), Authorize { token }))
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}
