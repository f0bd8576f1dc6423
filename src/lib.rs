//! A Tower layer that keeps a live OAuth 2.0 bearer token on outgoing requests.
//!
//! A background task renews the token before it expires. A request reads it without a lock, and never waits while a valid token exists.
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
        feature = "postgres",
        feature = "redis",
        feature = "reqwest-middleware",
        feature = "sealed",
        feature = "testing",
        feature = "tonic"
    ),
    doc = "The [guide] has a page for each question: which grant, which store, the lines for each stack, what happens after a 401, tests, \
           operation, security, your own sources and stores, and how to migrate from other crates."
)]
//!
//! # How a token travels
//!
//! ```text
//! TokenSource ──fetch──▶ background task ──publish──▶ cell ◀──read── BearerAuth::call ──▶ inner service
//!     ▲   ▲                      ▲                                         │
//!     │   │                      └──────── demand: a fetch, a 401 ◀────────┘
//!     │   └ store: token sets that outlive the process or that a fleet shares
//!     └ oauth2: grants × client authentication ─▶ token endpoint ─▶ a tower HTTP service (default: reqwest)
//! ```
//!
//! The modules are declared in this order. The crate has two wings: the request wing ([`LiveToken`], [`BearerAuthLayer`]) knows nothing of
//! OAuth 2.0, and the OAuth 2.0 wing knows nothing of requests. They meet only in [`TokenSource`].
//!
//! # What happens when
//!
//! | What happens | What the crate does |
//! |---|---|
//! | a token has used 75 to 85 % of its lifetime | the background task renews it, at a random point in this range; sooner if the token endpoint is slow |
//! | a renewal fails | requests go on with the current token. The task tries again after at most 1, 2, 4 … 60 s (sooner if the lifetime is short), and obeys `Retry-After` |
//! | the token expires before a renewal works | requests wait for the next token, at most [`max_wait`](BearerAuthLayer::max_wait). If none can come in that time, they fail at once |
//! | the API responds with 401 | the token is renewed once for all requests that were refused. Then they are [sent again](replay) if their body allows it |
//! | the API refuses a new token (younger than five seconds), perhaps because it doesn't know it yet | requests carry the previous token for a moment, if it is still valid. Otherwise the refused ones try the new token again after 0.5, 1 and 2 s, before another is fetched |
//! | the API refuses the renewed token, too | the 401s are returned. They cause fetches more and more rarely, in the end at most once a minute |
//! | the API responds with 403 | the response is returned: another token would have the same scope |
//! | the token endpoint rejects the credentials | [`State::Rejected`]. The task tries again every five minutes and on [`LiveToken::refresh`], so a corrected secret needs no restart |
//! | the store can't be used until somebody repairs it (permissions, a damaged entry) | [`State::Rejected`], with an error about the store. The task tries again every ten seconds |
//! | the authorization has ended | [`State::ReauthorizationRequired`]. When the user has authorized again, `StoredHandle::adopt` makes the same live token work again |
//! | a token response with a new single-use refresh token is lost | the spent one is sent again while the server may accept it (`Stored::replay_grace`), and once more as the last resort when the access token has expired. Only the server's word ends an authorization |
//! | a request goes to a foreign origin | it fails and isn't sent, so the token goes to its own origins only |
//!
//! # Stacks
//!
//! The layer wraps any tower service of `http::Request` or `reqwest::Request`. A [replay policy](replay) decides which requests can be sent
//! again after a 401:
//!
//! | Stack | Replay policy | Example |
//! |---|---|---|
//! | hyper-util's client | the default, for bodies in memory | `quickstart` |
//! | `reqwest::Client` (0.13) as a tower service | the default; for streams `Buffered::new(limit, reqwest::Body::wrap)` | `reqwest_upload` |
//! | `reqwest-middleware`: the layer is a middleware (feature `reqwest-middleware`) | as for reqwest | `reqwest_middleware` |
//! | tonic (feature `tonic`) | [`for_tonic()`](BearerAuthLayer) chooses `Buffered::new(64 * 1024, tonic::body::Body::new)`: no gRPC request is empty | `grpc` |
//! | a proxy with axum | `Buffered::new(64 * 1024, axum::body::Body::new)` | `reverse_proxy` |
//! | a boxed service (`BoxCloneSyncService`) below or above the layer | the policy for what is boxed | `layers` |
//!
//! If a type doesn't fit, the compiler says what to use instead, provided that it knows what the service is for: return it as
//! `impl Service<Request<Body>>`, box it, or pass it to a client. For a `service.ready()` or `service.oneshot(…)` alone it only says that
//! "its trait bounds were not satisfied".
//!
//! # Order of layers
//!
//! Put [`BearerAuthLayer`] innermost, right around the client. Then the token is chosen when the request is sent.
//!
//! | Another layer | above [`BearerAuthLayer`] (outside) | below it (inside) |
//! |---|---|---|
//! | `Buffer`, `ConcurrencyLimit`, `RateLimit` | **right**: a request gets its token when it leaves the queue | a request gets its token before it enters the queue, and the token may have expired when it leaves |
//! | `Retry` | **right**: each attempt gets the current token | all attempts carry the same token |
//! | `Timeout` | limits the whole: the wait for a token and all attempts | limits each attempt, but not the wait, which [`max_wait`](BearerAuthLayer::max_wait) limits |
//! | `LoadShed` | **right**: sheds what the client can't take, but never because a token is missing | may shed the attempt after a 401 |
//! | `FollowRedirect` | **right**: the fence stops a redirect to a foreign origin | that layer's own policy decides whether the token goes along |
//!
//! # Features
//!
//! | Feature | Default | |
//! |---|---|---|
//! | `oauth2` | yes | token endpoints and grants |
//! | `reqwest` | yes | reqwest as the HTTP client for token requests, and `reqwest::Client` as a service to wrap |
//! | `metrics` | | [metrics](telemetry) of the tokens that have a name, through the `metrics` facade |
//! | `redis` | | token sets in Redis, shared by a fleet; on one server, behind sentinels or in a cluster |
//! | `postgres` | | token sets in PostgreSQL, shared by a fleet, through your own pool of sqlx 0.8 |
//! | `sealed` | | token sets that are encrypted in their store |
//! | `tower` | yes (`oauth2` includes it) | `ServiceBuilderExt`: the layer as a method of tower's builder |
//! | `tonic` | | [`for_tonic()`](BearerAuthLayer), errors as a gRPC status, and [`LiveToken`] as an interceptor |
//! | `reqwest-middleware` | | the layer as a middleware |
//! | `multipart` | | token requests as `multipart/form-data`, which some providers ask for |
//! | `rustls` | yes | TLS for reqwest with rustls |
//! | `native-tls` | | TLS for reqwest with the system's library |
//! | `testing` | | an authorization server on loopback that fails on demand, for your own tests |
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
    feature = "postgres",
    feature = "redis",
    feature = "reqwest-middleware",
    feature = "sealed",
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
