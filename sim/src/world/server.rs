//! The authorization server: its token endpoint, as a service that the crate's own client sends to.

use std::{
    future::pending,
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{BoxError, Service};
use tower_bearer::{NotSent, oauth2::TokenEndpoint};

use super::{Boxed, SimClock, State, Token, World, authorization::Shown, millis};
use crate::{
    plan::{Grant, How},
    trace::{Happened, Outcome},
};

type Answer = Response<Full<Bytes>>;

impl World {
    pub fn endpoint(&self) -> TokenEndpoint {
        let endpoint = TokenEndpoint::new("https://id.test/token").expect("a URL").client_secret_basic("app", "secret");
        endpoint.http_service(TokenServer(self.clone())).clock(SimClock::new(self))
    }
}

#[derive(Clone)]
struct TokenServer(World);

impl Service<Request<Full<Bytes>>> for TokenServer {
    type Response = Answer;
    type Error = BoxError;
    type Future = Boxed<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let world = self.0.clone();
        Box::pin(async move {
            world.alive().await;
            let shares = world.plan.program.stack.exchanges_share_it;
            let permits = world.permits[world.program].clone();
            let _permit = if shares { Some(permits.acquire_owned().await?) } else { None };
            world.exchange(request).await
        })
    }
}

/// What the server has done.
struct Issued {
    token: u64,
    /// When that ends, as far as the client is told.
    ends: Duration,
    refresh_token: Option<u64>,
    authorization_ends: Option<Duration>,
}

