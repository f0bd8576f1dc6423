//! signNow's `GET /oauth2/token`, which describes an access token.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::testing::{
    issued::{Issued, tokens::Standing},
    reply::{Reply, error_response::ErrorResponse, member},
    rules::Rules,
};

/// The text of signNow's documentation wants the token as a bearer token. Its sample has the client's Basic value: the
/// answer to that describes the newest live token of the client.
pub(crate) fn answer(
    headers: &HeaderMap,
    rules: &Rules,
    issued: &Issued,
    now: Instant,
) -> Result<Reply, ErrorResponse> {
    let error = || ErrorResponse::invalid_token("no live token");
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, credentials) = value.and_then(|value| value.split_once(' ')).ok_or_else(error)?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        credentials
    } else {
        let pair = STANDARD.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok());
        let (id, secret) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or_else(error)?;
        let client = rules.clients.find(id, secret).filter(|_| scheme.eq_ignore_ascii_case("basic"));
        client.and_then(|client| issued.access.newest_of(&client, now)).ok_or_else(error)?
    };
    let entry = issued.access.get(token).filter(|entry| entry.standing(now) == Standing::Live).ok_or_else(error)?;
    let scope = rules.quirks.scope.name(entry.subject.scope.as_deref()).unwrap_or_default();
    let mut members = vec![member("access_token", token), member("scope", &scope)];
    let left = entry.expires.map(|expires| expires.saturating_duration_since(now).as_secs());
    members.extend(left.map(|seconds| member("expires_in", &seconds.to_string())));
    members.extend(rules.quirks.token_type.map(|text| member("token_type", text)));
    Ok(Reply::json(StatusCode::OK, &members))
}
