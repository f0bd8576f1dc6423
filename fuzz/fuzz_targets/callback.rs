//! What the browser brings back. Input: a line with the pending state, a line with the issuer that is expected (empty: none),
//! and the rest is the callback.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;
use tower_bearer::{
    fuzzing,
    oauth2::{AuthorizationErrorKind, PendingAuthorization},
};

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
    let pending = json!({ "v": 1, "url": "https://id.test/", "state": state, "verifier": null, "expires_at": 600 });
    let pending: PendingAuthorization = serde_json::from_value(pending).expect("what is serialized looks so");
    let outcome = fuzzing::callback_code(callback, &pending, issuer);

    // Read once more, by other code than the crate's.
    let query = callback.split_once('?').map_or(callback, |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let pairs: Vec<(String, String)> = query.split('&').map(pair).collect();
    let all = |name: &str| pairs.iter().filter(|pair| pair.0 == name).map(|pair| pair.1.as_str()).collect::<Vec<_>>();
    let [code, states, issuers, errors, descriptions] = ["code", "state", "iss", "error", "error_description"].map(all);

    match outcome {
        Ok(found) => {
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
            use AuthorizationErrorKind::{Denied, Expired, Malformed, Refused, StateMismatch, TryAgain, WrongIssuer};
            let (kind, text) = (error.kind(), error.to_string());
            let twice = [&code, &states, &issuers, &errors, &descriptions].iter().any(|values| values.len() > 1);
            let is_state = states == [state];
            let is_issuer = issuer.is_none_or(|issuer| issuers == [issuer]);
            let says_error = errors.iter().any(|error| !error.is_empty());
            let expected: &[_] = match () {
                () if callback.len() > 64 * 1024 || twice => &[Malformed],
                () if !is_state => &[StateMismatch],
                () if !is_issuer => &[WrongIssuer],
                () if says_error => &[Denied, Refused, TryAgain],
                () if code.iter().all(|code| code.is_empty()) => &[Malformed],
                // There was nothing wrong with it.
                () => &[],
            };
            assert!(expected.contains(&kind), "{kind:?} instead of {expected:?}");
            assert_ne!(kind, Expired);
            assert_eq!(kind == Denied, says_error && expected.contains(&Denied) && errors == ["access_denied"]);

            // Short, on one line, and with nothing of a callback that isn't ours.
            assert!(!text.contains(is_line_breaking), "more than one line");
            let description = error.description().unwrap_or_default();
            assert!(description.chars().count() <= 256 && text.chars().count() <= 512, "long");
            if kind == StateMismatch {
                let other = fuzzing::callback_code("", &pending, issuer).expect_err("there is no state in it");
                assert_eq!(text, other.to_string(), "something is shown of a callback that isn't ours");
            }
            if ![Denied, Refused, TryAgain].contains(&kind) {
                assert_eq!(error.description(), None);
            }
        }
    }
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
