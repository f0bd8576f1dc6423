//! Agrello: a user authorizes in the browser. The client's secret stays in the back end, which sends it in HTTP Basic. Refresh tokens renew
//! the access token.
//!
//! ```sh
//! AGRELLO_TOKEN_URL=… AGRELLO_AUTHORIZATION_URL=… AGRELLO_API_URL=… AGRELLO_CLIENT_ID=… AGRELLO_CLIENT_SECRET=… \
//!     AGRELLO_REDIRECT_URI=… AGRELLO_SCOPE=… cargo run --example agrello
//! ```

#[path = "shared/provider.rs"]
mod provider;

use std::time::Duration;

use provider::Provider;
use tower_bearer::{
    BoxError, LiveToken,
    oauth2::{AuthorizationCode, RefreshToken, Stored, TokenEndpoint},
    testing::providers,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let simulator = providers::agrello().lifetime(Some(Duration::from_secs(2)));
    let agrello = Provider::open("AGRELLO", simulator).await?;

    let endpoint =
        TokenEndpoint::new(&agrello.token_url)?.client_secret_basic(&agrello.client_id, agrello.client_secret.clone());
    let login = AuthorizationCode::new(endpoint.clone(), &agrello.authorization_url, &agrello.redirect_uri)?
        .scope(agrello.setting("SCOPE", "documents")?);

    // In a web app the two halves are two requests, with `pending` in the session between them: see `web_app`.
    let pending = login.start();
    let callback = agrello.callback(pending.url())?;
    let set = login.finish(pending, &callback).await?;

    let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint)).holding(set));
    agrello.call(&token).await
}
