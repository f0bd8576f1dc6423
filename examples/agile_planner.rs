//! Agile Planner: a user authorizes in the browser. The token response has only an access token, without a lifetime. Only a 401 says that
//! it has expired. Then the user must authorize again.
//!
//! ```sh
//! AGILE_PLANNER_TOKEN_URL=… AGILE_PLANNER_AUTHORIZATION_URL=… AGILE_PLANNER_API_URL=… AGILE_PLANNER_CLIENT_ID=… \
//!     AGILE_PLANNER_CLIENT_SECRET=… AGILE_PLANNER_REDIRECT_URI=… cargo run --example agile_planner
//! ```

#[path = "shared/provider.rs"]
mod provider;

use provider::Provider;
use tower_bearer::{
    BoxError, ErrorKind, LiveToken, State,
    oauth2::{AuthorizationCode, RefreshToken, Stored, TokenEndpoint, TokenSet},
    testing::providers,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let planner = Provider::open("AGILE_PLANNER", providers::agile_planner()).await?;
    let endpoint =
        TokenEndpoint::new(&planner.token_url)?.client_secret_post(&planner.client_id, planner.client_secret.clone());
    // It refuses parameters that it doesn't know. It knows `state`, but not those of PKCE.
    let login = AuthorizationCode::new(endpoint.clone(), &planner.authorization_url, &planner.redirect_uri)?
        .insecure_without_pkce();

    let source = Stored::new(RefreshToken::new(endpoint)).holding(authorize(&planner, &login).await?);
    let account = source.handle();
    let token = LiveToken::spawn(source);
    planner.call(&token).await?;

    // One day the token expires. The simulator is told to end it; with the provider, this program ends here.
    let Some(simulator) = &planner.simulator else { return Ok(()) };
    simulator.revoke_all();
    let error = planner.call(&token).await.expect_err("the API refuses the token");
    println!("{error}: state {:?}", token.status().state());
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    assert_eq!(token.refresh().await.map_err(|error| error.kind()), Err(ErrorKind::ReauthorizationRequired));

    // The user authorizes again, and the same live token works again: no client has to be rebuilt.
    account.adopt(authorize(&planner, &login).await?).await;
    planner.call(&token).await
}

async fn authorize(planner: &Provider, login: &AuthorizationCode) -> Result<TokenSet, BoxError> {
    let pending = login.start();
    let callback = planner.callback(pending.url())?;
    Ok(login.finish(pending, &callback).await?)
}
