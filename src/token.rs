//! The token itself: a secret, what is known of its life, and the header made of it.

use std::{borrow::Cow, error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::{Moment, Stamp, Timeline};

/// An OAuth 2.0 access token, to be sent as `Authorization: Bearer …`.
///
/// Cloning is cheap (the secret is shared), `Debug` shows everything but the secret, and the memory of the secret and of
/// every header made of it is overwritten when the last of them goes.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::AccessToken;
///
/// let token = AccessToken::new("mF_9.B5f-4.1JqM")?.expires_in(Duration::from_secs(3600));
/// assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
/// assert!(!format!("{token:?}").contains("mF_9"));
/// # Ok::<(), tower_bearer::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct AccessToken {
    secret: Arc<Zeroizing<String>>,
    lifetime: Option<Duration>,
    /// When its life was told.
    told: Option<Stamp>,
    age: Option<Duration>,
    recheck_after: Option<Duration>,
    authorization_ends_in: Option<Duration>,
    /// How long it lasted when it began, in whole seconds: in four bytes, because tokens lie in memory by the million.
    authorization_lifetime: Option<NonZeroU32>,
    scope: Option<Arc<str>>,
    /// It comes from where tokens lie that aren't new.
    settled: bool,
}

impl AccessToken {
    /// Takes the token as the server wrote it, without the word `Bearer`.
    ///
    /// # Errors
    /// [`InvalidToken`] if it is empty or holds a character that can't be part of a bearer token in a header: white space, a
    /// control character, or anything outside ASCII (RFC 6749 appendix A.12, RFC 6750 §2.1). What RFC 6750 leaves out but real
    /// servers use (`|`, `!`, `:`) is taken.
    pub fn new(secret: impl Into<String>) -> Result<Self, InvalidToken> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            return Err(InvalidToken("it is empty".into()));
        }
        // The position helps to find the culprit and, unlike the character, gives nothing away.
        if let Some(at) = secret.bytes().position(|byte| !byte.is_ascii_graphic()) {
            let why = format!("byte {at} is white space, a control character or not ASCII");
            return Err(InvalidToken(why.into()));
        }
        Ok(Self {
            secret: Arc::new(secret),
            lifetime: None,
            told: None,
            age: None,
            recheck_after: None,
            authorization_ends_in: None,
            authorization_lifetime: None,
            scope: None,
            settled: false,
        })
    }

    /// How long the token lives, counted from when the fetch that brings it began, or from this call if that was earlier (see
    /// [`AccessToken::age`] for other starts). A source that hands out the same token with the same lifetime again gives it no more life.
    ///
    /// Zero means unknown, as does a life of ten years and more: then no timer renews the token, only a 401 does.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self.told = Some(Stamp::now());
        self
    }

    /// How much of the [lifetime](AccessToken::expires_in) had passed when `fetch` returned. A source that hands over a token
    /// it got earlier (from a cache, from a store) says so with this; without it the lifetime starts when `fetch` was called.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Asks to be fetched again after this time although the token may live longer: for sources that others change, such as
    /// files. The same token fetched again keeps its generation: nothing happens to requests.
    #[must_use]
    pub fn recheck_after(mut self, period: Duration) -> Self {
        self.recheck_after = Some(period);
        self
    }

    /// How long the source can go on before the user must authorize again, counted from when `fetch` returned: the life that a
    /// refresh token has left. Shown by [`Status::authorization_left`](crate::Status::authorization_left); nothing else depends
    /// on it.
    #[must_use]
    pub fn authorization_ends_in(mut self, left: Duration) -> Self {
        self.authorization_ends_in = Some(left);
        self
    }

    /// The scope that the server granted (RFC 6749 §3.3), as it wrote it: space-delimited.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into().into());
        self
    }

    /// The lifetime as [given](AccessToken::expires_in).
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The granted scopes, one by one; none where the server did not say.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace()
    }

    /// The secret itself. Every use of it is a place where it can leak: prefer [`AccessToken::authorization`].
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }

    /// The value of the `Authorization` header, marked sensitive so that HTTP libraries neither print nor index it.
    ///
    /// Each call makes a copy with memory and a reference count of its own. Its clones share them, and cost no allocation.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SCHEME.len() + self.secret.len()));
        bytes.extend_from_slice(SCHEME);
        bytes.extend_from_slice(self.secret.as_bytes());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(OwnLine(bytes)))
            .expect("`AccessToken::new` lets only visible ASCII in");
        value.set_sensitive(true);
        value
    }

    pub(crate) fn is_same_secret(&self, other: &Self) -> bool {
        self.secret == other.secret
    }

    pub(crate) fn age_when_fetched(&self) -> Option<Duration> {
        self.age
    }

    /// The same, from where tokens lie that aren't new.
    pub(crate) fn settled(mut self) -> Self {
        self.settled = true;
        self
    }

    /// Whether an API may not know it yet, that needs so long to know a new one.
    pub(crate) fn is_younger_than(&self, age: Duration) -> bool {
        !self.settled && self.age.is_none_or(|known| known < age)
    }

    /// The same with the age it has if its life was told before this fetch began, and nothing else is known.
    pub(crate) fn aged(self, time: &Timeline, began: Moment) -> Self {
        match (self.age, self.told.as_ref().map(|told| time.at(told))) {
            // Zero is no life that could have begun.
            (None, Some(told)) if told < began && self.lifetime != Some(Duration::ZERO) => {
                let age = time.now().since(told);
                self.age(age)
            }
            _ => self,
        }
    }

    /// How long the authorization lasted when it began.
    #[cfg(any(feature = "oauth2", test))]
    pub(crate) fn authorization_lasts(mut self, lifetime: Option<Duration>) -> Self {
        self.authorization_lifetime =
            lifetime.and_then(|lifetime| NonZeroU32::new(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)));
        self
    }

    pub(crate) fn authorization_whole(&self) -> Option<Duration> {
        self.authorization_lifetime.map(|seconds| Duration::from_secs(seconds.get().into()))
    }

    pub(crate) fn authorization_left(&self) -> Option<Duration> {
        self.authorization_ends_in
    }

    pub(crate) fn recheck_period(&self) -> Option<Duration> {
        self.recheck_after
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("secret", &"[redacted]")
            .field("lifetime", &self.lifetime)
            .field("age", &self.age)
            .field("recheck_after", &self.recheck_after)
            .field("authorization_ends_in", &self.authorization_ends_in)
            .field("scope", &self.scope)
            .finish()
    }
}

