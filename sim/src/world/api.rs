//! The API: it takes the tokens that it knows and that haven't ended, and reads what is sent.

use std::{
    marker::PhantomData,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::{Boxed, World, millis};
use crate::{plan::Route, trace::Happened};

/// What a request is, in its extensions.
#[derive(Clone, Copy)]
pub struct Label {
    pub number: u64,
    pub route: Route,
    /// How long its body is.
    pub length: usize,
}

impl Label {
    pub fn of<B>(request: &Request<B>) -> Self {
        *request.extensions().get().expect("every request has one")
    }
}

/// The number of the token that a request carries.
pub fn token_of<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer a")?.parse().ok()
}

/// The way there, for requests with this body.
pub struct ApiClient<B>(World, PhantomData<fn(B)>);

impl<B> Clone for ApiClient<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl World {
    pub fn api<B>(&self) -> ApiClient<B> {
        ApiClient(self.clone(), PhantomData)
    }

    /// Status, and the challenge that goes with it (RFC 6750 section 3).
    fn judge(&self, token: Option<u64>, route: Route) -> (u16, Option<&'static str>) {
        let now = self.trace.now();
        let mut state = self.lock();
        let token = token.and_then(|token| state.tokens.get(&token));
        let is_good = token.is_some_and(|token| token.known_from <= now && now < token.ends);
        match route {
            _ if now < state.api_down_until => (503, None),
            Route::Closed => (401, Some(r#"Bearer error="invalid_token""#)),
            _ if !is_good => (401, Some(r#"Bearer error="invalid_token""#)),
            Route::Forbidden => (403, None),
            Route::Scope => (401, Some(r#"Bearer error="insufficient_scope""#)),
            Route::Busy => ([200, 200, 429, 503][state.rng.usize(..4)], None),
            Route::Open | Route::Elsewhere => (200, None),
        }
    }
}

impl<B> Service<Request<B>> for ApiClient<B>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Boxed<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let world = self.0.clone();
        let (token, label) = (token_of(&request), Label::of(&request));
        let Label { number, route, .. } = label;
        if request.uri().host() != Some("api.test") {
            world.trace.note(Happened::Strayed { request: number });
        }
        Box::pin(async move {
            let takes = millis(world.plan.api.takes);
            // On the way there, and later on the way back.
            sleep(takes / 2).await;
            let (status, challenge) = world.judge(token, route);
            world.trace.note(Happened::Arrived { request: number, token, status });
            if status != 401 || world.plan.api.reads_first {
                let body = request.into_body().collect().await.map_err(|_| "the sender breaks off")?;
                if !is_whole(&body.to_bytes(), label) {
                    world.trace.note(Happened::Mangled { request: number });
                }
            }
            sleep(takes - takes / 2).await;
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            if let Some(challenge) = challenge {
                response.headers_mut().insert("www-authenticate", http::HeaderValue::from_static(challenge));
            }
            Ok(response)
        })
    }
}

/// The byte at this place of a request's body: no two places nearby are alike.
pub fn byte(number: u64, place: usize) -> u8 {
    (number as usize * 31 + place * 7 + place / 256) as u8
}

fn is_whole(body: &Bytes, label: Label) -> bool {
    body.len() == label.length && body.iter().enumerate().all(|(place, found)| *found == byte(label.number, place))
}
