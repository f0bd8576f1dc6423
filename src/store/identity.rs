//! Whose tokens are kept.

use std::fmt;

use sha2::{Digest, Sha256};

/// What tells one grant's tokens from another's where both are kept in one store: the token endpoint, the client, the user, the
/// scope, the resource. A store hands tokens only to the identity that stored them.
///
/// Only a hash is stored. Secrets don't belong into it: with a new client secret the tokens are the same.
///
/// ```
/// use tower_bearer::{oauth2::TokenEndpoint, store::Identity};
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let reader = Identity::of("jwt-bearer").with(&endpoint.identity()).with("read");
/// let writer = Identity::of("jwt-bearer").with(&endpoint.identity()).with("write");
/// assert_ne!(reader, writer);
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(String);

impl Identity {
    /// Begins with a name for the kind of grant.
    pub fn of(kind: &str) -> Self {
        Self(hex(Sha256::digest(kind)))
    }

    /// One more thing that makes a difference. Their order matters.
    #[must_use]
    pub fn with(self, part: impl AsRef<[u8]>) -> Self {
        let mut hash = Sha256::new();
        // Of fixed length: whatever the parts are, no two lists of them are the same bytes.
        hash.update(self.0);
        hash.update(part);
        Self(hex(hash.finalize()))
    }

    /// As a part of keys and file names: hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Half of a SHA-256 is enough to tell them apart, and keys stay short.
        &self.0[..32]
    }
}

impl AsRef<[u8]> for Identity {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.as_str()).finish()
    }
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
        text
    })
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Identity::of("a").with("bc"), Identity::of("a").with("b").with("c"));
        assert_ne!(Identity::of("ab"), Identity::of("a").with("b"));
        assert_eq!(Identity::of("a").with("b"), Identity::of("a").with("b"));
        assert_eq!(Identity::of("a").as_str().len(), 32);
    }
}