/// Why a string can't be an [`AccessToken`]. Never shows any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidToken(Cow<'static, str>);

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a bearer token: {}; pass the token alone, without `Bearer` and without line ends", self.0)
    }
}

impl error::Error for InvalidToken {}

const SCHEME: &[u8] = b"Bearer ";

/// The owner of a header's bytes. Its alignment makes `Bytes` keep the reference count on cache lines of its own (two of 64
/// bytes, because processors fetch them in pairs), so that threads that use different copies don't slow each other down.
#[repr(align(128))]
struct OwnLine(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for OwnLine {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_stand_in_a_header_and_never_shows_it() {
        for bad in
            ["", " ", "a b", "marked\n", "mark\u{0}ed", "märked", "\tmarked", "marked\r\nX-Evil: 1", "marked\u{7f}"]
        {
            let error = AccessToken::new(bad).expect_err(bad);
            assert!(!format!("{error} {error:?}").contains("marked"), "{error}");
        }
    }

    #[test]
    fn takes_what_real_servers_issue() {
        for good in ["mF_9.B5f-4.1JqM", "a|b", "00D!AQ", "eyJ.e30.x==", "~+/"] {
            AccessToken::new(good).expect(good);
        }
    }

    #[test]
    fn the_header_is_sensitive_and_complete() {
        let header = AccessToken::new("abc").unwrap().authorization();
        assert_eq!(header.as_bytes(), b"Bearer abc");
        assert!(header.is_sensitive());
        assert!(!format!("{header:?}").contains("abc"));
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = AccessToken::new("marked-secret").unwrap().scope("read write");
        assert!(!format!("{token:?} {token:#?}").contains("marked"));
        assert_eq!(token.scopes().collect::<Vec<_>>(), ["read", "write"]);
    }
}
