//! Refused requests hold their 401 until it is known whether there is another token: on an HTTP/2 connection, which has one window for all
//! of its streams, they must not keep the token endpoint's answer out.
#![cfg(feature = "oauth2")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    TryStreamExt,
    future::{BoxFuture, join_all},
};
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
};

/// An API and its token endpoint. The API takes the token issued last, and answers 401 with this much to all others.
struct Server {
    refusal: usize,
    /// Whether it says how long that is.
    says_length: bool,
    issued: AtomicU64,
    is_down: AtomicBool,
    calls: AtomicU64,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Server {
    async fn start(refusal: usize, says_length: bool) -> (Arc<Self>, String) {
        let server = Arc::new(Self {
            refusal,
            says_length,
            issued: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                let answer = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(&request)) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
        (server, origin)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.uri().path() == "/token" {
            if self.is_down.load(Ordering::SeqCst) {
                return answer(StatusCode::SERVICE_UNAVAILABLE, Full::default().boxed_unsync());
            }
            let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
            let text = format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":3600}}"#);
            return answer(StatusCode::OK, Full::from(text).boxed_unsync());
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let expected = format!("Bearer t{}", self.issued.load(Ordering::SeqCst));
        if request.headers().get(AUTHORIZATION).is_some_and(|sent| *sent == *expected) {
            return answer(StatusCode::OK, Full::from("ok").boxed_unsync());
        }
        let text = Full::from("x".repeat(self.refusal));
        let body = match self.says_length {
            true => text.boxed_unsync(),
            false => StreamBody::new(text.into_data_stream().map_ok(Frame::data)).boxed_unsync(),
        };
        answer(StatusCode::UNAUTHORIZED, body)
    }

    /// The tokens there are are good for nothing any more.
    fn revoke(&self) {
        self.issued.fetch_add(1, Ordering::SeqCst);
    }
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).body(body).unwrap()
}

/// How much a client takes that it hasn't read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Windows {
    /// What holds if nobody says otherwise (RFC 9113 §6.9.2): 65 535 bytes altogether.
    Standard,
    /// hyper's: 5 MiB altogether.
    Large,
}
use Windows::{Large, Standard};

/// One connection for everything.
#[derive(Clone)]
struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(origin: &str, windows: Windows) -> Self {
        let stream = TcpStream::connect(origin.strip_prefix("http://").unwrap()).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        if windows == Windows::Standard {
            builder.initial_connection_window_size(65_535).initial_stream_window_size(65_535);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Service<Request<Full<Bytes>>> for Connection {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move { Ok(answer.await?) })
    }
}

struct Bench {
    server: Arc<Server>,
    origin: String,
    connection: Connection,
    token: LiveToken,
}

impl Bench {
    async fn new(refusal: usize, says_length: bool, windows: Windows) -> Self {
        let (server, origin) = Server::start(refusal, says_length).await;
        let connection = Connection::open(&origin, windows).await;
        let endpoint = TokenEndpoint::new(&format!("{origin}/token")).unwrap().client_secret_basic("id", "secret");
        let token = LiveToken::spawn(ClientCredentials::new(endpoint.http_service(connection.clone())));
        token.ready().await.unwrap();
        let bench = Self { server, origin, connection, token };
        assert_eq!(bench.send(1).await, [(200, 2)]);
        bench
    }

    /// Status and length of each answer.
    async fn send(&self, requests: usize) -> Vec<(u16, usize)> {
        let layer = BearerAuthLayer::new(self.token.clone(), Origin::parse(&self.origin).unwrap());
        let service =
            ServiceBuilder::new().layer(layer.max_wait(Duration::from_secs(20))).service(self.connection.clone());
        let send = async || {
            let request = Request::get(format!("{}/documents", self.origin)).body(Full::default()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.unwrap().to_bytes().len())
        };
        join_all((0..requests).map(|_| send())).await
    }

    fn calls(&self) -> u64 {
        self.server.calls.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn large_401s_do_not_keep_the_next_token_out_of_a_connection_that_is_shared() {
    for (refusal, says_length, windows) in [
        (64 * 1024, true, Standard),
        (64 * 1024, true, Large),
        (64 * 1024, false, Large),
        (16 * 1024, false, Standard),
        (1024, true, Standard),
        (1024, false, Standard),
        (0, true, Standard),
    ] {
        let bench = Bench::new(refusal, says_length, windows).await;
        bench.calls();
        bench.server.revoke();
        let answers = tokio::time::timeout(Duration::from_secs(15), bench.send(90)).await;
        assert_eq!(answers.expect("nothing is stalled"), [(200, 2); 90], "{refusal} {says_length} {windows:?}");
        assert_eq!(bench.calls(), 180, "each is sent twice");
    }
}

#[tokio::test]
async fn where_no_token_comes_every_401_is_handed_on_whole() {
    // How many 401s are held. Those of the others are asked for once more.
    for (refusal, says_length, held) in [(64 * 1024, true, 0), (64 * 1024, false, 1), (1024, true, 32)] {
        let bench = Bench::new(refusal, says_length, Large).await;
        bench.calls();
        bench.server.revoke();
        bench.server.is_down.store(true, Ordering::SeqCst);
        assert_eq!(bench.send(90).await, [(401, refusal); 90], "{refusal} {says_length}");
        let calls = bench.calls();
        assert!((90..=180 - held).contains(&calls), "{refusal} {says_length}: {calls}");
    }
}
