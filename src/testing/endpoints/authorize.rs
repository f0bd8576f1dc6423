//! The authorization endpoint: a page that asks the user (RFC 6749 §4.1.1, §4.1.2).

use bytes::Bytes;
use http::{Method, request::Parts};
use tokio::time::Instant;

use crate::testing::{
    issued::Issued,
    reply::{Reply, error_response::ErrorResponse},
    rules::Rules,
};

pub(crate) mod consent;
mod page;
mod redirect_target;

use consent::{Consent, Stop};

/// The answer to a browser. GET shows the question, POST brings the user's decision.
pub(crate) fn answer(head: &Parts, body: &Bytes, rules: &Rules, issued: &mut Issued, now: Instant) -> Reply {
    let consent = match consent::read(head.uri.query().unwrap_or_default(), rules) {
        Ok(consent) => consent,
        Err(Stop::Page(why)) => return page::error(why),
        Err(Stop::Redirect(url)) => return page::redirect(&url),
    };
    match (&head.method, &**body) {
        (&Method::GET, _) => page::question(&consent),
        (&Method::POST, b"decision=allow") => page::redirect(&allow(consent, rules, issued, now)),
        (&Method::POST, b"decision=deny") => page::redirect(&consent.denied(rules)),
        (&Method::POST, _) => page::error("The decision is missing."),
        _ => ErrorResponse::method("GET, POST").into_reply(),
    }
}

/// The user allows the request. Returns the URL of the redirect that brings the client its code.
pub(crate) fn allow(consent: Consent, rules: &Rules, issued: &mut Issued, now: Instant) -> String {
    let code = issued.issue_code(consent.authorization.clone(), rules, now);
    consent.allowed(&code, rules)
}
