//! What is around the client in a scene: the token endpoint and the API.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::time::sleep;
use tower::{BoxError, Service, service_fn};
use tower_bearer::NotSent;

use crate::{
    clock::Hands,
    scene::{Act, Api, Issue},
};

/// Clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    hands: Hands,
    api: Api,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the endpoint does next; the last for ever.
    acts: Vec<Act>,
    fetches: Vec<Fetched>,
    /// When each token was issued, and when it ends for the API.
    tokens: Vec<(f64, f64)>,
    arrived: HashMap<u64, Vec<String>>,
}

/// A request that came to the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) at: f64,
    /// When it was answered, or given up.
    pub(crate) ended: Option<f64>,
    pub(crate) refresh_token: Option<String>,
}

/// A request's number, in its extensions.
#[derive(Clone, Copy)]
pub(crate) struct Number(pub(crate) u64);

impl World {
    pub(crate) fn new(api: Api, acts: Vec<Act>) -> Self {
        let state = State { acts, ..State::default() };
        Self(Arc::new(Inner { hands: Hands::new(), api, state: Mutex::new(state) }))
    }

    pub(crate) fn hands(&self) -> &Hands {
        &self.0.hands
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic")
    }

    pub(crate) fn fetches(&self) -> Vec<Fetched> {
        self.state().fetches.clone()
    }

    /// With which tokens this request arrived.
    pub(crate) fn arrived(&self, number: u64) -> Vec<String> {
        self.state().arrived.get(&number).cloned().unwrap_or_default()
    }

    pub(crate) fn play(&self, acts: Vec<Act>) {
        self.state().acts = acts;
    }

    pub(crate) fn revoke(&self, which: &str) -> Result<(), String> {
        let (now, mut state) = (self.0.hands.elapsed(), self.state());
        if which == "all" {
            state.tokens.iter_mut().for_each(|(_, ends)| *ends = ends.min(now));
            return Ok(());
        }
        let token = number(which).and_then(|number| state.tokens.get_mut(number));
        token.ok_or_else(|| format!("there is no {which} to revoke"))?.1 = now;
        Ok(())
    }

    /// The token endpoint, as an HTTP service.
    pub(crate) fn endpoint(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let world = self.clone();
        service_fn(move |request| {
            let world = world.clone();
            async move { world.fetch(request).await }
        })
    }

    async fn fetch(&self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        let body = request.into_body().collect().await.expect("a whole body").to_bytes();
        let refresh_token = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
        let refresh_token = refresh_token.map(|(_, value)| value.into_owned());
        let (act, arrived) = {
            let mut state = self.state();
            state.fetches.push(Fetched { at: self.0.hands.running(), ended: None, refresh_token });
            let act = if state.acts.len() > 1 { state.acts.remove(0) } else { state.acts[0].clone() };
            (act, self.0.hands.elapsed())
        };
        let _under_way = UnderWay { world: self.clone(), number: self.state().fetches.len() - 1 };
        // Where nobody waits, nothing else may run in between.
        if act.takes > 0.0 {
            sleep(Duration::from_secs_f64(act.takes)).await;
        }
        match act {
            Act { hang: true, .. } => pending().await,
            Act { gone: true, .. } => {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                Err(NotSent::because(refused).into())
            }
            Act { issue: Some(issue), .. } => {
                self.state().tokens.push((self.0.hands.elapsed(), f64::INFINITY));
                Ok(self.token(&issue, arrived))
            }
            Act { repeat: Some(issue), .. } => Ok(self.token(&issue, arrived)),
            Act { answer: Some(answer), .. } => Ok(answer.response()?),
            _ => Err("the token endpoint is to do nothing".into()),
        }
    }

    /// The last token once more, with the life that is told now.
    fn token(&self, issue: &Issue, requested: f64) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let number = state.tokens.len();
        let told = issue.expires_in.as_ref().and_then(serde_json::Value::as_f64).filter(|lifetime| *lifetime > 0.0);
        if let (Some(life), Some(token)) = (issue.lives.or(told), state.tokens.last_mut()) {
            token.1 = requested + life;
        }
        let mut answer = json!({ "access_token": format!("t{number}"), "token_type": "Bearer" });
        if let Some(lifetime) = &issue.expires_in {
            answer["expires_in"] = lifetime.clone();
        }
        if let Some(refresh_token) = &issue.refresh_token {
            answer["refresh_token"] = refresh_token.clone().into();
        }
        Response::new(answer.to_string().into())
    }

    /// The API, as an HTTP service.
    pub(crate) fn api(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let world = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            // Judged when it arrives, answered later.
            let response = world.judge(&request);
            async move {
                if world.0.api.takes > 0.0 {
                    sleep(Duration::from_secs_f64(world.0.api.takes)).await;
                }
                Ok(response)
            }
        })
    }

    fn judge(&self, request: &Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let (now, mut state) = (self.0.hands.elapsed(), self.state());
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let sent = sent.unwrap_or("nothing");
        if let Some(Number(number)) = request.extensions().get() {
            state.arrived.entry(*number).or_default().push(sent.to_owned());
        }
        if let Some(answer) = self.0.api.paths.get(request.uri().path()) {
            return answer.response().expect("it was checked before");
        }
        let token = number(sent).and_then(|number| state.tokens.get(number));
        let is_known =
            token.is_some_and(|(issued, ends)| issued + self.0.api.knows_after <= now + MOMENT && now < *ends);
        let mut response = Response::new(Full::default());
        if !is_known {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            let challenge = http::HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The place of a token in the list.
fn number(token: &str) -> Option<usize> {
    token.strip_prefix('t')?.parse::<usize>().ok()?.checked_sub(1)
}

/// What two floating point numbers may differ by that are the same time.
const MOMENT: f64 = 1e-6;

struct UnderWay {
    world: World,
    number: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.world.0.hands.running();
        self.world.state().fetches[self.number].ended = Some(now);
    }
}
