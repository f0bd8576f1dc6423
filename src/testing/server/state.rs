//! The state that the connections and the handle share: rules, issued tokens, counts, faults.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use tokio::{sync::watch, time::Instant};

use crate::testing::{
    endpoints::{api, token_endpoint},
    fault::script::Script,
    issued::Issued,
    recorded::{api_counts::ApiCounts, token_request::TokenRequest},
    reply::outcome::Outcome,
    rules::Rules,
};

/// The state behind its lock.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// How many requests reached the token endpoint.
    pub(crate) token_requests: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), token_requests: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves nothing half done, so the state stays usable for a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request to the token endpoint, and counts it.
    pub(crate) fn token_request(&self, head: Parts, body: Bytes, now: Instant) -> Outcome {
        let outcome = self.lock().token_request(TokenRequest::new(head, body, now), now);
        self.token_requests.send_modify(|seen| *seen += 1);
        outcome
    }
}

/// What the server knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    latency: Duration,
    pub(crate) issued: Issued,
    pub(crate) api: ApiCounts,
    pub(crate) recorded: VecDeque<TokenRequest>,
    pub(crate) token_faults: Script,
    pub(crate) api_faults: Script,
}

impl State {
    pub(crate) fn new(rules: Rules, latency: Duration, issued: Issued) -> Self {
        Self {
            rules,
            latency,
            issued,
            api: ApiCounts::default(),
            recorded: VecDeque::new(),
            token_faults: Script::default(),
            api_faults: Script::default(),
        }
    }

    /// Answers a request to the token endpoint, and records it.
    fn token_request(&mut self, request: TokenRequest, now: Instant) -> Outcome {
        let fault = self.token_faults.next(now);
        let mut right = |chosen| token_endpoint::answer(&request, &mut self.rules, &mut self.issued, chosen, now);
        let outcome = match fault {
            None => Outcome::now(right(None)),
            Some(fault) => {
                let chosen = fault.chosen_token();
                fault.outcome(|| right(chosen))
            }
        };
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back(request);
        outcome.after(self.latency)
    }

    /// Answers a request to the API, and counts it. `path` is the rest of the path, after `/api`.
    pub(crate) fn api_request(&mut self, path: &str, head: &Parts, body: &Bytes, now: Instant) -> Outcome {
        let fault = self.api_faults.next(now);
        if fault.as_ref().is_some_and(|fault| !fault.lets_act()) {
            self.api.faulted += 1;
        }
        let mut right = || {
            let credential = api::credential(&head.headers, |token| self.issued.access.standing(token, now));
            let (reply, count) = api::decide(path, head, body, credential);
            self.api.add(count);
            reply
        };
        match fault {
            None => Outcome::now(right()),
            Some(fault) => fault.outcome(right),
        }
    }
}

/// How many token requests are remembered.
const RECORDED: usize = 1024;
