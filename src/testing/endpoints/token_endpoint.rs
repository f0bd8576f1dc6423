//! The token endpoint: reads which grant a request asks for, carries it out, and answers (RFC 6749 §3.2).

use tokio::time::Instant;

use crate::testing::{issued::Issued, recorded::token_request::TokenRequest, reply::Reply, rules::Rules};

mod grant_request;
mod grants;
mod token_response;

/// The answer to a token request. If a fault has `chosen` an access token, that one is issued.
pub(crate) fn answer(
    request: &TokenRequest,
    rules: &mut Rules,
    issued: &mut Issued,
    chosen: Option<String>,
    now: Instant,
) -> Reply {
    let granted = grant_request::read(request, rules).and_then(|request| issued.grant(request, rules, chosen, now));
    match granted {
        Ok(granted) => token_response::token_response(&granted, rules),
        Err(error) => rules.quirks.error_format.reply(error),
    }
}
