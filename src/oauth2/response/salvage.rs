//! Finds the refresh token in a response that can't be parsed. Pure.

use secrecy::SecretString;

use super::{byte_search, members::can_be_token};

/// The last refresh token in a text that looks like a token endpoint's response, and not like a page about one. `name`: the server's name for
/// this member.
pub(super) fn salvage_refresh_token(body: &[u8], name: &str) -> Option<SecretString> {
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
        // The beginning of a form's member, and not the end of another name, or a word in a sentence.
        let is_form = !begins(b"{") && !begins(b"[") && before.is_none_or(|byte| is_end(&byte) || byte == b'?');
        if !is_form && before != Some(b'"') {
            return None;
        }
        // Up to the next member of this name, so that each byte is read once, however many members there are.
        let rest = body.get(at + refresh_token.len()..next)?;
        next = at;
        if is_form && let Some(form) = rest.strip_prefix(b"=") {
            // A value without an end may have been cut off.
            let end = form.iter().position(is_end)?;
            let member = &body[at..at + refresh_token.len() + 1 + end];
            let (_, value) = form_urlencoded::parse(member).next()?;
            return Some(SecretString::from(value.into_owned()));
        }
        let rest = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        values.next()?.ok().map(SecretString::from)
    });
    values.take(MOST).find(can_be_token)
}

/// More placeholders than any response has.
const MOST: usize = 64;

/// Members that come with a refresh token.
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
            let found = salvage_refresh_token(body.as_bytes(), "refresh_token");
            assert_eq!(found.as_ref().map(|found| found.expose_secret()), expected, "{body}");
        }
    }
}
