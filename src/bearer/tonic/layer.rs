//! The layer for a tonic client: its errors are a status, and it keeps calls to be sent again.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Request;
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    BearerAuth, BearerAuthLayer, BoxError, HttpResponse, ResponseFuture,
    replay::{Buffered, ReplayPolicy},
};

/// [`BearerAuthLayer`] for a tonic client; made by [`BearerAuthLayer::for_tonic`]. See the example there.
#[must_use = "a layer does nothing until it wraps a service"]
pub struct TonicAuthLayer<P = Buffered<Body>> {
    layer: BearerAuthLayer<P>,
}

impl BearerAuthLayer {
    /// The same layer for a tonic client. A call that fails has the [`Status`] that says why. A call that is refused is sent again if at
    /// most 64 KiB of it had been sent by then ([`Buffered`], because no gRPC request is empty). Set options before it, and another
    /// [policy](TonicAuthLayer::replay) after it. Layers above it see a [`Status`] instead of an [`Error`](crate::Error).
    ///
    /// ```
    /// use tonic::{body::Body, transport::Channel};
    /// use tower::ServiceBuilder;
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// let channel = Channel::from_static("https://api.example.com").connect_lazy();
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?).for_tonic();
    /// let service = ServiceBuilder::new().layer(layer).service(channel); // DocumentsClient::new(service)
    /// # fn is_grpc<S: tonic::client::GrpcService<Body, Error = tonic::Status>>(_: S) {}
    /// # is_grpc(service);
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_tonic(self) -> TonicAuthLayer {
        TonicAuthLayer { layer: self.replay(Buffered::new(LIMIT, Body::new)) }
    }
}

impl<P> TonicAuthLayer<P> {
    /// Sets the [replay policy](crate::replay). Default: [`Buffered`] with 64 KiB.
    ///
    /// ```
    /// use tonic::body::Body;
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay::Buffered};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?)
    ///     .for_tonic()
    ///     .replay(Buffered::new(1 << 20, Body::new));
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    pub fn replay<Q>(self, policy: Q) -> TonicAuthLayer<Q> {
        TonicAuthLayer { layer: self.layer.replay(policy) }
    }
}

impl<S: Clone, P: Clone> Layer<S> for TonicAuthLayer<P> {
    type Service = TonicAuth<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        TonicAuth { service: self.layer.layer(inner) }
    }
}

impl<P: Clone> Clone for TonicAuthLayer<P> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone() }
    }
}

impl<P> fmt::Debug for TonicAuthLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicAuthLayer").field("layer", &self.layer).finish()
    }
}

/// A service that sends the calls of a tonic client with a live token; made by [`TonicAuthLayer`]. It is [`BearerAuth`] with a [`Status`]
/// as error. See the example of [`BearerAuthLayer::for_tonic`].
pub struct TonicAuth<S, P = Buffered<Body>> {
    service: BearerAuth<S, P>,
}

impl<S, P> TonicAuth<S, P> {
    /// The wrapped service. See the example of [`BearerAuth::get_ref`].
    pub fn get_ref(&self) -> &S {
        self.service.get_ref()
    }
}

impl<S, P> Service<Request<Body>> for TonicAuth<S, P>
where
    P: ReplayPolicy<Request<Body>>,
    S: Service<Request<Body>, Response: HttpResponse, Error: Into<BoxError>> + Clone,
{
    type Response = S::Response;
    type Error = Status;
    type Future = TonicResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.service.poll_ready(cx).map_err(Status::from)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        TonicResponseFuture { response: self.service.call(request) }
    }
}

impl<S: Clone, P: Clone> Clone for TonicAuth<S, P> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone() }
    }
}

impl<S, P> fmt::Debug for TonicAuth<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicAuth").field("service", &self.service).finish()
    }
}

pin_project! {
    /// The response of a call sent by [`TonicAuth`]. See the example of [`BearerAuthLayer::for_tonic`].
    ///
    /// # Cancel safety
    /// As for [`ResponseFuture`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TonicResponseFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        response: ResponseFuture<S, Request<Body>>,
    }
}

impl<S> Future for TonicResponseFuture<S>
where
    S: Service<Request<Body>, Response: HttpResponse, Error: Into<BoxError>> + Clone,
{
    type Output = Result<S::Response, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().response.poll(cx).map_err(Status::from)
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for TonicResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicResponseFuture").finish_non_exhaustive()
    }
}

/// Enough for the first message of most calls, and little memory for the few calls that are under way at a time.
const LIMIT: usize = 64 * 1024;
