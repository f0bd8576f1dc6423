//! Whether a response may hold a token: in a member with a token's name, at any depth. Pure, and in linear time.

/// Whether a response, JSON or a form, has a member with a token's name and a value that may be a token.
pub(super) fn in_answer(body: &[u8]) -> bool {
    in_json(body) || !body.trim_ascii_start().starts_with(b"{") && in_bytes(body)
}

/// Looks only at strings before a colon. So no number and no depth makes it fail.
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

/// Whether a text has a member with a token's name: `{"access_token":"…"}`, `id_token=…`. Not "the refresh_token: expired".
pub(super) fn in_text(text: &str) -> bool {
    in_bytes(text.as_bytes())
}

fn in_bytes(text: &[u8]) -> bool {
    for at in 0..text.len() {
        let Some(mut after) = after_name(&text[at..]) else { continue };
        let mut is_quoted = false;
        // Quotes as they are, and escaped as in JSON, HTML and URLs. Up to a limit: a hostile text may consist of them.
        for _ in 0..MOST_QUOTES {
            let unquoted = QUOTES.iter().find_map(|quote| after.strip_prefix(*quote));
            let Some(unquoted) = unquoted else { break };
            (after, is_quoted) = (unquoted, true);
        }
        let after = &after[after.iter().take(MOST_BLANKS).take_while(|byte| byte.is_ascii_whitespace()).count()..];
        let begins = |signs: &[&[u8]]| {
            signs.iter().any(|sign| after.get(..sign.len()).is_some_and(|start| start.eq_ignore_ascii_case(sign)))
        };
        if after.starts_with(b"=") {
            if after.get(1).is_none_or(|value| *value == b'&') {
                continue;
            }
            return true;
        }
        if begins(&[b"%3d", b"&#61;", b"\\u003d"]) || is_quoted && begins(&[b":", b"%3a", b"&#58;", b"\\u003a"]) {
            return true;
        }
    }
    false
}

/// The rest of a text that begins with a token's name.
fn after_name(text: &[u8]) -> Option<&[u8]> {
    // The first two letters choose the names to compare, so that this is quick.
    let begin = text.first_chunk::<2>()?.map(|byte| byte.to_ascii_lowercase());
    let names: &[&str] = match &begin {
        b"to" => &NAMES[..1],
        b"ti" => &NAMES[1..2],
        b"se" => &NAMES[2..5],
        b"as" => &NAMES[5..6],
        b"ap" => &NAMES[6..8],
        b"jw" => &NAMES[8..9],
        b"pa" => &NAMES[9..],
        _ => return None,
    };
    let is_here =
        |name: &&&str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
    names.iter().find(is_here).map(|name| &text[name.len()..])
}

/// The end of a JSON string.
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

/// Whether a name is one of a token: `access_token`, `idToken`, `client-secret`. A name that is escaped or very long counts as well.
fn is_token_name(name: &[u8]) -> bool {
    if name.len() > LONGEST_NAME {
        return true;
    }
    let has = |words: &[&str]| {
        let is_here = |word: &&str| name.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
        words.iter().any(is_here)
    };
    let is_one = has(&NAMES) && !has(&["type", "expire", "hint", "error"]);
    is_one || name.contains(&b'\\')
}

/// Whether a value may be a token: it isn't empty.
fn may_be_token(value: &[u8]) -> bool {
    let nothing: [&[u8]; 6] = [b"null", b"false", b"true", b"\"\"", b"[]", b"{}"];
    // A string of blanks, and a zero.
    let is_blank = || value.strip_prefix(b"\"").is_some_and(|text| text.trim_ascii_start().starts_with(b"\""));
    let is_zero =
        || matches!(value, [b'0', after, ..] if matches!(after, b',' | b'}' | b']') || after.is_ascii_whitespace());
    !nothing.iter().any(|nothing| value.starts_with(nothing)) && !is_zero() && !is_blank()
}

/// Parts of names, in the order in which `after_name` needs them.
const NAMES: [&str; 10] =
    ["token", "ticket", "secret", "session_key", "sessionkey", "assertion", "apikey", "api_key", "jwt", "password"];

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
            r#"{"access_token":"0"}"#,
            r#"{"jwt":"a"}"#,
            r#"{"data":{"session_key":"a"}}"#,
            r#"{"apiKey":"a"}"#,
            r#"{"api_key":"a"}"#,
            r#"{"userPassword":"a"}"#,
            "jwt=a",
            "x=1&PASSWORD=a",
            "error=e&access_token=a",
            "ID_TOKEN=a",
            r#""{\"access_token\":\"a\"}""#,
        ] {
            assert!(in_answer(body.as_bytes()), "{body}");
        }
        let deep = format!("{}{{\"token\":\"a\"}}", "{\"a\":[".repeat(10_000));
        assert!(in_answer(deep.as_bytes()));
        // Nobody reads a name that long.
        assert!(in_answer(format!("{{\"{}token\":\"a\"}}", "x".repeat(99)).as_bytes()));
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
            r#"{"access_token":" ","refresh_token":0,"id_token": 0 }"#,
            "error=e&access_token=&id_token=",
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
