//! Whether a response refuses the token. Input: a line with the status and, if there is one, `grpc-status`; then a
//! `WWW-Authenticate` to a line.
#![no_main]

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{HeaderName, WWW_AUTHENTICATE},
};
use http_auth::ChallengeParser;
use libfuzzer_sys::{Corpus, fuzz_target};
use tower_bearer::fuzzing;

fuzz_target!(|data: &[u8]| -> Corpus {
    match parse(data) {
        Some((status, grpc_status, lines)) => {
            check(status, grpc_status.as_ref(), &lines);
            Corpus::Keep
        }
        None => Corpus::Reject,
    }
});

fn parse(data: &[u8]) -> Option<(StatusCode, Option<HeaderValue>, Vec<HeaderValue>)> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut head = lines.next()?.splitn(2, |byte| *byte == b' ');
    let status = StatusCode::from_bytes(head.next()?).ok()?;
    let grpc_status = head.next().map(HeaderValue::from_bytes).transpose().ok()?;
    let lines = lines.map(HeaderValue::from_bytes).collect::<Result<_, _>>().ok()?;
    Some((status, grpc_status, lines))
}

fn check(status: StatusCode, grpc_status: Option<&HeaderValue>, lines: &[HeaderValue]) {
    let refused = |lines: &mut dyn Iterator<Item = &HeaderValue>| {
        let mut headers: HeaderMap = lines.map(|line| (WWW_AUTHENTICATE, line.clone())).collect();
        if let Some(grpc_status) = grpc_status {
            headers.insert(HeaderName::from_static("grpc-status"), grpc_status.clone());
        }
        fuzzing::is_refusal(status, &headers)
    };
    let result = refused(&mut lines.iter());
    assert_eq!(result, refused(&mut lines.iter()), "asked twice");

    // Only these two are about the token, and then it is refused unless a challenge says that the scope is what is missing.
    let about_token = status == 401 || grpc_status.is_some_and(|status| status == "16");
    if !about_token {
        assert!(!result, "not about the token");
        return;
    }
    if !result {
        assert!(lines.iter().any(may_be_about_scope), "no challenge can have said that it is about the scope");
    }

    // The order of the lines doesn't matter, nor do challenges of other schemes; one about the scope decides.
    let basic = HeaderValue::from_static(r#"Basic realm="Bearer error=insufficient_scope""#);
    let scope = HeaderValue::from_static(r#"Bearer realm="r", error="insufficient_scope", scope="admin""#);
    assert_eq!(result, refused(&mut lines.iter().rev()), "in another order");
    assert_eq!(result, refused(&mut lines.iter().chain([&basic])), "with one more challenge");
    assert!(!refused(&mut lines.iter().chain([&scope])), "with one about the scope");
    assert!(!refused(&mut [&scope].into_iter().chain(lines)), "with one about the scope before it");

    // RFC 9110 §5.3: lines of the same name mean what they mean in one line with commas, provided that they are well-formed.
    let well_formed: Vec<_> = lines.iter().filter_map(well_formed).collect();
    let joined = HeaderValue::from_str(&well_formed.join(", ")).expect("lines that were header values");
    let apart: Vec<_> = well_formed.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
    assert_eq!(refused(&mut apart.iter()), refused(&mut [&joined].into_iter()), "in one line: {joined:?}");
}

/// The line, if all of it is challenges.
fn well_formed(line: &HeaderValue) -> Option<&str> {
    let line = line.to_str().ok()?;
    let mut challenges = ChallengeParser::new(line).peekable();
    challenges.peek()?;
    challenges.all(|challenge| challenge.is_ok()).then_some(line)
}

/// Whether the words are in it that a challenge about the scope has to have; letters may be escaped with a backslash.
fn may_be_about_scope(line: &HeaderValue) -> bool {
    let line = line.as_bytes();
    let contains = |text: &[u8], word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let unescaped: Vec<_> = line.iter().copied().filter(|byte| *byte != b'\\').collect();
    contains(line, b"bearer") && contains(line, b"error") && contains(&unescaped, b"insufficient_scope")
}
