//! Proof Key for Code Exchange (RFC 7636): only the client that began an authorization can exchange its code.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A random value for `state` or for a verifier: 32 bytes as 43 characters (RFC 7636 §4.1).
///
/// # Panics
/// If the system has no random numbers.
pub(super) fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("without random numbers no authorization is safe");
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes))
}

/// The challenge for a verifier, method S256 (RFC 7636 §4.2).
pub(super) fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn no_two_are_alike() {
        let (one, two) = (random(), random());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
    }
}
