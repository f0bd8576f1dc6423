//! Tokens from an OAuth 2.0 token endpoint (RFC 6749).
//!
//! ```no_run
//! use tower_bearer::{LiveToken, oauth2::{ClientCredentials, TokenEndpoint}};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
//! let token = LiveToken::spawn(ClientCredentials::new(endpoint).scope("document_read"));
//! token.ready().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A token request passes through these modules in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | `grant` | [`Grant`], and a file for each grant that the crate has. A grant fills in a [`Form`]. |
//! | `endpoint` | [`TokenEndpoint`]: adds the client's authentication, and sends the request |
//! | `response` | reads what came back: a token set, or what is shown of a response without one |
//! | `endpoint_error` | [`EndpointError`]: finds what the server reports, and judges what to do next |
//! | `masking` | what an error may show of a response: nothing that was sent, and nothing that looks like a token |
//! | `stored` | [`Stored`], the one owner of a [`TokenSet`]: it alone spends it, stores it, and hands its access token on |
//! | `keeper` | the work of [`Stored`]: plans a fetch, holds the lease, stores the set |
//! | `introspection`, `revocation`, `verification` | requests about a token, to other endpoints |

mod endpoint;
mod endpoint_error;
mod grant;
mod introspection;
mod keeper;
mod masking;
mod response;
mod revocation;
mod stored;
mod verification;

#[cfg(fuzzing)]
pub(crate) use {
    endpoint::exchange::Arrived,
    grant::{GrantKind, code},
    masking::Masks,
};

pub use endpoint::{Form, InvalidEndpoint, TokenEndpoint};
pub use endpoint_error::EndpointError;
pub use grant::{
    AuthorizationCode, AuthorizationError, AuthorizationErrorKind, ClientCredentials, Grant, LegacyPassword,
    PendingAuthorization, RefreshToken,
};
pub use introspection::Introspection;
pub use response::shape::AnswerMember;
pub use stored::{Stored, StoredHandle};
pub use verification::ProvedBy;

pub use crate::store::TokenSet;
