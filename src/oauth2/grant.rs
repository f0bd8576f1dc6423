//! What a grant is.

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

/// A way to get a token from a token endpoint (RFC 6749 §1.3). It holds nothing that changes: what it brings, [`Stored`] keeps.
///
/// [`Stored`]: super::Stored
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{FetchError, oauth2::{Form, Grant, TokenEndpoint, TokenSet}, store::{Account, Credentials}};
///
/// /// RFC 7523 §2.1: a signed assertion for a token, in the name of a user.
/// struct JwtBearer {
///     endpoint: TokenEndpoint,
///     user: String,
/// }
///
/// impl Grant for JwtBearer {
///     async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
///         let form = Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer").field("assertion", sign(&self.user));
///         self.endpoint.exchange(form, limit).await
///     }
///
///     fn account(&self) -> Account {
///         self.endpoint.account().subject(&self.user)
///     }
///
///     fn credentials(&self) -> Option<Credentials> {
///         Some(self.endpoint.credentials())
///     }
/// }
/// # fn sign(_: &str) -> String { "a.b.c".into() }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no grant",
    label = "no way to get tokens by itself",
    note = "a token endpoint needs a grant: `ClientCredentials::new(endpoint)`, `RefreshToken::new(endpoint)`",
    note = "an `AuthorizationCode` brings a token set, to go on with: `Stored::new(RefreshToken::new(endpoint)).holding(set)`",
    note = "a type of your own implements `Grant`"
)]
pub trait Grant: Send + Sync + 'static {
    /// Gets a token set. `held` is the one that is there already, if there is one; `limit` is how long the exchange may take.
    ///
    /// A set without an access token is stored too, for its refresh token, and tried again.
    ///
    /// # Errors
    /// A [`FetchError`] says what to do next; [`TokenEndpoint::exchange`](super::TokenEndpoint::exchange) judges the answers of
    /// token endpoints.
    fn exchange(
        &self,
        held: Option<&TokenSet>,
        limit: Duration,
    ) -> impl Future<Output = Result<TokenSet, FetchError>> + Send;

    /// Whether an exchange with `held` can simply be tried again when its answer is lost. A grant that spends something (a code, a
    /// refresh token that works once) says no; its exchanges get 30 s in any case, since giving one up early loses what it spent.
    /// Default: yes, unless there is a refresh token in `held`.
    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        held.is_none_or(|held| held.refresh_token().is_none())
    }

    /// Whose tokens it brings, and what they are asked for: a store hands them to nobody else. A store that others share needs to know
    /// the [subject](Account::subject); in [`Memory`](crate::store::Memory), `self.endpoint.account()` will do.
    fn account(&self) -> Account;

    /// What it proves itself with. What was refused is tried once more when this has changed. It is asked before each fetch, and every
    /// five seconds while a refusal stands, so it must not wait for a network. Default: unknown, so that only
    /// [`LiveToken::refresh`](crate::LiveToken::refresh) tries again.
    fn credentials(&self) -> Option<Credentials> {
        None
    }
}

/// What kind of grant was refused: the same words mean different things for different grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    /// Nothing is spent, nobody is asked: client credentials, assertions.
    Repeatable,
    /// RFC 6749 §6. `worked`: a request like this one has brought a token before, so only the refresh token is another.
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
