//! An OAuth 2.0 authorization server for tests. It runs in the test's process, on loopback.
//!
//! [`AuthorizationServer`] answers real requests over real sockets. It has a token endpoint at `/token`, a page at
//! `/authorize` that asks a user, and a small API under `/api/` that accepts only its tokens. It [misbehaves](Fault) on
//! demand, counts what it sees, and rotates secrets and revokes tokens. [`providers`] has servers with the quirks of real
//! ones. All of it requires the feature `testing`. `StoreCheck` checks a token store that you write yourself.
//!
//! # Rules
//!
//! - **The server decides when the request has arrived.** Counters, credentials, faults and the start of a token's life
//!   are fixed then. [Latency](Builder::latency) and [delays](Fault::delay) come after that. So a program that counts a
//!   token's lifetime from the arrival of the answer uses the token too long, and the test shows it.
//! - **A fault that replaces the answer issues no token.** A fault that only changes the answer (its members, its speed,
//!   its end) does issue one.
//! - **Memory is bounded.** The server remembers the newest [65 536](Builder::remember) tokens and the last 1 024
//!   [token requests](AuthorizationServer::recorded).
//!
//! # Caveats
//!
//! - The user allows and denies without a login. The server speaks HTTP/1.1 without TLS. Other machines can't reach it.
//! - Tokens expire by tokio's clock. If the clock is paused (`start_paused`), it jumps to the next timer whenever the
//!   runtime waits for a socket: timeouts fire early, and tokens expire during an exchange. Prefer short real lifetimes.
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
//! let answer = client.get(server.api_url("/documents")).send().await?;
//! assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
//! assert_eq!(server.api().missing, 1);
//! # Ok(())
//! # }
//! ```

// This is a feature and not a crate of its own, so users get it by one feature, and its version always fits the crate's.
// Nothing else of the crate imports it. It imports nothing else of the crate but the interface of stores, which `store_check` checks.

pub mod providers;
mod server;

mod endpoints;
mod fault;

mod issued;
mod rules;

mod recorded;
mod reply;

#[cfg(feature = "oauth2")]
mod store_check;

pub use fault::Fault;
pub use recorded::{api_counts::ApiCounts, password_counts::PasswordCounts, token_request::TokenRequest};
pub use rules::clients::ClientAuthMethods;
pub use server::{AuthorizationServer, builder::Builder};
#[cfg(feature = "oauth2")]
pub use store_check::{StoreCheck, StoreReport};
