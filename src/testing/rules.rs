//! The rules of the server: everything that the builder can set.

use std::time::Duration;

pub(crate) mod clients;
pub(crate) mod quirks;
pub(crate) mod users;

use clients::{ClientAuthMethods, Clients};
use quirks::Quirks;
use users::Users;

/// What the server enforces.
#[derive(Debug)]
pub(crate) struct Rules {
    /// `http://127.0.0.1:PORT`. It is known once the server listens.
    pub(crate) issuer: String,
    pub(crate) token_path: String,
    pub(crate) clients: Clients,
    pub(crate) client_auth: ClientAuthMethods,
    pub(crate) users: Users,
    /// The grants on offer. `None`: all of [`GRANTS`].
    pub(crate) grants: Option<Vec<String>>,
    /// The known scopes. `None`: any scope.
    pub(crate) scopes: Option<Vec<String>>,
    /// The registered ones. If there is none, every one on loopback is accepted.
    pub(crate) redirect_uris: Vec<String>,
    /// The token endpoint reads multipart forms only.
    pub(crate) multipart: bool,
    /// Unknown parameters are an error.
    pub(crate) reject_unknown: bool,
    /// Confidential clients must use PKCE too.
    pub(crate) require_pkce: bool,
    /// PKCE is supported.
    pub(crate) pkce: bool,
    /// Answers to authorization requests carry `iss`.
    pub(crate) announce_issuer: bool,
    /// The lifetime of access tokens.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) code_lifetime: Duration,
    /// A refresh replaces the refresh token.
    pub(crate) rotation: bool,
    pub(crate) refresh_lifetime: Option<Duration>,
    /// How long a spent refresh token is still accepted.
    pub(crate) refresh_grace: Duration,
    /// Answers have `refresh_expires_in`.
    pub(crate) tell_refresh_lifetime: bool,
    pub(crate) quirks: Quirks,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            token_path: "/token".to_owned(),
            clients: Clients::default(),
            client_auth: ClientAuthMethods::default(),
            users: Users::default(),
            grants: None,
            scopes: None,
            redirect_uris: Vec::new(),
            multipart: false,
            reject_unknown: false,
            require_pkce: false,
            pkce: true,
            announce_issuer: false,
            lifetime: Some(DEFAULT_LIFETIME),
            code_lifetime: DEFAULT_CODE_LIFETIME,
            rotation: true,
            refresh_lifetime: None,
            refresh_grace: Duration::ZERO,
            tell_refresh_lifetime: false,
            quirks: Quirks::default(),
        }
    }
}

impl Rules {
    /// All grants on offer: those of RFC 6749 first, in their order.
    pub(crate) fn all_offered(&self) -> impl Iterator<Item = &str> {
        let known = GRANTS.iter().copied().filter(|grant| self.offers(grant));
        let own = self.grants.iter().flatten().map(String::as_str).filter(|grant| !GRANTS.contains(grant));
        known.chain(own)
    }

    /// Whether a grant is on offer. The password grant needs a user.
    pub(crate) fn offers(&self, grant: &str) -> bool {
        let is_on_offer = match &self.grants {
            Some(offered) => offered.iter().any(|name| name == grant),
            None => GRANTS.contains(&grant),
        };
        is_on_offer && (grant != "password" || !self.users.is_empty())
    }

    /// Whether all names of the scope are known. Single spaces separate them (RFC 6749 §3.3).
    pub(crate) fn allow_scope(&self, scope: &str) -> bool {
        scope.split(' ').all(|name| self.allow_name(name))
    }

    fn allow_name(&self, name: &str) -> bool {
        let well_formed = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        !name.is_empty()
            && name.bytes().all(well_formed)
            && self.scopes.as_ref().is_none_or(|known| known.iter().any(|scope| scope == name))
    }
}

/// The grants of RFC 6749, which are on offer by default.
pub(crate) const GRANTS: [&str; 4] = ["client_credentials", "password", "authorization_code", "refresh_token"];

/// The lifetime in the examples of RFC 6749 §4.2.2 and §5.1, and the default of most servers.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// RFC 6749 §4.1.2 recommends at most 10 minutes. Strict servers use a minute.
const DEFAULT_CODE_LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_grant_is_on_offer_if_there_is_a_user() {
        let mut rules = Rules::default();
        assert!(rules.offers("refresh_token") && !rules.offers("password") && !rules.offers("implicit"));
        rules.users.set("ann".into(), "hidden".into());
        assert!(rules.offers("password"));
        rules.grants = Some(vec!["refresh_token".into()]);
        assert!(rules.offers("refresh_token") && !rules.offers("password"));
    }

    #[test]
    fn other_grants_are_on_offer_if_they_are_named() {
        let mut rules = Rules { grants: Some(vec!["urn:a:b".into(), "refresh_token".into()]), ..Rules::default() };
        assert!(rules.offers("urn:a:b") && !rules.offers("client_credentials"));
        assert_eq!(rules.all_offered().collect::<Vec<_>>(), ["refresh_token", "urn:a:b"]);
        rules.grants = None;
        assert!(!rules.offers("urn:a:b"));
    }
}
