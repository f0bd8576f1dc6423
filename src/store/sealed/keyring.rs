//! The keys with which entries are encrypted.

use std::{error, fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// The keys of a [`Sealed`](super::Sealed) store: the newest encrypts, and the older ones still decrypt.
///
/// To change the key without losing a token; each step but the third is a rolling restart:
/// 1. Give all processes the new key as an [older](Self::older) one, so that they can read what others write.
/// 2. Make it the newest, and the old one an older one. Each renewal encrypts with the new key from now on.
/// 3. Call [`Stored::rewrap`](crate::oauth2::Stored::rewrap) for entries that nobody renews. Those of users who have logged out are among
///    them: without its key such an entry is an error, and the user can't log in again.
/// 4. Remove the old key, when no entry has its id any more. The member `key` of an entry is that id. In PostgreSQL:
///    `SELECT key FROM tower_bearer_token WHERE convert_from(data, 'UTF8')::json ->> 'key' = '2026-11'`.
///
/// ```
/// use tower_bearer::store::{Keyring, SealingKey};
///
/// # let (new, old) = ("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
/// let keyring = Keyring::new(SealingKey::from_base64("2026-12", new)?).older(SealingKey::from_base64("2026-11", old)?);
/// assert_eq!(format!("{keyring:?}"), r#"Keyring(["2026-12", "2026-11"])"#);
/// # Ok::<(), tower_bearer::store::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The newest first.
    keys: Arc<[SealingKey]>,
}

/// A key of 256 bits with an id, which is stored beside what it encrypts. [`Keyring`] has an example.
#[derive(Clone)]
pub struct SealingKey {
    id: Arc<str>,
    bytes: Zeroizing<[u8; LENGTH]>,
}

/// Why this is no [`SealingKey`]. The text says what is wrong, and shows nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKey(&'static str);

impl Keyring {
    /// A keyring with one key, which encrypts and decrypts. [`Keyring`] has an example.
    #[must_use]
    pub fn new(newest: SealingKey) -> Self {
        Self { keys: Arc::new([newest]) }
    }

    /// Adds a key that only decrypts. Two keys may have the same id: then both are tried. [`Keyring`] has an example.
    #[must_use]
    pub fn older(self, key: SealingKey) -> Self {
        Self { keys: self.keys.iter().cloned().chain([key]).collect() }
    }

    pub(super) fn newest(&self) -> &SealingKey {
        &self.keys[0]
    }

    pub(super) fn with_id<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a SealingKey> {
        self.keys.iter().filter(move |key| &*key.id == id)
    }
}

impl SealingKey {
    /// A key from its bytes, which must be random. `id` names the key, without a secret: 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`InvalidKey`] if that is no id, or if all bytes are zero.
    ///
    /// ```
    /// use tower_bearer::store::SealingKey;
    ///
    /// # let bytes = [7; 32];
    /// let key = SealingKey::from_bytes("2026-11", bytes)?;
    /// assert!(SealingKey::from_bytes("2026-11", [0; 32]).is_err());
    /// # Ok::<(), tower_bearer::store::InvalidKey>(())
    /// ```
    pub fn from_bytes(id: impl Into<String>, bytes: [u8; LENGTH]) -> Result<Self, InvalidKey> {
        let (id, bytes) = (id.into(), Zeroizing::new(bytes));
        if !is_id(&id) {
            return Err(InvalidKey("the id of a key has 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(InvalidKey("all bytes of the key are zero: it was never set"));
        }
        Ok(Self { id: id.into(), bytes })
    }

    /// A key from base64 (RFC 4648 §4): 44 characters, as `openssl rand -base64 32` prints them. White space around them doesn't matter.
    /// [`Keyring`] has an example.
    ///
    /// # Errors
    /// [`InvalidKey`] if this is no base64 of 32 bytes, and as [`from_bytes`](Self::from_bytes).
    pub fn from_base64(id: impl Into<String>, text: &str) -> Result<Self, InvalidKey> {
        let decoded = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let decoded = decoded.map_err(|_| InvalidKey("the key is no base64: `openssl rand -base64 32` makes one"))?;
        let bytes = <[u8; LENGTH]>::try_from(&decoded[..]);
        let bytes = bytes.map_err(|_| InvalidKey("the key has not 32 bytes: `openssl rand -base64 32` makes one"))?;
        Self::from_bytes(id, bytes)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.bytes
    }
}

/// Whether this can be a key's id. It is shown in errors, and may come from a database that others write to.
pub(super) fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(fits)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(SealingKey::id).collect();
        f.debug_tuple("Keyring").field(&ids).finish()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl error::Error for InvalidKey {}

const LENGTH: usize = 32;
const LONGEST_ID: usize = 64;
