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
//! In the order of an exchange's way: a `grant` (here [`ClientCredentials`]) fills a [`Form`], the [`TokenEndpoint`] adds the
//! client's authentication (`client_auth`) and sends it (`transport`), the `answer` is read (`response`, its `members`, by its
//! `answer_shape`; a `lifetime` as servers write it; a refresh token is `salvage`d from what can't be read, where `find` looks for it), a
//! refusal is judged (`refusal`, by what is `said` in the `vocabulary` of servers; `blanks` looks at what was sent), and what may be `shown`
//! of it is cut out (`excerpt`, with `spelling`; not beside a token, `token_places`), with a `hint` how it may have to be read. [`Stored`] is the one owner of the [`TokenSet`] that results: it alone
//! spends it, stores it, and hands its access token to the request wing.

mod address;
mod answer;
mod answer_shape;
mod authorization_code;
mod blanks;
mod client_auth;
mod client_credentials;
mod endpoint;
mod excerpt;
mod exchange;
mod find;
mod form;
mod grant;
mod hint;
mod introspection;
mod legacy_password;
mod lifetime;
mod members;
mod refresh_token;
mod refusal;
mod response;
mod revocation;
mod said;
mod salvage;
mod shown;
mod spelling;
mod stored;
mod token_places;
mod transport;
mod verification;
mod vocabulary;

#[cfg(fuzzing)]
pub(crate) use {authorization_code::code, excerpt::Masks, exchange::Arrived, refusal::GrantKind};

pub use address::InvalidEndpoint;
pub use answer_shape::AnswerMember;
pub use authorization_code::{AuthorizationCode, AuthorizationError, AuthorizationErrorKind, PendingAuthorization};
pub use client_credentials::ClientCredentials;
pub use endpoint::TokenEndpoint;
pub use form::Form;
pub use grant::Grant;
pub use introspection::Introspection;
pub use legacy_password::LegacyPassword;
pub use refresh_token::RefreshToken;
pub use refusal::EndpointError;
pub use stored::{Stored, StoredHandle};
pub use verification::ProvedBy;

pub use crate::store::TokenSet;
