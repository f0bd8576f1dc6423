//! How does a gRPC client keep its token, and what happens to streams when it is revoked?
//!
//! `cargo run --features tonic --example grpc` starts an authorization server, and a gRPC server that asks it about every call.
//! The token is revoked before each call. So each call is first refused with `UNAUTHENTICATED`, and then sent again with another token.
//! The exit code is 0 only if every call arrived whole.

#[path = "shared/documents.rs"]
mod documents;

use bytes::Bytes;
use documents::{Documents, DocumentsClient};
use futures_util::stream;
use tonic::transport::Endpoint;
use tower::{BoxError, ServiceBuilder};
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::start().await?;
    let address = Documents::serve(server.api_url("/gate")).await?;
    let url = format!("http://{address}");

    let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    let service = ServiceBuilder::new()
        // Keeps the first bytes of each request, because no gRPC request is empty or in memory. Turns errors into a status, so that
        // tonic knows what failed and whether to try again.
        .layer(BearerAuthLayer::new(token.clone(), Origin::parse(&url)?).for_tonic())
        .service(Endpoint::from_shared(url)?.connect_lazy());
    let mut client = DocumentsClient::new(service);
    token.ready().await?;

    server.revoke_all();
    println!("unary:            {:?}", client.get("a message").await?);

    server.revoke_all();
    let messages = stream::iter(["one", "two", "three"].map(Bytes::from));
    println!("client streaming: {:?}", client.upload(messages).await?);

    server.revoke_all();
    let (mut received, mut messages) = (0, client.download(1000).await?);
    while let Some(message) = messages.message().await? {
        received += message.len();
    }
    println!("server streaming: {received} bytes");

    let (counts, fetched) = (server.api(), server.token_requests());
    println!("{} calls refused, {} accepted, {fetched} tokens", counts.revoked, counts.accepted);
    // More are refused than revoked: a new token may not be known everywhere yet, so it is tried again before another is fetched.
    let as_told = (received, counts.accepted) == (16_384_000, 3) && counts.revoked >= 3;
    if as_told { Ok(()) } else { Err("not as told".into()) }
}
