//! Signicat Express (formerly Idfy): client credentials, with id and secret in HTTP Basic as they are.
//!
//! The documented token endpoint is `https://api.signicat.io/oauth/connect/token`, the same for test and production. Tokens live for an
//! hour. The API responds with 401 to an expired token, and with 403 if a scope is missing.
//!
//! ```sh
//! SIGNICAT_TOKEN_URL=… SIGNICAT_API_URL=… SIGNICAT_CLIENT_ID=… SIGNICAT_CLIENT_SECRET=… \
//!     cargo run --example signicat_express
//! ```

#[path = "shared/provider.rs"]
mod provider;

use std::time::Duration;

use provider::Provider;
use tower_bearer::{
    BoxError, LiveToken,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::providers,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let simulator = providers::signicat_express().lifetime(Some(Duration::from_secs(2)));
    let signicat = Provider::open("SIGNICAT", simulator).await?;

    // Not `client_secret_basic`: this server expects id and secret without the form-encoding of RFC 6749 §2.3.1.
    let endpoint = TokenEndpoint::new(&signicat.token_url)?
        .client_secret_basic_raw(&signicat.client_id, signicat.client_secret.clone());
    // All scopes that exist. If the client may not have one of them, the server refuses the whole request.
    let grant = ClientCredentials::new(endpoint).scope("document_read document_write document_file event identify");

    let token = LiveToken::spawn(grant);
    token.ready().await?;
    signicat.call(&token).await
}
