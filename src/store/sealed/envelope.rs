//! What a sealed entry looks like: one JSON object of texts.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, KeyInit, Payload},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::keyring::{Keyring, SealingKey, is_id};
use crate::store::StoreError;

/// The members of the object. All but `data` are the associated data, or decide what that is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    /// The format.
    sealed: u32,
    /// The id of the key.
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// A hash of the account.
    #[serde(borrow)]
    account: Cow<'a, str>,
    /// Base64.
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    /// Base64.
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Head {
    sealed: Option<u32>,
}

/// What was in an entry.
pub(super) struct Opened {
    pub(super) data: Zeroizing<Vec<u8>>,
    /// It was sealed with the newest key.
    pub(super) is_newest: bool,
    /// The hash of the account with which it was sealed. `None`: it was plain.
    pub(super) account: Option<String>,
}

impl Opened {
    pub(super) fn into_data(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.data)
    }
}

/// Encrypts data.
///
/// # Errors
/// [`StoreError::unreachable`] if the system has no random numbers.
pub(super) fn seal(data: &[u8], account: &str, key: &SealingKey) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE];
    // 192 random bits: no two writes ever have the same.
    getrandom::fill(&mut nonce).map_err(|error| StoreError::unreachable(format!("no random numbers: {error}")))?;
    let payload = Payload { msg: data, aad: &associated(key.id(), account) };
    let sealed = cipher(key).encrypt(&nonce.into(), payload);
    let sealed = sealed.map_err(|_| StoreError::unusable("the data is too long to be sealed"))?;
    let envelope = Envelope {
        sealed: FORMAT,
        key: key.id().into(),
        account: account.into(),
        nonce: BASE64.encode(nonce).into(),
        data: BASE64.encode(sealed).into(),
    };
    Ok(serde_json::to_vec(&envelope).expect("texts can be written"))
}

/// Decrypts what is stored.
///
/// # Errors
/// [`StoreError::unusable`], which says what to do.
pub(super) fn open(stored: &[u8], keyring: &Keyring, accepts_plain: bool) -> Result<Opened, StoreError> {
    match serde_json::from_slice::<Head>(stored).ok().and_then(|head| head.sealed) {
        Some(FORMAT) => {}
        Some(format) if format > FORMAT => {
            return Err(StoreError::unusable(format!(
                "it was sealed by a newer version of this crate, in format {format}, and this one knows {FORMAT}: update"
            )));
        }
        Some(_) => return Err(damaged()),
        None if accepts_plain => {
            return Ok(Opened { data: Zeroizing::new(stored.to_vec()), is_newest: false, account: None });
        }
        None => {
            return Err(StoreError::unusable(
                "what is stored isn't sealed: if it was stored before `Sealed` was, call `Sealed::accept_plain` for a while; otherwise look \
                 who put it there",
            ));
        }
    }
    let envelope: Envelope<'_> = serde_json::from_slice(stored).map_err(|_| damaged())?;
    if !is_id(&envelope.key) {
        return Err(damaged());
    }
    let nonce = BASE64.decode(&*envelope.nonce).map_err(|_| damaged())?;
    let nonce = <[u8; NONCE]>::try_from(nonce).map_err(|_| damaged())?;
    let sealed = BASE64.decode(&*envelope.data).map_err(|_| damaged())?;
    let aad = associated(&envelope.key, &envelope.account);
    let mut has_key = false;
    for key in keyring.with_id(&envelope.key) {
        has_key = true;
        if let Ok(data) = cipher(key).decrypt(&nonce.into(), Payload { msg: &sealed, aad: &aad }) {
            // Not by its id, which an older key may have as well.
            let is_newest = std::ptr::eq(key, keyring.newest());
            let account = Some(envelope.account.to_string());
            return Ok(Opened { data: Zeroizing::new(data), is_newest, account });
        }
    }
    Err(StoreError::unusable(match has_key {
        true => format!(
            "what is stored can't be opened with the key `{0}`: other bytes were the key `{0}` when it was sealed, or somebody has \
             changed it since",
            envelope.key
        ),
        false => {
            format!(
                "what is stored is sealed with the key `{}`, which isn't in the keyring: add it as an older key",
                envelope.key
            )
        }
    }))
}

