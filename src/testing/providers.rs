//! Simulators of five providers of APIs, each as strict as its documentation is about what it takes.
//!
//! Each function gives a [`Builder`] that is set up like the provider and knows one client, [`CLIENT_ID`] with
//! [`CLIENT_SECRET`]. They differ in the grants on offer, the place of the client's secret, the kind of body, the path
//! of the token endpoint, and in what an answer or a refusal looks like. What is not documented is left out: they have
//! no introspection, revocation or discovery.
//!
//! The same options apply as elsewhere: a shorter [lifetime](Builder::lifetime) is enforced and, where the
//! provider tells lifetimes, announced as well.
//!
//! ```
//! use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
//! use tower_bearer::testing::providers;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = providers::signicat_express().start().await?;
//! let ask = |scope: &str| {
//!     Client::new()
//!         .post(server.token_url())
//!         .basic_auth(providers::CLIENT_ID, Some(providers::CLIENT_SECRET))
//!         .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
//!         .body(format!("grant_type=client_credentials&scope={scope}"))
//!         .send()
//! };
//! assert_eq!(ask("document_read+event").await?.status(), StatusCode::OK);
//! assert_eq!(ask("everything").await?.status(), StatusCode::BAD_REQUEST);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use super::server::{AuthorizationServer, builder::Builder};
use crate::testing::rules::{
    clients::ClientAuthMethods,
    quirks::{ErrorFormat, Quirks, ScopeAnswer},
};

/// Agrello: codes and refresh tokens, HTTP Basic, at least one scope.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = tower_bearer::testing::providers::agrello().start().await?;
/// assert!(server.authorization_url().ends_with("/authorize"));
/// # Ok(())
/// # }
/// ```
pub fn agrello() -> Builder {
    provider(Quirks { scope_required: true, ..BASE })
        .grants(&["authorization_code", "refresh_token"])
        .client_auth(ClientAuthMethods::Basic)
}

/// Signicat Express, once Idfy: client credentials, HTTP Basic without any encoding of its parts, five scopes.
///
/// Its API answers 401 for an expired or missing token and 403 where a scope is missing (`/api/forbidden`).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = tower_bearer::testing::providers::signicat_express().start().await?;
/// assert_eq!(server.tokens_issued(), 0);
/// # Ok(())
/// # }
/// ```
pub fn signicat_express() -> Builder {
    provider(Quirks { scope: ScopeAnswer::Never, ..BASE })
        .grants(&["client_credentials"])
        .client_auth(ClientAuthMethods::BasicRaw)
        .scopes(&["document_read", "document_write", "document_file", "event", "identify"])
}

/// signNow: passwords, codes and refresh tokens, a ready-made Basic value ([`SIGNNOW_BASIC_VALUE`]), multipart bodies.
///
/// It knows the user [`USER`] with [`PASSWORD`]. A wrong password is answered `Invalid credentials.`, in a 400 whose
/// shape is ours, as is that for a body that is not multipart. `expiration_time` shortens the life of a token.
/// `GET` at the token endpoint tells about the token in the `Authorization` header, with `expires_in` as a string;
/// with the Basic value in that header, as the documentation's sample has it, about the client's newest.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = tower_bearer::testing::providers::signnow().start().await?;
/// assert!(server.token_url().ends_with("/oauth2/token"));
/// # Ok(())
/// # }
/// ```
pub fn signnow() -> Builder {
    provider(Quirks {
        token_type: Some("bearer"),
        scope: ScopeAnswer::RequestedOr("*"),
        extra_members: &[("last_login", "1")],
        expiration_time: true,
        redirect_uri_again: false,
        token_check: true,
        error_format: ErrorFormat::SignNow,
        ..BASE
    })
    .grants(&["password", "authorization_code", "refresh_token"])
    .client_auth(ClientAuthMethods::BasicRaw)
    .multipart()
    .token_path("/oauth2/token")
    .user(USER, PASSWORD)
    .lifetime(Some(Duration::from_secs(2_592_000)))
}

/// Agile Planner: codes only, the secret in the form, answers with nothing but the token.
///
/// It rejects parameters that it doesn't know: PKCE's and `scope` are among them. Only [`REDIRECT_URI`] is registered
/// ([`Builder::redirect_uri`] adds others). Tokens live an hour and nobody is told.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use tower_bearer::testing::providers::{REDIRECT_URI, agile_planner};
///
/// let server = agile_planner().start().await?;
/// let query = format!("response_type=code&client_id=client&redirect_uri={REDIRECT_URI}");
/// let callback = server.approve(&format!("{}?{query}", server.authorization_url()));
/// assert!(callback.contains("code="));
/// # Ok(())
/// # }
/// ```
pub fn agile_planner() -> Builder {
    provider(Quirks {
        token_type: None,
        announce_lifetime: false,
        scope: ScopeAnswer::Never,
        scope_parameter: false,
        ..BASE
    })
    .grants(&["authorization_code"])
    .client_auth(ClientAuthMethods::Post)
    .redirect_uri(REDIRECT_URI)
    .reject_unknown_parameters(true)
    .without_pkce_support()
}

/// eSignGlobal: client credentials, codes and refresh tokens, the secret in the form, multipart bodies.
///
/// Fields in the URL, in JSON or urlencoded are answered 415 with JSON whose shape is ours. The scope is always
/// `read-write`. A refresh token lives 30 days; a rotated one starts anew.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = tower_bearer::testing::providers::esignglobal().start().await?;
/// assert!(server.token_url().ends_with("/esignglobal/v1/oauth2/accessToken"));
/// # Ok(())
/// # }
/// ```
pub fn esignglobal() -> Builder {
    provider(Quirks {
        token_type: Some("bearer"),
        scope: ScopeAnswer::Always("read-write"),
        redirect_uri_again: false,
        query_allowed: false,
        error_format: ErrorFormat::EsignGlobal,
        ..BASE
    })
    .grants(&["client_credentials", "authorization_code", "refresh_token"])
    .client_auth(ClientAuthMethods::Post)
    .multipart()
    .token_path("/esignglobal/v1/oauth2/accessToken")
    .lifetime(Some(Duration::from_secs(86_398)))
    .refresh_lifetime(Some(Duration::from_secs(30 * 86_400)))
}

/// The client that every simulator knows.
pub const CLIENT_ID: &str = "client";

/// Its secret. Form-encoded it is another text, so a client that takes the wrong form of Basic is found out.
pub const CLIENT_SECRET: &str = "s3cr3t+/=%41";

/// The Base64 of the two, as signNow's dashboard hands it out: what follows `Basic `.
pub const SIGNNOW_BASIC_VALUE: &str = "Y2xpZW50OnMzY3IzdCsvPSU0MQ==";

/// The user that [`signnow`] knows.
pub const USER: &str = "user@example.com";

/// The user's password.
pub const PASSWORD: &str = "pa55 w&rd";

/// The redirect URI that [`agile_planner`] knows. No listener is needed for
/// [`AuthorizationServer::approve`](crate::testing::AuthorizationServer::approve).
pub const REDIRECT_URI: &str = "http://127.0.0.1:8421/callback";

fn provider(quirks: Quirks) -> Builder {
    let mut builder = AuthorizationServer::builder().client(CLIENT_ID, CLIENT_SECRET);
    builder.rules.quirks = quirks;
    builder
}

/// The standard's, without what none of the five documents.
const BASE: Quirks = Quirks { more_endpoints: false, ..Quirks::NONE };
