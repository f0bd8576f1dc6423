//! A token endpoint's answer. Input: a line `STATUS GRANT [RETRY-AFTER]`, and the rest is the body.
#![no_main]

use std::{error::Error, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower_bearer::{
    AccessToken, FetchError, FetchErrorKind, fuzzing,
    oauth2::{EndpointError, TokenSet},
};

/// What was sent with the request: a server may send it back, as it is or in another shape (there are seeds with it).
const SENT: &str = r#"s3cr+t/="w&rd"#;

fuzz_target!(|data: &[u8]| -> Corpus {
    match parse(data) {
        Some(answer) => {
            answer.check();
            Corpus::Keep
        }
        None => Corpus::Reject,
    }
});

struct Answer<'a> {
    status: StatusCode,
    grant: &'static str,
    headers: HeaderMap,
    body: &'a [u8],
}

fn parse(data: &[u8]) -> Option<Answer<'_>> {
    let line = data.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = (&data[..line], &data[line + 1..]);
    let mut head = head.splitn(3, |byte| *byte == b' ');
    let status = StatusCode::from_bytes(head.next()?).ok()?;
    let grant = match head.next()? {
        b"c" => "client_credentials",
        b"r" => "refresh_token",
        b"a" => "authorization_code",
        b"p" => "password",
        _ => return None,
    };
    let retry_after = head.next().map(HeaderValue::from_bytes).transpose().ok()?;
    let headers = retry_after.map(|value| (RETRY_AFTER, value)).into_iter().collect();
    Some(Answer { status, grant, headers, body })
}

impl Answer<'_> {
    fn check(&self) {
        match self.read(self.body) {
            Ok(set) => self.check_token(&set),
            Err(error) => self.check_error(&error),
        }
    }

    fn read(&self, body: &[u8]) -> Result<TokenSet, FetchError> {
        fuzzing::token_answer(self.grant, SENT, self.status, self.headers.clone(), body)
    }

    fn check_token(&self, set: &TokenSet) {
        assert!(self.status.is_success(), "a token from an answer without success");
        let Some(secret) = set.access_token() else {
            // It may have been bought with the one before it.
            assert!(set.refresh_token().is_some(), "an answer without a token is an error");
            return;
        };
        let token = AccessToken::new(secret).expect("a token that can be sent");
        assert_eq!(token.authorization().as_bytes(), format!("Bearer {secret}").as_bytes());
        assert_ne!(set.lifetime(), Some(Duration::ZERO), "0 means unknown");

        // `Value` refuses more than is asked of an answer, such as numbers of members that don't matter.
        if let Ok(value) = serde_json::from_slice::<Value>(self.body) {
            assert_eq!(value["access_token"].as_str(), Some(secret), "not the server's token");
            // The last counts that is one, and a number is.
            let is_theirs =
                |token: &str| value["refresh_token"] == token || self.body.contains(&b'\\') || holds(self.body, token);
            assert!(set.refresh_token().is_none_or(is_theirs), "not the server's refresh token");
            assert!(
                value["error"] != "invalid_grant" && value["error"] != "invalid_client",
                "an error was taken for a token"
            );
        }
    }

    fn check_error(&self, error: &FetchError) {
        let text = everything(error);
        let cause = error.cause().downcast_ref::<EndpointError>().expect("the endpoint's error");
        assert_eq!(cause.status(), Some(self.status));
        assert!(cause.code().is_none_or(|code| code.len() <= 64), "a long code");
        assert!(!text.to_lowercase().contains(SENT), "what was sent is shown");
        assert!(!text.to_lowercase().contains(&SENT.escape_debug().to_string()), "what was sent is shown by Debug");
        if self.grant == "password" && matches!(self.status.as_u16(), 400 | 401 | 403) && cause.code().is_none() {
            assert_ne!(error.kind(), FetchErrorKind::ReauthorizationRequired);
        }

        let line = error.to_string();
        assert!(!line.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "more than one line");
        match excerpt(&line) {
            Some(_) if self.status.is_success() && self.holds_a_token() => panic!("something is shown beside a token"),
            Some(excerpt) => {
                assert!(excerpt.chars().count() <= 256, "long");
                let mut runs = excerpt.split(|c: char| !c.is_ascii_alphanumeric());
                assert!(runs.all(|run| run.len() < 20), "there is something like a token in {excerpt:?}");
            }
            None => {}
        }
        if self.status.is_success() && self.holds_a_token() {
            self.check_shows_nothing(&text);
        }
    }

    /// Whether a member has the name of a token and a text in it, wherever.
    fn holds_a_token(&self) -> bool {
        fn holds(value: &Value) -> bool {
            match value {
                Value::Array(values) => values.iter().any(holds),
                Value::Object(members) => members.iter().any(|(name, value)| {
                    let is_token =
                        NAMES.contains(&name.as_str()) && value.as_str().is_some_and(|text| !text.is_empty());
                    is_token || holds(value)
                }),
                _ => false,
            }
        }
        serde_json::from_slice(self.body).is_ok_and(|value| holds(&value))
    }

    /// Beside a token nothing is shown but a short token type: there is no run of 24 bytes in the text that stands in the body, except in
    /// words of the crate's own.
    fn check_shows_nothing(&self, text: &str) {
        let common = |window: &&[u8]| self.body.windows(RUN).any(|part| part == *window);
        let mut windows = text.as_bytes().windows(RUN).filter(common).peekable();
        if windows.peek().is_none() {
            return;
        }
        let own: Vec<String> =
            OWN.iter().map(|body| numberless(&everything(&self.read(body.as_bytes()).unwrap_err()))).collect();
        for window in windows {
            let window = numberless(&String::from_utf8_lossy(window));
            assert!(own.iter().any(|text| text.contains(&window)), "{window:?} of the body is shown");
        }
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Whatever can be printed of an error.
fn everything(error: &FetchError) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        text += &format!("{error}\n{error:?}\n");
        next = error.source();
    }
    text
}

