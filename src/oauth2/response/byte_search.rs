//! Finds a word in bytes, quickly however long they are. Pure.

/// The positions of the word, by Horspool's search: it compares the last letter first, and skips what can't match. Words are short, so
/// even a hostile text costs little.
pub(super) fn places<'a>(word: &'a [u8], text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut skip = [word.len(); 256];
    for (at, byte) in word.iter().enumerate().take(word.len().saturating_sub(1)) {
        skip[usize::from(*byte)] = word.len() - 1 - at;
    }
    let mut at = 0;
    std::iter::from_fn(move || {
        // An empty word is never found.
        let last = word.last()?;
        while let Some(window) = text.get(at..at + word.len()) {
            let end = window[word.len() - 1];
            let here = at;
            at += skip[usize::from(end)];
            if end == *last && window == word {
                return Some(here);
            }
        }
        None
    })
}

pub(super) fn holds(text: &[u8], word: &[u8]) -> bool {
    places(word, text).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found() {
        let mut rng = fastrand::Rng::with_seed(41);
        for _ in 0..20_000 {
            let mut some = |longest| (0..rng.usize(0..longest)).map(|_| rng.u8(b'a'..b'd')).collect::<Vec<u8>>();
            let (word, text) = (some(5), some(40));
            let expected: Vec<usize> = match word.len() {
                0 => Vec::new(),
                len => (0..text.len()).filter(|at| text.get(*at..at + len) == Some(&word)).collect(),
            };
            assert_eq!(places(&word, &text).collect::<Vec<_>>(), expected, "{word:?} in {text:?}");
            assert_eq!(holds(&text, &word), !expected.is_empty());
        }
    }
}
