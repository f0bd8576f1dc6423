//! What an error may show of a server's response: a short text, with everything masked that was sent or that looks like a token. Pure.
//!
//! `spelling` finds a value however a server escapes it. `white_space` notes white space at the ends of credentials, which no mask shows.

use std::sync::OnceLock;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

mod spelling;
pub(crate) mod white_space;

use spelling::{Pattern, Written};
use white_space::{WhiteSpace, name_of};

/// The values that must not be shown: what was sent, in any spelling in which a server sends it back.
pub(crate) struct Masks {
    sent: Vec<Zeroizing<String>>,
    /// Those of them that are masked only where they stand alone as a word.
    words: Vec<Zeroizing<String>>,
    /// Made when something is shown first, because most answers are good.
    patterns: OnceLock<Patterns>,
    white_space: WhiteSpace,
}

struct Patterns {
    /// `true`: masked within words as well.
    sent: Vec<(Pattern, bool)>,
    /// The traces that a value leaves in base64, even as a part of a longer text.
    in_base64: Vec<Pattern>,
}

impl Masks {
    pub(crate) fn new<'a>(sent: impl Iterator<Item = &'a str>) -> Self {
        // A server may trim a value before it sends it back.
        let sent = sent.flat_map(|value| [value, value.trim_matches(|c| name_of(c).is_some())]);
        let sent = unique(sent.filter(|value| !value.is_empty()).map(|value| value.to_owned().into()).collect());
        Self { sent, words: Vec::new(), patterns: OnceLock::new(), white_space: WhiteSpace::default() }
    }

    fn patterns(&self) -> &Patterns {
        self.patterns.get_or_init(|| {
            let is_word = |value: &Zeroizing<String>| self.words.contains(value);
            let is_within = |value: &Zeroizing<String>| value.len() >= SHORTEST_WITHIN && !is_word(value);
            let in_base64 = unique(self.sent.iter().flat_map(|value| traces_in_base64(value.as_bytes())).collect());
            Patterns {
                sent: self.sent.iter().map(|value| (Pattern::new(value.as_bytes(), READ), is_within(value))).collect(),
                in_base64: in_base64.iter().map(|value| Pattern::new(value.as_bytes(), READ)).collect(),
            }
        })
    }

    /// These of the values are masked only where they stand alone: client ids that are ordinary words. With the id `client`,
    /// `invalid_client` stays.
    pub(crate) fn with_words<'a>(self, words: impl Iterator<Item = &'a str>) -> Self {
        let words = words.flat_map(|word| [word, word.trim_matches(|c| name_of(c).is_some())]);
        Self { words: words.map(|word| word.to_owned().into()).collect(), ..self }
    }

    /// Notes on white space in the values, which may be shown beside advice.
    pub(crate) fn with_white_space(self, white_space: WhiteSpace) -> Self {
        Self { white_space, ..self }
    }

    /// The advice, and notes on white space in the values that it is about.
    pub(crate) fn advise(&self, advice: &str) -> String {
        self.white_space.add_to(advice)
    }

    /// An excerpt of a text: at most 256 characters on one line, with everything masked that was sent or looks like a token.
    pub(crate) fn excerpt(&self, text: &str) -> String {
        // UTF-16 read as UTF-8 has a zero beside each ASCII character.
        let mut bytes = text.bytes().filter(|byte| *byte != 0);
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.by_ref().take(READ).collect());
        let cut = bytes.next().is_some();
        let mut line = String::new();
        for word in String::from_utf8_lossy(&self.mask(&text, cut)).split(is_invisible) {
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

    /// [`excerpt`](Self::excerpt) of bytes that may not be UTF-8.
    pub(crate) fn excerpt_of_bytes(&self, bytes: &[u8]) -> String {
        // More than an excerpt reads, so that it notices that the text goes on.
        let begin: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).take(2 * READ).collect();
        self.excerpt(&String::from_utf8_lossy(&Zeroizing::new(begin)))
    }

    /// Whether a masked value in `before: after` crosses the colon.
    pub(crate) fn cross(&self, before: &str, after: &str) -> bool {
        let text = Zeroizing::new([before.as_bytes(), b": ", after.as_bytes()].concat());
        let read = &text[..text.len().min(READ)];
        let mut hidden = vec![false; read.len()];
        self.find_sent(read, read.len() < text.len(), &mut hidden);
        // Beyond what was read there may be anything.
        hidden.get(before.len()) != Some(&false)
    }

    /// Masks a text. Everything is found first and masked then, because values may overlap.
    fn mask(&self, text: &[u8], cut: bool) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        self.find_sent(text, cut, &mut hidden);
        find_token_like(text, &mut hidden);
        let mut masked = Vec::with_capacity(text.len());
        let mut was_hidden = false;
        for (byte, is_hidden) in text.iter().zip(hidden) {
            match (was_hidden, is_hidden) {
                (_, false) => masked.push(*byte),
                (false, true) => masked.extend_from_slice(MASK),
                (true, true) => {}
            }
            was_hidden = is_hidden;
        }
        masked
    }

    fn find_sent(&self, text: &[u8], cut: bool, hidden: &mut [bool]) {
        let patterns = self.patterns();
        let written = Written::new(text, cut);
        hidden[written.len()..].fill(true);
        let mut traces = vec![false; text.len()];
        for trace in &patterns.in_base64 {
            written.find(trace, |place| traces[place].fill(true));
        }
        // The whole base64 text is masked: the characters beside the trace have some bits of the value, or of another one.
        let mut at = 0;
        for run in text.chunk_by(|a, b| is_token(a) == is_token(b)) {
            if traces[at..at + run.len()].contains(&true) {
                hidden[at..at + run.len()].fill(true);
            }
            at += run.len();
        }
        let is_in_word = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        for (value, is_within) in &patterns.sent {
            if *is_within {
                written.find(value, |place| hidden[place].fill(true));
                continue;
            }
            // Only where it stands alone as a word. Two in a row count as one.
            let mut places = Vec::new();
            written.find(value, |place| places.push(place));
            places.sort_unstable_by_key(|place| place.start);
            for run in places.chunk_by(|one, next| next.start <= one.end) {
                let end = run.iter().map(|place| place.end).max().unwrap_or_default();
                let start = run[0].start;
                let begins = !is_in_word(start.checked_sub(1)) || ends_with_escape(&text[..start]);
                if begins && !is_in_word(Some(end)) {
                    hidden[start..end].fill(true);
                }
            }
        }
    }
}

