//! What the token endpoint answers (RFC 6749 §3.2, §4.4, §5). Decides only; the state issues.

use std::{borrow::Cow, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
};

use super::{
    client_auth::Clients,
    record::{TokenRequest, is_form},
    reply::{Member, Reply, member},
};

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) clients: Clients,
    /// The known scopes; without them, any is.
    pub(super) scopes: Option<Vec<String>>,
}

/// A token is to be issued.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) scope: Option<String>,
}

pub(super) fn decide(request: &TokenRequest, rules: &Rules) -> Result<Granted, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::method());
    }
    if !is_form(request.headers()) {
        return Err(Refusal::invalid_request("not application/x-www-form-urlencoded"));
    }
    if repeats_a_parameter(request.form()) {
        return Err(Refusal::invalid_request("a parameter comes more than once"));
    }
    rules.clients.authenticate(request)?;
    match request.field("grant_type") {
        None | Some("") => Err(Refusal::invalid_request("no grant_type")),
        Some("client_credentials") => client_credentials(request, rules),
        Some(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", "only client_credentials")),
    }
}

/// RFC 6749 §4.4.
fn client_credentials(request: &TokenRequest, rules: &Rules) -> Result<Granted, Refusal> {
    let scope = request.field("scope").filter(|scope| !scope.is_empty());
    match scope {
        Some(scope) if !scope.split(' ').all(|name| rules.allow(name)) => Err(Refusal::invalid_scope()),
        _ => Ok(Granted { scope: scope.map(str::to_owned) }),
    }
}

impl Rules {
    /// RFC 6749 §3.3 says which characters a scope has.
    fn allow(&self, scope: &str) -> bool {
        let well_formed = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        !scope.is_empty()
            && scope.bytes().all(well_formed)
            && self.scopes.as_ref().is_none_or(|known| known.iter().any(|name| name == scope))
    }
}

/// RFC 6749 §3.2 forbids it; RFC 8707 §2 and RFC 8693 §2.1 make exceptions for where the token is for.
fn repeats_a_parameter(form: &[(String, String)]) -> bool {
    form.iter().enumerate().any(|(index, (name, _))| {
        !matches!(name.as_str(), "resource" | "audience") && form[..index].iter().any(|(earlier, _)| earlier == name)
    })
}

/// RFC 6749 §5.1.
pub(super) fn success(token: &str, lifetime: Option<Duration>, scope: Option<&str>) -> Reply {
    let mut members: Vec<Member> = vec![member("access_token", token), member("token_type", "Bearer")];
    members.extend(lifetime.map(|lifetime| (Cow::Borrowed("expires_in"), seconds(lifetime))));
    members.extend(scope.map(|scope| member("scope", scope)));
    Reply::token(members)
}

/// A whole number where it is one, as RFC 6749 wants it.
fn seconds(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        _ => time.as_secs_f64().to_string(),
    }
}

/// Why no token is issued (RFC 6749 §5.2).
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self { status, code, description, header: None }
    }

    fn method() -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "only POST");
        Self { header: Some((ALLOW, HeaderValue::from_static("POST"))), ..refusal }
    }

    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn invalid_client(description: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    fn invalid_scope() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", "unknown or malformed scope")
    }

    /// For a client that tried by header.
    pub(super) fn challenged(mut self) -> Self {
        self.header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\", charset=\"UTF-8\"")));
        self
    }

    pub(super) fn into_reply(self) -> Reply {
        let mut reply = Reply::error(self.status, self.code, Some(self.description));
        reply.headers.extend(self.header);
        reply
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, header::CONTENT_TYPE};
    use tokio::time::Instant;

    use super::*;

    fn outcome(method: &str, content_type: &str, body: &str) -> Result<Option<String>, &'static str> {
        let mut clients = Clients::default();
        clients.set("public".to_owned(), String::new());
        let rules = Rules { clients, scopes: Some(vec!["a".to_owned(), "b".to_owned()]) };
        let head =
            Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap().into_parts().0;
        let body = Bytes::from(format!("client_id=public&{body}"));
        let request = TokenRequest::new(head, body, Instant::now());
        decide(&request, &rules).map(|granted| granted.scope).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_form_is_decided_by_its_fields() {
        for (body, expected) in [
            ("grant_type=client_credentials", Ok(None)),
            ("grant_type=client_credentials&scope=", Ok(None)),
            ("grant_type=client_credentials&scope=b+a", Ok(Some("b a"))),
            ("grant_type=client_credentials&scope=a+c", Err("invalid_scope")),
            ("grant_type=client_credentials&scope=a++b", Err("invalid_scope")),
            ("grant_type=client_credentials&resource=1&resource=2", Ok(None)),
            ("grant_type=client_credentials&grant_type=client_credentials", Err("invalid_request")),
            ("grant_type=refresh_token", Err("unsupported_grant_type")),
            ("grant_type=", Err("invalid_request")),
            ("", Err("invalid_request")),
        ] {
            let outcome = outcome("POST", "application/x-www-form-urlencoded", body);
            assert_eq!(outcome, expected.map(|scope| scope.map(str::to_owned)), "{body}");
        }
    }

    #[test]
    fn only_posted_forms_are_read() {
        let body = "grant_type=client_credentials";
        assert_eq!(outcome("GET", "application/x-www-form-urlencoded", body), Err("invalid_request"));
        assert_eq!(outcome("POST", "application/json", body), Err("invalid_request"));
    }

    #[test]
    fn lifetimes_are_whole_numbers_where_they_can_be() {
        assert_eq!(seconds(Duration::from_secs(3600)), "3600");
        assert_eq!(seconds(Duration::from_millis(500)), "0.5");
        assert_eq!(seconds(Duration::from_millis(1250)), "1.25");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
