//! What the server enforces: everything the builder can say.

use std::time::Duration;

pub(crate) mod clients;
pub(crate) mod quirks;
pub(crate) mod users;

use clients::{ClientAuthMethods, Clients};
use quirks::Quirks;
use users::Users;

#[derive(Debug)]
pub(crate) struct Rules {
    /// `http://127.0.0.1:PORT`, known once the server listens.
    pub(crate) issuer: String,
    pub(crate) token_path: String,
    pub(crate) clients: Clients,
    pub(crate) client_auth: ClientAuthMethods,
    pub(crate) users: Users,
    /// The grants on offer; without them, all that make sense.
    pub(crate) grants: Option<Vec<String>>,
    /// The known scopes; without them, any is.
    pub(crate) scopes: Option<Vec<String>>,
    /// Without any, every one on loopback is fine.
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) multipart: bool,
    pub(crate) reject_unknown: bool,
    pub(crate) require_pkce: bool,
    pub(crate) pkce: bool,
    pub(crate) announce_issuer: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) code_lifetime: Duration,
    pub(crate) rotation: bool,
    pub(crate) refresh_lifetime: Option<Duration>,
    pub(crate) refresh_grace: Duration,
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
    /// Whether a grant is on offer: those of [`GRANTS`] unless restricted, passwords only where there are users.
    pub(crate) fn offers(&self, grant: &str) -> bool {
        GRANTS.contains(&grant)
            && self.grants.as_ref().is_none_or(|offered| offered.iter().any(|name| name == grant))
            && (grant != "password" || !self.users.is_empty())
    }

    /// RFC 6749 §3.3: names separated by single spaces.
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

pub(crate) const GRANTS: [&str; 4] = ["client_credentials", "password", "authorization_code", "refresh_token"];

/// What RFC 6749 §4.2.2 and §5.1 use in their examples, and most servers by default.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// RFC 6749 §4.1.2 recommends at most 10 minutes; a minute is what strict servers give.
const DEFAULT_CODE_LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_offered_where_there_are_users() {
        let mut rules = Rules::default();
        assert!(rules.offers("refresh_token") && !rules.offers("password") && !rules.offers("implicit"));
        rules.users.set("ann".into(), "hidden".into());
        assert!(rules.offers("password"));
        rules.grants = Some(vec!["refresh_token".into()]);
        assert!(rules.offers("refresh_token") && !rules.offers("password"));
    }
}
