//! Simulators of five API providers. Each accepts what the documentation of its provider says, and nothing else.
//!
//! Each function returns a [`Builder`] with the options of the provider and one client: [`CLIENT_ID`] with
//! [`CLIENT_SECRET`]. The providers differ in the grants on offer, the place of the client's secret, the kind of body, the
//! path of the token endpoint, and the look of answers and errors. None documents introspection, revocation or
//! discovery, so these are missing.
//!
//! All options of the builder still apply. A shorter [lifetime](Builder::lifetime), for example, is enforced, and
//! announced if the provider announces lifetimes.
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

/// Agrello: codes and refresh tokens, HTTP Basic. A scope is required.
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

/// Signicat Express, once Idfy: client credentials, HTTP Basic without the form encoding, five scopes.
///
/// Its API answers 401 to an expired or missing token, and 403 if a scope is missing (`/api/forbidden`).
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
/// - It knows one user, [`USER`] with [`PASSWORD`].
/// - The answer to a wrong password is 400 with the text `Invalid credentials.` The JSON around it is not documented, and
///   neither is the answer to a body that is not multipart: both are made up.
/// - `expiration_time` shortens the life of a token.
/// - `GET` at the token endpoint describes the token of the `Authorization` header. Its `expires_in` is a string. If the
///   header has the Basic value, as in the documentation's sample, the answer describes the newest token of the client.
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

/// Agile Planner: codes only, the secret in the form. Answers have no member but the token.
///
/// It rejects unknown parameters, such as those of PKCE and `scope`. Only [`REDIRECT_URI`] is registered
/// ([`Builder::redirect_uri`] adds others). Tokens live for an hour, and answers don't say so.
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
/// The answer to fields in the URL, in JSON or urlencoded is 415. Its JSON is not documented, and made up. The scope is
/// always `read-write`. A refresh token lives for 30 days, and rotation starts its life anew.
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
///
/// Example: [the module's](self).
pub const CLIENT_ID: &str = "client";

/// The secret of [`CLIENT_ID`]. The form encoding changes it, so a client that encodes wrongly is rejected.
///
/// Example: [the module's](self).
pub const CLIENT_SECRET: &str = "s3cr3t+/=%41";

/// The Base64 of [`CLIENT_ID`] and [`CLIENT_SECRET`], as signNow's dashboard hands it out. It follows `Basic `.
///
/// ```
/// use tower_bearer::testing::providers::{PASSWORD, SIGNNOW_BASIC_VALUE, USER, signnow};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = signnow().start().await?;
/// let field = |name, value| format!("--x\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n");
/// let fields = [field("grant_type", "password"), field("username", USER), field("password", PASSWORD)];
/// let answer = reqwest::Client::new()
///     .post(server.token_url())
///     .header("authorization", format!("Basic {SIGNNOW_BASIC_VALUE}"))
///     .header("content-type", "multipart/form-data; boundary=x")
///     .body(fields.concat() + "--x--");
/// assert_eq!(answer.send().await?.status(), 200);
/// # Ok(())
/// # }
/// ```
pub const SIGNNOW_BASIC_VALUE: &str = "Y2xpZW50OnMzY3IzdCsvPSU0MQ==";

/// The user that [`signnow`] knows.
///
/// Example: [`SIGNNOW_BASIC_VALUE`].
pub const USER: &str = "user@example.com";

/// The password of [`USER`].
///
/// Example: [`SIGNNOW_BASIC_VALUE`].
pub const PASSWORD: &str = "pa55 w&rd";

/// The redirect URI that [`agile_planner`] knows.
///
/// [`AuthorizationServer::approve`](crate::testing::AuthorizationServer::approve) needs no listener there.
///
/// Example: [`agile_planner`].
pub const REDIRECT_URI: &str = "http://127.0.0.1:8421/callback";

/// A builder with the client of all simulators.
fn provider(quirks: Quirks) -> Builder {
    let mut builder = AuthorizationServer::builder().client(CLIENT_ID, CLIENT_SECRET);
    builder.rules.quirks = quirks;
    builder
}

/// The quirk that all five share: they document no other endpoints.
const BASE: Quirks = Quirks { more_endpoints: false, ..Quirks::NONE };
