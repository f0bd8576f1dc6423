//! What of a server's answer may be shown: little, and nothing that we sent or that could be a token. Pure.

use std::sync::OnceLock;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

mod spelling;
pub(crate) mod white_space;

use spelling::{Pattern, Written};
use white_space::{Blanks, blank};

/// Everything that must not be seen: what was sent, found however a server spells it when it sends it back.
pub(crate) struct Masks {
    sent: Vec<Zeroizing<String>>,
    /// Those that are found as words only.
    words: Vec<Zeroizing<String>>,
    /// Made when something is to be shown: most answers are good.
    patterns: OnceLock<Patterns>,
    blanks: Blanks,
}

struct Patterns {
    /// `true`: it is found within words too.
    sent: Vec<(Pattern, bool)>,
    /// What it leaves in base64, alone or among others.
    in_base64: Vec<Pattern>,
}

impl Masks {
    pub(crate) fn new<'a>(sent: impl Iterator<Item = &'a str>) -> Self {
        // A server may trim what it says back.
        let sent = sent.flat_map(|value| [value, value.trim_matches(|c| blank(c).is_some())]);
        let sent = unique(sent.filter(|value| !value.is_empty()).map(|value| value.to_owned().into()).collect());
        Self { sent, words: Vec::new(), patterns: OnceLock::new(), blanks: Blanks::default() }
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

    /// Of what was sent, these are found as words only, however long they are: words that say what they are for, such as many client ids.
    /// `invalid_client` stays with the id `client`.
    pub(crate) fn with_words<'a>(self, words: impl Iterator<Item = &'a str>) -> Self {
        let words = words.flat_map(|word| [word, word.trim_matches(|c| blank(c).is_some())]);
        Self { words: words.map(|word| word.to_owned().into()).collect(), ..self }
    }

    /// What may be said nevertheless of what was sent.
    pub(crate) fn with_blanks(self, blanks: Blanks) -> Self {
        Self { blanks, ..self }
    }

    /// This advice, and what was sent with white space at an end if the advice is about it.
    pub(crate) fn advise(&self, advice: &str) -> String {
        self.blanks.beside(advice)
    }

    /// At most 256 characters of a text, on one line, with everything masked that was sent or looks like a token.
    pub(crate) fn excerpt(&self, text: &str) -> String {
        // UTF-16 taken for UTF-8 has a zero beside every character of ASCII.
        let mut bytes = text.bytes().filter(|byte| *byte != 0);
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.by_ref().take(READ).collect());
        let cut = bytes.next().is_some();
        let mut line = String::new();
        for word in String::from_utf8_lossy(&self.cover(&text, cut)).split(is_unseen) {
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

    /// The same of bytes that may be no UTF-8.
    pub(crate) fn excerpt_of_bytes(&self, bytes: &[u8]) -> String {
        // More than is read of a text, so that it is seen that there is more.
        let begin: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).take(2 * READ).collect();
        self.excerpt(&String::from_utf8_lossy(&Zeroizing::new(begin)))
    }

    /// Whether something that is masked in `before: after` reaches over the colon.
    pub(crate) fn reach_over(&self, before: &str, after: &str) -> bool {
        let text = Zeroizing::new([before.as_bytes(), b": ", after.as_bytes()].concat());
        let read = &text[..text.len().min(READ)];
        let mut hidden = vec![false; read.len()];
        self.find_sent(read, read.len() < text.len(), &mut hidden);
        // What isn't looked at may be anything.
        hidden.get(before.len()) != Some(&false)
    }

    /// Masks. First all is found, then all is masked: a value that was sent may be part of a token, or of another value.
    fn cover(&self, text: &[u8], cut: bool) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        self.find_sent(text, cut, &mut hidden);
        find_token_like(text, &mut hidden);
        let mut covered = Vec::with_capacity(text.len());
        let mut was_hidden = false;
        for (byte, is_hidden) in text.iter().zip(hidden) {
            match (was_hidden, is_hidden) {
                (_, false) => covered.push(*byte),
                (false, true) => covered.extend_from_slice(MASK),
                (true, true) => {}
            }
            was_hidden = is_hidden;
        }
        covered
    }

    fn find_sent(&self, text: &[u8], cut: bool, hidden: &mut [bool]) {
        let patterns = self.patterns();
        let written = Written::new(text, cut);
        hidden[written.len()..].fill(true);
        let mut traces = vec![false; text.len()];
        for trace in &patterns.in_base64 {
            written.find(trace, |place| traces[place].fill(true));
        }
        // All of what it is part of: the characters beside it hold some of its bits, or of another value.
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
            // It is part of words that say something else. Twice in a row it is one word.
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

/// Whether the last letter is that of an escape: `%20`, `\n`, `\u0020`, `\x20`.
fn ends_with_escape(text: &[u8]) -> bool {
    let signs: [(usize, &[u8]); 4] = [(3, b"%"), (2, b"\\"), (6, b"\\u"), (4, b"\\x")];
    signs.iter().any(|(len, sign)| text.len().checked_sub(*len).is_some_and(|at| text[at..].starts_with(sign)))
}

fn unique(mut values: Vec<Zeroizing<String>>) -> Vec<Zeroizing<String>> {
    values.sort_by(|a, b| a.as_str().cmp(b));
    values.dedup();
    values
}

/// The characters of base64 that a value alone decides, for each of the three ways in which it may lie in what was encoded.
fn traces_in_base64(value: &[u8]) -> Vec<Zeroizing<String>> {
    // Of a long one the beginning fills all that is read.
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

/// Finds every run of characters that tokens are made of if it is longer than words are, and is not several of them:
/// `unsupported_grant_type` stays.
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

/// RFC 6750 §2.1, percent-encoding, and the backslash that JSON may put before a slash.
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%\\".contains(byte)
}

/// White space, control characters, and what changes the look of the text around it (Unicode's bidirectional controls, joiners,
/// byte order marks, tags).
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

const MASK: &[u8] = b"[masked]";

/// In characters. Enough for a sentence that explains, not for a page.
const LONGEST: usize = 256;

/// How much of an answer is looked at, in bytes: what explains something begins with it.
const READ: usize = 1024;

/// A value that is shorter is found as a word only: with a client id `id`, `invalid_grant` stays.
const SHORTEST_WITHIN: usize = 6;

/// Random tokens of 20 characters hold some 120 bits; shorter ones are no secrets to speak of.
const TOKEN_LIKE: usize = 20;

/// "authorization" and "authentication" are words.
const LONGEST_WORD: usize = 16;

/// Three bytes' worth: fewer characters are found in words.
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
        // What a text ends with that goes on unseen.
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

    /// Who trims what it was sent says it back trimmed.
    #[test]
    fn white_space_around_what_was_sent_need_not_come_back() {
        let masks = Masks::new(["s3cr3t\n", " al1ce "].into_iter());
        assert_eq!(masks.excerpt("not al1ce, or not s3cr3t!"), "not [masked], or not [masked]!");
    }
}
