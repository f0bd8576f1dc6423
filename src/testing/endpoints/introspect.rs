//! The introspection endpoint (RFC 7662).

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::testing::{
    issued::{Issued, tokens::Entry},
    recorded::token_request::{Kind, TokenRequest},
    reply::{Member, Reply, error_response::ErrorResponse, member, quoted},
    rules::Rules,
};

/// Describes a token to a client that has a secret. It may be the token of another client (§2).
pub(crate) fn answer(
    request: &TokenRequest,
    rules: &Rules,
    issued: &Issued,
    now: Instant,
) -> Result<Reply, ErrorResponse> {
    let (client, token) = client_and_token(request, rules)?;
    if rules.clients.get(&client).is_none_or(|(_, confidential)| !confidential) {
        return Err(ErrorResponse::invalid_client("a public client can't introspect"));
    }
    let usable = |entry: &&Entry| entry.usable(rules.refresh_grace, now);
    let access = issued.access.get(token).filter(usable).map(|entry| (entry, true));
    let entry = access.or_else(|| issued.refresh.get(token).filter(usable).map(|entry| (entry, false)));
    let members = match entry {
        // §2.2: the answer says nothing else about other tokens.
        None => vec![(Cow::Borrowed("active"), "false".to_owned())],
        Some((entry, is_access)) => describe(entry, is_access, rules, now),
    };
    Ok(Reply::json(StatusCode::OK, &members))
}

/// Reads the form that introspection and revocation share (RFC 7662 §2.1, RFC 7009 §2.1).
pub(crate) fn client_and_token<'a>(
    request: &'a TokenRequest,
    rules: &Rules,
) -> Result<(Arc<str>, &'a str), ErrorResponse> {
    if request.method() != Method::POST {
        return Err(ErrorResponse::method("POST"));
    }
    if request.kind() != Kind::UrlEncoded {
        return Err(ErrorResponse::invalid_request("not application/x-www-form-urlencoded"));
    }
    let client = rules.clients.authenticate(request, rules.client_auth)?;
    let token = request.value("token").ok_or_else(|| ErrorResponse::invalid_request("no token"))?;
    Ok((client, token))
}

fn describe(entry: &Entry, is_access: bool, rules: &Rules, now: Instant) -> Vec<Member> {
    let subject = &entry.subject;
    let mut members: Vec<Member> = vec![(Cow::Borrowed("active"), "true".to_owned())];
    members.push(member("client_id", &subject.client));
    members.extend(subject.scope.as_deref().map(|scope| member("scope", scope)));
    members.extend(subject.user.as_deref().map(|user| member("username", user)));
    members.extend(rules.quirks.token_type.filter(|_| is_access).map(|text| member("token_type", text)));
    members.extend(entry.expires.and_then(|expires| unix_seconds(expires, now)).map(|exp| (Cow::Borrowed("exp"), exp)));
    members.push((Cow::Borrowed("iss"), quoted(&rules.issuer)));
    members
}

/// The time as seconds since 1970, rounded down.
fn unix_seconds(at: Instant, now: Instant) -> Option<String> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let end: Duration = since_epoch + at.saturating_duration_since(now);
    Some(end.as_secs().to_string())
}
