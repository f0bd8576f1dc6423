//! Reads which grant a token request asks for (RFC 6749 §3.2, §4, §6). It looks at nothing that was issued before.

use std::{fmt, sync::Arc, time::Duration};

use http::Method;

use crate::testing::{
    recorded::token_request::{Kind, TokenRequest},
    reply::error_response::ErrorResponse,
    rules::{GRANTS, Rules},
};

/// A valid token request. Whether its code or its refresh token is valid shows later.
pub(crate) struct GrantRequest<'a> {
    pub(crate) client: Arc<str>,
    pub(crate) grant: Grant<'a>,
    /// The lifetime of the access token.
    pub(crate) lifetime: Option<Duration>,
}

/// A grant, with the parameters that the client sent.
#[derive(PartialEq, Eq)]
pub(crate) enum Grant<'a> {
    ClientCredentials { scope: Option<&'a str> },
    Password { user: &'a str, password: &'a str, scope: Option<&'a str> },
    AuthorizationCode { code: &'a str, redirect_uri: Option<&'a str>, verifier: Option<&'a str> },
    RefreshToken { token: &'a str, scope: Option<&'a str> },
    Extension { scope: Option<&'a str> },
}

/// Shows the kind of grant only. The parameters are secrets.
impl fmt::Debug for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Grant::ClientCredentials { .. } => "ClientCredentials",
            Grant::Password { .. } => "Password",
            Grant::AuthorizationCode { .. } => "AuthorizationCode",
            Grant::RefreshToken { .. } => "RefreshToken",
            Grant::Extension { .. } => "Extension",
        })
    }
}

/// Reads the form and authenticates the client.
pub(crate) fn read<'a>(request: &'a TokenRequest, rules: &Rules) -> Result<GrantRequest<'a>, ErrorResponse> {
    if request.method() != Method::POST {
        return Err(ErrorResponse::method("POST"));
    }
    if !rules.quirks.query_allowed && request.query().is_some() {
        return Err(ErrorResponse::body("fields in the URL are not processed"));
    }
    check_body(request.kind(), rules.multipart)?;
    check_parameters(request, rules)?;
    let client = rules.clients.authenticate(request, rules.client_auth)?;
    let grant = match request.value("grant_type") {
        None => return Err(ErrorResponse::invalid_request("no grant_type")),
        Some(name) if !rules.offers(name) => return Err(ErrorResponse::unsupported_grant_type()),
        Some("client_credentials") => Grant::ClientCredentials { scope: scope(request, rules)? },
        Some("password") => Grant::Password {
            user: needed(request, "username", "no username")?,
            password: needed(request, "password", "no password")?,
            scope: scope(request, rules)?,
        },
        Some("authorization_code") => Grant::AuthorizationCode {
            code: needed(request, "code", "no code")?,
            redirect_uri: request.value("redirect_uri"),
            verifier: request.value("code_verifier").filter(|_| rules.pkce),
        },
        Some("refresh_token") => Grant::RefreshToken {
            token: needed(request, "refresh_token", "no refresh_token")?,
            scope: request.value("scope").filter(|_| rules.quirks.reads_scope()),
        },
        // RFC 6749 §4.5. Its parameters are not looked at.
        Some(_) => Grant::Extension { scope: scope(request, rules)? },
    };
    Ok(GrantRequest { client, grant, lifetime: lifetime(request, rules)? })
}

/// The form is urlencoded (RFC 6749 §3.2), or multipart if the rules say so. The server never reads both.
fn check_body(kind: Kind, multipart: bool) -> Result<(), ErrorResponse> {
    match (kind, multipart) {
        (Kind::UrlEncoded, false) | (Kind::Multipart, true) => Ok(()),
        (Kind::MalformedMultipart, true) => Err(ErrorResponse::body("malformed multipart/form-data")),
        (_, false) => Err(ErrorResponse::body("not application/x-www-form-urlencoded")),
        (_, true) => Err(ErrorResponse::body("not multipart/form-data")),
    }
}

fn check_parameters(request: &TokenRequest, rules: &Rules) -> Result<(), ErrorResponse> {
    if repeats_a_parameter(request.form()) {
        return Err(ErrorResponse::invalid_request("a parameter comes more than once"));
    }
    let known = |name: &str| match name {
        "grant_type" | "client_id" | "client_secret" | "code" | "redirect_uri" | "refresh_token" | "username"
        | "password" => true,
        "code_verifier" => rules.pkce,
        "scope" => rules.quirks.scope_parameter,
        "expiration_time" => rules.quirks.expiration_time,
        _ => false,
    };
    let is_extension = request.value("grant_type").is_some_and(|grant| !GRANTS.contains(&grant));
    if rules.reject_unknown && !is_extension && !request.form().iter().all(|(name, _)| known(name)) {
        return Err(ErrorResponse::invalid_request("an unknown parameter"));
    }
    Ok(())
}

