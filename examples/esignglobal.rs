//! eSignGlobal: multipart bodies with id and secret among the fields. The application uses client credentials for itself, or acts for a
//! user, with refresh tokens that live for 30 days.
//!
//! ```sh
//! ESIGNGLOBAL_TOKEN_URL=…/esignglobal/v1/oauth2/accessToken ESIGNGLOBAL_AUTHORIZATION_URL=… ESIGNGLOBAL_API_URL=… \
//!     ESIGNGLOBAL_CLIENT_ID=… ESIGNGLOBAL_CLIENT_SECRET=… ESIGNGLOBAL_REDIRECT_URI=… \
//!     cargo run --features multipart --example esignglobal
//! ```

#[path = "shared/provider.rs"]
mod provider;

use std::time::Duration;

use provider::Provider;
use tower_bearer::{
    BoxError, LiveToken,
    oauth2::{AuthorizationCode, ClientCredentials, RefreshToken, Stored, TokenEndpoint},
    testing::providers,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let simulator = providers::esignglobal().lifetime(Some(Duration::from_secs(2)));
    let esign = Provider::open("ESIGNGLOBAL", simulator).await?;
    let endpoint = TokenEndpoint::new(&esign.token_url)?
        .client_secret_post(&esign.client_id, esign.client_secret.clone())
        .multipart();

    println!("for the application itself:");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint.clone()));
    token.ready().await?;
    esign.call(&token).await?;

    println!("in the name of a user:");
    let login = AuthorizationCode::new(endpoint.clone(), &esign.authorization_url, &esign.redirect_uri)?;
    let pending = login.start();
    let callback = esign.callback(pending.url())?;
    // The provider's documentation says that refresh tokens live for 30 days; its token responses don't.
    let days = Duration::from_secs(30 * 86_400);
    let set = login.finish(pending, &callback).await?.refresh_expires_in(days);
    let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint).refresh_lifetime(days)).holding(set));
    esign.call(&token).await?;

    // Warn the user while there is time. Each renewal restarts the thirty days.
    let left = token.status().authorization_left().ok_or("the lifetime is known")?;
    println!("the user must agree again in {} days", left.as_secs().div_ceil(86_400));
    Ok(())
}
