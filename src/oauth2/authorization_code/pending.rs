//! What has to be remembered between the two ends of an authorization.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// An authorization that was begun, made by [`AuthorizationCode::start`](super::AuthorizationCode::start): to be kept where only
/// this user's browser leads, such as a session, until the browser comes back.
///
/// It can be serialized for that, and holds secrets: keep it on the server, or encrypted. It expires (ten minutes unless said
/// otherwise).
///
/// ```
/// use tower_bearer::oauth2::{AuthorizationCode, PendingAuthorization, TokenEndpoint};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.public_client("id");
/// let login = AuthorizationCode::new(endpoint, "https://id.example.com/authorize", "https://app.example.com/cb")?;
/// let pending = login.start();
/// assert!(pending.url().starts_with("https://id.example.com/authorize?response_type=code&client_id=id&"));
///
/// let session = serde_json::to_string(&pending)?;
/// let pending: PendingAuthorization = serde_json::from_str(&session)?;
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
pub struct PendingAuthorization {
    /// The form this is written in, so that a later one can tell.
    v: u8,
    url: String,
    state: Zeroizing<String>,
    verifier: Option<Zeroizing<String>>,
    /// Seconds since 1970.
    expires_at: u64,
}

impl PendingAuthorization {
    pub(super) fn new(
        url: String,
        state: Zeroizing<String>,
        verifier: Option<Zeroizing<String>>,
        now: SystemTime,
        valid_for: Duration,
    ) -> Self {
        Self { v: VERSION, url, state, verifier, expires_at: seconds(now).saturating_add(valid_for.as_secs()) }
    }

    /// Where to send the browser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `state` in the URL: what a web app with several authorizations under way in one session finds the right one by.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn verifier(&self) -> Option<&str> {
        self.verifier.as_ref().map(|verifier| verifier.as_str())
    }

    /// Compared in constant time: how long it takes tells nothing about where the two differ.
    pub(super) fn is_state(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    pub(super) fn has_expired(&self, now: SystemTime) -> bool {
        self.v != VERSION || seconds(now) >= self.expires_at
    }
}

impl fmt::Debug for PendingAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAuthorization").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const VERSION: u8 = 1;
