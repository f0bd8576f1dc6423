//! A Tower layer that keeps a live OAuth 2.0 bearer token on outgoing requests.
//!
//! A background task renews the token before it expires; a request reads it without a lock and never waits while there is a
//! valid one.
//!
#![cfg_attr(feature = "oauth2", doc = "```no_run")]
#![cfg_attr(not(feature = "oauth2"), doc = "```text")]
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_bearer::{BearerAuthLayer, LiveToken, Origin, oauth2::{ClientCredentials, TokenEndpoint}};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let http_client = tower::service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(())) });
//! let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
//! let token = LiveToken::spawn(ClientCredentials::new(endpoint).scope("document_read"));
//! let client = ServiceBuilder::new()
//!     .layer(BearerAuthLayer::new(token.clone(), Origin::parse("https://api.example.com")?))
//!     .service(http_client); // hyper-util's client, reqwest::Client (0.13), a tonic channel, …
//!
//! token.ready_within(Duration::from_secs(30)).await?; // optional: fail at start-up, with the reason
//! # Ok(())
//! # }
//! ```
//!
#![cfg_attr(
    all(
        feature = "metrics",
        feature = "oauth2",
        feature = "redis",
        feature = "reqwest-middleware",
        feature = "testing",
        feature = "tonic"
    ),
    doc = "The [guide] has a page for each question: which grant, which store, the lines for each stack, what a 401 sets off, tests, operation, \
           security, your own sources and stores, and coming from other crates."
)]
//!
//! # How a token travels
//!
//! ```text
//! TokenSource ──fetch──▶ refresh task ──publish──▶ cell ◀──load── BearerAuth::call ──▶ inner service
//!     ▲   ▲                    ▲                                        │
//!     │   │                    └────── demand: first use, 401 ◀─────────┘
//!     │   └ store: what outlives the process, or is shared by many
//!     └ oauth2: grants × client authentication ─▶ token endpoint ─▶ a tower HTTP service (reqwest by default)
//! ```
//!
//! The modules stand in the order of that way. There are two wings, and [`TokenSource`] is the only door between them: the
//! request wing ([`LiveToken`], [`BearerAuthLayer`]) knows nothing of OAuth 2.0, the OAuth 2.0 wing knows nothing of requests.
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | a token is due | it is renewed at a random point of 75 to 85 % of its life, sooner if the token endpoint is slow |
//! | a renewal fails | the token in use goes on; tried again after 1, 2, 4 … 60 s (faster for short lives), `Retry-After` obeyed |
//! | the token expires meanwhile | requests wait for the next one, up to [`max_wait`](BearerAuthLayer::max_wait); at once an error if waiting is in vain |
//! | the API answers 401 | the token is renewed once for all requests that were refused (one that may be too new for the API is tried again first), and they are [sent again](replay) where their body allows it |
//! | the API doesn't know a new token yet (it is younger than five seconds) | the one before it serves for a moment, where it lives; without one, requests try the new one again after 0.5, 1 and 2 s, before another is fetched |
//! | 401s go on with the new token | they are handed on, and cause a fetch ever more rarely, at most once a minute in the end |
//! | the API answers 403 | it is handed on: another token would have no more scope |
//! | the credentials are rejected | [`State::Rejected`]; tried once in five minutes and on [`LiveToken::refresh`], so a mended secret needs no restart |
//! | the store can't be used until somebody mends it (rights, a damaged entry) | [`State::Rejected`], and the error speaks of the store; looked at again every ten seconds |
//! | the refresh token is dead | [`State::ReauthorizationRequired`]; a new authorization, adopted, revives the same token |
//! | an answer with a rotated refresh token is lost | it is asked for again while the server may allow it (`Stored::replay_grace`), and once more as the last resort when the token in use is over; only the server's word ends an authorization |
//! | a request goes to another origin | it is an error and isn't sent: no token leaves for where it doesn't belong |
//!
//! # Stacks
//!
//! The layer goes around any tower service of `http` requests or of reqwest's. What a request must be like to be sent again after
//! a 401 is up to the [replay policy](replay):
//!
//! | stack | policy | example |
//! |---|---|---|
//! | hyper-util's client | the default, for bodies in memory | `quickstart` |
//! | `reqwest::Client` (0.13) as a tower service | the default; for streams `Buffered::new(limit, reqwest::Body::wrap)` | `reqwest_upload` |
//! | `reqwest-middleware`: the layer is a middleware (feature `reqwest-middleware`) | as for reqwest | `reqwest_middleware` |
//! | tonic (feature `tonic`) | [`for_tonic()`](BearerAuthLayer) chooses `Buffered::new(64 * 1024, tonic::body::Body::new)`: no gRPC request is empty | `grpc` |
//! | a proxy with axum | `Buffered::new(64 * 1024, axum::body::Body::new)` | `reverse_proxy` |
//! | boxed (`BoxCloneSyncService`), above and below | that of what is boxed | `layers` |
//!
//! Where something doesn't fit, the compiler says what to use instead, if it is told what the service is for: return it as
//! `impl Service<Request<Body>>`, box it, or hand it to a client. Of a lone `service.ready()` or `service.oneshot(…)` it says only that
//! "its trait bounds were not satisfied".
//!
//! # Order of layers
//!
//! [`BearerAuthLayer`] belongs innermost, right around the client: then the token is chosen when the request is sent.
//!
//! | | above (outside) | below (inside) |
//! |---|---|---|
//! | `Buffer`, `ConcurrencyLimit`, `RateLimit` | **right**: who leaves the queue gets the token of that moment | the token is chosen first and may have expired when the request leaves the queue |
//! | `Retry` | **right**: each try gets the token of its moment | each try sends the same token again |
//! | `Timeout` | for the whole: the wait for a token and all attempts | for each attempt alone, not for the wait, which [`max_wait`](BearerAuthLayer::max_wait) limits |
//! | `LoadShed` | **right**: sheds what the client can't take, and never for want of a token | may shed the attempt after a 401 |
//! | `FollowRedirect` | **right**: where a redirect leads to another origin, the fence stops it | whether the token goes along is up to that layer's policy |
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `oauth2` | yes | token endpoints and grants |
//! | `reqwest` | yes | reqwest as the way to token endpoints, and `reqwest::Client` as a service to wrap |
//! | `metrics` | | [metrics](telemetry) of the tokens that have a name, through the `metrics` facade |
//! | `redis` | | token sets in Redis, shared by a fleet |
//! | `tower` | yes, by `oauth2` | `ServiceBuilderExt`: the layer as a method of tower's builder |
//! | `tonic` | | the layer for tonic in one word, errors as a gRPC status, and [`LiveToken`] as an interceptor |
//! | `reqwest-middleware` | | the layer as a middleware |
//! | `multipart` | | token requests as `multipart/form-data`, which some providers ask for |
//! | `rustls` | yes | TLS of reqwest's with rustls |
//! | `native-tls` | | TLS of reqwest's with the system's library |
//! | `testing` | | an authorization server on loopback, with faults to order, for your own tests |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::disallowed_methods, clippy::mod_module_files)]

