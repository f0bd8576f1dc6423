//! How does an upload with reqwest survive a revoked token?
//!
//! `cargo run --example reqwest_upload` sends a stream, which can't be copied, piece by piece, with a token that has been revoked. The API
//! refuses the token, and the upload is sent again whole. The exit code is 0 only if it arrived whole.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, BoxError, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::Buffered,
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::start().await?;
    let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    let layer = BearerAuthLayer::new(token.clone(), Origin::parse(&server.origin())?)
        // Keeps up to 1 MiB of a stream until the response arrives.
        .replay(Buffered::new(1024 * 1024, reqwest::Body::wrap));
    let mut client = ServiceBuilder::new().layer(layer).service(reqwest::Client::new());
    token.ready().await?;
    server.revoke_all();

    let pieces = stream::iter(0..50).then(|number| async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("piece {number};"))))
    });
    let mut request = reqwest::Request::new(reqwest::Method::PUT, server.api_url("/echo").parse()?);
    *request.body_mut() = Some(reqwest::Body::wrap(StreamBody::new(Box::pin(pieces))));
    let answer = client.ready().await?.call(request).await?.error_for_status()?.text().await?;

    let whole: String = (0..50).map(|number| format!("piece {number};")).collect();
    // The API may not know a new token yet, so the same token is tried again before another is fetched.
    println!("{} of {} bytes arrived, after {} refusals", answer.len(), whole.len(), server.api().revoked);
    if answer == whole && server.api().revoked > 0 { Ok(()) } else { Err("not as told".into()) }
}
