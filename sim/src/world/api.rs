//! The API: it takes the tokens that it knows and that haven't ended.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::time::sleep;
use tower::Service;

use super::{Boxed, World, millis};
use crate::trace::Happened;

/// The number of a request, in its extensions.
#[derive(Clone, Copy)]
pub struct Number(pub u64);

#[derive(Clone)]
pub struct ApiClient(World);

impl World {
    pub fn api(&self) -> ApiClient {
        ApiClient(self.clone())
    }

    fn judge(&self, token: Option<u64>) -> u16 {
        let (now, state) = (self.trace.now(), self.lock());
        match token.and_then(|token| state.tokens.get(&token)) {
            _ if now < state.api_down_until => 503,
            Some(token) if token.known_from <= now && now < token.ends => 200,
            _ => 401,
        }
    }
}

impl Service<Request<Full<Bytes>>> for ApiClient {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let world = self.0.clone();
        let Number(number) = *request.extensions().get().expect("every request has one");
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = sent.and_then(|value| value.strip_prefix("Bearer a")?.parse().ok());
        // Judged when it arrives, answered later.
        let status = world.judge(token);
        world.trace.note(Happened::Arrived { request: number, token, status });
        Box::pin(async move {
            sleep(millis(world.plan.api.takes)).await;
            let mut response = Response::new(Full::default());
            *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
            Ok(response)
        })
    }
}
