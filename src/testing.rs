//! An OAuth 2.0 authorization server for tests, in this process, on loopback.
//!
//! [`AuthorizationServer`] answers real requests over real sockets: a token endpoint at `/token`, a page at `/authorize`
//! that asks a user, and, under `/api/`, a small API that only lets those tokens in. It misbehaves when told to
//! ([`Fault`]), counts what it sees, and rotates secrets and revokes tokens at a word. [`providers`] has servers that
//! are as peculiar as real ones. Requires the feature `testing`; nothing else of the crate uses it.
//!
//! # Rules
//!
//! - **It decides when the request has arrived.** Counters, credentials, faults and the start of a token's life are
//!   settled then; [latency](Builder::latency) and [delays](Fault::delay) are spent on the way back. A program that
//!   counts a token's lifetime from the arrival of the answer is found out.
//! - **A fault that replaces the answer issues nothing.** One that only bends it (its members, its speed, its end)
//!   does issue a token.
//! - **Memory is bounded**: the newest [65 536](Builder::remember) tokens and the last 1 024
//!   [token requests](AuthorizationServer::recorded) are remembered.
//!
//! # Caveats
//!
//! - Its user allows and denies without logging in. It speaks HTTP/1.1 without TLS, and is not meant to be reachable
//!   from elsewhere.
//! - Tokens expire by tokio's clock. Where that is paused (`start_paused`), it jumps to the next timer whenever the
//!   runtime waits for a socket, so timeouts may fire early and tokens expire during an exchange. Prefer short real
//!   lifetimes.
//!
//! # Example
//!
//! ```
//! use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
//! use tower_bearer::testing::{AuthorizationServer, Fault};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::start().await?;
//! server.fault(Fault::status(503));
//!
//! let client = Client::new();
//! let ask = || {
//!     client
//!         .post(server.token_url())
//!         .basic_auth("client", Some("secret"))
//!         .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
//!         .body("grant_type=client_credentials")
//!         .send()
//! };
//! assert_eq!(ask().await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(ask().await?.status(), StatusCode::OK);
//! assert_eq!((server.token_requests(), server.tokens_issued()), (2, 1));
//!
//! let refused = client.get(server.api_url("/documents")).send().await?;
//! assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
//! assert_eq!(server.api().missing, 1);
//! # Ok(())
//! # }
//! ```

pub mod providers;
mod server;

mod endpoints;
mod fault;

mod issued;
mod rules;

mod recorded;
mod reply;

pub use fault::Fault;
pub use recorded::{api_counts::ApiCounts, password_counts::PasswordCounts, token_request::TokenRequest};
pub use rules::clients::ClientAuthMethods;
pub use server::{AuthorizationServer, builder::Builder};
