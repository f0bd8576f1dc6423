//! Whether there may be a token in an answer: in a member with the name of one, wherever that is. Pure, and in linear time.

/// Whether a member at any depth of an answer, in JSON or in a form, has the name of a token and a value that may be one.
pub(super) fn in_answer(body: &[u8]) -> bool {
    in_json(body) || !body.trim_ascii_start().starts_with(b"{") && in_bytes(body)
}

/// Passes over everything but strings before a colon: no number and no depth is too much for it.
fn in_json(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(begin) = rest.iter().position(|byte| *byte == b'"') {
        let text = &rest[begin + 1..];
        let Some(end) = end_of_string(text) else { return false };
        rest = &text[end + 1..];
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b":")
            && is_token_name(&text[..end])
            && may_be_token(value.trim_ascii_start())
        {
            return true;
        }
    }
    false
}

/// A token as a member of JSON or of a form that stands in a text: `{"access_token":"…"}`, `id_token=…`. Not "the refresh_token: expired".
pub(super) fn in_text(text: &str) -> bool {
    in_bytes(text.as_bytes())
}

fn in_bytes(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| byte.eq_ignore_ascii_case(&b't')) {
        from += at + 1;
        if !text[from..].get(..4).is_some_and(|rest| rest.eq_ignore_ascii_case(b"oken")) {
            continue;
        }
        from += 4;
        let mut after = &text[from..];
        let mut is_quoted = false;
        // As they are, and as they are escaped in JSON, HTML and URLs. No more: a text may be made of them.
        for _ in 0..MOST_QUOTES {
            let unquoted = QUOTES.iter().find_map(|quote| after.strip_prefix(*quote));
            let Some(unquoted) = unquoted else { break };
            (after, is_quoted) = (unquoted, true);
        }
        let after = &after[after.iter().take(MOST_BLANKS).take_while(|byte| byte.is_ascii_whitespace()).count()..];
        let begins = |signs: &[&[u8]]| {
            signs.iter().any(|sign| after.get(..sign.len()).is_some_and(|start| start.eq_ignore_ascii_case(sign)))
        };
        if begins(&[b"=", b"%3d", b"&#61;", b"\\u003d"]) || is_quoted && begins(&[b":", b"%3a", b"&#58;", b"\\u003a"]) {
            return true;
        }
    }
    false
}

/// Where the string that begins here ends.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

/// `access_token`, `idToken`, `client-secret`; and what is written so that it can't be read here.
fn is_token_name(name: &[u8]) -> bool {
    if name.len() > LONGEST_NAME {
        return false;
    }
    let has = |words: &[&str]| {
        let is_here = |word: &&str| name.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
        words.iter().any(is_here)
    };
    let is_one = has(&["token", "secret", "assertion", "ticket"]) && !has(&["type", "expire", "hint", "error"]);
    is_one || name.contains(&b'\\')
}

/// Nothing is in the place of a token that isn't there.
fn may_be_token(value: &[u8]) -> bool {
    let nothing: [&[u8]; 6] = [b"null", b"false", b"true", b"\"\"", b"[]", b"{}"];
    !nothing.iter().any(|nothing| value.starts_with(nothing))
}

const QUOTES: [&[u8]; 7] = [b"\"", b"'", b"\\u0022", b"\\", b"%22", b"&quot;", b"&#34;"];

const MOST_QUOTES: usize = 16;

const MOST_BLANKS: usize = 16;

const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_seen_wherever_it_stands() {
        for body in [
            r#"{"access_token":"a"}"#,
            r#"{"error":"e","id_token" : "a"}"#,
            r#"{"data":{"accessToken":"a"}}"#,
            r#"{"data":[[{"refresh-token":7}]]}"#,
            r#"{"a":"\\\"","token":"a"}"#,
            r#"{"\u0061ccess_token":"a"}"#,
            r#"{"a":1e999,"client_secret":"a"}"#,
            r#"{"access_token":{"value":"a"}}"#,
            r#"{"token":"a"#,
            "error=e&access_token=a",
            "ID_TOKEN=a",
            r#""{\"access_token\":\"a\"}""#,
        ] {
            assert!(in_answer(body.as_bytes()), "{body}");
        }
        let deep = format!("{}{{\"token\":\"a\"}}", "{\"a\":[".repeat(10_000));
        assert!(in_answer(deep.as_bytes()));
    }

    #[test]
    fn words_about_tokens_are_none() {
        for body in [
            "",
            "{}",
            r#"{"error":"invalid_token","error_description":"The access_token: it is bad"}"#,
            r#"{"access_token":null,"refresh_token":"","id_token":{}}"#,
            r#"{"token_type":"bearer","refresh_token_expires_in":5,"error_token":"x"}"#,
            r#"["access_token","a"]"#,
            r#"{"a":"token"}"#,
        ] {
            assert!(!in_answer(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_token_within_a_text_is_seen_however_it_is_quoted() {
        for text in [
            r#"got {"access_token":"a"}"#,
            r#"got {\"access_token\" : \"a\"}"#,
            "{'idToken':'a'}",
            "see ?access_token=a",
            "see ?access_token%3Da",
            "{&quot;access_token&quot;:&quot;a&quot;}",
            "%22access_token%22%3A%22a%22",
            r#"{\u0022access_token\u0022:\u0022a\u0022}"#,
        ] {
            assert!(in_text(text), "{text}");
        }
        for text in
            ["invalid refresh_token: it has expired", "no token", "token", "the \"access_token\" is missing", "token'"]
        {
            assert!(!in_text(text), "{text}");
        }
    }
}
