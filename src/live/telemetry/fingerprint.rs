//! A short mark of a token, for logs.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use crate::AccessToken;

/// Tells tokens apart within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u32);

impl Fingerprint {
    pub(crate) fn of(token: &AccessToken) -> Self {
        // SipHash with a key of 128 bits that never leaves the process. Without the key nobody can test a guess.
        static SALT: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        #[allow(clippy::cast_possible_truncation, reason = "shortened on purpose")]
        Self(SALT.hash_one(token.expose_secret()) as u32)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_token_only_and_shows_none_of_it() {
        let fingerprint = |secret: &str| Fingerprint::of(&AccessToken::new(secret).unwrap()).to_string();
        assert_eq!(fingerprint("a-token"), fingerprint("a-token"));
        assert_ne!(fingerprint("a-token"), fingerprint("b-token"));
        assert_eq!(fingerprint("a-token").len(), 8);
        // Salted: what a plain hash with a known key would give is not what is shown.
        let unsalted = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
        assert_ne!(fingerprint("a-token"), format!("{:08x}", unsalted.hash_one("a-token") as u32));
    }
}
