//! What the connections and the handle share, and the entrances to it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, request::Parts};
use tokio::{sync::watch, time::Instant};

use super::{
    api::{self, ApiCounts},
    authorize::{self, Consent, Stop},
    consent, inquiry,
    ledger::Ledger,
    record::TokenRequest,
    refusal::Refusal,
    reply::Reply,
    routes::Route,
    rules::Rules,
    script::Script,
    token_endpoint,
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
    latency: Duration,
    pub(super) ledger: Ledger,
    pub(super) api: ApiCounts,
    pub(super) recorded: VecDeque<TokenRequest>,
    pub(super) token_faults: Script,
    pub(super) api_faults: Script,
}

impl State {
    pub(super) fn new(rules: Rules, latency: Duration, ledger: Ledger) -> Self {
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
        let asked = token_endpoint::decide(request, &self.rules);
        match asked.and_then(|asked| self.ledger.grant(asked, &mut self.rules, chosen, now)) {
            Ok(tokens) => token_endpoint::success(&tokens, &self.rules),
            Err(refusal) => self.rules.ways.dialect.refuse(refusal),
        }
    }

    /// A browser arrived at the authorization endpoint: first to see the question, then with the answer to it.
    pub(super) fn browser_request(&mut self, head: &Parts, body: &Bytes, now: Instant) -> Reply {
        let consent = match authorize::read(head.uri.query().unwrap_or_default(), &self.rules) {
            Ok(consent) => consent,
            Err(Stop::Page(why)) => return consent::problem(why),
            Err(Stop::Redirect(url)) => return consent::onward(&url),
        };
        match (&head.method, &**body) {
            (&Method::GET, _) => consent::question(&consent),
            (&Method::POST, b"decision=allow") => consent::onward(&self.allow(consent, now)),
            (&Method::POST, b"decision=deny") => consent::onward(&consent.denied(&self.rules)),
            (&Method::POST, _) => consent::problem("The decision is missing."),
            _ => Refusal::method("GET, POST").into_reply(),
        }
    }

    /// The user allows it: the URL that brings the client its code.
    pub(super) fn allow(&mut self, consent: Consent, now: Instant) -> String {
        let code = self.ledger.authorize(consent.authorization.clone(), &self.rules, now);
        consent.allowed(&code, &self.rules)
    }

    /// A request arrived that asks about a token or ends one.
    pub(super) fn inquiry(&mut self, route: Route<'_>, head: Parts, body: Bytes, now: Instant) -> Reply {
        let Self { rules, ledger, .. } = self;
        let request = TokenRequest::new(head, body, now);
        let outcome = match route {
            Route::Verify => inquiry::verify(request.headers(), rules, ledger, now),
            Route::Revoke => inquiry::revoke(&request, rules, ledger, now),
            _ => inquiry::introspect(&request, rules, ledger, now),
        };
        outcome.unwrap_or_else(Refusal::into_reply)
    }

    /// A request arrived at the API; `path` is what follows `/api`.
    pub(super) fn api_request(&mut self, path: &str, head: &Parts, body: &Bytes, now: Instant) -> Verdict {
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
            None => Verdict::just(right()),
            Some(fault) => fault.verdict(right),
        }
    }
}

/// How many token requests are remembered.
const RECORDED: usize = 1024;
