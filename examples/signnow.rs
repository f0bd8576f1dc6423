//! signNow: a user's name and password, a Basic value that the dashboard gives out already encoded, and multipart bodies.
//!
//! The documented sandbox is at `https://api-eval.signnow.com/oauth2/token`. Tokens live for 30 days; `expiration_time` shortens that.
//!
//! ```sh
//! SIGNNOW_TOKEN_URL=… SIGNNOW_API_URL=… SIGNNOW_BASIC_VALUE=… SIGNNOW_USERNAME=… SIGNNOW_PASSWORD=… \
//!     cargo run --features multipart --example signnow
//! ```

#[path = "shared/provider.rs"]
mod provider;

use provider::Provider;
use tower_bearer::{
    BoxError, ErrorKind, LiveToken,
    oauth2::{LegacyPassword, ProvedBy, RefreshToken, Stored, TokenEndpoint},
    testing::providers,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let signnow = Provider::open("SIGNNOW", providers::signnow()).await?;
    let endpoint = TokenEndpoint::new(&signnow.token_url)?
        .client_basic_value(signnow.setting("BASIC_VALUE", providers::SIGNNOW_BASIC_VALUE)?)
        .multipart();
    let username = signnow.setting("USERNAME", providers::USER)?;
    let password = signnow.setting("PASSWORD", providers::PASSWORD)?;

    // Two seconds, to see a renewal. The refresh token renews it, so the password is sent once.
    let grant = LegacyPassword::new(endpoint.clone(), &username, password).scope("*").param("expiration_time", "2");
    let token = LiveToken::spawn(grant);
    token.ready().await?;
    signnow.call(&token).await?;

    // A rejected password isn't tried again: that would lock the account.
    let wrong = LiveToken::spawn(LegacyPassword::new(endpoint.clone(), &username, "wrong"));
    let error = wrong.ready().await.expect_err("the password is wrong");
    println!("with a wrong password: {error}");
    assert_eq!(error.kind(), ErrorKind::Rejected);

    // A token from elsewhere (in this example the same one): ask the provider about it, and adopt it with the lifetime it has left.
    let header = token.authorization().ok_or("there is a token")?;
    let secret = header.to_str()?.trim_start_matches("Bearer ");
    let set = endpoint.verify(&signnow.token_url, secret, ProvedBy::Token).await?;
    println!("verified: good for another {:?}", set.lifetime());
    let adopted = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint)).holding(set));
    adopted.ready().await?;
    println!("adopted: {:?} left", adopted.status().time_left());
    Ok(())
}
