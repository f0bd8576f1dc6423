//! What the connections and the handle share, and the two entrances to it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use tokio::{sync::watch, time::Instant};

use super::{
    api::{self, ApiCounts},
    issued::Issued,
    record::TokenRequest,
    reply::Reply,
    script::Script,
    token_endpoint::{self, Granted, Rules},
    verdict::Verdict,
};

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) token_requests: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), token_requests: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic that would make the rest useless to a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request arrived at the token endpoint.
    pub(super) fn token_request(&self, head: Parts, body: Bytes, now: Instant) -> Verdict {
        let verdict = self.lock().token_request(TokenRequest::new(head, body, now), now);
        self.token_requests.send_modify(|seen| *seen += 1);
        verdict
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rules: Rules,
    pub(super) lifetime: Option<Duration>,
    latency: Duration,
    pub(super) issued: Issued,
    pub(super) api: ApiCounts,
    pub(super) recorded: VecDeque<TokenRequest>,
    pub(super) token_faults: Script,
    pub(super) api_faults: Script,
}

impl State {
    pub(super) fn new(
        rules: Rules,
        lifetime: Option<Duration>,
        latency: Duration,
        token_len: usize,
        remember: usize,
    ) -> Self {
        Self {
            rules,
            lifetime,
            latency,
            issued: Issued::new(token_len, remember),
            api: ApiCounts::default(),
            recorded: VecDeque::new(),
            token_faults: Script::default(),
            api_faults: Script::default(),
        }
    }

    fn token_request(&mut self, request: TokenRequest, now: Instant) -> Verdict {
        let verdict = match self.token_faults.next(now) {
            None => Verdict::just(self.token_reply(&request, None, now)),
            Some(fault) => {
                let chosen = fault.chosen_token();
                fault.verdict(|| self.token_reply(&request, chosen, now))
            }
        };
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back(request);
        verdict.after(self.latency)
    }

    fn token_reply(&mut self, request: &TokenRequest, chosen: Option<String>, now: Instant) -> Reply {
        match token_endpoint::decide(request, &self.rules) {
            Err(refusal) => refusal.into_reply(),
            Ok(Granted { scope }) => {
                let expires = self.lifetime.and_then(|lifetime| now.checked_add(lifetime));
                let token = self.issued.issue(chosen, expires);
                token_endpoint::success(&token, self.lifetime, scope.as_deref())
            }
        }
    }

    /// A request arrived at the API; `path` is what follows `/api`.
    pub(super) fn api_request(&mut self, path: &str, head: &Parts, body: &Bytes, now: Instant) -> Verdict {
        let fault = self.api_faults.next(now);
        if fault.as_ref().is_some_and(|fault| !fault.lets_act()) {
            self.api.faulted += 1;
        }
        let mut right = || {
            let credential = api::credential(&head.headers, |token| self.issued.standing(token, now));
            let (reply, count) = api::decide(path, head, body, credential);
            self.api.add(count);
            reply
        };
        match fault {
            None => Verdict::just(right()),
            Some(fault) => fault.verdict(right),
        }
    }
}

/// How many token requests are remembered.
const RECORDED: usize = 1024;
