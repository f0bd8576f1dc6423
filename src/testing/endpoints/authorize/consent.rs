//! Reads an authorization request (RFC 6749 §4.1.1), and makes the URL of the redirect that answers it (§4.1.2).

use super::redirect_target;
use crate::testing::{
    issued::{code_challenge, codes::Authorization, tokens::Subject},
    rules::Rules,
};

/// A valid request: the user decides.
pub(crate) struct Consent {
    pub(crate) authorization: Authorization,
    redirect_uri: String,
    state: Option<String>,
}

/// An invalid request: nobody asks the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A page says why. There is no client that the browser may safely return to (§4.1.2.1).
    Page(&'static str),
    /// A redirect tells the client. This is its URL.
    Redirect(String),
}

/// Reads the query of the authorization request.
pub(crate) fn read(query: &str, rules: &Rules) -> Result<Consent, Stop> {
    let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let value = |name: &str| {
        let mut values = parameters.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let first = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() { Err(Stop::Page("A parameter comes more than once.")) } else { Ok(first) }
    };
    let client = value("client_id")?.and_then(|id| rules.clients.get(id));
    let (client, confidential) = client.ok_or(Stop::Page("The client is unknown."))?;
    let given_redirect_uri = value("redirect_uri")?;
    let redirect_uri = find_redirect_uri(given_redirect_uri, &rules.redirect_uris)
        .ok_or(Stop::Page("The redirect_uri is missing or not registered."))?;
    let state = value("state")?;
    let stop = |code, description| Err(Stop::Redirect(error(redirect_uri, rules, state, code, description)));

    let known = |name: &str| match name {
        "response_type" | "client_id" | "redirect_uri" | "state" => true,
        "scope" => rules.quirks.scope_parameter,
        "code_challenge" | "code_challenge_method" => rules.pkce,
        _ => false,
    };
    if rules.reject_unknown && !parameters.iter().all(|(name, _)| known(name)) {
        return stop("invalid_request", "an unknown parameter");
    }
    match value("response_type")? {
        Some("code") => {}
        Some(_) => return stop("unsupported_response_type", "only code"),
        None => return stop("invalid_request", "no response_type"),
    }
    let scope = value("scope")?.filter(|_| rules.quirks.reads_scope());
    if scope.map_or(rules.quirks.scope_required, |scope| !rules.allow_scope(scope)) {
        return stop("invalid_scope", "unknown, malformed or missing scope");
    }
    let challenge = value("code_challenge")?.filter(|_| rules.pkce);
    match (challenge, value("code_challenge_method")?) {
        (Some(challenge), Some("S256")) if code_challenge::is_challenge(challenge) => {}
        (Some(_), Some("S256")) => return stop("invalid_request", "malformed code_challenge"),
        // RFC 7636 §4.3: without a method it is `plain`, and whoever sees the request knows the verifier then.
        (Some(_), _) => return stop("invalid_request", "transform algorithm not supported"),
        // RFC 9700 §2.1.1: public clients must use PKCE.
        (None, _) if rules.require_pkce || (rules.pkce && !confidential) => {
            return stop("invalid_request", "code challenge required");
        }
        (None, _) => {}
    }
    let authorization = Authorization {
        subject: Subject { client, scope: scope.map(Into::into), ..Subject::default() },
        redirect_uri: given_redirect_uri.map(str::to_owned),
        challenge: challenge.map(str::to_owned),
        expires: None,
    };
    Ok(Consent { authorization, redirect_uri: redirect_uri.to_owned(), state: state.map(str::to_owned) })
}

impl Consent {
    /// The URL of the redirect that brings the client its code.
    pub(crate) fn allowed(&self, code: &str, rules: &Rules) -> String {
        answer(&self.redirect_uri, rules, self.state.as_deref(), &[("code", code)])
    }

    /// The URL of the redirect that says the user denied the request.
    pub(crate) fn denied(&self, rules: &Rules) -> String {
        error(&self.redirect_uri, rules, self.state.as_deref(), "access_denied", "The user denied the request")
    }

    pub(crate) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }
}

