//! The authorization server and the API: real HTTP servers, which are always right. What goes wrong happens on the way to them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use super::{
    plan::{Grant, Plan},
    trace::{Happened, Trace},
};

/// Clones are the same.
#[derive(Clone)]
pub struct Server {
    plan: Arc<Plan>,
    trace: Trace,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When each access token ends, by its number.
    tokens: BTreeMap<u64, Duration>,
    /// When each refresh token was shown first.
    spent: BTreeMap<u64, Duration>,
    is_over: bool,
    rng: fastrand::Rng,
}

type Answer = Response<Full<Bytes>>;

impl Server {
    pub fn new(plan: &Arc<Plan>, trace: &Trace) -> Self {
        let state = State { rng: fastrand::Rng::with_seed(plan.seed ^ 0x5eed), ..State::default() };
        Self { plan: plan.clone(), trace: trace.clone(), state: Arc::new(state.into()) }
    }

    pub async fn start_token_endpoint(&self) -> (SocketAddr, impl Future<Output = ()> + use<>) {
        let server = self.clone();
        serve(self.plan.http2.0, move |request| server.clone().exchange(request)).await
    }

    pub async fn start_api(&self) -> (SocketAddr, impl Future<Output = ()> + use<>) {
        let server = self.clone();
        serve(self.plan.http2.1, move |request| server.clone().call(request)).await
    }

    /// Ends all access tokens; the authorization stays.
    pub fn revoke(&self) {
        let mut state = self.lock();
        let now = self.trace.now();
        state.tokens.values_mut().for_each(|end| *end = now.min(*end));
        self.trace.note(Happened::Revoked);
    }

    async fn exchange(self, request: Request<Incoming>) -> Answer {
        let exchange = number(&request, EXCHANGE);
        let Ok(body) = request.into_body().collect().await else { return answer(400, "") };
        let body = body.to_bytes();
        let shown = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
        let shown = shown.and_then(|(_, value)| value.strip_prefix('r')?.parse().ok());
        let takes = self.takes(self.plan.takes.0);
        sleep(takes / 2).await;
        let issued = self.act(exchange, shown);
        sleep(takes / 2).await;
        let Some(token) = issued else { return answer(400, r#"{"error":"invalid_grant"}"#) };
        let life = self.plan.life as f64 / 1000.0;
        let rotated = if shown.is_some() { format!(r#","refresh_token":"r{token}""#) } else { String::new() };
        answer(200, &format!(r#"{{"access_token":"a{token}","token_type":"Bearer","expires_in":{life}{rotated}}}"#))
    }

    fn act(&self, exchange: u64, shown: Option<u64>) -> Option<u64> {
        let mut state = self.lock();
        let now = self.trace.now();
        if let (Grant::Rotating { grace }, Some(shown)) = (self.plan.grant, shown) {
            let first = *state.spent.entry(shown).or_insert(now);
            if first != now && now > first + Duration::from_millis(grace) && !state.is_over {
                state.is_over = true;
                self.trace.note(Happened::Reused);
            }
        }
        let token = (!state.is_over).then(|| state.tokens.len() as u64 + 1);
        if let Some(token) = token {
            state.tokens.insert(token, now + Duration::from_millis(self.plan.life));
        }
        self.trace.note(Happened::Acted { exchange, shown, issued: token });
        token
    }

    async fn call(self, request: Request<Incoming>) -> Answer {
        let (request_number, attempt) = (number(&request, REQUEST), number(&request, ATTEMPT) as usize);
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token: Option<u64> = sent.and_then(|value| value.strip_prefix("Bearer a")?.parse().ok());
        let status = {
            let state = self.lock();
            let now = self.trace.now();
            let is_good = token.and_then(|token| state.tokens.get(&token)).is_some_and(|end| now < *end);
            let status = if is_good { 200 } else { 401 };
            self.trace.note(Happened::Arrived { request: request_number, attempt, status });
            status
        };
        drop(request.into_body().collect().await);
        sleep(self.takes(self.plan.takes.1)).await;
        let mut answer = answer(status, r#"{"text":"of some length"}"#);
        if status == 401 {
            let challenge = http::HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            answer.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }

    fn takes(&self, most: u64) -> Duration {
        Duration::from_millis(self.lock().rng.u64(most / 2..=most))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

/// Headers in which the client says what is what.
pub const EXCHANGE: &str = "x-exchange";
pub const REQUEST: &str = "x-request";
pub const ATTEMPT: &str = "x-attempt";

fn number(request: &Request<Incoming>, name: &str) -> u64 {
    let value = request.headers().get(name).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).expect("the client numbers what it sends")
}

fn answer(status: u16, body: &str) -> Answer {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::from(body.to_owned())).expect("a response")
}

/// Takes connections until it is dropped.
async fn serve<F: Future<Output = Answer> + Send + 'static>(
    http2: bool,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> (SocketAddr, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let run = async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            connections.spawn(async move {
                drop(stream.set_nodelay(true));
                let io = TokioIo::new(stream);
                let service = service_fn(|request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // An error is a connection that a proxy broke.
                if http2 {
                    drop(conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
                } else {
                    drop(conn::http1::Builder::new().half_close(true).serve_connection(io, service).await);
                }
            });
            while connections.try_join_next().is_some() {}
        }
    };
    (address, run)
}
