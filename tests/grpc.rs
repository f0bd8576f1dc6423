//! The layer around a tonic channel, against a real tonic server: what happens when it answers `UNAUTHENTICATED`.
#![cfg(all(feature = "testing", feature = "oauth2", feature = "reqwest", feature = "tonic"))]

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tonic::{
    Code, Status,
    body::Body,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tower::{Layer, ServiceBuilder, util::MapErr};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, Error, IntoTokenSource, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::{Buffered, Never, ReplayPolicy},
    testing::{AuthorizationServer, Fault},
};

#[path = "../examples/shared/documents.rs"]
mod documents;
#[path = "support/pace.rs"]
mod pace;
#[path = "support/settled.rs"]
mod settled;
use documents::{Documents, DocumentsClient, MESSAGE};
use pace::pace;
use settled::Settled;

type WithStatus<E> = fn(Error<E>) -> Status;
type Client<P> = DocumentsClient<MapErr<BearerAuth<Channel, P>, WithStatus<tonic::transport::Error>>>;

struct Bench {
    server: AuthorizationServer,
    token: LiveToken,
    channel: Channel,
    origin: Origin,
}

impl Bench {
    async fn new() -> Self {
        let server = AuthorizationServer::start().await.unwrap();
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
        let token = LiveToken::spawn(Settled(ClientCredentials::new(endpoint).into_token_source()));
        let url = format!("http://{}", Documents::serve(server.api_url("/gate")).await.unwrap());
        let channel = Endpoint::from_shared(url.clone()).unwrap().connect_lazy();
        token.ready().await.unwrap();
        Self { server, token, channel, origin: Origin::parse(&url).unwrap() }
    }

    fn with<P: ReplayPolicy<http::Request<Body>> + Clone>(&self, policy: P) -> Client<P> {
        let layer = BearerAuthLayer::new(self.token.clone(), self.origin.clone()).replay(policy);
        let service = ServiceBuilder::new().map_err(Status::from as WithStatus<_>).layer(layer);
        DocumentsClient::new(service.service(self.channel.clone()))
    }

    fn buffered(&self) -> Client<Buffered<Body>> {
        self.with(Buffered::new(64 * 1024, Body::new))
    }
}

#[tokio::test]
async fn a_call_of_each_kind_recovers_from_unauthenticated() {
    let bench = Bench::new().await;
    let mut client = bench.buffered();
    assert_eq!(client.get("message").await.unwrap(), "message");
    assert_eq!(bench.server.revoke_all(), 1);
    assert_eq!(client.get("message").await.unwrap(), "message");
    assert_eq!(bench.server.revoke_all(), 1);
    let messages = stream::iter(["one", "two", "three"].map(Bytes::from));
    assert_eq!(client.upload(messages).await.unwrap(), "11 bytes in 3 messages");
    assert_eq!(bench.server.revoke_all(), 1);
    let received: Vec<_> = client.download(20).await.unwrap().collect().await;
    assert_eq!(received.len(), 20);
    assert!(received.iter().all(|message| message.as_ref().is_ok_and(|message| *message == MESSAGE)));
    let counts = bench.server.api();
    assert_eq!((counts.accepted, counts.revoked, counts.total()), (4, 3, 7));
    assert_eq!(bench.server.token_requests(), 4);
}

#[tokio::test]
async fn a_stream_both_ways_recovers_and_goes_on_message_by_message() {
    let bench = Bench::new().await;
    let mut client = bench.buffered();
    bench.server.revoke_all();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let messages = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    sender.send("0".into()).await.unwrap();
    let mut echo = client.echo(messages).await.unwrap();
    for number in 1..100 {
        // The answer to each comes before the next is sent: nothing on the way waits for an end.
        assert_eq!(echo.next().await.unwrap().unwrap(), (number - 1).to_string());
        sender.send(number.to_string().into()).await.unwrap();
    }
    drop(sender);
    assert_eq!(echo.next().await.unwrap().unwrap(), "99");
    assert!(echo.next().await.is_none());
    assert_eq!((bench.server.api().revoked, bench.server.token_requests()), (1, 2));
}

