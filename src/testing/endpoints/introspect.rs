//! Asking about tokens and ending them: introspection (RFC 7662), revocation (RFC 7009), a provider's own check.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::testing::{
    issued::{
        Issued,
        tokens::{Entry, Standing},
    },
    recorded::token_request::{Kind, TokenRequest},
    reply::{Member, Reply, error_response::Refusal, member, quoted},
    rules::Rules,
};

/// RFC 7662 §2: for clients with a secret, whosever the token is.
pub(crate) fn introspect(
    request: &TokenRequest,
    rules: &Rules,
    issued: &Issued,
    now: Instant,
) -> Result<Reply, Refusal> {
    let (client, token) = read(request, rules)?;
    if rules.clients.get(&client).is_none_or(|(_, confidential)| !confidential) {
        return Err(Refusal::invalid_client("a public client can't introspect"));
    }
    let usable = |entry: &&Entry| usable(entry, rules, now);
    let access = issued.access.get(token).filter(usable).map(|entry| (entry, true));
    let found = access.or_else(|| issued.refresh.get(token).filter(usable).map(|entry| (entry, false)));
    let members = match found {
        // §2.2: not a word more about others.
        None => vec![(Cow::Borrowed("active"), "false".to_owned())],
        Some((entry, is_access)) => described(entry, is_access, rules, now),
    };
    Ok(Reply::json(StatusCode::OK, &members))
}

/// RFC 7009 §2. A refresh token takes along all that goes back to the same authorization.
pub(crate) fn revoke(
    request: &TokenRequest,
    rules: &Rules,
    issued: &mut Issued,
    now: Instant,
) -> Result<Reply, Refusal> {
    let (client, token) = read(request, rules)?;
    let of_client = |entry: &Entry| *entry.subject.client == *client;
    let (access, refresh) = (issued.access.get(token), issued.refresh.get(token));
    if !access.is_none_or(of_client) || !refresh.is_none_or(of_client) {
        return Err(Refusal::invalid_grant("the token was given to another client"));
    }
    if let Some(family) = refresh.map(|entry| entry.subject.family) {
        issued.revoke_family(family, now);
    }
    issued.access.revoke(token, now);
    // §2.2: also for a token that nobody knows.
    Ok(Reply::new(StatusCode::OK))
}

/// signNow's `GET /oauth2/token`. Its text wants the token as bearer; its sample shows the client's Basic value, which
/// is answered with the newest live token of that client.
pub(crate) fn verify(headers: &HeaderMap, rules: &Rules, issued: &Issued, now: Instant) -> Result<Reply, Refusal> {
    let refused = || Refusal::invalid_token("no live token");
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, credentials) = value.and_then(|value| value.split_once(' ')).ok_or_else(refused)?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        credentials
    } else {
        let pair = STANDARD.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok());
        let (id, secret) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or_else(refused)?;
        let client = rules.clients.find(id, secret).filter(|_| scheme.eq_ignore_ascii_case("basic"));
        client.and_then(|client| issued.access.newest_of(&client, now)).ok_or_else(refused)?
    };
    let entry = issued.access.get(token).filter(|entry| entry.standing(now) == Standing::Live).ok_or_else(refused)?;
    let scope = rules.ways.scope.tell(entry.subject.scope.as_deref()).unwrap_or_default();
    let mut members = vec![member("access_token", token), member("scope", &scope)];
    let left = entry.expires.map(|expires| expires.saturating_duration_since(now).as_secs());
    members.extend(left.map(|seconds| member("expires_in", &seconds.to_string())));
    members.extend(rules.ways.token_type.map(|text| member("token_type", text)));
    Ok(Reply::json(StatusCode::OK, &members))
}

/// Both endpoints read a urlencoded form (RFC 7662 §2.1, RFC 7009 §2.1).
fn read<'a>(request: &'a TokenRequest, rules: &Rules) -> Result<(Arc<str>, &'a str), Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::method("POST"));
    }
    if request.kind() != Kind::UrlEncoded {
        return Err(Refusal::invalid_request("not application/x-www-form-urlencoded"));
    }
    let client = rules.clients.authenticate(request, rules.client_auth)?;
    let token = request.value("token").ok_or_else(|| Refusal::invalid_request("no token"))?;
    Ok((client, token))
}

/// Whether a token would be taken: a spent refresh token is only within the grace.
fn usable(entry: &Entry, rules: &Rules, now: Instant) -> bool {
    entry.standing(now) == Standing::Live
        && entry.spent.is_none_or(|spent| now.saturating_duration_since(spent) < rules.refresh_grace)
}

fn described(entry: &Entry, is_access: bool, rules: &Rules, now: Instant) -> Vec<Member> {
    let subject = &entry.subject;
    let mut members: Vec<Member> = vec![(Cow::Borrowed("active"), "true".to_owned())];
    members.push(member("client_id", &subject.client));
    members.extend(subject.scope.as_deref().map(|scope| member("scope", scope)));
    members.extend(subject.user.as_deref().map(|user| member("username", user)));
    members.extend(rules.ways.token_type.filter(|_| is_access).map(|text| member("token_type", text)));
    members.extend(entry.expires.and_then(|expires| unix_seconds(expires, now)).map(|exp| (Cow::Borrowed("exp"), exp)));
    members.push((Cow::Borrowed("iss"), quoted(&rules.issuer)));
    members
}

/// The whole second by which it is over.
fn unix_seconds(at: Instant, now: Instant) -> Option<String> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let end: Duration = since_epoch + at.saturating_duration_since(now);
    Some(end.as_secs().to_string())
}
