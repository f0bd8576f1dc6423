//! What of a server's answer may be shown: little, and nothing that we sent or that could be a token. Pure.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Everything that must not be seen, in the shapes in which a server may send it back.
pub(crate) struct Masks(Vec<Zeroizing<String>>);

impl Masks {
    pub(crate) fn new<'a>(sent: impl Iterator<Item = &'a str>) -> Self {
        let mut masks: Vec<Zeroizing<String>> = sent.filter(|value| !value.is_empty()).flat_map(shapes).collect();
        // The longest first: a value may be part of another.
        masks.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        masks.dedup();
        Self(masks)
    }

    /// At most 256 characters of a text, on one line, with everything masked that was sent or looks like a token.
    pub(crate) fn excerpt(&self, text: &str) -> String {
        let mut shown = self.cover(text.as_bytes());
        shown = cover_token_like(&shown);
        let mut line = String::new();
        for word in String::from_utf8_lossy(&shown).split(|c: char| c.is_whitespace() || c.is_control()) {
            if !word.is_empty() {
                line.extend((!line.is_empty()).then_some(' '));
                line.push_str(word);
            }
        }
        if line.chars().count() > LONGEST {
            line = line.chars().take(LONGEST - 1).chain(['…']).collect();
        }
        line
    }

    /// Masks what was sent, whatever the case: percent-encoding and HTML write letters either way.
    fn cover(&self, text: &[u8]) -> Vec<u8> {
        let mut covered = Vec::with_capacity(text.len());
        let mut rest = text;
        'text: while let [first, after @ ..] = rest {
            for mask in &self.0 {
                if rest.len() >= mask.len() && rest[..mask.len()].eq_ignore_ascii_case(mask.as_bytes()) {
                    covered.extend_from_slice(MASK);
                    rest = &rest[mask.len()..];
                    continue 'text;
                }
            }
            covered.push(*first);
            rest = after;
        }
        covered
    }
}

/// A value as it is, and as forms, URLs, HTTP Basic, JSON and HTML write it.
fn shapes(value: &str) -> Vec<Zeroizing<String>> {
    let json = serde_json::Value::from(value).to_string();
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    [
        value.to_owned(),
        form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20"),
        // Without the padding, so that it is found with and without.
        BASE64_STANDARD.encode(value).trim_end_matches('=').to_owned(),
        BASE64_URL_SAFE_NO_PAD.encode(value),
        json.trim_matches('"').to_owned(),
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html,
    ]
    .map(Zeroizing::new)
    .into_iter()
    .filter(|shape| !shape.is_empty())
    .collect()
}

/// Masks every run of characters that tokens are made of (RFC 6750 §2.1) if it is longer than words are, and is not several of
/// them: `unsupported_grant_type` stays.
fn cover_token_like(text: &[u8]) -> Vec<u8> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=%".contains(byte);
    let is_word = |word: &[u8]| word.len() < LONGEST_WORD && word.iter().all(u8::is_ascii_lowercase);
    let mut covered = Vec::with_capacity(text.len());
    for run in text.chunk_by(|a, b| is_token(a) == is_token(b)) {
        let looks_like_one = run.first().is_some_and(is_token)
            && run.len() >= TOKEN_LIKE
            && !run.split(|byte| b"-._".contains(byte)).all(is_word);
        covered.extend_from_slice(if looks_like_one { MASK } else { run });
    }
    covered
}

const MASK: &[u8] = b"[masked]";

/// In characters. Enough for a sentence that explains, not for a page.
const LONGEST: usize = 256;

/// Random tokens of 20 characters hold some 120 bits; shorter ones are no secrets to speak of.
const TOKEN_LIKE: usize = 20;

/// "authorization" and "authentication" are words.
const LONGEST_WORD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_what_was_sent_in_every_shape() {
        let secret = "s3cr%t+/=&\"<ü>' end";
        let pair = format!("id:{secret}");
        let masks = Masks::new([secret, pair.as_str(), "svc"].into_iter());
        let shapes = [
            secret.to_owned(),
            secret.to_uppercase().replace('Ü', "ü"),
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string().to_lowercase(),
            BASE64_STANDARD.encode(&pair),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            serde_json::to_string(secret).unwrap(),
            "s3cr%t+/=&amp;&quot;&lt;ü&gt;&#39; end".to_owned(),
        ];
        for shape in shapes {
            let shown = masks.excerpt(&format!("bad secret {shape}, client svc"));
            assert!(shown.starts_with("bad secret "), "{shown}");
            for part in ["s3cr", "S3CR", "end", "svc", &BASE64_STANDARD.encode(&pair)[..8]] {
                assert!(!shown.contains(part), "{shape} came through as {shown}");
            }
        }
    }

    #[test]
    fn masks_what_looks_like_a_token() {
        let masks = Masks::new(std::iter::empty());
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        assert_eq!(masks.excerpt(&format!("token {jwt} is bad")), "token [masked] is bad");
        let usual = "unsupported_grant_type: The authorization grant type is not supported by the server.";
        assert_eq!(masks.excerpt(usual), usual);
    }

    #[test]
    fn is_one_short_line() {
        let masks = Masks::new(std::iter::empty());
        assert_eq!(masks.excerpt("a\r\n\tb\u{0}\u{1b}[31mc"), "a b [31mc");
        let long = masks.excerpt(&"ä b ".repeat(500));
        assert_eq!(long.chars().count(), LONGEST);
        assert_eq!(masks.excerpt(""), "");
    }
}
