//! PKCE: the code challenge of a code, and its check against the verifier (RFC 7636, S256 only).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Whether the text is the Base64url form of 32 bytes, without padding (§4.2).
pub(crate) fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|hash| hash.len() == 32)
}

/// Whether the verifier has 43 to 128 unreserved characters (§4.1), and its hash is the challenge (§4.6).
pub(crate) fn verifies(verifier: &str, challenge: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(unreserved)
        && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_the_rfc() {
        assert!(is_challenge(CHALLENGE) && verifies(VERIFIER, CHALLENGE));
        assert!(!verifies(CHALLENGE, CHALLENGE) && !verifies(VERIFIER, VERIFIER), "no plain transformation");
    }

    #[test]
    fn malformed_challenges_and_verifiers_are_rejected() {
        for text in ["", "short", &format!("{CHALLENGE}="), &CHALLENGE.replace('-', "+"), &format!("{CHALLENGE}AA")] {
            assert!(!is_challenge(text), "{text}");
        }
        for verifier in ["a".repeat(42), "a".repeat(129), format!("{} ", "a".repeat(43))] {
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
            assert!(!verifies(&verifier, &challenge), "{verifier}");
        }
    }
}
