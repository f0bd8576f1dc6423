//! What is remembered from the start of an authorization until the browser comes back.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::login::Login;

/// An authorization that was begun by [`AuthorizationCode::start`](super::AuthorizationCode::start). Keep it in the user's session until
/// the browser comes back.
///
/// It can be serialized. It holds secrets, so keep it on the server, or encrypted. It expires after
/// [`valid_for`](super::AuthorizationCode::valid_for). Only the login that began it can finish it: it names the token endpoint (without
/// its query), the client id, the redirect URI and the issuer.
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
    /// The version of this format.
    v: u8,
    url: Zeroizing<String>,
    state: Zeroizing<String>,
    verifier: Option<Zeroizing<String>>,
    /// Missing in version 1.
    #[serde(default)]
    login: Login,
    /// Seconds since 1970.
    expires_at: u64,
}

impl PendingAuthorization {
    pub(super) fn new(
        login: Login,
        url: Zeroizing<String>,
        state: Zeroizing<String>,
        verifier: Option<Zeroizing<String>>,
        now: SystemTime,
        valid_for: Duration,
    ) -> Self {
        let expires_at = seconds(now).saturating_add(valid_for.as_secs());
        Self { v: VERSION, url, state, verifier, login, expires_at }
    }

    /// The URL for the browser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `state` in the URL. A session with several pending authorizations finds the right one by it.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn verifier(&self) -> Option<&str> {
        self.verifier.as_ref().map(|verifier| verifier.as_str())
    }

    /// Whether this is the state. Compared in constant time, so that the time doesn't tell how much of it is right.
    pub(super) fn is_state(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// The login that began it.
    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// The first part in which another login differs. `None` also for another version, which counts as expired.
    pub(super) fn difference(&self, login: &Login) -> Option<&'static str> {
        self.login.difference(login).filter(|_| self.v == VERSION)
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

const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth2::{AuthorizationCode, TokenEndpoint};

    fn login(token_url: &str) -> AuthorizationCode {
        let endpoint = TokenEndpoint::new(token_url).unwrap().client_secret_basic("id", "marked-secret");
        AuthorizationCode::new(endpoint, "https://id.test/authorize", "https://app.test/cb").unwrap()
    }

    #[test]
    fn what_a_session_keeps_holds_no_secret_of_the_client() {
        let pending = login("https://id.test/token?key=marked-key").issuer("https://id.test").start();
        let text = serde_json::to_string(&pending).unwrap();
        assert!(!text.contains("marked"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["v"], &value["url"]), (&2.into(), &pending.url().into()));
        let login = serde_json::json!({
            "token_endpoint": "https://id.test/token",
            "client_id": "id",
            "redirect_uri": "https://app.test/cb",
            "issuer": "https://id.test",
        });
        assert_eq!(value["login"], login);
        assert!(!format!("{pending:?}").contains(pending.state()));
    }

    #[test]
    fn what_holds_the_state_is_wiped() {
        let PendingAuthorization { url, state, .. } = login("https://id.test/token").start();
        let wiped: [Zeroizing<String>; 2] = [url, state];
        assert!(wiped[0].contains(wiped[1].as_str()));
    }

    #[test]
    fn what_differs_is_named() {
        let begun = login("https://id.test/token?key=1");
        let pending = begun.start();
        for (login, expected) in [
            (begun.clone(), None),
            (login("https://id.test/token?key=2"), None),
            (login("https://id.test/other"), Some("token endpoint")),
            (login("https://id.test.evil.test/token"), Some("token endpoint")),
            (begun.clone().client_id("other"), Some("client id")),
            (begun.clone().issuer("https://id.test"), Some("issuer")),
            (AuthorizationCode { redirect_uri: "https://app.test/other".into(), ..begun }, Some("redirect URI")),
        ] {
            assert_eq!(pending.difference(&login.login()), expected);
        }
    }

    #[test]
    fn another_version_has_expired_whatever_it_holds() {
        let first = serde_json::json!({ "v": 1, "url": "u", "state": "s", "verifier": "x", "expires_at": u64::MAX });
        let mut later = serde_json::to_value(login("https://id.test/token").start()).unwrap();
        later["v"] = 3.into();
        for value in [first, later] {
            let pending: PendingAuthorization = serde_json::from_value(value).unwrap();
            assert_eq!(pending.difference(&login("https://id.test/other").login()), None);
            assert!(pending.has_expired(SystemTime::UNIX_EPOCH));
        }
    }
}
