//! 100 MB up and 100 MB down through a gRPC channel with a token that is buffered for: how much memory that takes at most.
//!
//! Client and server run on one thread, and everything that this thread allocates counts: both ends, the copy, the buffers of
//! HTTP/2 (a window of 1 MiB each at the server's end).
#![cfg(all(feature = "testing", feature = "oauth2", feature = "reqwest", feature = "tonic"))]

use std::{sync::Arc, time::Duration};

use allocation_counter::measure;
use futures_util::{StreamExt, stream};
use tokio::runtime;
use tonic::{Status, body::Body, transport::Endpoint};
use tower::ServiceBuilder;
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::Buffered,
    testing::AuthorizationServer,
};

#[path = "../examples/shared/documents.rs"]
mod documents;
use documents::{Documents, DocumentsClient, MESSAGE};

/// As many messages as make 100 MB.
const MESSAGES: usize = 100_000_000usize.div_ceil(16 * 1024);

/// What both ends together may take at most, whatever the length of a stream.
const FLAT: u64 = 4 << 20;

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

/// The most that was allocated at a time while so many messages went up or down, the first attempt refused or not.
fn peak(way: Way, messages: usize, limit: usize, revoked: bool) -> u64 {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, mut client) = runtime.block_on(async {
        let server = AuthorizationServer::start().await.unwrap();
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
        let token = LiveToken::spawn(ClientCredentials::new(endpoint));
        let url = format!("http://{}", Documents::serve(server.api_url("/gate")).await.unwrap());
        let layer = BearerAuthLayer::new(token.clone(), Origin::parse(&url).unwrap());
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        let service = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(layer.replay(Buffered::new(limit, Body::new)))
            .service(channel);
        let mut client = DocumentsClient::new(service);
        // Connections, and whatever is made once.
        client.get("message").await.unwrap();
        (Arc::new(server), client)
    });
    if revoked {
        assert_eq!(server.revoke_all(), 1);
    }
    let transfer = async {
        match way {
            Way::Up => {
                // The first message alone until the call is let in: a refusal comes before the limit is passed.
                let (gate, beginning) = (server.clone(), stream::once(async { MESSAGE }));
                let rest = stream::iter((1..messages).map(|_| MESSAGE));
                let open = stream::once(async move {
                    while gate.api().accepted < 2 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                });
                let messages_up = beginning.chain(open.flat_map(move |()| rest.clone()));
                let answer = client.upload(messages_up).await.unwrap();
                assert_eq!(answer, format!("{} bytes in {messages} messages", messages * MESSAGE.len()));
            }
            Way::Down => {
                let mut received = 0;
                let mut stream = client.download(messages).await.unwrap();
                while let Some(message) = stream.message().await.unwrap() {
                    received += message.len();
                }
                assert_eq!(received, messages * MESSAGE.len());
            }
        }
    };
    let peak = measure(|| runtime.block_on(transfer)).bytes_max;
    println!("{way:?}, {messages} messages, limit {limit}, revoked: {revoked}: {} KiB at most", peak / 1024);
    assert_eq!(server.api().revoked, u64::from(revoked));
    peak
}

#[test]
fn a_hundred_megabytes_up_take_no_more_memory_than_one() {
    let (little, much) = (peak(Way::Up, 64, 64 * 1024, false), peak(Way::Up, MESSAGES, 64 * 1024, false));
    assert!(much < FLAT && much < little + FLAT / 2, "{little}, {much}");
    // A token that was revoked in the meantime changes nothing about that.
    let much = peak(Way::Up, MESSAGES, 64 * 1024, true);
    assert!(much < FLAT, "{much}");
}

#[test]
fn a_hundred_megabytes_down_take_no_more_memory_than_one() {
    let (little, much) = (peak(Way::Down, 64, 64 * 1024, false), peak(Way::Down, MESSAGES, 64 * 1024, true));
    assert!(much < FLAT && much < little + FLAT / 2, "{little}, {much}");
}

/// That the measurement sees a copy where there is one.
#[test]
fn without_a_limit_the_copy_is_as_long_as_the_upload() {
    let messages = 1000;
    let peak = peak(Way::Up, messages, usize::MAX, false);
    assert!(peak > (messages * MESSAGE.len()) as u64, "{peak}");
}
