//! Finding a text however it is written: as it is, or with any of its characters escaped as URLs, forms, JSON and HTML do, or
//! garbled by a wrong charset. Servers disagree on which characters need it, so each is compared by itself. Pure.

/// How much of `written` is a spelling of `text`, if it begins with one; the longest, if there are several.
///
/// `ends` is memory to work in, so that trying every place of a long text doesn't take it anew.
pub(crate) fn starts_with(written: &[u8], text: &str, ends: &mut Vec<usize>) -> Option<usize> {
    // Nearly all places end here.
    if !may_begin(*written.first()?, *text.as_bytes().first()?) {
        return None;
    }
    ends.clear();
    ends.push(0);
    for c in text.chars() {
        // What is known of this character replaces what was known of the one before it.
        let known = ends.len();
        for index in 0..known {
            let at = ends[index];
            spellings(&written[at..], c, |len| ends.push(at + len));
        }
        ends.drain(..known);
        ends.sort_unstable();
        ends.dedup();
        if ends.is_empty() {
            return None;
        }
    }
    ends.last().copied()
}

/// By the first byte of the text as it is.
fn may_begin(byte: u8, first: u8) -> bool {
    // What a character beyond ASCII is garbled into is beyond it as well, or a question mark.
    let garbled = !first.is_ascii() && (!byte.is_ascii() || byte == b'?');
    byte.eq_ignore_ascii_case(&first) || matches!(byte, b'%' | b'\\' | b'&' | b'+') || garbled
}

/// The lengths of all spellings of `c` that `written` begins with.
fn spellings(written: &[u8], c: char, mut found: impl FnMut(usize)) {
    let mut utf8 = [0; 4];
    let utf8 = c.encode_utf8(&mut utf8).as_bytes();
    // Whatever the case: percent-encoding and HTML write letters either way, and some servers change it.
    if written.len() >= utf8.len() && written[..utf8.len()].eq_ignore_ascii_case(utf8) {
        found(utf8.len());
    }
    match written.first() {
        Some(b'%') => percent(written, utf8, found),
        Some(b'+') if c == ' ' => found(1),
        Some(b'\\') => backslash(written, c, utf8, found),
        Some(b'&') => entity(written, c, found),
        Some(b'?') if !c.is_ascii() => found(1),
        Some(byte) if !byte.is_ascii() && !c.is_ascii() => garbled(written, utf8, found),
        _ => {}
    }
}

/// What was no UTF-8 and shows as replacement characters; or UTF-8 taken for Latin-1, each byte as a character.
fn garbled(written: &[u8], utf8: &[u8], mut found: impl FnMut(usize)) {
    let replacement = "\u{fffd}".as_bytes();
    let replaced = written.chunks_exact(replacement.len()).take(utf8.len()).take_while(|chunk| *chunk == replacement);
    (1..=replaced.count()).for_each(|count| found(count * replacement.len()));

    let mut len = 0;
    for byte in utf8 {
        let next = &written[len..written.len().min(len + 4)];
        let Some(chunk) = next.utf8_chunks().next() else { return };
        let Some(read) = chunk.valid().chars().next() else { return };
        // Windows puts characters of its own where Latin-1 has none to show.
        if !(read == char::from(*byte) || (*byte < 0xa0 && !read.is_ascii())) {
            return;
        }
        len += read.len_utf8();
    }
    found(len);
}

/// `%2F`, and `%252F` for what was encoded twice.
fn percent(written: &[u8], utf8: &[u8], mut found: impl FnMut(usize)) {
    for prefix in ["%", "%25", "%2525"] {
        found_all(hex_bytes(written, prefix.as_bytes(), utf8), &mut found);
    }
}