/// What is shown of the answer.
fn excerpt(text: &str) -> Option<&str> {
    let (_, said) = text.split_once(" (it says: ")?;
    // The advice behind it has no parenthesis.
    said.rsplit_once(')').map(|(said, _)| said)
}

/// With `#` for every number: positions, lengths.
fn numberless(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    for c in text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
        if c != '#' || !short.ends_with('#') {
            short.push(c);
        }
    }
    short
}

const NAMES: [&str; 5] = ["access_token", "refresh_token", "id_token", "token", "accessToken"];

const RUN: usize = 24;

/// Bodies that bring about every text that the crate has for an answer with success.
const OWN: [&str; 27] = [
    "",
    "{",
    "{}",
    "[]",
    r#""""#,
    r#"{"access_token":1}"#,
    r#"{"access_token":[]}"#,
    r#"{"access_token":"a","token_type":1}"#,
    r#"{"access_token":""}"#,
    r#"{"access_token":" "}"#,
    r#"{"access_token":"a","token_type":"mac"}"#,
    r#"{"access_token":"a","expires_in":"x"}"#,
    r#"{"error":"?"}"#,
    r#"{"error":"invalid_request"}"#,
    r#"{"error":"invalid_client"}"#,
    r#"{"error":"invalid_grant"}"#,
    r#"{"error":"unauthorized_client"}"#,
    r#"{"error":"unsupported_grant_type"}"#,
    r#"{"error":"invalid_scope"}"#,
    r#"{"error":"invalid_target"}"#,
    r#"{"error":"access_denied"}"#,
    r#"{"error":"temporarily_unavailable"}"#,
    r#"{"error":"server_error"}"#,
    r#"{"error":"slow_down"}"#,
    r#"{"error":"invalid_token"}"#,
    r#"{"error":"invalid_code"}"#,
    r#"{"error":"expired_token"}"#,
];
