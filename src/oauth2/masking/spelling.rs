//! Finds a value in any spelling: as it is, escaped as in URLs, forms, JSON or HTML, or garbled by a wrong charset. In linear time,
//! because a hostile text may be made to take long. Pure.
//!
//! The text is searched several times, each time with one more layer of escapes removed. Case doesn't matter. `+` equals a space, and all
//! characters beyond ASCII equal each other.

use std::ops::Range;

use zeroize::Zeroizing;

/// The value to look for: as it is, and with its own escapes removed.
pub(crate) struct Pattern {
    readings: Vec<Zeroizing<Vec<u8>>>,
}

/// The text to search, layer by layer.
pub(crate) struct Written {
    layers: Vec<Layer>,
    /// The text was cut off, so a value at its end may be incomplete.
    cut: bool,
}

struct Layer {
    folded: Zeroizing<Vec<u8>>,
    places: Vec<Range<usize>>,
}

impl Pattern {
    /// `longest`: the maximum length of the texts to search. A longer value is cut to what can be found at the end of such a text.
    pub(crate) fn new(text: &[u8], longest: usize) -> Self {
        let longest = longest + 1;
        // The beginning of a long value is enough, if it is still long enough with all escapes removed.
        let enough = longest + LAYERS * LONGEST_ESCAPE;
        let enough_escaped = LONGEST_ESCAPE * enough;
        // One pass over a little more is cheaper than two passes.
        let begin = if text.len() <= 2 * enough_escaped { text } else { &text[..enough_escaped] };
        let mut layers = folded_layers(begin);
        if begin.len() < text.len() && layers.iter().any(|layer| layer.len() < enough) {
            layers = folded_layers(text);
        }
        let mut readings: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for mut folded in layers {
            if folded.len() > longest {
                zeroize::Zeroize::zeroize(&mut folded[longest..]);
                folded.truncate(longest);
            }
            // A short rest of a value that is mostly escapes would be found in any text.
            let is_long_enough = readings.is_empty() || folded.len() >= SHORTEST_READING;
            if is_long_enough && !folded.is_empty() && !readings.contains(&folded) {
                readings.push(folded);
            }
        }
        Self { readings }
    }
}

impl Written {
    /// `cut`: the text goes on beyond this.
    pub(crate) fn new(text: &[u8], cut: bool) -> Self {
        // An incomplete escape at the end is removed: it would hide the value around it.
        let last = text.len().saturating_sub(LONGEST_ESCAPE);
        let begun = (last..text.len()).find(|at| cut && is_unfinished(&text[*at..]));
        let text = &text[..begun.unwrap_or(text.len())];
        Self { layers: layers(text), cut }
    }

    /// How many bytes of the text are searched.
    pub(crate) fn len(&self) -> usize {
        self.layers[0].places.last().map_or(0, |place| place.end)
    }

    /// Calls `found` with every place of the value in the text, overlapping ones too, in bytes of the original text.
    pub(crate) fn find(&self, pattern: &Pattern, mut found: impl FnMut(Range<usize>)) {
        for reading in &pattern.readings {
            // No more of the value can be found than the first layer is long, and that is the longest.
            let length = reading.len().min(self.layers[0].folded.len() + 1);
            if length < reading.len() && !self.cut {
                continue;
            }
            let search = Search::new(&reading[..length]);
            for layer in &self.layers {
                search.all(&layer.folded, self.cut, |at| {
                    found(layer.places[at.start].start..layer.places[at.end - 1].end);
                });
            }
        }
    }
}

/// Whether an escape begins here that is incomplete.
fn is_unfinished(end: &[u8]) -> bool {
    match end {
        [b'%', digits @ ..] => digits.len() < 2,
        [b'\\', b'u', digits @ ..] => digits.len() < 4,
        [b'\\', b'x', digits @ ..] => digits.len() < 2,
        [b'\\'] => true,
        [b'&', name @ ..] => !name.contains(&b';'),
        _ => false,
    }
}

