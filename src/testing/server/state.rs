//! What the connections and the handle share, and the entrances to it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, request::Parts};
use tokio::{sync::watch, time::Instant};

use crate::testing::{
    endpoints::{
        Route,
        api::{self, ApiCounts},
        authorize::{
            consent::{self, Consent, Stop},
            page,
        },
        introspect,
        token_endpoint::{grant_request, grants::Ledger},
    },
    fault::script::Script,
    recorded::token_request::TokenRequest,
    reply::{Reply, error_response::Refusal, outcome::Outcome},
    rules::Rules,
};

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) token_requests: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), token_requests: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic that would make the rest useless to a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request arrived at the token endpoint.
    pub(crate) fn token_request(&self, head: Parts, body: Bytes, now: Instant) -> Outcome {
        let outcome = self.lock().token_request(TokenRequest::new(head, body, now), now);
        self.token_requests.send_modify(|seen| *seen += 1);
        outcome
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    latency: Duration,
    pub(crate) ledger: Ledger,
    pub(crate) api: ApiCounts,
    pub(crate) recorded: VecDeque<TokenRequest>,
    pub(crate) token_faults: Script,
    pub(crate) api_faults: Script,
}

impl State {
    pub(crate) fn new(rules: Rules, latency: Duration, ledger: Ledger) -> Self {
        Self {
            rules,
            latency,
            ledger,
            api: ApiCounts::default(),
            recorded: VecDeque::new(),
            token_faults: Script::default(),
            api_faults: Script::default(),
        }
    }

    fn token_request(&mut self, request: TokenRequest, now: Instant) -> Outcome {
        let outcome = match self.token_faults.next(now) {
            None => Outcome::now(self.token_reply(&request, None, now)),
            Some(fault) => {
                let chosen = fault.chosen_token();
                fault.outcome(|| self.token_reply(&request, chosen, now))
            }
        };
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back(request);
        outcome.after(self.latency)
    }

    fn token_reply(&mut self, request: &TokenRequest, chosen: Option<String>, now: Instant) -> Reply {
        let asked = grant_request::decide(request, &self.rules);
        match asked.and_then(|asked| self.ledger.grant(asked, &mut self.rules, chosen, now)) {
            Ok(tokens) => grant_request::success(&tokens, &self.rules),
            Err(refusal) => self.rules.ways.dialect.refuse(refusal),
        }
    }

    /// A browser arrived at the authorization endpoint: first to see the question, then with the answer to it.
    pub(crate) fn browser_request(&mut self, head: &Parts, body: &Bytes, now: Instant) -> Reply {
        let consent = match consent::read(head.uri.query().unwrap_or_default(), &self.rules) {
            Ok(consent) => consent,
            Err(Stop::Page(why)) => return page::problem(why),
            Err(Stop::Redirect(url)) => return page::onward(&url),
        };
        match (&head.method, &**body) {
            (&Method::GET, _) => page::question(&consent),
            (&Method::POST, b"decision=allow") => page::onward(&self.allow(consent, now)),
            (&Method::POST, b"decision=deny") => page::onward(&consent.denied(&self.rules)),
            (&Method::POST, _) => page::problem("The decision is missing."),
            _ => Refusal::method("GET, POST").into_reply(),
        }
    }

    /// The user allows it: the URL that brings the client its code.
    pub(crate) fn allow(&mut self, consent: Consent, now: Instant) -> String {
        let code = self.ledger.authorize(consent.authorization.clone(), &self.rules, now);
        consent.allowed(&code, &self.rules)
    }

    /// A request arrived that asks about a token or ends one.
    pub(crate) fn inquiry(&mut self, route: Route<'_>, head: Parts, body: Bytes, now: Instant) -> Reply {
        let Self { rules, ledger, .. } = self;
        let request = TokenRequest::new(head, body, now);
        let outcome = match route {
            Route::Verify => introspect::verify(request.headers(), rules, ledger, now),
            Route::Revoke => introspect::revoke(&request, rules, ledger, now),
            _ => introspect::introspect(&request, rules, ledger, now),
        };
        outcome.unwrap_or_else(Refusal::into_reply)
    }

    /// A request arrived at the API; `path` is what follows `/api`.
    pub(crate) fn api_request(&mut self, path: &str, head: &Parts, body: &Bytes, now: Instant) -> Outcome {
        let fault = self.api_faults.next(now);
        if fault.as_ref().is_some_and(|fault| !fault.lets_act()) {
            self.api.faulted += 1;
        }
        let mut right = || {
            let credential = api::credential(&head.headers, |token| self.ledger.access.standing(token, now));
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
