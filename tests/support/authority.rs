//! An authorization server in memory, on tokio's paused clock: it rotates refresh tokens, takes reuse for theft, and fails when told to.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part, and is nobody's library")]

use std::{
    collections::HashMap,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tower::{BoxError, Service};
use tower_bearer::{NotSent, clock::Clock, oauth2::TokenEndpoint};

/// The wall clock goes with tokio's.
#[derive(Clone, Copy, Debug)]
pub struct Wall(Instant);

impl Wall {
    #[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Wall {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.0.elapsed()
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It is spent. Who shows it again is a thief: everything is revoked (RFC 9700 §4.14.2).
    Strict,
    /// The same, after this time.
    Grace(Duration),
    /// It stays.
    Never,
}

/// What the server answers instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// What a gateway writes in JSON.
    GatewayJson(u16),
    /// A page for people, as a success.
    Page,
    /// Status, seconds.
    RetryAfter(u16, u64),
    /// None.
    Timeout,
    Reset,
    /// There is nobody at its address.
    Gone,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    pub answer: Answer,
    /// The first request is carried out, before it goes wrong.
    pub first_acts: bool,
    pub lasts: Duration,
}

#[derive(Clone)]
pub struct Authority {
    state: Arc<Mutex<State>>,
    failed: Arc<Notify>,
    pub wall: Wall,
}

struct State {
    rotation: Rotation,
    life: Duration,
    issued: u64,
    spent: HashMap<String, Instant>,
    revoked: Option<Instant>,
    /// When the access token ends that was delivered last.
    delivered_until: Option<Instant>,
    outage: Option<Outage>,
    outage_until: Option<Instant>,
    requests: u64,
    last_word: u16,
}

impl Authority {
    pub fn new(rotation: Rotation, life: Duration) -> Self {
        let state = State {
            rotation,
            life,
            issued: 0,
            spent: HashMap::new(),
            revoked: None,
            delivered_until: None,
            outage: None,
            outage_until: None,
            requests: 0,
            last_word: 0,
        };
        Self { state: Arc::new(state.into()), failed: Arc::default(), wall: Wall::new() }
    }

    /// From the next request on.
    pub fn fail(&self, outage: Outage) {
        self.lock().outage = Some(outage);
    }

    /// Resolves when the outage has begun; returns when it ends.
    pub async fn outage_began(&self) -> Instant {
        loop {
            let failed = self.failed.notified();
            if let Some(until) = self.lock().outage_until {
                return until;
            }
            failed.await;
        }
    }

    pub fn revoked(&self) -> Option<Instant> {
        self.lock().revoked
    }

    pub fn delivered_until(&self) -> Option<Instant> {
        self.lock().delivered_until
    }

    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// The status of the last answer.
    pub fn last_word(&self) -> u16 {
        self.lock().last_word
    }

    pub fn endpoint(&self) -> TokenEndpoint {
        let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("app", "secret");
        endpoint.http_service(self.clone()).clock(self.wall)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        let body = request.into_body().collect().await?.to_bytes();
        let refresh_token =
            form_urlencoded_value(&body, "refresh_token").ok_or("this server knows the refresh token grant only")?;
        let answer = {
            let mut state = self.lock();
            state.requests += 1;
            match state.outage_of(&self.failed) {
                None => Ok(state.grant(&refresh_token)),
                Some((answer, acts)) => {
                    if acts {
                        let until = state.delivered_until;
                        state.grant(&refresh_token);
                        state.delivered_until = until;
                    }
                    Err(answer)
                }
            }
        };
        sleep(LATENCY).await;
        let answered = match answer {
            Ok(answered) => answered,
            Err(answer) => wrong(answer).await?,
        };
        self.lock().last_word = answered.status().as_u16();
        Ok(answered)
    }
}

impl State {
    fn outage_of(&mut self, failed: &Notify) -> Option<(Answer, bool)> {
        let outage = self.outage?;
        let first = self.outage_until.is_none();
        let now = now();
        let until = *self.outage_until.get_or_insert(now + outage.lasts);
        failed.notify_waiters();
        (now < until).then_some((outage.answer, first && outage.first_acts))
    }

    fn grant(&mut self, refresh_token: &str) -> Response<Full<Bytes>> {
        let now = now();
        let grace = match self.rotation {
            Rotation::Strict => Duration::ZERO,
            Rotation::Grace(grace) => grace,
            Rotation::Never => Duration::MAX,
        };
        let first = self.spent.get(refresh_token).copied();
        if first.is_some_and(|first| now.duration_since(first) >= grace) {
            self.revoked.get_or_insert(now);
        }
        if self.revoked.is_some() {
            return answer(400, "application/json", r#"{"error":"invalid_grant"}"#);
        }
        self.spent.entry(refresh_token.to_owned()).or_insert(now);
        self.issued += 1;
        self.delivered_until = Some(now + self.life);
        let (number, life) = (self.issued, self.life.as_secs());
        let rotated = match self.rotation {
            Rotation::Never => String::new(),
            _ => format!(r#","refresh_token":"r{number}""#),
        };
        let body = format!(r#"{{"access_token":"a{number}","token_type":"Bearer","expires_in":{life}{rotated}}}"#);
        answer(200, "application/json", &body)
    }
}

async fn wrong(kind: Answer) -> Result<Response<Full<Bytes>>, BoxError> {
    Ok(match kind {
        Answer::Status(status) => answer(status, "text/plain", ""),
        Answer::GatewayJson(status) => {
            let body =
                format!(r#"{{"timestamp":"now","status":{status},"error":"Internal Server Error","path":"/token"}}"#);
            answer(status, "application/json", &body)
        }
        Answer::Page => answer(200, "text/html", "<html>We'll be back soon.</html>"),
        Answer::RetryAfter(status, seconds) => {
            let mut response = answer(status, "text/plain", "");
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            response
        }
        Answer::Timeout => pending().await,
        Answer::Reset => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        Answer::Gone => return Err(NotSent::because("nobody is there").into()),
    })
}

fn answer(status: u16, kind: &str, body: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap()).header(header::CONTENT_TYPE, kind);
    response.body(Full::from(body.to_owned())).unwrap()
}

/// The values of these tests need no decoding.
fn form_urlencoded_value(body: &[u8], name: &str) -> Option<String> {
    let body = std::str::from_utf8(body).unwrap();
    body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

impl Service<Request<Full<Bytes>>> for Authority {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

#[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
fn now() -> Instant {
    Instant::now()
}

const LATENCY: Duration = Duration::from_millis(100);
