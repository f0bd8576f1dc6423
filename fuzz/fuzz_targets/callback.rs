//! What the browser brings back. Input: a line with the pending state, a line with the issuer that is expected (empty: none),
//! and the rest is the callback.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;
use tower_bearer::{
    fuzzing,
    oauth2::{AuthorizationErrorKind, PendingAuthorization},
};
use url::Url;

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut parts = data.splitn(3, |byte| *byte == b'\n').map(str::from_utf8);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(state)), Some(Ok(issuer)), Some(Ok(callback))) if !state.is_empty() => {
            check(state, Some(issuer).filter(|issuer| !issuer.is_empty()), callback);
            Corpus::Keep
        }
        _ => Corpus::Reject,
    }
});

fn check(state: &str, issuer: Option<&str>, callback: &str) {
    let login = json!({ "token_endpoint": "https://id.test/token", "redirect_uri": REDIRECT_URI, "issuer": issuer });
    let url = "https://id.test/";
    let pending = json!({ "v": 2, "url": url, "state": state, "verifier": null, "login": login, "expires_at": 600 });
    let pending: PendingAuthorization = serde_json::from_value(pending).expect("what is serialized looks so");
    let outcome = fuzzing::callback_code(callback, &pending);

    // Read once more, by other code than the crate's.
    let text = callback.trim();
    let text = text.split_once('#').map_or(text, |(text, _)| text);
    let first = text.chars().find(|c| "=&?/:".contains(*c));
    let is_alone = matches!(first, None | Some('=' | '&'));
    let is_readable = is_alone || first == Some(':') || text.starts_with(['?', '/']);
    let (address, query) = match text.split_once('?') {
        Some((address, query)) if !is_alone => (address, query),
        _ if is_alone => ("", text),
        _ => (text, ""),
    };
    let pairs: Vec<(String, String)> = query.split('&').map(pair).collect();
    let all = |name: &str| pairs.iter().filter(|pair| pair.0 == name).map(|pair| pair.1.as_str()).collect::<Vec<_>>();
    let [code, states, issuers, errors, descriptions, reasons] =
        ["code", "state", "iss", "error", "error_description", "error_reason"].map(all);

    match outcome {
        Ok(found) => {
            assert!(is_readable && !callback.trim().contains(char::is_control), "it can't be told what it is");
            assert!(is_at_redirect_uri(address), "it came to another address");
            // As browsers read it, whatever the crate takes it for.
            if let Ok(url) = Url::parse(callback) {
                assert_eq!(url.origin().ascii_serialization(), "https://app.test");
                assert_eq!(decoded(url.path()), "/cb");
            }
            assert_eq!(states, [state], "the state is another one");
            // RFC 6749 §3.1: a parameter without a value counts as omitted.
            assert!(errors.iter().all(|error| error.is_empty()), "there is an error in it");
            assert_eq!(code, [found.as_str()], "the code is another one");
            assert!(!found.is_empty());
            if let Some(issuer) = issuer {
                assert_eq!(issuers, [issuer], "the issuer is another one");
            }
        }
        Err(error) => {
            use AuthorizationErrorKind::{
                Denied, Expired, InteractionRequired, Malformed, Refused, StateMismatch, TryAgain, WrongIssuer,
            };
            let (kind, text) = (error.kind(), error.to_string());
            let twice =
                [&code, &states, &issuers, &errors, &descriptions, &reasons].iter().any(|values| values.len() > 1);
            let is_state = states == [state];
            let is_issuer = issuer.is_none_or(|issuer| issuers == [issuer]);
            let says_error = errors.iter().any(|error| !error.is_empty());
            let expected: &[_] = match () {
                () if callback.len() > 32 * 1024 || !is_readable => &[Malformed],
                () if callback.trim().contains(char::is_control) || twice => &[Malformed],
                () if !is_state || !is_at_redirect_uri(address) => &[StateMismatch],
                () if !is_issuer => &[WrongIssuer],
                () if says_error => &[Denied, InteractionRequired, Refused, TryAgain],
                () if code.iter().all(|code| code.is_empty()) => &[Malformed],
                // There was nothing wrong with it.
                () => &[],
            };
            assert!(expected.contains(&kind), "{kind:?} instead of {expected:?}");
            assert_ne!(kind, Expired);
            let is_from_server = expected.contains(&Denied);
            if errors.iter().any(|error| error.eq_ignore_ascii_case("access_denied")) {
                assert_eq!(kind == Denied, is_from_server);
            }

            // Short, on one line, and with nothing of a callback that isn't ours.
            assert!(!text.contains(is_line_breaking), "more than one line");
            let description = error.description().unwrap_or_default();
            assert!(description.chars().count() <= 256 && text.chars().count() <= 512, "long");
            if kind == StateMismatch {
                let elsewhere = url::form_urlencoded::Serializer::for_suffix(String::from("/?"), 2)
                    .append_pair("state", state)
                    .finish();
                let others = ["", &elsewhere].map(|callback| fuzzing::callback_code(callback, &pending));
                let others = others.map(|other| other.expect_err("it isn't ours").to_string());
                assert!(others.contains(&text), "something is shown of a callback that isn't ours");
            }
            assert!(error.code().is_none_or(|code| is_from_server && code.chars().count() <= 64 && !code.is_empty()));
            if !is_from_server {
                assert_eq!(error.description(), None);
            }
        }
    }
}

/// Whether nothing but spelling tells it from the redirect URI. A query alone has no address.
fn is_at_redirect_uri(address: &str) -> bool {
    let base = Url::parse(REDIRECT_URI).expect("it is one");
    // With its end marked, beyond which there is nothing to pass over.
    let url = match address {
        "" => return true,
        path if path.starts_with('/') => base.join(&format!("{path}?")),
        url => Url::parse(&format!("{url}?")),
    };
    url.is_ok_and(|url| url.origin() == base.origin() && unescaped(url.path()) == "/cb")
}

/// Percent-encoding decoded of what needs none, which is all that "/cb" is made of.
fn unescaped(path: &str) -> String {
    ["c", "b"].iter().fold(path.to_owned(), |path, letter| {
        let code = format!("%{:x}", letter.as_bytes()[0]);
        path.replace(&code, letter)
    })
}

/// `name=value` of a form (WHATWG URL §5.1).
fn pair(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(name), decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, beyond @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => ((high * 16 + low) as u8, beyond),
                _ => (b'%', after),
            },
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Control characters, and what Unicode ends lines and paragraphs with.
fn is_line_breaking(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

const REDIRECT_URI: &str = "https://app.test/cb";