/// The text as it is, and with one more layer of escapes removed each time. JSON in JSON in JSON has three.
fn layers(text: &[u8]) -> Vec<Layer> {
    let mut places: Vec<Range<usize>> = (0..text.len()).map(|at| at..at + 1).collect();
    let mut layers = vec![Layer::of(text, &places)];
    let mut bytes = Zeroizing::new(text.to_vec());
    for _ in 0..LAYERS {
        let (mut plain, mut plain_places) = (Zeroizing::new(Vec::with_capacity(bytes.len())), Vec::new());
        unescape(&bytes, |byte, at| {
            plain.push(byte);
            plain_places.push(places[at.start].start..places[at.end - 1].end);
        });
        if plain.len() == bytes.len() {
            break;
        }
        layers.push(Layer::of(&plain, &plain_places));
        (bytes, places) = (plain, plain_places);
    }
    layers
}

/// The layers without the places.
fn folded_layers(text: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut layers = vec![folded(text)];
    let mut last: Option<Zeroizing<Vec<u8>>> = None;
    for _ in 0..LAYERS {
        let bytes = last.as_ref().map_or(text, |last| last);
        if !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'&')) {
            break;
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
        unescape(bytes, |byte, _| plain.push(byte));
        if plain.len() == bytes.len() {
            break;
        }
        layers.push(folded(&plain));
        last = Some(plain);
    }
    layers
}

impl Layer {
    fn of(bytes: &[u8], places: &[Range<usize>]) -> Self {
        let mut folded = Zeroizing::new(Vec::with_capacity(bytes.len()));
        let mut folded_places: Vec<Range<usize>> = Vec::with_capacity(bytes.len());
        for (byte, place) in bytes.iter().zip(places) {
            let byte = fold(*byte);
            match folded_places.last_mut() {
                Some(last) if byte == GARBLED && folded.last() == Some(&GARBLED) => last.end = place.end,
                _ => {
                    folded.push(byte);
                    folded_places.push(place.clone());
                }
            }
        }
        Self { folded, places: folded_places }
    }
}

fn folded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut folded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    for byte in bytes.iter().map(|byte| fold(*byte)) {
        if byte != GARBLED || folded.last() != Some(&GARBLED) {
            folded.push(byte);
        }
    }
    folded
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'+' => b' ',
        // A character beyond ASCII may come back as one, as several, or as question marks.
        b'?' | 0x80.. => GARBLED,
        byte => byte.to_ascii_lowercase(),
    }
}

/// Removes the outermost layer of escapes. Calls `plain` with each byte, and where it stood.
fn unescape(bytes: &[u8], mut plain: impl FnMut(u8, Range<usize>)) {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (read, len) = match byte {
            b'%' => hex(bytes, at + 1, 2).map_or((*byte, 1), |code| (ascii(code), 3)),
            b'\\' => backslash(bytes, at),
            b'&' => entity(bytes, at).unwrap_or((*byte, 1)),
            _ => (*byte, 1),
        };
        plain(read, at..at + len);
        at += len;
    }
}

/// The character of an escape with a backslash, and its length: `\/`, `\n`, `\u002f` (UTF-16), `\x2f`.
fn backslash(bytes: &[u8], at: usize) -> (u8, usize) {
    let Some(next) = bytes.get(at + 1) else { return (b'\\', 1) };
    match next {
        b'u' => hex(bytes, at + 2, 4).map_or((b'\\', 1), |code| (ascii(code), 6)),
        b'x' => hex(bytes, at + 2, 2).map_or((b'\\', 1), |code| (ascii(code), 4)),
        b'n' => (b'\n', 2),
        b'r' => (b'\r', 2),
        b't' => (b'\t', 2),
        next if next.is_ascii_alphanumeric() => (b'\\', 1),
        next => (*next, 2),
    }
}