/// Redirect URIs are compared as strings (RFC 9700 §2.1). If only one is registered, it may be left out.
fn find_redirect_uri<'a>(given: Option<&'a str>, registered: &'a [String]) -> Option<&'a str> {
    match (given, registered) {
        (Some(uri), []) => redirect_target::is_loopback(uri).then_some(uri),
        (Some(uri), _) => registered.iter().any(|known| known == uri).then_some(uri),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// The URL of a redirect with an error (RFC 6749 §4.1.2.1).
fn error(uri: &str, rules: &Rules, state: Option<&str>, code: &str, description: &str) -> String {
    answer(uri, rules, state, &[("error", code), ("error_description", description)])
}

/// The URL of a redirect with these parameters.
fn answer(uri: &str, rules: &Rules, state: Option<&str>, parameters: &[(&str, &str)]) -> String {
    let mut parameters = parameters.to_vec();
    parameters.extend(state.map(|state| ("state", state)));
    // RFC 9207 §2: errors carry it too.
    parameters.extend(rules.announce_issuer.then_some(("iss", rules.issuer.as_str())));
    redirect_target::with(uri, &parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "http://127.0.0.1:1/cb";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn rules() -> Rules {
        let mut rules = Rules { scopes: Some(vec!["a".to_owned()]), ..Rules::default() };
        rules.clients.set("c".to_owned(), "hidden".to_owned());
        rules.clients.set("public".to_owned(), String::new());
        rules
    }

    /// The error's code, `page`, or `ok`.
    fn outcome(query: &str, rules: &Rules) -> String {
        match read(query, rules) {
            Ok(_) => "ok".to_owned(),
            Err(Stop::Page(_)) => "page".to_owned(),
            Err(Stop::Redirect(url)) => {
                let (start, query) = url.split_once('?').unwrap();
                assert_eq!(start, LOOPBACK);
                form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "error").unwrap().1.into_owned()
            }
        }
    }

    #[test]
    fn errors_go_to_the_client_or_onto_a_page() {
        for (parameters, expected) in [
            ("response_type=code&client_id=c", "ok"),
            ("response_type=code&client_id=c&scope=a&state=1&nonce=2", "ok"),
            ("response_type=code&client_id=c&scope=", "ok"),
            ("response_type=code&client_id=c&scope=b", "invalid_scope"),
            ("response_type=token&client_id=c", "unsupported_response_type"),
            ("client_id=c", "invalid_request"),
            ("response_type=code&client_id=c&client_id=c", "page"),
            ("response_type=code&client_id=d", "page"),
            ("response_type=code", "page"),
            ("response_type=code&client_id=public", "invalid_request"),
        ] {
            assert_eq!(outcome(&format!("{parameters}&redirect_uri={LOOPBACK}"), &rules()), expected, "{parameters}");
        }
        let s256 = format!("client_id=public&code_challenge={CHALLENGE}&code_challenge_method=S256");
        for (parameters, expected) in [
            (s256.as_str(), "ok"),
            ("client_id=c&code_challenge=short&code_challenge_method=S256", "invalid_request"),
            (&s256.replace("S256", "plain"), "invalid_request"),
            (&s256.replace("&code_challenge_method=S256", ""), "invalid_request"),
        ] {
            let query = format!("response_type=code&redirect_uri={LOOPBACK}&{parameters}");
            assert_eq!(outcome(&query, &rules()), expected, "{parameters}");
        }
    }

    #[test]
    fn unknown_parameters_may_be_refused_and_pkce_unknown() {
        let query = format!("response_type=code&client_id=c&redirect_uri={LOOPBACK}");
        let pkce = format!("{query}&code_challenge={CHALLENGE}&code_challenge_method=S256");
        let mut rules = Rules { reject_unknown: true, ..rules() };
        assert_eq!(outcome(&query, &rules), "ok");
        assert_eq!(outcome(&format!("{query}&nonce=1"), &rules), "invalid_request");
        assert_eq!(outcome(&pkce, &rules), "ok");
        rules.pkce = false;
        assert_eq!(outcome(&pkce, &rules), "invalid_request");
        rules = Rules { require_pkce: true, pkce: true, ..rules };
        assert_eq!(outcome(&query, &rules), "invalid_request");
    }

    #[test]
    fn redirect_uris_are_compared_as_strings() {
        let known = ["https://a/cb".to_owned(), "https://b/cb".to_owned()];
        for (asked, registered, expected) in [
            (Some(LOOPBACK), &known[..0], Some(LOOPBACK)),
            (Some("https://a/cb"), &known[..0], None),
            (None, &known[..0], None),
            (Some("https://a/cb"), &known[..], Some("https://a/cb")),
            (Some("https://a/cb/"), &known[..], None),
            (Some("https://a/cb?x"), &known[..], None),
            (Some(LOOPBACK), &known[..], None),
            (None, &known[..], None),
            (None, &known[..1], Some("https://a/cb")),
        ] {
            assert_eq!(find_redirect_uri(asked, registered), expected, "{asked:?}");
        }
    }

    #[test]
    fn answers_carry_state_and_issuer() {
        let rules = Rules { announce_issuer: true, issuer: "http://i".to_owned(), ..rules() };
        let query = format!("response_type=code&client_id=c&state=s+%26&redirect_uri={LOOPBACK}");
        let consent = read(&query, &rules).ok().unwrap();
        assert_eq!(consent.allowed("x", &rules), format!("{LOOPBACK}?code=x&state=s+%26&iss=http%3A%2F%2Fi"));
        let denied = "error=access_denied&error_description=The+user+denied+the+request&state=s+%26&iss=http%3A%2F%2Fi";
        assert_eq!(consent.denied(&rules), format!("{LOOPBACK}?{denied}"));
    }
}
