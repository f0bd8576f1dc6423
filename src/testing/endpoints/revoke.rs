//! The revocation endpoint (RFC 7009).

use http::StatusCode;
use tokio::time::Instant;

use super::introspect::client_and_token;
use crate::testing::{
    issued::{Issued, tokens::Entry},
    recorded::token_request::TokenRequest,
    reply::{Reply, error_response::ErrorResponse},
    rules::Rules,
};

/// Revokes a token (§2). A refresh token takes all tokens of its authorization with it.
pub(crate) fn answer(
    request: &TokenRequest,
    rules: &Rules,
    issued: &mut Issued,
    now: Instant,
) -> Result<Reply, ErrorResponse> {
    let (client, token) = client_and_token(request, rules)?;
    let of_client = |entry: &Entry| *entry.subject.client == *client;
    let (access, refresh) = (issued.access.get(token), issued.refresh.get(token));
    if !access.is_none_or(of_client) || !refresh.is_none_or(of_client) {
        return Err(ErrorResponse::invalid_grant("the token was given to another client"));
    }
    if let Some(family) = refresh.map(|entry| entry.subject.family) {
        issued.revoke_family(family, now);
    }
    issued.access.revoke(token, now);
    // §2.2: an unknown token gets the same answer.
    Ok(Reply::new(StatusCode::OK))
}
