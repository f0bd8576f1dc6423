//! The refresh token in an answer that can't be read as a whole. Pure.

use secrecy::SecretString;

use super::{byte_search, members::is_some_token};

/// The last refresh token, of this name, in a text that looks like the answer of a token endpoint, and not like a page about it.
pub(super) fn salvaged(body: &[u8], name: &str) -> Option<SecretString> {
    let refresh_token = name.as_bytes();
    let begins = |text: &[u8]| body.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    if begins(b"<!doctype") || begins(b"<html") {
        return None;
    }
    if !begins(b"{") && !begins(b"[") && !BESIDE.iter().any(|name| byte_search::holds(body, name.as_bytes())) {
        return None;
    }
    let found: Vec<usize> = byte_search::places(refresh_token, body).collect();
    let mut next = body.len();
    let values = found.into_iter().rev().filter_map(|at| {
        let before = at.checked_sub(1).and_then(|at| body.get(at)).copied();
        let is_end = |byte: &u8| *byte == b'&' || byte.is_ascii_whitespace();
        // A member of a form, and not of another name or of a sentence.
        let is_form = !begins(b"{") && !begins(b"[") && before.is_none_or(|byte| is_end(&byte) || byte == b'?');
        if !is_form && before != Some(b'"') {
            return None;
        }
        // No further than to the next member of this name: so each byte is looked at once, however many there are.
        let rest = body.get(at + refresh_token.len()..next)?;
        next = at;
        if is_form && let Some(form) = rest.strip_prefix(b"=") {
            // One that isn't ended may have been cut off.
            let end = form.iter().position(is_end)?;
            let member = &body[at..at + refresh_token.len() + 1 + end];
            let (_, value) = form_urlencoded::parse(member).next()?;
            return Some(SecretString::from(value.into_owned()));
        }
        let rest = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        values.next()?.ok().map(SecretString::from)
    });
    values.take(MOST).find(is_some_token)
}

/// More than any answer has of those that are none.
const MOST: usize = 64;

/// What stands beside a refresh token in an answer.
const BESIDE: [&str; 3] = ["access_token", "token_type", "expires_in"];

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// No value goes on into the next member of its name. So a megabyte of them takes no longer than any other (`benches/answers`).
    #[test]
    fn the_last_whole_one_counts_however_many_there_are() {
        for (body, expected) in [
            ("expires_in&refresh_token=a&refresh_token=b&", Some("b")),
            ("expires_in?refresh_token=a&refresh_token=b", Some("a")),
            ("expires_in?refresh_token=a?refresh_token=b&", Some("b")),
            ("expires_in?refresh_token=(?refresh_token=)&", None),
            ("expires_in?refresh_token=?refresh_token=", None),
            (r#"{"refresh_token":"a","refresh_token":"b","x"#, Some("b")),
            (r#"{"refresh_token":"a","refresh_token":"null","x"#, Some("a")),
            (r#"{"refresh_token":"a","refresh_token":"b"#, Some("a")),
            (r#"{"refresh_token":"a refresh_token=b","x"#, Some("a refresh_token=b")),
            (r#"warning {"refresh_token" : "a","expires_in":1"#, Some("a")),
            ("the refresh_token is in expires_in", None),
            (&format!("expires_in&refresh_token=a{}&", "&refresh_token=null".repeat(63)), Some("a")),
            (&format!("expires_in&refresh_token=a{}&", "&refresh_token=null".repeat(64)), None),
        ] {
            let found = salvaged(body.as_bytes(), "refresh_token");
            assert_eq!(found.as_ref().map(|found| found.expose_secret()), expected, "{body}");
        }
    }
}