/// RFC 6749 §3.2 forbids repeated parameters. RFC 8707 §2 and RFC 8693 §2.1 except `resource` and `audience`.
fn repeats_a_parameter(form: &[(String, String)]) -> bool {
    form.iter().enumerate().any(|(index, (name, _))| {
        !matches!(name.as_str(), "resource" | "audience") && form[..index].iter().any(|(earlier, _)| earlier == name)
    })
}

fn scope<'a>(request: &'a TokenRequest, rules: &Rules) -> Result<Option<&'a str>, ErrorResponse> {
    match request.value("scope").filter(|_| rules.quirks.reads_scope()) {
        Some(scope) if !rules.allow_scope(scope) => Err(ErrorResponse::invalid_scope()),
        scope => Ok(scope),
    }
}

/// The value of a parameter, or an error that it is missing.
fn needed<'a>(request: &'a TokenRequest, name: &str, missing: &'static str) -> Result<&'a str, ErrorResponse> {
    request.value(name).ok_or_else(|| ErrorResponse::invalid_request(missing))
}

/// signNow's `expiration_time`: whole seconds, at most the usual lifetime.
fn lifetime(request: &TokenRequest, rules: &Rules) -> Result<Option<Duration>, ErrorResponse> {
    let Some(text) = request.value("expiration_time").filter(|_| rules.quirks.expiration_time) else {
        return Ok(rules.lifetime);
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|_| digits).map(Duration::from_secs) {
        Some(time) if !time.is_zero() && rules.lifetime.is_none_or(|longest| time <= longest) => Ok(Some(time)),
        _ => {
            Err(ErrorResponse::invalid_request("expiration_time is not a whole number of seconds within the lifetime"))
        }
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
            ("grant_type=client_credentials", Ok(Grant::ClientCredentials { scope: None })),
            ("grant_type=client_credentials&scope=", Ok(Grant::ClientCredentials { scope: None })),
            ("grant_type=client_credentials&scope=b+a", Ok(Grant::ClientCredentials { scope: Some("b a") })),
            ("grant_type=client_credentials&scope=a+c", Err("invalid_scope")),
            ("grant_type=client_credentials&scope=a++b", Err("invalid_scope")),
            ("grant_type=client_credentials&resource=1&resource=2", Ok(Grant::ClientCredentials { scope: None })),
            ("grant_type=client_credentials&grant_type=client_credentials", Err("invalid_request")),
            ("grant_type=refresh_token&refresh_token=r", Ok(Grant::RefreshToken { token: "r", scope: None })),
            ("grant_type=refresh_token&refresh_token=", Err("invalid_request")),
            (
                "grant_type=authorization_code&code=c&redirect_uri=r",
                Ok(Grant::AuthorizationCode { code: "c", redirect_uri: Some("r"), verifier: None }),
            ),
            ("grant_type=authorization_code", Err("invalid_request")),
            ("grant_type=password&username=u&password=p", Err("unsupported_grant_type")),
            ("grant_type=implicit", Err("unsupported_grant_type")),
            ("grant_type=", Err("invalid_request")),
            ("", Err("invalid_request")),
        ] {
            let request = form(body);
            let outcome = read(&request, &rules()).map(|request| request.grant).map_err(|error| error.code);
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
            let outcome = read(&request, &rules());
            assert_eq!(outcome.map(|_| ()).map_err(|error| error.code), Err("invalid_request"));
        }
    }

    #[test]
    fn a_requested_life_is_a_whole_number_within_the_usual() {
        let mut rules = rules();
        let outcome = |rules: &Rules, text: &str| {
            let request = form(&format!("grant_type=client_credentials&expiration_time={text}"));
            read(&request, rules).map(|request| request.lifetime.unwrap().as_secs()).ok()
        };
        assert_eq!(outcome(&rules, "60"), Some(3600), "ignored where it is not known");
        rules.quirks.expiration_time = true;
        for (text, expected) in [("60", Some(60)), ("3600", Some(3600)), ("", Some(3600)), ("3601", None)] {
            assert_eq!(outcome(&rules, text), expected, "{text}");
        }
        for text in ["0", "-1", "%2B60", "60.0", "1h"] {
            assert_eq!(outcome(&rules, text), None, "{text}");
        }
    }
}
