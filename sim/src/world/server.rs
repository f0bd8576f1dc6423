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

use super::{Boxed, SimClock, State, Token, World, millis};
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
        Box::pin(self.0.clone().exchange(request))
    }
}

impl World {
    async fn exchange(self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        self.alive().await;
        let body = request.into_body().collect().await?.to_bytes();
        let shown = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
        let shown = shown.and_then(|(_, value)| value.strip_prefix('r')?.parse().ok());
        let (exchange, takes, _under_way) = self.arrive();
        let outage = self.lock().outage_at(self.trace.now());
        let lost = || self.trace.note(Happened::Answered { exchange, outcome: Outcome::Lost });
        match outage {
            Some(How::Gone) => {
                lost();
                return Err(NotSent::because("nobody is there").into());
            }
            Some(How::Hangs) => pending().await,
            _ => {}
        }
        // Half of the time on the way there: it acts in the middle.
        sleep(takes / 2).await;
        if let Some(How::Status(status)) = outage {
            sleep(takes / 2).await;
            self.alive().await;
            return Ok(self.refuse(exchange, status, ""));
        }
        let issued = self.act(shown);
        sleep(takes - takes / 2).await;
        self.alive().await;
        if outage == Some(How::ActsAndBreaks) {
            lost();
            return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
        }
        let Some((token, ends)) = issued else { return Ok(self.refuse(exchange, 400, r#"{"error":"invalid_grant"}"#)) };
        self.trace.note(Happened::Answered { exchange, outcome: Outcome::Issued { token, ends } });
        let server = &self.plan.server;
        let life =
            if server.says_life { format!(r#","expires_in":{}"#, server.life as f64 / 1000.0) } else { String::new() };
        let rotated = match server.grant {
            Grant::Rotating { .. } => format!(r#","refresh_token":"r{token}""#),
            Grant::ClientCredentials | Grant::Staying => String::new(),
        };
        let body = format!(r#"{{"access_token":"a{token}","token_type":"Bearer"{life}{rotated}}}"#);
        Ok(answer(200, &body))
    }

    /// Its number, how long it takes, and that it is under way until it is dropped.
    fn arrive(&self) -> (u64, Duration, impl Drop + use<>) {
        struct UnderWay(World);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                if self.0.is_alive(&state) {
                    state.under_way[self.0.program] -= 1;
                }
            }
        }
        let (from, to) = self.plan.server.takes;
        let mut state = self.lock();
        state.exchanges += 1;
        state.under_way[self.program] += 1;
        let takes = millis(state.rng.u64(from..=to));
        let (exchange, at_once) = (state.exchanges, state.under_way[self.program]);
        drop(state);
        self.trace.note(Happened::Asked { program: self.program, exchange, at_once });
        (exchange, takes, UnderWay(self.clone()))
    }

    /// What it does, whether anybody hears of it or not: the number of an access token, and when it ends.
    fn act(&self, shown: Option<u64>) -> Option<(u64, Duration)> {
        let (now, plan) = (self.trace.now(), &self.plan);
        let mut state = self.lock();
        let grace = match plan.server.grant {
            Grant::Rotating { grace } => Some(millis(grace)),
            Grant::ClientCredentials | Grant::Staying => None,
        };
        if let (Some(grace), Some(shown)) = (grace, shown) {
            let first = *state.spent.entry(shown).or_insert(now);
            if first != now && now > first + grace && !state.revoked {
                state.revoked = true;
                self.trace.note(Happened::Reused);
            }
        }
        if state.revoked {
            return None;
        }
        let number = state.tokens.len() as u64 + 1;
        let ends = now + millis(plan.server.life);
        state.tokens.insert(number, Token { known_from: now + millis(plan.api.lag), ends });
        Some((number, ends))
    }

    fn refuse(&self, exchange: u64, status: u16, body: &str) -> Answer {
        self.trace.note(Happened::Answered { exchange, outcome: Outcome::Refused(status) });
        answer(status, body)
    }
}

impl State {
    fn outage_at(&self, now: Duration) -> Option<How> {
        self.outage.filter(|(_, until)| now < *until).map(|(how, _)| how)
    }
}

fn answer(status: u16, body: &str) -> Answer {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::from(body.to_owned())).expect("a response")
}