/// The character of an HTML entity, and its length: `&#47;`, `&#x2f;`, `&sol;`.
fn entity(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = &bytes[at + 1..];
    let end = rest.iter().take(LONGEST_ENTITY).position(|byte| *byte == b';')?;
    let name: String = rest[..end].iter().map(|byte| char::from(*byte)).collect();
    let code = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        },
        None => {
            let lower = name.to_ascii_lowercase();
            let is_name = name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            match ENTITIES.iter().find(|(known, _)| *known == lower) {
                Some((_, character)) => u32::from(*character),
                // All other entities are beyond ASCII.
                None => is_name.then_some(u32::MAX)?,
            }
        }
    };
    Some((ascii(code), end + 2))
}

/// The number in so many hexadecimal digits.
fn hex(bytes: &[u8], at: usize, len: usize) -> Option<u32> {
    let digits = bytes.get(at..at + len)?;
    digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
}

/// The character, or one that stands for all beyond ASCII.
fn ascii(code: u32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The search of Knuth, Morris and Pratt, which never goes back in the text.
struct Search<'a> {
    pattern: &'a [u8],
    /// For each length of a match, how much of its end is a beginning of the pattern.
    borders: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(pattern: &'a [u8]) -> Self {
        let mut borders = vec![0; pattern.len()];
        let mut matched = 0;
        for at in 1..pattern.len() {
            matched = Self::next(pattern, &borders, matched, pattern[at]);
            borders[at] = matched;
        }
        Self { pattern, borders }
    }

    fn next(pattern: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
        while matched > 0 && (matched == pattern.len() || pattern[matched] != byte) {
            matched = borders[matched - 1];
        }
        if pattern.get(matched) == Some(&byte) { matched + 1 } else { matched }
    }

    /// `cut`: a beginning of the pattern at the end of the text counts as well.
    fn all(&self, text: &[u8], cut: bool, mut found: impl FnMut(Range<usize>)) {
        let mut matched = 0;
        for (at, byte) in text.iter().enumerate() {
            matched = Self::next(self.pattern, &self.borders, matched, *byte);
            if matched == self.pattern.len() {
                found(at + 1 - matched..at + 1);
            }
        }
        if cut && matched > 0 {
            found(text.len() - matched..text.len());
        }
    }
}

const LAYERS: usize = 3;

/// `&#1114111;` and `\ud83d`.
const LONGEST_ESCAPE: usize = 10;

/// Stands for a character beyond ASCII, and for what it is garbled into.
const GARBLED: u8 = 0x01;

const SHORTEST_READING: usize = 4;

/// `&#1114111;`
const LONGEST_ENTITY: usize = 10;

