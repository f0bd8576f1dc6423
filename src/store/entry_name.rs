//! The name of an entry in a family of stores.

use std::fmt::Write;

/// The name of the entry of a key: `PREFIX/KEY`. In the key `%`, `/` and control characters are percent-encoded. So different keys have
/// different names, and a store of a single entry can have the same one.
pub(super) fn of_key(prefix: &str, key: &str) -> String {
    let mut name = format!("{prefix}/");
    for character in key.chars() {
        if matches!(character, '%' | '/') || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(character);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_is_kept_as_it_is_but_for_what_would_be_ambiguous() {
        for (key, name) in [
            ("anna", "users/anna"),
            ("", "users/"),
            ("42@example.com", "users/42@example.com"),
            ("Jürgen 日本", "users/Jürgen 日本"),
            ("a/b", "users/a%2Fb"),
            ("a%2Fb", "users/a%252Fb"),
            ("100%", "users/100%25"),
            ("a\nb\0\x7f", "users/a%0Ab%00%7F"),
            ("\u{85}", "users/%C2%85"),
            ("..", "users/.."),
            ("{}", "users/{}"),
        ] {
            assert_eq!(of_key("users", key), name);
        }
    }

    #[test]
    fn the_prefix_is_kept_as_it_is() {
        assert_eq!(of_key("app/users 100%", "a"), "app/users 100%/a");
        assert_eq!(of_key("", "a"), "/a");
    }

    #[test]
    fn different_keys_have_different_names() {
        let parts = ["", "a", "/", "%", "%2F", "%25", "\n", "%0A", "2F", "\u{85}", "%C2%85"];
        let keys: HashSet<String> =
            parts.iter().flat_map(|one| parts.iter().map(move |two| format!("{one}{two}"))).collect();
        let names: HashSet<String> = keys.iter().map(|key| of_key("p", key)).collect();
        assert_eq!(names.len(), keys.len());
    }

    /// `/` separates the prefix from the key, so no key of one prefix looks like a key of a longer one.
    #[test]
    fn a_key_never_reaches_into_another_prefix() {
        assert_ne!(of_key("a", "b/c"), of_key("a/b", "c"));
        for key in ["b/c", "/", "a/b/c"] {
            assert_eq!(of_key("a", key).matches('/').count(), 1, "{key}");
        }
    }
}
