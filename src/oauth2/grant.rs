//! What a grant is.

use std::{future::Future, time::Duration};

use super::TokenSet;
use crate::{FetchError, store::Identity};

/// A way to get a token from a token endpoint (RFC 6749 §1.3). It holds nothing that changes: what it brings, [`Stored`] keeps.
///
/// [`Stored`]: super::Stored
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{FetchError, oauth2::{Form, Grant, TokenEndpoint, TokenSet}};
///
/// /// RFC 7523: a signed assertion for a token.
/// struct JwtBearer(TokenEndpoint);
///
/// impl Grant for JwtBearer {
///     async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
///         let form = Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer").field("assertion", sign());
///         self.0.exchange(form, limit).await
///     }
/// }
/// # fn sign() -> String { "a.b.c".into() }
/// ```
pub trait Grant: Send + Sync + 'static {
    /// Gets a token set. `held` is the one that is there already, if there is one; `limit` is how long the exchange may take.
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
    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        _ = held;
        true
    }

    /// What tells this grant's tokens from others' in one store: where two grants should not share a token, this must differ. The
    /// name of the type unless said otherwise, which will do for a grant that there is one of.
    fn identity(&self) -> Identity {
        Identity::of(std::any::type_name::<Self>())
    }
}
