//! Where does the layer belong among the middlewares of `reqwest-middleware`?
//!
//! `cargo run --features reqwest-middleware --example reqwest_middleware` calls an API for four seconds. Its tokens live for three seconds,
//! and one is revoked. One call has credentials of its own and needs no token. The exit code is 0 only if every other call succeeded.

use std::time::Duration;

use reqwest_middleware::ClientBuilder;
use tower_bearer::{
    BearerAuthLayer, BoxError, LiveToken, Origin, PerRequest,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::builder().lifetime(Some(Duration::from_secs(3))).start().await?;
    let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    let client = ClientBuilder::new(reqwest::Client::new())
        // Tracing and retries come first. The layer comes last, so that it is innermost:
        .with(BearerAuthLayer::new(token.clone(), Origin::parse(&server.origin())?).ask_requests())
        .build();

    let url = server.api_url("/documents");
    for number in 1..=40 {
        client.get(&url).send().await?.error_for_status()?;
        if number == 20 {
            server.revoke_all();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let own = client.get(&url).basic_auth("client", Some("secret")).with_extension(PerRequest::new().without_token());
    println!("with credentials of its own: {}, as this API takes tokens only", own.send().await?.status());

    let counts = server.api();
    println!("{} calls accepted, {} recovered, {} tokens", counts.accepted, counts.revoked, server.tokens_issued());
    if (counts.accepted, counts.missing) == (40, 1) { Ok(()) } else { Err("not as told".into()) }
}