/// Whether a text ends with an escape: `%20`, `\n`, `\u0020`, `\x20`. Its last letter is no part of a word then.
fn ends_with_escape(text: &[u8]) -> bool {
    let signs: [(usize, &[u8]); 4] = [(3, b"%"), (2, b"\\"), (6, b"\\u"), (4, b"\\x")];
    signs.iter().any(|(len, sign)| text.len().checked_sub(*len).is_some_and(|at| text[at..].starts_with(sign)))
}

fn unique(mut values: Vec<Zeroizing<String>>) -> Vec<Zeroizing<String>> {
    values.sort_by(|a, b| a.as_str().cmp(b));
    values.dedup();
    values
}

/// The base64 characters that depend on the value alone, for each of its three alignments in the encoded text.
fn traces_in_base64(value: &[u8]) -> Vec<Zeroizing<String>> {
    // The beginning of a long value fills everything that is read.
    let value = &value[..value.len().min(READ)];
    let mut traces = Vec::new();
    for before in 0..3 {
        let bytes = Zeroizing::new([&[0; 2][..before], value].concat());
        let decided = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        if decided.len() >= SHORTEST_TRACE {
            for encoded in [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
                traces.push(Zeroizing::new(Zeroizing::new(encoded)[decided.clone()].to_owned()));
            }
        }
    }
    traces
}

/// Finds what looks like a token: a long run of token characters that doesn't consist of words. `unsupported_grant_type` stays.
fn find_token_like(text: &[u8], hidden: &mut [bool]) {
    let is_word = |word: &[u8]| word.len() < LONGEST_WORD && word.iter().all(u8::is_ascii_lowercase);
    let mut at = 0;
    for run in text.chunk_by(|a, b| is_token(a) == is_token(b)) {
        let looks_like_one = run.first().is_some_and(is_token)
            && run.len() >= TOKEN_LIKE
            && !run.split(|byte| b"-._".contains(byte)).all(is_word);
        if looks_like_one {
            hidden[at..at + run.len()].fill(true);
        }
        at += run.len();
    }
}

/// A character of a token (RFC 6750 §2.1), also percent-encoded, or with a backslash before a slash, as JSON may have it.
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%\\".contains(byte)
}

/// Whether a character is invisible, or changes how the text around it looks: white space, control characters, Unicode's bidirectional
/// controls, joiners, byte order marks, tags.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

const MASK: &[u8] = b"[masked]";

/// In characters. Enough for a sentence, not for a page.
const LONGEST: usize = 256;

/// How many bytes of a text are read. An explanation comes at the beginning.
const READ: usize = 1024;

