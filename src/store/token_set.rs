//! The tokens of a token endpoint's response (RFC 6749 §5.1).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    AccessToken, FetchError, InvalidToken,
    clock::{Clock, SystemClock},
};

/// The tokens that a token endpoint has issued: the access token, the refresh token, and their lifetimes. Can also be made of tokens from
/// elsewhere.
///
/// `Debug` shows no secret.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::oauth2::TokenSet;
///
/// // From another program's store: valid for another ten minutes.
/// let set = TokenSet::of_access_token("access").expires_in(Duration::from_secs(600)).with_refresh_token("refresh");
/// assert_eq!(set.refresh_token(), Some("refresh"));
/// ```
#[derive(Clone)]
pub struct TokenSet {
    pub(crate) access_token: Option<SecretString>,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) scope: Option<String>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_lifetime: Option<Duration>,
    pub(crate) requested_at: SystemTime,
    pub(crate) refresh_requested_at: SystemTime,
    /// Why a response brought a refresh token without an access token. Not stored.
    pub(crate) flaw: Option<FetchError>,
    /// A renewal with the same parameters has worked before. Not stored.
    pub(crate) worked: bool,
}

impl TokenSet {
    /// A set of an access token alone.
    pub fn of_access_token(secret: impl Into<String>) -> Self {
        Self { access_token: Some(secret.into().into()), ..Self::nothing() }
    }

    /// A set of a refresh token alone.
    pub fn of_refresh_token(secret: impl Into<String>) -> Self {
        Self::nothing().with_refresh_token(secret)
    }

    fn nothing() -> Self {
        let now = SystemClock.wall();
        Self {
            access_token: None,
            refresh_token: None,
            scope: None,
            lifetime: None,
            refresh_lifetime: None,
            requested_at: now,
            refresh_requested_at: now,
            flaw: None,
            worked: false,
        }
    }

    /// Sets the lifetime that the access token has left. Default: unknown.
    #[must_use]
    pub fn expires_in(mut self, left: Duration) -> Self {
        self.lifetime = Some(left);
        self
    }

    /// Sets the refresh token.
    #[must_use]
    pub fn with_refresh_token(mut self, secret: impl Into<String>) -> Self {
        self.refresh_token = Some(secret.into().into());
        self
    }

    /// Sets the lifetime that the refresh token has left. Default: unknown.
    #[must_use]
    pub fn refresh_expires_in(mut self, left: Duration) -> Self {
        self.refresh_lifetime = Some(left);
        self
    }

    /// The access token, if there is one.
    #[must_use]
    pub fn access_token(&self) -> Option<&str> {
        self.access_token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// The refresh token, if there is one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// The scope that the server granted, as it wrote it.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The lifetime of the access token, counted from [`TokenSet::requested_at`].
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Sets when the set was requested, by the wall clock: lifetimes count from then. Default: now.
    #[must_use]
    pub fn with_requested_at(mut self, time: SystemTime) -> Self {
        (self.requested_at, self.refresh_requested_at) = (time, time);
        self
    }

    /// When the set was requested, by the wall clock.
    #[must_use]
    pub fn requested_at(&self) -> SystemTime {
        self.requested_at
    }

    /// This set as the successor of `previous`. A refresh token stays, with its lifetime, unless there is a new one (RFC 6749 §6). An
    /// access token stays if there is only a new refresh token.
    pub(crate) fn succeed(mut self, previous: Option<&Self>) -> Self {
        if let Some(previous) = previous.filter(|_| self.access_token.is_none()) {
            self.access_token.clone_from(&previous.access_token);
            self.scope.clone_from(&previous.scope);
            (self.lifetime, self.requested_at) = (previous.lifetime, previous.requested_at);
        }
        if let Some(previous) = previous.filter(|_| self.refresh_token.is_none()) {
            self.refresh_token = previous.refresh_token.clone();
            if self.refresh_lifetime.is_none() {
                self.refresh_lifetime = previous.refresh_lifetime;
                self.refresh_requested_at = previous.refresh_requested_at;
            }
        }
        self
    }

    /// The set without its refresh token, which no longer works.
    pub(crate) fn without_refresh_token(mut self) -> Self {
        (self.refresh_token, self.refresh_lifetime) = (None, None);
        self
    }

    /// How old the access token is. If the clock was set back it looks too young, and a 401 will tell.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.requested_at).unwrap_or_default()
    }

    /// Whether there is an access token that hasn't expired, as far as that is known.
    pub(crate) fn is_alive(&self, now: SystemTime) -> bool {
        self.access_token.is_some() && self.lifetime.is_none_or(|lifetime| self.age(now) < lifetime)
    }

    /// The lifetime that the refresh token has left. `None` if it is unknown, or if there is no refresh token.
    pub(crate) fn refresh_left(&self, now: SystemTime) -> Option<Duration> {
        let age = now.duration_since(self.refresh_requested_at).unwrap_or_default();
        self.refresh_token.as_ref().and(self.refresh_lifetime).map(|lifetime| lifetime.saturating_sub(age))
    }

    /// The access token for requests. `None` if the set has none.
    pub(crate) fn to_access_token(&self, age: Duration, now: SystemTime) -> Option<Result<AccessToken, InvalidToken>> {
        let secret = self.access_token.as_ref()?.expose_secret();
        Some(AccessToken::new(secret).map(|token| {
            let mut token = token.age(age);
            if let Some(lifetime) = self.lifetime {
                token = token.expires_in(lifetime);
            }
            if let Some(scope) = &self.scope {
                token = token.scope(scope);
            }
            if let Some(left) = self.refresh_left(now) {
                token = token.authorization_ends_in(left).authorization_lasts(self.refresh_lifetime);
            }
            token
        }))
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet")
            .field("access_token", &self.access_token.as_ref().map(|_| "[redacted]"))
            .field("refresh_token", &self.refresh_token.as_ref().map(|_| "[redacted]"))
            .field("scope", &self.scope)
            .field("lifetime", &self.lifetime)
            .field("refresh_lifetime", &self.refresh_lifetime)
            .field("requested_at", &self.requested_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_stays_with_its_life_unless_a_new_one_comes() {
        let day = Duration::from_secs(86_400);
        let mut first = TokenSet::of_access_token("a1").with_refresh_token("r1").refresh_expires_in(30 * day);
        first.refresh_requested_at -= 10 * day;
        let now = SystemClock.wall();

        let second = TokenSet::of_access_token("a2").succeed(Some(&first));
        assert_eq!(second.refresh_token(), Some("r1"));
        assert!(second.refresh_left(now).unwrap().abs_diff(20 * day) < Duration::from_secs(60));

        let third = TokenSet::of_access_token("a3").with_refresh_token("r3").succeed(Some(&second));
        assert_eq!((third.refresh_token(), third.refresh_left(now)), (Some("r3"), None));
    }

    #[test]
    fn a_life_that_is_told_anew_counts_from_then() {
        let day = Duration::from_secs(86_400);
        let mut first = TokenSet::of_access_token("a1").with_refresh_token("r1").refresh_expires_in(30 * day);
        first.refresh_requested_at -= 10 * day;
        let second = TokenSet::of_access_token("a2").refresh_expires_in(30 * day).succeed(Some(&first));
        assert_eq!(second.refresh_token(), Some("r1"));
        assert!(second.refresh_left(SystemClock.wall()).unwrap().abs_diff(30 * day) < Duration::from_secs(60));
    }

    #[test]
    fn debug_hides_both_tokens() {
        let set = TokenSet::of_access_token("marked").with_refresh_token("marked");
        assert!(!format!("{set:?} {set:#?}").contains("marked"));
    }
}
