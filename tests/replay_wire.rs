//! Replays as HTTP/1.1 servers see them, byte by byte: the server here is a socket.

use std::{convert::Infallible, future::Future};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, header::EXPECT};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, Origin,
    replay::{Auto, Buffered, ReplayPolicy, Tee},
};

mod support;
use support::Issuer;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

fn buffered() -> Buffered<Boxed> {
    Buffered::new(64 * 1024, Tee::boxed_unsync)
}

/// A body that is sent piece by piece.
fn channel() -> (mpsc::Sender<&'static str>, Boxed) {
    let (sender, receiver) = mpsc::channel(8);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<&'static str>| async {
        let data = Bytes::from(receiver.recv().await?);
        Some((Ok::<_, Infallible>(Frame::data(data)), receiver))
    });
    (sender, StreamBody::new(frames).map_err(Into::into).boxed_unsync())
}

/// A connection from the server's side, with all that came on it.
struct Connection(TcpStream, String);

impl Connection {
    async fn accept(listener: &TcpListener) -> Self {
        Self(listener.accept().await.unwrap().0, String::new())
    }

    /// Reads until all of these have come.
    async fn read_until(&mut self, texts: &[&str]) {
        while !texts.iter().all(|text| self.1.contains(text)) {
            assert!(self.read().await > 0, "closed after {:?}", self.1);
        }
    }

    /// Reads until the client closes it.
    async fn read_to_end(&mut self) {
        while self.read().await > 0 {}
    }

    async fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        // A connection that is reset is closed as well.
        let length = self.0.read(&mut buffer).await.unwrap_or(0);
        self.1.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        length
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    fn body(&self) -> &str {
        self.1.split_once("\r\n\r\n").unwrap().1
    }
}

/// Sends one request to a server that does this; returns the status, and what the server saw.
async fn send<B, P, F, T>(
    policy: P,
    request: http::request::Builder,
    body: B,
    server: impl FnOnce(TcpListener) -> F,
) -> (u16, T)
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    P: ReplayPolicy<Request<B>> + Clone,
    F: Future<Output = T>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let token = Issuer::new().ready().await;
    let layer = BearerAuthLayer::new(token, Origin::parse(&origin).unwrap()).replay(policy);
    let client = ServiceBuilder::new().layer(layer).service(Client::builder(TokioExecutor::new()).build_http::<B>());
    let request = request.uri(format!("{origin}/upload")).body(body).unwrap();
    let (response, seen) = tokio::join!(client.oneshot(request), server(listener));
    (response.unwrap().status().as_u16(), seen)
}

const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// How a body without a length ends.
const END: &str = "0\r\n\r\n";

#[tokio::test]
async fn an_upload_that_is_refused_in_the_middle_is_broken_off_and_sent_again_whole() {
    let (sender, body) = channel();
    sender.send("first piece, ").await.unwrap();
    let (status, (first, second)) = send(buffered(), Request::builder().method("POST"), body, async |listener| {
        let mut first = Connection::accept(&listener).await;
        first.read_until(&["first piece, "]).await;
        first.write(REFUSED).await;
        let mut second = Connection::accept(&listener).await;
        sender.send("second piece, ").await.unwrap();
        sender.send("last piece").await.unwrap();
        drop(sender);
        second.read_until(&["last piece", END]).await;
        second.write(FINE).await;
        first.read_to_end().await;
        (first, second)
    })
    .await;
    assert_eq!(status, 200);
    assert!(first.1.contains("Bearer t1") && second.1.contains("Bearer t2"));
    assert!(!first.body().contains(END) && !first.body().contains("second"), "{:?}", first.body());
    assert_eq!(second.body(), "D\r\nfirst piece, \r\nE\r\nsecond piece, \r\nA\r\nlast piece\r\n0\r\n\r\n");
}

/// Clients that don't wait for `100 Continue` (hyper's doesn't) send the body anyway; servers that refuse don't read it.
#[tokio::test]
async fn a_server_that_refuses_instead_of_saying_continue_gets_it_again_whole() {
    let (sender, body) = channel();
    let request = || Request::builder().method("POST").header(EXPECT, "100-continue");
    let server = async |listener| {
        let mut first = Connection::accept(&listener).await;
        first.read_until(&["\r\n\r\n"]).await;
        first.write(REFUSED).await;
        let mut second = Connection::accept(&listener).await;
        second.read_until(&["\r\n\r\n"]).await;
        second.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        (first, second, listener)
    };
    // Nothing of the body was there when the 401 came.
    let (status, second) = send(buffered(), request(), body, async |listener| {
        let (mut first, mut second, _listener) = server(listener).await;
        sender.send("the whole body").await.unwrap();
        drop(sender);
        second.read_until(&["the whole body", END]).await;
        second.write(FINE).await;
        first.read_to_end().await;
        assert_eq!(first.body(), "", "an end, or a part");
        second
    })
    .await;
    assert_eq!((status, second.body()), (200, "E\r\nthe whole body\r\n0\r\n\r\n"));
    assert!(second.1.contains("expect: 100-continue"));
}

#[tokio::test]
async fn lengths_travel_with_both_attempts() {
    let whole = || Full::<Bytes>::from("the whole body");
    let server = async |listener: TcpListener| {
        let mut connection = Connection::accept(&listener).await;
        connection.read_until(&["the whole body"]).await;
        let first = std::mem::take(&mut connection.1);
        connection.write(REFUSED).await;
        // The first attempt was over: the connection is used again.
        connection.read_until(&["the whole body"]).await;
        connection.write(FINE).await;
        (first, connection.1)
    };
    let boxed = whole().map_err(Into::into).boxed_unsync();
    for (status, (first, second)) in [
        send(buffered(), Request::builder().method("POST"), boxed, server).await,
        send(Auto, Request::builder().method("POST"), whole(), server).await,
    ] {
        assert_eq!(status, 200);
        for attempt in [first, second] {
            assert!(attempt.contains("content-length: 14\r\n") && attempt.ends_with("the whole body"), "{attempt}");
        }
    }
}

/// The 401 of a server whose refusal can't be cured is handed on, and the upload it belongs to isn't broken off.
#[tokio::test]
async fn where_there_is_no_other_token_the_answer_is_handed_on_with_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    issuer.repeats();
    let layer = BearerAuthLayer::new(token, Origin::parse(&origin).unwrap()).replay(buffered());
    let client = ServiceBuilder::new().layer(layer).service(Client::builder(TokioExecutor::new()).build_http());
    let (sender, body) = channel();
    let (answered, was_answered) = oneshot::channel();
    sender.send("first piece, ").await.unwrap();
    let server = async {
        let mut connection = Connection::accept(&listener).await;
        connection.read_until(&["first piece, "]).await;
        connection.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nnot").await;
        was_answered.await.unwrap();
        // The rest of the answer comes when the rest of the body is there.
        connection.read_until(&["last piece", END]).await;
        connection.write(" today").await;
    };
    let client = async {
        let request = Request::post(format!("{origin}/upload")).body(body).unwrap();
        let response = client.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401);
        answered.send(()).unwrap();
        sender.send("last piece").await.unwrap();
        drop(sender);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "not today");
    };
    tokio::join!(server, client);
}
