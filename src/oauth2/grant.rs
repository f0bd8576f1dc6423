//! [`Grant`], and the grants that the crate has, a file each.

use std::{future::Future, time::Duration};

use crate::{
    FetchError,
    oauth2::TokenSet,
    store::{Account, Credentials},
};

mod authorization_code;
mod client_credentials;
mod legacy_password;
mod refresh_token;

#[cfg(fuzzing)]
pub(crate) use authorization_code::code;
pub use authorization_code::{AuthorizationCode, AuthorizationError, AuthorizationErrorKind, PendingAuthorization};
pub use client_credentials::ClientCredentials;
pub use legacy_password::LegacyPassword;
pub use refresh_token::RefreshToken;

/// A way to get a token from a token endpoint (RFC 6749 §1.3). A grant has no state: [`Stored`] keeps what it brings.
///
/// [`Stored`]: super::Stored
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{FetchError, oauth2::{Form, Grant, TokenEndpoint, TokenSet}, store::{Account, Credentials}};
///
/// /// RFC 7523 §2.1: a signed assertion for a user's token.
/// struct JwtBearer {
///     endpoint: TokenEndpoint,
///     user: String,
///     key: Vec<u8>,
/// }
///
/// impl Grant for JwtBearer {
///     async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
///         let form = Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer").param("assertion", sign(&self.user, &self.key));
///         self.endpoint.exchange(form, limit).await
///     }
///
///     fn account(&self) -> Account {
///         self.endpoint.account().subject(&self.user)
///     }
///
///     fn credentials(&self) -> Option<Credentials> {
///         Some(self.endpoint.credentials().with(&self.key))
///     }
/// }
/// # fn sign(_: &str, _: &[u8]) -> String { "a.b.c".into() }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no grant",
    label = "no way to get tokens by itself",
    note = "a token endpoint needs a grant: `ClientCredentials::new(endpoint)`, `RefreshToken::new(endpoint)`",
    note = "an `AuthorizationCode` brings a token set, to go on with: `Stored::new(RefreshToken::new(endpoint)).holding(set)`",
    note = "a type of your own implements `Grant`"
)]
pub trait Grant: Send + Sync + 'static {
    /// Gets a token set. `held` is the current one, if there is one; `limit` is the time limit of the exchange.
    ///
    /// A set without an access token is stored for its refresh token, and the exchange is tried again.
    ///
    /// # Errors
    /// A [`FetchError`] says what to do next; [`TokenEndpoint::exchange`](super::TokenEndpoint::exchange) judges the responses of
    /// token endpoints.
    fn exchange(
        &self,
        held: Option<&TokenSet>,
        limit: Duration,
    ) -> impl Future<Output = Result<TokenSet, FetchError>> + Send;

    /// Whether an exchange with `held` can be tried again after its response was lost. Default: yes, unless `held` has a refresh token.
    ///
    /// Return `false` if the exchange spends something: a code, or a refresh token that works once. Then its time limit is always 30 s,
    /// because giving up early would lose what it spent.
    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        held.is_none_or(|held| held.refresh_token().is_none())
    }

    /// Whose tokens it brings, and what they are asked for. A store hands them only to this account. A store that others share needs
    /// the [subject](Account::subject); for [`Memory`](crate::store::Memory), `self.endpoint.account()` is enough.
    fn account(&self) -> Account;

    /// What the client authenticates with. Default: unknown.
    ///
    /// Everything that the server may refuse belongs to it: a secret, the key of an assertion. When this changes after a refusal, the exchange
    /// is tried once more. Without it only [`LiveToken::refresh`](crate::LiveToken::refresh) tries again, and where the client is refused, each
    /// process that shares the store finds that out for itself. It is called before each fetch, and every five seconds after a refusal, so it
    /// must not wait for a network.
    fn credentials(&self) -> Option<Credentials> {
        None
    }
}

/// The kind of a grant. The same error means different things for different grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    /// Spends nothing and asks no user: client credentials, assertions.
    Repeatable,
    /// RFC 6749 §6. `worked`: a request with the same client and parameters has brought a token before.
    RefreshToken { worked: bool },
    /// RFC 6749 §4.1.
    AuthorizationCode,
    /// RFC 6749 §4.3.
    Password,
}

impl GrantKind {
    pub(crate) fn of(grant_type: Option<&str>) -> Self {
        match grant_type {
            Some("refresh_token") => Self::RefreshToken { worked: false },
            Some("authorization_code") => Self::AuthorizationCode,
            Some("password") => Self::Password,
            _ => Self::Repeatable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GrantKind::{self, AuthorizationCode, Password, Repeatable};

    #[test]
    fn which_grants_are_told_apart() {
        for (grant_type, expected) in [
            (None, Repeatable),
            (Some("client_credentials"), Repeatable),
            (Some("refresh_token"), GrantKind::RefreshToken { worked: false }),
            (Some("authorization_code"), AuthorizationCode),
            (Some("password"), Password),
        ] {
            assert_eq!(GrantKind::of(grant_type), expected, "{grant_type:?}");
        }
    }
}
