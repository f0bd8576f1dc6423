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
//! client's authentication (`client_auth`) and sends it (`transport`), the answer is read (`response`), a refusal is judged
//! (`refusal`), and what may be shown of it is cut out (`excerpt`, with `spelling`). [`Stored`] is the one owner of the
//! [`TokenSet`] that results: it alone spends it, stores it, and hands its access token to the request wing.

mod client_auth;
mod client_credentials;
mod endpoint;
mod excerpt;
mod form;
mod grant;
mod refusal;
mod response;
mod spelling;
mod stored;
mod transport;

pub use client_credentials::ClientCredentials;
pub use endpoint::{InvalidEndpoint, TokenEndpoint};
pub use form::Form;
pub use grant::Grant;
pub use refusal::EndpointError;
pub use stored::Stored;

pub use crate::store::TokenSet;
