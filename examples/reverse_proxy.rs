//! How does a proxy put a token on the requests that pass through it?
//!
//! `cargo run --example reverse_proxy` starts an authorization server with an API, and a proxy with a live token in front of it. A client
//! that knows nothing of tokens uploads through the proxy. Meanwhile the token is revoked. The exit code is 0 only if every upload came
//! back whole.

#[path = "shared/reverse_proxy.rs"]
mod proxy;

use std::{convert::Infallible, future::IntoFuture};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use proxy::reverse_proxy;
use tokio::net::TcpListener;
use tower_bearer::{
    BearerAuthLayer, BoxError, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let api = AuthorizationServer::start().await?;
    let upstream: reqwest::Url = api.origin().parse()?;

    let endpoint = TokenEndpoint::new(&api.token_url())?.client_secret_basic("client", "secret");
    let layer = BearerAuthLayer::spawn(ClientCredentials::new(endpoint), Origin::parse(&api.origin())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api/echo", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, reverse_proxy(layer, upstream.authority().parse()?)).into_future());

    let client = reqwest::Client::new();
    for number in 1..=3 {
        let pieces = ["a body ".into(), "in pieces, ".into(), format!("number {number}")];
        let body = StreamBody::new(stream::iter(
            pieces.clone().map(|piece: String| Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))),
        ));
        let answer = client.put(&url).body(reqwest::Body::wrap(body)).send().await?.error_for_status()?;
        let text = answer.text().await?;
        println!("{text:?} came back");
        if text != pieces.concat() {
            return Err("not what was sent".into());
        }
        api.revoke_all();
    }
    // The API may not know a new token yet, so the same token is tried again before another is fetched.
    println!("two uploads were sent again, after {} refusals", api.api().revoked);
    if api.api().revoked >= 2 { Ok(()) } else { Err("not as told".into()) }
}
