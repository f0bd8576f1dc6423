//! What a token request asks for and what it is answered (RFC 6749 §3.2, §4, §5). Decides only; the ledger acts.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::Method;

use super::grants::Tokens;
use crate::testing::{
    recorded::token_request::{Kind, TokenRequest},
    reply::{Member, Reply, error_response::Refusal, member},
    rules::Rules,
};

/// A request that is right as far as can be told without looking at what was given out before.
pub(crate) struct Asked<'a> {
    pub(crate) client: Arc<str>,
    pub(crate) ask: Ask<'a>,
    /// Of the access token.
    pub(crate) lifetime: Option<Duration>,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Ask<'a> {
    Client { scope: Option<&'a str> },
    Password { user: &'a str, password: &'a str, scope: Option<&'a str> },
    Code { code: &'a str, redirect_uri: Option<&'a str>, verifier: Option<&'a str> },
    Refresh { token: &'a str, scope: Option<&'a str> },
}

/// Shows which grant it is and nothing else: the rest is secret.
impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ask::Client { .. } => "Client",
            Ask::Password { .. } => "Password",
            Ask::Code { .. } => "Code",
            Ask::Refresh { .. } => "Refresh",
        })
    }
}

pub(crate) fn decide<'a>(request: &'a TokenRequest, rules: &Rules) -> Result<Asked<'a>, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::method("POST"));
    }
    if !rules.ways.query && request.query().is_some() {
        return Err(Refusal::body("fields in the URL are not processed"));
    }
    check_body(request.kind(), rules.multipart)?;
    check_parameters(request, rules)?;
    let client = rules.clients.authenticate(request, rules.client_auth)?;
    let ask = match request.value("grant_type") {
        None => return Err(Refusal::invalid_request("no grant_type")),
        Some(grant) if !rules.offers(grant) => return Err(Refusal::unsupported_grant_type()),
        Some("client_credentials") => Ask::Client { scope: scope(request, rules)? },
        Some("password") => Ask::Password {
            user: needed(request, "username", "no username")?,
            password: needed(request, "password", "no password")?,
            scope: scope(request, rules)?,
        },
        Some("authorization_code") => Ask::Code {
            code: needed(request, "code", "no code")?,
            redirect_uri: request.value("redirect_uri"),
            verifier: request.value("code_verifier").filter(|_| rules.pkce),
        },
        Some(_) => Ask::Refresh {
            token: needed(request, "refresh_token", "no refresh_token")?,
            scope: request.value("scope").filter(|_| rules.ways.asks_scope()),
        },
    };
    Ok(Asked { client, ask, lifetime: lifetime(request, rules)? })
}

/// RFC 6749 §3.2: urlencoded, unless the provider wants multipart; never both.
fn check_body(kind: Kind, multipart: bool) -> Result<(), Refusal> {
    match (kind, multipart) {
        (Kind::UrlEncoded, false) | (Kind::Multipart, true) => Ok(()),
        (Kind::MalformedMultipart, true) => Err(Refusal::body("malformed multipart/form-data")),
        (_, false) => Err(Refusal::body("not application/x-www-form-urlencoded")),
        (_, true) => Err(Refusal::body("not multipart/form-data")),
    }
}

fn check_parameters(request: &TokenRequest, rules: &Rules) -> Result<(), Refusal> {
    if repeats_a_parameter(request.form()) {
        return Err(Refusal::invalid_request("a parameter comes more than once"));
    }
    let known = |name: &str| match name {
        "grant_type" | "client_id" | "client_secret" | "code" | "redirect_uri" | "refresh_token" | "username"
        | "password" => true,
        "code_verifier" => rules.pkce,
        "scope" => rules.ways.scope_parameter,
        "expiration_time" => rules.ways.expiration_time,
        _ => false,
    };
    if rules.reject_unknown && !request.form().iter().all(|(name, _)| known(name)) {
        return Err(Refusal::invalid_request("an unknown parameter"));
    }
    Ok(())
}

/// RFC 6749 §3.2 forbids it; RFC 8707 §2 and RFC 8693 §2.1 make exceptions for where the token is for.
fn repeats_a_parameter(form: &[(String, String)]) -> bool {
    form.iter().enumerate().any(|(index, (name, _))| {
        !matches!(name.as_str(), "resource" | "audience") && form[..index].iter().any(|(earlier, _)| earlier == name)
    })
}

fn scope<'a>(request: &'a TokenRequest, rules: &Rules) -> Result<Option<&'a str>, Refusal> {
    match request.value("scope").filter(|_| rules.ways.asks_scope()) {
        Some(scope) if !rules.allow_scope(scope) => Err(Refusal::invalid_scope()),
        scope => Ok(scope),
    }
}

fn needed<'a>(request: &'a TokenRequest, name: &str, missing: &'static str) -> Result<&'a str, Refusal> {
    request.value(name).ok_or_else(|| Refusal::invalid_request(missing))
}

/// signNow's `expiration_time`: whole seconds, no more than a token lives anyway.
fn lifetime(request: &TokenRequest, rules: &Rules) -> Result<Option<Duration>, Refusal> {
    let Some(text) = request.value("expiration_time").filter(|_| rules.ways.expiration_time) else {
        return Ok(rules.lifetime);
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|_| digits).map(Duration::from_secs) {
        Some(asked) if !asked.is_zero() && rules.lifetime.is_none_or(|longest| asked <= longest) => Ok(Some(asked)),
        _ => Err(Refusal::invalid_request("expiration_time is not a whole number of seconds within the lifetime")),
    }
}

