//! What ties a pending authorization to the login that began it (RFC 9700 §4.4.2).

use serde::{Deserialize, Serialize};

use super::AuthorizationCode;
use crate::oauth2::endpoint::address;

/// Where the code will be sent, by whom, and who has to issue it. Holds no secret: it is stored with the pending authorization.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    /// Without its query: some gateways take a key there.
    token_endpoint: String,
    client_id: Option<String>,
    pub(super) redirect_uri: String,
    pub(super) issuer: Option<String>,
}

impl Login {
    pub(super) fn of(login: &AuthorizationCode) -> Self {
        Self {
            token_endpoint: address::without_query(&login.endpoint.uri),
            client_id: login.known_client_id(),
            redirect_uri: login.redirect_uri.clone(),
            issuer: login.issuer.clone(),
        }
    }

    /// The first part that is another one in `other`.
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
