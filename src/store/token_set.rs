//! What a token endpoint brings (RFC 6749 §5.1).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};

use crate::{AccessToken, InvalidToken};

/// Everything a token endpoint brought: the access token, the refresh token, and what is known of their lives.
///
/// `Debug` shows no secret.
#[derive(Clone)]
pub struct TokenSet {
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) scope: Option<String>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) requested_at: SystemTime,
    pub(crate) version: u64,
}

impl TokenSet {
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

    /// When it was asked for, by the wall clock.
    #[must_use]
    pub fn requested_at(&self) -> SystemTime {
        self.requested_at
    }

    /// What it becomes when it takes the place of `previous`: a refresh token stays unless a new one came (RFC 6749 §6).
    pub(crate) fn succeed(mut self, previous: Option<&Self>) -> Self {
        if let Some(previous) = previous {
            self.version = previous.version + 1;
            self.refresh_token = self.refresh_token.or_else(|| previous.refresh_token.clone());
        }
        self
    }

    /// The access token for the request wing.
    pub(crate) fn to_access_token(&self, age: Duration) -> Result<AccessToken, InvalidToken> {
        let mut token = AccessToken::new(self.access_token.expose_secret())?.age(age);
        if let Some(lifetime) = self.lifetime {
            token = token.expires_in(lifetime);
        }
        if let Some(scope) = &self.scope {
            token = token.scope(scope);
        }
        Ok(token)
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet")
            .field("access_token", &"[redacted]")
            .field("refresh_token", &self.refresh_token.as_ref().map(|_| "[redacted]"))
            .field("scope", &self.scope)
            .field("lifetime", &self.lifetime)
            .field("requested_at", &self.requested_at)
            .field("version", &self.version)
            .finish()
    }
}