/// `\/`, `\n`, `\u002f` (as UTF-16), `\x2f`; with more backslashes where JSON is quoted in JSON.
fn backslash(written: &[u8], c: char, utf8: &[u8], mut found: impl FnMut(usize)) {
    found_all(hex_bytes(written, b"\\x", utf8), &mut found);
    let backslashes = leading_backslashes(written);
    if c == '\\' {
        [2, 4].into_iter().filter(|len| *len <= backslashes).for_each(found);
        return;
    }
    let after = &written[backslashes..];
    if !c.is_ascii_alphanumeric() && after.starts_with(utf8) {
        found(backslashes + utf8.len());
    }
    let letter = match c {
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => b'u',
    };
    if letter != b'u' && after.first() == Some(&letter) {
        found(backslashes + 1);
    }
    let mut rest = written;
    for unit in c.encode_utf16(&mut [0; 2]) {
        let skipped = leading_backslashes(rest);
        match rest[skipped..].strip_prefix(b"u").and_then(|after| Some((number(after.get(..4)?, 16)?, &after[4..]))) {
            Some((code, after)) if skipped > 0 && code == u32::from(*unit) => rest = after,
            // `&` may itself be escaped, as .NET does.
            _ => {
                if let Some(after) = strip_prefix_ignoring_case(written, b"\\u0026") {
                    entity_name(after, c, |len| found(6 + len));
                }
                return;
            }
        }
    }
    found(written.len() - rest.len());
}

/// Eight at most: JSON in JSON in JSON.
fn leading_backslashes(written: &[u8]) -> usize {
    written.iter().take(8).take_while(|byte| **byte == b'\\').count()
}

/// `&#47;`, `&#x2f;`, `&sol;`; `&amp;#47;` for what was encoded twice.
fn entity(written: &[u8], c: char, mut found: impl FnMut(usize)) {
    for prefix in ["&", "&amp;"] {
        if let Some(after) = strip_prefix_ignoring_case(written, prefix.as_bytes()) {
            entity_name(after, c, |len| found(prefix.len() + len));
        }
    }
}

/// What follows the `&`.
fn entity_name(written: &[u8], c: char, mut found: impl FnMut(usize)) {
    let Some(end) = written.iter().take(10).position(|byte| *byte == b';') else { return };
    let is_it = match &written[..end] {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16) == Some(u32::from(c)),
        [b'#', digits @ ..] => number(digits, 10) == Some(u32::from(c)),
        // There are two thousand names, none for a letter or a digit of ASCII: any of them may be this character's.
        name => name.len() > 1 && name.iter().all(u8::is_ascii_alphanumeric) && !c.is_ascii_alphanumeric(),
    };
    if is_it {
        found(end + 1);
    }
}

/// The length of these bytes written in hexadecimal, each behind the prefix.
fn hex_bytes(written: &[u8], prefix: &[u8], bytes: &[u8]) -> Option<usize> {
    let mut rest = written;
    for byte in bytes {
        let after = rest.strip_prefix(prefix)?;
        if number(after.get(..2)?, 16)? != u32::from(*byte) {
            return None;
        }
        rest = &after[2..];
    }
    Some(written.len() - rest.len())
}

/// Digits alone, where Rust's own parser takes a sign as well.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, radix).ok()
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn found_all(len: Option<usize>, found: &mut impl FnMut(usize)) {
    if let Some(len) = len {
        found(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_character_is_found_whole() {
        let mut ends = Vec::new();
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
            ("aüb", "a?b"),
            ("aüb", "a\u{fffd}b"),
            ("aüb", "aÃ¼b"),
            // More than one way to read it.
            ("%25", "%25"),
            ("%25", "%2525"),
            ("a&amp;b", "a&amp;b"),
            (r"\\", r"\\\\"),
            ("a+b", "a+b"),
        ] {
            let end = starts_with(format!("{written}; more").as_bytes(), text, &mut ends);
            assert_eq!(end, Some(written.len()), "{text} as {written}");
        }
    }

    #[test]
    fn what_is_another_text_is_not_found() {
        let mut ends = Vec::new();
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
            ("a\u{1f511}b", r"a\ud83db"),
            ("ü", "u"),
        ] {
            assert_eq!(starts_with(written.as_bytes(), text, &mut ends), None, "{text} as {written}");
        }
    }
}
