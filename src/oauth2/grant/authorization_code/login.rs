//! The parts of a login that a pending authorization must have in common with it (RFC 9700 §4.4.2).

use serde::{Deserialize, Serialize};

/// The parts of a login. It holds no secret, because it is stored with the pending authorization.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    /// Without its query, in which some gateways take a key.
    pub(super) token_endpoint: String,
    pub(super) client_id: Option<String>,
    pub(super) redirect_uri: String,
    pub(super) issuer: Option<String>,
}

impl Login {
    /// The name of the first part that differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.token_endpoint != other.token_endpoint, "token endpoint"),
            (self.client_id != other.client_id, "client id"),
            (self.redirect_uri != other.redirect_uri, "redirect URI"),
            (self.issuer != other.issuer, "issuer"),
        ]
        .into_iter()
        .find_map(|(differs, part)| differs.then_some(part))
    }
}