impl World {
    async fn exchange(self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let body = request.into_body().collect().await?.to_bytes();
        let shown = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
        let shown = shown.and_then(|(_, value)| value.strip_prefix('r')?.parse().ok());
        let (exchange, takes, _under_way) = self.arrive();
        let outage = self.lock().outage_at(self.trace.now());
        let busy_for = self.busy_for();
        match outage {
            Some(How::Gone) => {
                self.answered(exchange, Outcome::Lost);
                return Err(NotSent::because("nobody is there").into());
            }
            Some(How::Hangs) => pending().await,
            _ => {}
        }
        // Half of the time on the way there: it acts in the middle.
        sleep(takes / 2).await;
        let refusal = match (outage, busy_for) {
            (Some(How::Status(status)), _) => Some((status, None, "")),
            (Some(How::RetryAfter(seconds)), _) => Some((503, Some(seconds), "")),
            (Some(How::Rejects), _) => Some((401, None, r#"{"error":"invalid_client"}"#)),
            (Some(How::Page), _) => Some((200, None, "<!doctype html><title>Down for maintenance</title>")),
            (_, Some(wait)) => {
                let told = self.plan.server.quota.is_some_and(|quota| quota.told);
                Some((429, told.then(|| wait.as_secs() + 1), ""))
            }
            _ => None,
        };
        if let Some((status, retry_after, body)) = refusal {
            sleep(takes / 2).await;
            self.alive().await;
            return Ok(self.refuse(exchange, status, retry_after, body));
        }
        let issued = self.act(shown);
        let slept = self.trace.slept();
        sleep(takes - takes / 2).await;
        self.alive().await;
        // No connection outlives a machine that sleeps.
        if outage == Some(How::ActsAndBreaks) || self.trace.slept() > slept {
            self.answered(exchange, Outcome::Lost);
            return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
        }
        match outage {
            Some(How::ActsAndHangs) => pending().await,
            Some(How::ActsAndFails(status)) => return Ok(self.refuse(exchange, status, None, "")),
            _ => {}
        }
        let Some(issued) = issued else {
            return Ok(self.refuse(exchange, 400, None, r#"{"error":"invalid_grant"}"#));
        };
        let mut body = self.tell(&issued);
        if outage == Some(How::ActsAndCuts) {
            body.truncate(self.lock().rng.usize(1..body.len()));
            self.answered(exchange, Outcome::Lost);
        } else {
            self.heard(shown, issued.refresh_token);
            let Issued { token, ends, authorization_ends, .. } = issued;
            self.answered(exchange, Outcome::Issued { token, ends, authorization_ends });
        }
        Ok(answer(200, None, &body))
    }

    /// Its number, how long it takes, and that it is under way until it is dropped.
    fn arrive(&self) -> (u64, Duration, impl Drop + use<>) {
        struct UnderWay(World);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                if self.0.is_alive(&state) {
                    state.processes.under_way(self.0.program, -1);
                }
            }
        }
        let (from, to) = self.plan.server.takes;
        let mut state = self.lock();
        state.exchanges += 1;
        let takes = millis(state.rng.u64(from..=to));
        let exchange = state.exchanges;
        let (at_once, in_all) = state.processes.under_way(self.program, 1);
        drop(state);
        self.trace.note(Happened::Asked { program: self.program, exchange, at_once, in_all });
        (exchange, takes, UnderWay(self.clone()))
    }

    /// How long nobody is served any more, because too many came.
    fn busy_for(&self) -> Option<Duration> {
        let (quota, now) = (self.plan.server.quota?, self.trace.now());
        let mut state = self.lock();
        state.came.retain(|at| now < *at + millis(quota.window));
        if (state.came.len() as u64) < quota.most {
            state.came.push(now);
            return None;
        }
        Some(state.came[0] + millis(quota.window) - now)
    }

    /// What it does, whether anybody hears of it or not.
    fn act(&self, shown: Option<u64>) -> Option<Issued> {
        let (now, server) = (self.trace.now(), &self.plan.server);
        let (authorization, authorization_ends) = match (server.grant, shown) {
            (Grant::ClientCredentials, _) => (0, None),
            (_, None) => return None,
            (_, Some(number)) => match self.show(number) {
                Shown::Good { authorization, ends } => (authorization, ends),
                Shown::Refused | Shown::Stolen { .. } => return None,
            },
        };
        let mut state = self.lock();
        let rotates = matches!(server.grant, Grant::Rotating { .. });
        let refresh_token = rotates.then(|| state.authorizations.issue(authorization, now));
        let token = state.tokens.len() as u64 + 1;
        let (known_from, ends) = (now + millis(self.plan.api.lag), now + millis(server.life));
        state.tokens.insert(token, Token { known_from, ends });
        let ends = now + millis(server.life * server.lies.unwrap_or(100) / 100);
        Some(Issued { token, ends, refresh_token, authorization_ends })
    }

    /// In the words of RFC 6749 section 5.1.
    fn tell(&self, issued: &Issued) -> String {
        let now = self.trace.now();
        let mut body = format!(r#"{{"access_token":"a{}","token_type":"Bearer""#, issued.token);
        let server = &self.plan.server;
        if server.says_life {
            let life = server.life * server.lies.unwrap_or(100) / 100;
            body += &format!(r#","expires_in":{}"#, life as f64 / 1000.0);
        }
        if let Some(number) = issued.refresh_token {
            body += &format!(r#","refresh_token":"r{number}""#);
        }
        if let Some(ends) = issued.authorization_ends.filter(|_| server.ends.is_some_and(|ending| ending.told)) {
            body += &format!(r#","refresh_expires_in":{}"#, ends.saturating_sub(now).as_secs());
        }
        body + "}"
    }

    fn refuse(&self, exchange: u64, status: u16, retry_after: Option<u64>, body: &str) -> Answer {
        self.answered(exchange, Outcome::Refused { status, retry_after: retry_after.map(Duration::from_secs) });
        answer(status, retry_after, body)
    }

    fn answered(&self, exchange: u64, outcome: Outcome) {
        self.trace.note(Happened::Answered { exchange, outcome });
    }
}

impl State {
    fn outage_at(&self, now: Duration) -> Option<How> {
        self.outage.filter(|(_, until)| now < *until).map(|(how, _)| how)
    }
}

fn answer(status: u16, retry_after: Option<u64>, body: &str) -> Answer {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let mut response = Response::builder().status(status).header("content-type", kind);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(Full::from(body.to_owned())).expect("a response")
}