/// The HTML entities for ASCII characters.
const ENTITIES: [(&str, char); 35] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("sol", '/'),
    ("bsol", '\\'),
    ("plus", '+'),
    ("equals", '='),
    ("percnt", '%'),
    ("num", '#'),
    ("colon", ':'),
    ("semi", ';'),
    ("excl", '!'),
    ("quest", '?'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("comma", ','),
    ("period", '.'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("hat", '^'),
    ("lowbar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("dollar", '$'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn places(written: &str, text: &str, cut: bool) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        Written::new(written.as_bytes(), cut)
            .find(&Pattern::new(text.as_bytes(), 1024), |place| places.push((place.start, place.end)));
        places
    }

    #[test]
    fn every_spelling_of_a_character_is_found_whole() {
        for (text, written) in [
            ("a/b", "A/b"),
            ("a/b", "a%2fb"),
            ("a/b", "a%252Fb"),
            ("a/b", "%61%2F%62"),
            ("a b", "a+b"),
            ("a b", "a%20b"),
            ("a/b", r"a\/b"),
            ("a/b", r"a\\\/b"),
            ("a/b", r"a\u002Fb"),
            ("a/b", r"\u0061\\u002f\u0062"),
            ("a\"\\b", r#"a\"\\b"#),
            ("a\nb", r"a\nb"),
            ("aüb", r"a\xc3\xbcb"),
            ("a\u{1f511}b", r"a\ud83d\udd11b"),
            ("a<b", "a&lt;b"),
            ("a<b", "a&amp;lt;b"),
            ("a<b", r"a\u0026lt;b"),
            ("a/b", "a&#x2f;b"),
            ("a/b", "a&#047;b"),
            ("aüb", "a&uuml;b"),
            ("aüb", "a?b"),
            ("aüb", "a\u{fffd}b"),
            ("aüb", "aÃ¼b"),
            // More than one way to read it, and escapes that are its own.
            ("%25", "%25"),
            ("%25", "%2525"),
            ("a&amp;b", "a&amp;b"),
            ("abc/%25", r"abc\/%25"),
            (r"\\", r"\\\\"),
            ("a+b", "a+b"),
        ] {
            let found = places(&format!("{written}; more"), text, false);
            assert!(found.contains(&(0, written.len())), "{text} as {written}: {found:?}");
        }
    }

    #[test]
    fn what_is_another_text_is_not_found() {
        for (text, written) in [
            ("", "a"),
            ("a", ""),
            ("a/b", "a%2"),
            ("a/b", "a%2Eb"),
            ("a/b", r"a\u002"),
            ("a/b", r"a\u+02fb"),
            ("a/b", "a&#47"),
            ("ab", "a&lt;"),
            ("ab", r"a\b"),
            ("ü", "u"),
        ] {
            assert_eq!(places(written, text, false), [], "{text} as {written}");
        }
    }

    #[test]
    fn places_that_overlap_and_what_was_cut_off_are_found() {
        assert_eq!(places("ababa", "aba", false), [(0, 3), (2, 5)]);
        assert_eq!(places("x secr", "secret", false), []);
        assert_eq!(places("x secr", "secret", true), [(2, 6)]);
        assert_eq!(places("x s%65c", "secret", true), [(2, 7)]);
        for cut in ["x sec%7", "x sec%", r"x sec\u00", "x sec&#11"] {
            assert_eq!(places(cut, "secret", true), [(2, 5)], "{cut}");
        }
    }

    #[test]
    fn what_is_kept_of_a_long_text_finds_the_same_as_all_of_it() {
        let mut rng = fastrand::Rng::with_seed(31);
        let pieces = [
            "a",
            "B",
            "%41",
            "%2541",
            "\\u0061",
            "\\\\",
            "&amp;",
            "&#65;",
            "&#1114111;",
            "?",
            "é",
            "+",
            "\\",
            "%",
            "&",
        ];
        let (mut found, mut cut_off) = (0, 0);
        for round in 0..2000 {
            let kinds = 1 + rng.usize(0..3);
            let some: Vec<&str> = (0..kinds).map(|_| pieces[rng.usize(0..pieces.len())]).collect();
            let secret: String = (0..rng.usize(1..600)).map(|_| some[rng.usize(0..kinds)]).collect();
            let mut begin = rng.usize(0..=secret.len());
            while !secret.is_char_boundary(begin) {
                begin -= 1;
            }
            let before = "x ".repeat(rng.usize(0..20));
            let text: Vec<u8> = format!("{before}{}{secret}", &secret[begin..]).into_bytes();
            let longest = rng.usize(8..100);
            let (text, cut) = (&text[..text.len().min(longest)], text.len() > longest);
            let places = |pattern: &Pattern| {
                let mut hidden = vec![false; text.len()];
                Written::new(text, cut).find(pattern, |place| hidden[place].fill(true));
                hidden
            };
            let (kept, all) = (Pattern::new(secret.as_bytes(), longest), Pattern::new(secret.as_bytes(), 1 << 20));
            assert_eq!(places(&kept), places(&all), "{round}: {secret} in {}", String::from_utf8_lossy(text));
            assert!(kept.readings.iter().all(|reading| reading.len() <= longest + 1));
            found += usize::from(places(&all).contains(&true));
            cut_off += usize::from(
                kept.readings.iter().map(|r| r.len()).sum::<usize>() < all.readings.iter().map(|r| r.len()).sum(),
            );
        }
        assert!(found > 500 && cut_off > 500, "{found} found, {cut_off} kept in part");
    }
}