/// Whether this is whole: every entry is one JSON object.
pub(super) fn is_plain(data: &[u8]) -> bool {
    data.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

fn damaged() -> StoreError {
    StoreError::unusable("what is stored is sealed, and damaged: look at it, then move it away")
}

fn cipher(key: &SealingKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

/// The associated data. Each part has its length before it, so that no two lists of parts are the same bytes.
fn associated(key: &str, account: &str) -> Vec<u8> {
    let mut associated = b"tower-bearer sealed entry".to_vec();
    associated.extend(FORMAT.to_be_bytes());
    for part in [key, account] {
        associated.extend((part.len() as u64).to_be_bytes());
        associated.extend(part.as_bytes());
    }
    associated
}

const FORMAT: u32 = 1;
/// That of XChaCha20.
const NONCE: usize = 24;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::store::StoreErrorKind;

    fn key(id: &str, byte: u8) -> SealingKey {
        SealingKey::from_bytes(id, [byte; 32]).unwrap()
    }

    fn refused(stored: &[u8], keyring: &Keyring) -> String {
        let error = open(stored, keyring, false).map(|opened| opened.data).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}");
        error.to_string()
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_shows_nothing_before() {
        let keyring = Keyring::new(key("new", 2)).older(key("old", 1));
        for id in ["new", "old"] {
            let key = keyring.with_id(id).next().unwrap();
            let sealed = seal(b"refresh token", "anna", key).unwrap();
            assert!(!String::from_utf8(sealed.clone()).unwrap().contains("refresh"));
            let opened = open(&sealed, &keyring, false).unwrap();
            assert_eq!((&opened.data[..], opened.is_newest), (&b"refresh token"[..], id == "new"));
            assert_eq!(opened.account.as_deref(), Some("anna"));
        }
        let (one, other) = (seal(b"same", "", keyring.newest()).unwrap(), seal(b"same", "", keyring.newest()).unwrap());
        assert_ne!(one, other, "a nonce of its own for each");
    }

    #[test]
    fn a_key_that_is_missing_or_another_says_so() {
        let sealed = seal(b"data", "anna", &key("2026-11", 1)).unwrap();
        let missing = refused(&sealed, &Keyring::new(key("2026-12", 1)));
        assert!(missing.contains("the key `2026-11`, which isn't in the keyring"), "{missing}");
        let other = refused(&sealed, &Keyring::new(key("2026-11", 2)));
        assert!(other.contains("can't be opened with the key `2026-11`"), "{other}");
        let both = Keyring::new(key("2026-11", 2)).older(key("2026-11", 1));
        assert!(!open(&sealed, &both, false).unwrap().is_newest, "two keys of one id are both tried");
    }

    /// Every byte, and every member.
    #[test]
    fn whatever_is_changed_is_noticed() {
        let keyring = Keyring::new(key("k", 1)).older(key("j", 1));
        let sealed = seal(b"data", "anna", keyring.newest()).unwrap();
        for at in 0..sealed.len() {
            for change in [1, 2, 0x20] {
                let mut changed = sealed.clone();
                changed[at] ^= change;
                if let Ok(opened) = open(&changed, &keyring, false) {
                    panic!("{} opens as {:?}", String::from_utf8_lossy(&changed), opened.data);
                }
            }
            refused(&sealed[..at], &keyring);
        }
        for (member, value) in
            [("account", "ben"), ("key", "j"), ("nonce", ""), ("data", ""), ("key", "../\n"), ("more", "x")]
        {
            let mut changed: Value = serde_json::from_slice(&sealed).unwrap();
            changed[member] = value.into();
            let said = refused(changed.to_string().as_bytes(), &keyring);
            assert!(!said.contains("../"), "{said}");
        }
        // As a database with a JSON type would give it back.
        let reordered: Value = serde_json::from_slice(&sealed).unwrap();
        assert!(open(serde_json::to_string_pretty(&reordered).unwrap().as_bytes(), &keyring, false).is_ok());
    }

    #[test]
    fn what_is_plain_or_newer_says_what_to_do() {
        let keyring = Keyring::new(key("k", 1));
        for plain in [&b"{\"format\":2}"[..], b"", b"\xff", b"null", b"[]"] {
            assert!(refused(plain, &keyring).contains("accept_plain"));
            let opened = open(plain, &keyring, true).unwrap();
            assert_eq!((&opened.data[..], opened.is_newest, opened.account), (plain, false, None));
        }
        assert!(refused(b"{\"sealed\":2,\"whatever\":1}", &keyring).contains("newer version"));
        for damaged in [&b"{\"sealed\":0}"[..], b"{\"sealed\":1}", b"{\"sealed\":1,\"key\":\"k\"}"] {
            let error = open(damaged, &keyring, true).map(|opened| opened.data).unwrap_err();
            assert!(error.to_string().contains("damaged"), "nor is it taken for plain: {error}");
        }
    }

    #[test]
    fn ids_and_keys_that_are_none_are_refused() {
        for id in ["", "with space", "ü", "a/b", &"x".repeat(65)] {
            assert!(SealingKey::from_bytes(id, [1; 32]).is_err(), "{id:?}");
        }
        let said = SealingKey::from_base64("k", "c2VjcmV0").unwrap_err().to_string();
        assert!(said.contains("32 bytes") && !said.contains("c2Vj"), "{said}");
        assert!(SealingKey::from_base64("k", "secret!").is_err());
        let text = format!("  {}\n", base64::engine::general_purpose::STANDARD.encode([1; 32]));
        assert_eq!(SealingKey::from_base64("k", &text).unwrap().bytes(), &[1; 32]);
        let key = SealingKey::from_bytes("k", [1; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SealingKey { id: \"k\", .. }");
    }
}