/// A shorter value is masked only where it stands alone: with the client id `id`, `invalid_grant` stays.
const SHORTEST_WITHIN: usize = 6;

/// A random token of 20 characters has some 120 bits. Shorter ones are no safe secrets.
const TOKEN_LIKE: usize = 20;

/// Longer than "authorization" and "authentication".
const LONGEST_WORD: usize = 16;

/// Three bytes of a value. Fewer characters would match in ordinary words.
const SHORTEST_TRACE: usize = 4;

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn masks_what_was_sent_in_every_shape() {
        let secret = "s3cr%t+/=&\"<ü>' end";
        let pair = format!("id:{secret}");
        let masks = Masks::new([secret, pair.as_str(), "svc"].into_iter());
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let shapes = [
            secret.to_owned(),
            secret.to_uppercase().replace('Ü', "ü"),
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            percent.clone(),
            percent.to_lowercase(),
            BASE64_STANDARD.encode(&pair),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            serde_json::to_string(secret).unwrap(),
            "s3cr%t+/=&amp;&quot;&lt;ü&gt;&#39; end".to_owned(),
        ];
        for shape in shapes {
            let shown = masks.excerpt(&format!("bad secret {shape}, client svc"));
            assert!(shown.starts_with("bad secret "), "{shown}");
            for part in ["s3cr", "S3CR", " end", "svc", &BASE64_STANDARD.encode(&pair)[..8]] {
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
    fn a_short_value_does_not_cut_a_token_into_words() {
        let masks = Masks::new(["1", "J"].into_iter());
        assert_eq!(masks.excerpt("token eyJhbGciOiJSUzI1NiJ9.eyJ is bad, 1"), "token [masked] is bad, [masked]");
    }

    #[test]
    fn values_that_overlap_leave_nothing_of_each_other() {
        let masks = Masks::new(["abcdefgh", "efghijkl", "abababab"].into_iter());
        assert_eq!(masks.excerpt("x abcdefghijkl y ababababab z"), "x [masked] y [masked] z");
        // A value that was cut off at the end of the text.
        let cut = format!("{} abcde", "x ".repeat(READ / 2 - 3));
        assert!(masks.find_sent_ends(&cut), "{cut}");
    }

    impl Masks {
        fn find_sent_ends(&self, text: &str) -> bool {
            let mut hidden = vec![false; text.len()];
            self.find_sent(text.as_bytes(), true, &mut hidden);
            hidden.ends_with(&[true; 5])
        }
    }

    #[test]
    fn a_short_value_eats_no_part_of_words() {
        let masks = Masks::new(["id", "read"].into_iter());
        assert_eq!(masks.excerpt("invalid_grant: id is no thread_id"), "invalid_grant: [masked] is no thread_id");
    }

    #[test]
    fn an_id_is_found_as_a_word_however_long_it_is() {
        let masks = Masks::new(["client", "my-client ", "secret-client"].into_iter());
        let masks = masks.with_words(["client", "my-client "].into_iter());
        assert_eq!(masks.excerpt("invalid_client: no client clientclient"), "invalid_client: no [masked] [masked]");
        assert_eq!(masks.excerpt("no my-client, no my-clients"), "no [masked], no my-clients");
        assert_eq!(masks.excerpt("xsecret-clientx"), "x[masked]x");
        for escape in ["%20", r"\n", r"\u0020", r"\x20"] {
            assert_eq!(masks.excerpt(&format!("no{escape}client")), format!("no{escape}[masked]"));
        }
    }

    #[test]
    fn is_one_short_line() {
        let masks = Masks::new(std::iter::empty());
        assert_eq!(masks.excerpt("a\r\n\tb\u{1}\u{1b}[31mc\u{202e}d"), "a b [31mc d");
        assert_eq!(masks.excerpt("w\0i\0d\0e\0"), "wide");
        let cut = format!("{}a secret", " ".repeat(READ - 5));
        assert_eq!(Masks::new(["secret"].into_iter()).excerpt(&cut), "a [masked]");
        let long = masks.excerpt(&"ä b ".repeat(500));
        assert_eq!(long.chars().count(), LONGEST);
        assert_eq!(masks.excerpt(""), "");
    }

    /// A server may trim a value before it sends it back.
    #[test]
    fn white_space_around_what_was_sent_need_not_come_back() {
        let masks = Masks::new(["s3cr3t\n", " al1ce "].into_iter());
        assert_eq!(masks.excerpt("not al1ce, or not s3cr3t!"), "not [masked], or not [masked]!");
    }
}