mod token;
pub use token::{AccessToken, InvalidToken};

mod error;
pub use error::{BoxError, Error, ErrorKind, FetchError, FetchErrorKind, NotSent, TokenError};

pub mod clock;

mod backoff;

mod source;
pub use source::{
    BoxTokenSource, FetchReason, FetchRequest, IntoTokenSource, SourceFn, Storage, TokenFile, TokenSource, source_fn,
};

mod live;
mod panics;
pub use live::{Builder, Driver, LiveToken, State, Status, StatusWatch, telemetry};

mod bearer;
pub use bearer::{
    BearerAuth, BearerAuthLayer, HttpRequest, HttpResponse, InvalidOrigin, OnUnauthorized, Origin, PerRequest,
    ResponseFuture, replay,
};

#[cfg(feature = "tower")]
pub use bearer::ServiceBuilderExt;

#[cfg(feature = "tonic")]
pub use bearer::{TonicAuth, TonicAuthLayer, TonicResponseFuture};

#[cfg(feature = "oauth2")]
pub mod oauth2;

#[cfg(feature = "oauth2")]
pub mod store;

#[cfg(feature = "testing")]
#[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
pub mod testing;

#[cfg(all(
    any(doc, doctest),
    feature = "metrics",
    feature = "oauth2",
    feature = "redis",
    feature = "reqwest-middleware",
    feature = "testing",
    feature = "tonic",
))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod guide;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(all(doctest, feature = "oauth2", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
