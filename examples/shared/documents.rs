//! A gRPC service, both ends of it, as `tonic-build` would write it. It is written by hand, so that nothing needs `protoc`. Messages are
//! plain bytes.
#![allow(dead_code, reason = "each user uses its own part")]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, header::AUTHORIZATION, uri::PathAndQuery};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::GrpcService,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::server::TcpIncoming,
};
use tower::{BoxError, Service, service_fn};

/// The server. It asks the API of a [testing server](tower_bearer::testing) about the token of each call, as a gateway does.
#[derive(Clone)]
pub(crate) struct Documents {
    http: reqwest::Client,
    /// A URL that responds with 2xx to a valid token, and with 401 to others.
    gate: String,
}

impl Documents {
    /// Serves on a free port of loopback until the runtime ends.
    pub(crate) async fn serve(gate: String) -> Result<SocketAddr, BoxError> {
        let documents = Self { http: reqwest::Client::new(), gate };
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        tokio::spawn(tonic::transport::Server::builder().add_service(documents).serve_with_incoming(incoming));
        Ok(address)
    }

    async fn admits(&self, token: Option<HeaderValue>) -> Result<(), Status> {
        let mut question = self.http.get(&self.gate);
        if let Some(token) = token {
            question = question.header(AUTHORIZATION, token);
        }
        match question.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(_) => Err(Status::unauthenticated("the token is not, or no more, valid")),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        if let Err(refusal) = self.admits(request.headers().get(AUTHORIZATION).cloned()).await {
            return refusal.into_http();
        }
        let mut grpc = tonic::server::Grpc::new(BytesCodec);
        match request.uri().path() {
            GET => grpc.unary(service_fn(get), request).await,
            UPLOAD => grpc.client_streaming(service_fn(upload), request).await,
            DOWNLOAD => grpc.server_streaming(service_fn(download), request).await,
            ECHO => grpc.streaming(service_fn(echo), request).await,
            _ => Status::unimplemented("no such method").into_http(),
        }
    }
}

/// Gives the message back.
async fn get(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    Ok(Response::new(request.into_inner()))
}

/// Says how many bytes came, and in how many messages.
async fn upload(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let (mut bytes, mut messages, mut stream) = (0, 0, request.into_inner());
    while let Some(message) = stream.message().await? {
        bytes += message.len();
        messages += 1;
    }
    Ok(Response::new(format!("{bytes} bytes in {messages} messages").into()))
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Sends as many messages of 16 KiB as the caller asks for.
async fn download(request: Request<Bytes>) -> Result<Response<Messages>, Status> {
    let wanted = std::str::from_utf8(request.get_ref()).ok().and_then(|number| number.parse().ok());
    let wanted = wanted.ok_or_else(|| Status::invalid_argument("not a number"))?;
    Ok(Response::new(stream::iter((0..wanted).map(|_| Ok(MESSAGE))).boxed()))
}

/// Sends each message back as it comes.
async fn echo(request: Request<Streaming<Bytes>>) -> Result<Response<Messages>, Status> {
    Ok(Response::new(request.into_inner().boxed()))
}

impl Service<http::Request<Body>> for Documents {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async { Ok(answer.await) })
    }
}

impl NamedService for Documents {
    const NAME: &'static str = "example.Documents";
}

/// The client, around a channel or around a service that wraps a channel.
#[derive(Clone)]
pub(crate) struct DocumentsClient<S> {
    grpc: tonic::client::Grpc<S>,
}

impl<S> DocumentsClient<S>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    pub(crate) fn new(service: S) -> Self {
        Self { grpc: tonic::client::Grpc::new(service) }
    }

    pub(crate) async fn get(&mut self, message: impl Into<Bytes>) -> Result<Bytes, Status> {
        self.ready().await?;
        let request = Request::new(message.into());
        Ok(self.grpc.unary(request, PathAndQuery::from_static(GET), BytesCodec).await?.into_inner())
    }

    pub(crate) async fn upload(
        &mut self,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Bytes, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(UPLOAD);
        Ok(self.grpc.client_streaming(Request::new(messages), path, BytesCodec).await?.into_inner())
    }

    pub(crate) async fn download(&mut self, messages: usize) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let request = Request::new(messages.to_string().into());
        let path = PathAndQuery::from_static(DOWNLOAD);
        Ok(self.grpc.server_streaming(request, path, BytesCodec).await?.into_inner())
    }

    pub(crate) async fn echo(
        &mut self,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(ECHO);
        Ok(self.grpc.streaming(Request::new(messages), path, BytesCodec).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))
    }
}

/// Messages without a structure.
#[derive(Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// What downloads are made of.
pub(crate) const MESSAGE: Bytes = Bytes::from_static(&[7; 16 * 1024]);

const GET: &str = "/example.Documents/Get";
const UPLOAD: &str = "/example.Documents/Upload";
const DOWNLOAD: &str = "/example.Documents/Download";
const ECHO: &str = "/example.Documents/Echo";
