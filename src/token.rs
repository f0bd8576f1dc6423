//! The access token: its secret, what is known of its lifetime, and the header made of it.

use std::{borrow::Cow, error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::{Moment, Stamp, Timeline};

/// An OAuth 2.0 access token, to be sent as `Authorization: Bearer …`.
///
/// Cloning is cheap: clones share the secret. `Debug` shows everything but the secret. The memory of the secret, and of each header made of
/// it, is overwritten when its last clone is dropped.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::AccessToken;
///
/// let token = AccessToken::new("mF_9.B5f-4.1JqM")?.expires_in(Duration::from_secs(3600)).scope("read write");
/// assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
/// assert_eq!(token.scopes().collect::<Vec<_>>(), ["read", "write"]);
/// assert_eq!(token.authorization(), "Bearer mF_9.B5f-4.1JqM");
/// assert!(!format!("{token:?}").contains("mF_9"));
/// # Ok::<(), tower_bearer::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct AccessToken {
    secret: Arc<Zeroizing<String>>,
    lifetime: Option<Duration>,
    /// When `expires_in` was called.
    lifetime_set_at: Option<Stamp>,
    age: Option<Duration>,
    recheck_after: Option<Duration>,
    authorization_ends_in: Option<Duration>,
    /// How long the authorization lasted when it began, in whole seconds. In four bytes, because programs may hold millions of tokens.
    authorization_lifetime: Option<NonZeroU32>,
    scope: Option<Arc<str>>,
    /// The API knows the token, although its age is unknown: it comes from a source whose tokens aren't new, such as a file.
    known_to_api: bool,
}

impl AccessToken {
    /// Makes a token of the text that the server issued, without the word `Bearer`. See the example of [`AccessToken`].
    ///
    /// # Errors
    /// [`InvalidToken`] if the text is empty or contains a character that can't be part of a bearer token in a header: white space, a
    /// control character, or a character outside ASCII (RFC 6749 appendix A.12, RFC 6750 §2.1). Characters that RFC 6750 leaves out but
    /// real servers use (`|`, `!`, `:`) are accepted.
    pub fn new(secret: impl Into<String>) -> Result<Self, InvalidToken> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            return Err(InvalidToken("it is empty".into()));
        }
        // The position helps to find the character. The character itself would show a part of the secret.
        if let Some(at) = secret.bytes().position(|byte| !byte.is_ascii_graphic()) {
            let why = format!("byte {at} is white space, a control character or not ASCII");
            return Err(InvalidToken(why.into()));
        }
        Ok(Self {
            secret: Arc::new(secret),
            lifetime: None,
            lifetime_set_at: None,
            age: None,
            recheck_after: None,
            authorization_ends_in: None,
            authorization_lifetime: None,
            scope: None,
            known_to_api: false,
        })
    }

    /// Sets the lifetime. It counts from the beginning of the fetch that brings the token, or from this call if that was earlier. If it
    /// began at another time, set the [age](AccessToken::age) too. If a source returns the same token with the same lifetime again, the
    /// lifetime goes on and doesn't begin again.
    ///
    /// Zero means unknown, and so does a lifetime of ten years or more: no timer renews such a token, only a 401 does. Default: unknown.
    /// See the example of [`AccessToken`].
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self.lifetime_set_at = Some(Stamp::now());
        self
    }

    /// Sets how much of the [lifetime](AccessToken::expires_in) had passed when `fetch` returned. A source that returns a token which it
    /// got earlier, from a cache or a store, must set it. Default: the lifetime begins when `fetch` was called.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::AccessToken;
    ///
    /// // A cache has kept the token for ten minutes.
    /// let token = AccessToken::new("cached")?.expires_in(Duration::from_secs(3600)).age(Duration::from_secs(600));
    /// # let _ = token;
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Fetches again after this time, although the token may be valid for longer. For sources that others change, such as files. If the
    /// same token is fetched again, it keeps its generation and nothing changes for requests. Default: no.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::AccessToken;
    ///
    /// let token = AccessToken::new("from-a-keychain")?.recheck_after(Duration::from_secs(30));
    /// # let _ = token;
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn recheck_after(mut self, period: Duration) -> Self {
        self.recheck_after = Some(period);
        self
    }

    /// Sets how long it is, from when `fetch` returned, until the user must authorize again: the lifetime that the refresh token has left.
    /// [`Status::authorization_left`](crate::Status::authorization_left) shows it. It has no influence on renewals. Default: unknown.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::AccessToken;
    ///
    /// // The refresh token expires in thirty days.
    /// let token = AccessToken::new("secret")?.authorization_ends_in(Duration::from_secs(30 * 24 * 3600));
    /// # let _ = token;
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn authorization_ends_in(mut self, left: Duration) -> Self {
        self.authorization_ends_in = Some(left);
        self
    }

    /// Sets the scope that the server granted (RFC 6749 §3.3), as it wrote it: delimited by spaces. See the example of [`AccessToken`].
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into().into());
        self
    }

    /// The lifetime as [set](AccessToken::expires_in). See the example of [`AccessToken`].
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The granted scopes, one by one; none if the server didn't tell them. See the example of [`AccessToken`].
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace()
    }

    /// The secret itself. Each use of it may leak it: prefer [`AccessToken::authorization`].
    ///
    /// ```
    /// use tower_bearer::AccessToken;
    ///
    /// assert_eq!(AccessToken::new("secret")?.expose_secret(), "secret");
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }

    /// The value of the `Authorization` header. It is marked sensitive, so HTTP libraries neither print nor index it. See the example of
    /// [`AccessToken`].
    ///
    /// Each call makes a copy with memory and a reference count of its own. Clones of the value share them and allocate nothing.
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

    /// The same token, marked as known to the API.
    pub(crate) fn known_to_api(mut self) -> Self {
        self.known_to_api = true;
        self
    }

    /// Whether an API that needs this long to know a new token may not know this one yet.
    pub(crate) fn is_younger_than(&self, age: Duration) -> bool {
        !self.known_to_api && self.age.is_none_or(|known| known < age)
    }

    /// Sets the age, if it is unknown and `expires_in` was called before this fetch began.
    pub(crate) fn aged(self, time: &Timeline, began: Moment) -> Self {
        match (self.age, self.lifetime_set_at.as_ref().map(|stamp| time.at(stamp))) {
            // A lifetime of zero is unknown, so it has no beginning.
            (None, Some(set_at)) if set_at < began && self.lifetime != Some(Duration::ZERO) => {
                let age = time.now().since(set_at);
                self.age(age)
            }
            _ => self,
        }
    }

    /// Sets how long the authorization lasted when it began.
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

/// Why a text can't be an [`AccessToken`]. Never shows any of the text.
///
/// ```
/// use tower_bearer::AccessToken;
///
/// let error = AccessToken::new("secret\n").unwrap_err();
/// assert!(error.to_string().contains("byte 6 is white space"));
/// # assert!(!error.to_string().contains("secret"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidToken(Cow<'static, str>);

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a bearer token: {}; pass the token alone, without `Bearer` and without line ends", self.0)
    }
}

impl error::Error for InvalidToken {}

const SCHEME: &[u8] = b"Bearer ";

/// The owner of a header's bytes. Its alignment makes `Bytes` keep the reference count on cache lines of its own (two of 64 bytes, because
/// processors fetch them in pairs), so threads that use different copies don't slow each other down.
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