/// RFC 6749 §5.1, in the ways of the provider.
pub(crate) fn success(tokens: &Tokens, rules: &Rules) -> Reply {
    let ways = &rules.ways;
    let mut members: Vec<Member> = vec![member("access_token", &tokens.access)];
    members.extend(ways.token_type.map(|text| member("token_type", text)));
    let told = tokens.lifetime.filter(|_| ways.tell_lifetime);
    members.extend(told.map(|lifetime| (Cow::Borrowed("expires_in"), seconds(lifetime))));
    if let Some(token) = &tokens.refresh {
        members.push(member("refresh_token", token));
        let told = rules.refresh_lifetime.filter(|_| rules.tell_refresh_lifetime);
        members.extend(told.map(|lifetime| (Cow::Borrowed("refresh_expires_in"), seconds(lifetime))));
    }
    members.extend(ways.scope.tell(tokens.scope.as_deref()).map(|scope| member("scope", &scope)));
    members.extend(ways.extra.iter().map(|(name, json)| (Cow::Borrowed(*name), (*json).to_owned())));
    Reply::token(members)
}

/// A whole number where it is one, as RFC 6749 wants it.
fn seconds(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        _ => time.as_secs_f64().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, header::CONTENT_TYPE};
    use tokio::time::Instant;

    use super::*;

    fn rules() -> Rules {
        let mut rules = Rules { scopes: Some(vec!["a".to_owned(), "b".to_owned()]), ..Rules::default() };
        rules.clients.set("public".to_owned(), String::new());
        rules
    }

    fn request(method: &str, content_type: &str, body: &str) -> TokenRequest {
        let head =
            Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap().into_parts().0;
        TokenRequest::new(head, Bytes::from(format!("client_id=public&{body}")), Instant::now())
    }

    fn form(body: &str) -> TokenRequest {
        request("POST", "application/x-www-form-urlencoded", body)
    }

    #[test]
    fn a_form_is_decided_by_its_fields() {
        for (body, expected) in [
            ("grant_type=client_credentials", Ok(Ask::Client { scope: None })),
            ("grant_type=client_credentials&scope=", Ok(Ask::Client { scope: None })),
            ("grant_type=client_credentials&scope=b+a", Ok(Ask::Client { scope: Some("b a") })),
            ("grant_type=client_credentials&scope=a+c", Err("invalid_scope")),
            ("grant_type=client_credentials&scope=a++b", Err("invalid_scope")),
            ("grant_type=client_credentials&resource=1&resource=2", Ok(Ask::Client { scope: None })),
            ("grant_type=client_credentials&grant_type=client_credentials", Err("invalid_request")),
            ("grant_type=refresh_token&refresh_token=r", Ok(Ask::Refresh { token: "r", scope: None })),
            ("grant_type=refresh_token&refresh_token=", Err("invalid_request")),
            (
                "grant_type=authorization_code&code=c&redirect_uri=r",
                Ok(Ask::Code { code: "c", redirect_uri: Some("r"), verifier: None }),
            ),
            ("grant_type=authorization_code", Err("invalid_request")),
            ("grant_type=password&username=u&password=p", Err("unsupported_grant_type")),
            ("grant_type=implicit", Err("unsupported_grant_type")),
            ("grant_type=", Err("invalid_request")),
            ("", Err("invalid_request")),
        ] {
            let request = form(body);
            let outcome = decide(&request, &rules()).map(|asked| asked.ask).map_err(|refusal| refusal.code);
            assert_eq!(outcome, expected, "{body}");
        }
    }

    #[test]
    fn only_posted_forms_are_read() {
        let body = "grant_type=client_credentials";
        for request in [
            request("GET", "application/x-www-form-urlencoded", body),
            request("POST", "application/json", body),
            request("POST", "multipart/form-data; boundary=x", body),
        ] {
            let outcome = decide(&request, &rules());
            assert_eq!(outcome.map(|_| ()).map_err(|refusal| refusal.code), Err("invalid_request"));
        }
    }

    #[test]
    fn a_requested_life_is_a_whole_number_within_the_usual() {
        let mut rules = rules();
        let outcome = |rules: &Rules, text: &str| {
            let request = form(&format!("grant_type=client_credentials&expiration_time={text}"));
            decide(&request, rules).map(|asked| asked.lifetime.unwrap().as_secs()).ok()
        };
        assert_eq!(outcome(&rules, "60"), Some(3600), "ignored where it is not known");
        rules.ways.expiration_time = true;
        for (text, expected) in [("60", Some(60)), ("3600", Some(3600)), ("", Some(3600)), ("3601", None)] {
            assert_eq!(outcome(&rules, text), expected, "{text}");
        }
        for text in ["0", "-1", "%2B60", "60.0", "1h"] {
            assert_eq!(outcome(&rules, text), None, "{text}");
        }
    }

    #[test]
    fn lifetimes_are_whole_numbers_where_they_can_be() {
        assert_eq!(seconds(Duration::from_secs(3600)), "3600");
        assert_eq!(seconds(Duration::from_millis(500)), "0.5");
        assert_eq!(seconds(Duration::from_millis(1250)), "1.25");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