#[tokio::test]
async fn an_upload_that_is_refused_at_its_beginning_is_sent_again_whole_however_long_it_is() {
    let bench = Bench::new().await;
    let mut client = bench.buffered();
    bench.server.revoke_all();
    // What comes after the first message comes only when the second attempt is there.
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let messages = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    sender.send(MESSAGE).await.unwrap();
    let upload = tokio::spawn(async move { client.upload(messages).await });
    while bench.server.api().accepted == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 1..100 {
        sender.send(MESSAGE).await.unwrap();
    }
    drop(sender);
    let expected = format!("{} bytes in 100 messages", 100 * MESSAGE.len());
    assert_eq!(upload.await.unwrap().unwrap(), expected);
    assert_eq!(bench.server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_the_refusal_is_handed_on_and_the_token_renewed_all_the_same() {
    pace();
    let bench = Bench::new().await;
    let mut client = bench.with(Buffered::new(100, Body::new));
    bench.server.revoke_all();
    // The gate takes its time, so that the upload is past the limit when the refusal comes.
    bench.server.api_fault(Fault::status(401).after(Duration::from_millis(200)));
    let status = client.upload(stream::iter([MESSAGE, MESSAGE])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    bench.server.wait_for_token_requests(2).await;
    while bench.token.status().generation() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.upload(stream::iter([MESSAGE, MESSAGE])).await.unwrap(), "32768 bytes in 2 messages");
}

#[tokio::test]
async fn without_a_replay_the_refusal_is_handed_on() {
    let bench = Bench::new().await;
    bench.server.revoke_all();
    assert_eq!(bench.with(Never).get("message").await.unwrap_err().code(), Code::Unauthenticated);
    bench.server.wait_for_token_requests(2).await;
}

#[tokio::test]
async fn without_a_token_the_status_says_whether_to_try_again() {
    let bench = Bench::new().await;
    let refusing = AuthorizationServer::builder().client("client", "other").start().await.unwrap();
    let endpoint = TokenEndpoint::new(&refusing.token_url()).unwrap().client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    token.ready().await.unwrap_err();
    let status = Bench { token, ..bench }.buffered().get("message").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");

    let bench = Bench::new().await;
    let down = LiveToken::spawn(tower_bearer::source_fn(async |_| Err(tower_bearer::FetchError::try_again("down"))));
    let layer = BearerAuthLayer::new(down, bench.origin.clone()).max_wait(Duration::ZERO);
    let service = ServiceBuilder::new().map_err(Status::from).layer(layer).service(bench.channel.clone());
    let status = DocumentsClient::new(service).get("message").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn the_layer_for_tonic_recovers_has_a_status_and_takes_another_policy() {
    let bench = Bench::new().await;
    let layer = BearerAuthLayer::new(bench.token.clone(), bench.origin.clone()).for_tonic();
    let mut client = DocumentsClient::new(ServiceBuilder::new().layer(layer.clone()).service(bench.channel.clone()));
    assert_eq!(client.get("message").await.unwrap(), "message");
    bench.server.revoke_all();
    assert_eq!(client.get("message").await.unwrap(), "message");
    bench.server.revoke_all();
    let messages = stream::iter(["one", "two", "three"].map(Bytes::from));
    assert_eq!(client.upload(messages).await.unwrap(), "11 bytes in 3 messages");

    let service = ServiceBuilder::new().layer(layer.replay(Never)).service(bench.channel.clone());
    bench.server.revoke_all();
    let status = DocumentsClient::new(service).get("message").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");

    let down = LiveToken::spawn(tower_bearer::source_fn(async |_| Err(tower_bearer::FetchError::try_again("down"))));
    let layer = BearerAuthLayer::new(down, bench.origin.clone()).max_wait(Duration::ZERO).for_tonic();
    let service = ServiceBuilder::new().layer(layer).service(bench.channel.clone());
    let status = DocumentsClient::new(service).get("message").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    // What fails below is what it would be without the layer.
    let nobody = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let layer = BearerAuthLayer::new(bench.token.clone(), Origin::parse("http://127.0.0.1:1").unwrap()).for_tonic();
    let status = DocumentsClient::new(layer.layer(nobody.clone())).get("message").await.unwrap_err();
    let without = DocumentsClient::new(nobody).get("message").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (without.code(), without.message()));
}

#[tokio::test]
async fn an_interceptor_sends_the_token_and_recovers_from_nothing() {
    let bench = Bench::new().await;
    let mut client = DocumentsClient::new(InterceptedService::new(bench.channel.clone(), bench.token.clone()));
    assert_eq!(client.get("message").await.unwrap(), "message");
    bench.server.revoke_all();
    assert_eq!(client.get("message").await.unwrap_err().code(), Code::Unauthenticated);
    bench.token.refresh().await.unwrap();
    assert_eq!(client.get("message").await.unwrap(), "message");
}
