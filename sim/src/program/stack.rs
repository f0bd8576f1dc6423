//! The client of a program: the layer with its policy, and what the plan puts around it.

use std::{
    mem,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::{Sleep, sleep};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::GlobalConcurrencyLimitLayer,
    retry,
    util::{BoxCloneService, MapRequest},
};
use tower_bearer::{
    BearerAuthLayer, LiveToken,
    replay::{Auto, Buffered, Cloned, Never, ReplayPolicy, WhenEmpty},
};

use super::parcel::{Boxed, Parcel};
use crate::{
    plan::{Body as Kind, Plan, Policy},
    trace::Happened,
    world::{
        World,
        api::{Label, token_of},
        millis,
    },
};

pub type Client = BoxCloneService<Request<Parcel>, Response<Full<Bytes>>, BoxError>;
type Inner<B> = BoxCloneService<Request<B>, Response<Full<Bytes>>, BoxError>;

/// The client of this process.
pub fn client(world: &World, layer: BearerAuthLayer) -> Client {
    let streams = world.plan.traffic.iter().any(|traffic| matches!(traffic.body, Kind::Stream(_)));
    match world.plan.program.policy {
        Policy::Auto if streams => whole(world, layer.replay(Auto), Parcel::boxed),
        Policy::Auto => whole(world, layer.replay(Auto), Parcel::full),
        Policy::Cloned => whole(world, layer.replay(Cloned), |parcel| parcel),
        Policy::Buffered => whole(world, layer.replay(Buffered::new(BUFFERED, BodyExt::boxed_unsync)), Parcel::boxed),
        Policy::WhenEmpty => {
            let empty = || http_body_util::Empty::new().map_err(|error| match error {}).boxed_unsync();
            whole(world, layer.replay(WhenEmpty::new(empty)), Parcel::boxed)
        }
        Policy::Never => whole(world, layer.replay(Never), Parcel::boxed),
    }
}

impl Plan {
    /// Whether a request with this body is sent again after a 401, as the policy says.
    pub fn sends_again(&self, body: Kind) -> bool {
        match (self.program.policy, body) {
            (Policy::Never, _) => false,
            (Policy::Cloned | Policy::Buffered, _) | (_, Kind::Empty) => true,
            (Policy::WhenEmpty, _) => false,
            (Policy::Auto, Kind::Whole(_)) => true,
            (Policy::Auto, Kind::Stream(_)) => false,
        }
    }
}

/// Longer than all bodies.
const BUFFERED: usize = 128 * 1024;

fn whole<B, Q>(world: &World, layer: BearerAuthLayer<Q>, convert: fn(Parcel) -> B) -> Client
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Again + Send + 'static,
    Q: ReplayPolicy<Request<B>> + Clone + Send + 'static,
    BearerAuthLayer<Q>: Layer<Below<B>>,
    <BearerAuthLayer<Q> as Layer<Below<B>>>::Service: Service<Request<B>, Response = Response<Full<Bytes>>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let token = layer.token().clone();
    let inner = layer.layer(Below { inner: below(world), world: world.clone(), ready_since: None });
    let inner: MapRequest<_, _> = inner.map_request(move |request: Request<Parcel>| request.map(convert));
    above(world, Above { inner, world: world.clone(), token })
}

/// Whether it can be cloned, for a retry below the layer.
pub trait Again: Sized {
    fn again(&self) -> Option<Self>;
}

impl Again for Boxed {
    fn again(&self) -> Option<Self> {
        None
    }
}

impl Again for Parcel {
    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Again for Full<Bytes> {
    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }
}

fn below<B>(world: &World) -> Inner<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Again + Send + 'static,
{
    let stack = &world.plan.program.stack;
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(world.permits[world.program].clone());
    let mut inner = Inner::new(world.api());
    if stack.limit_below.is_some() {
        inner = Inner::new(limit.layer(inner));
    }
    if let Some(time) = stack.timeout_below {
        inner = Inner::new(ServiceBuilder::new().timeout(millis(time)).service(inner));
    }
    if stack.retries_below > 0 {
        inner = Inner::new(ServiceBuilder::new().retry(Retries::of(stack.retries_below)).service(inner));
    }
    if stack.buffer_below {
        inner = Inner::new(ServiceBuilder::new().buffer(8).service(inner));
    }
    inner
}

fn above<S>(world: &World, inner: S) -> Client
where
    S: Service<Request<Parcel>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let stack = &world.plan.program.stack;
    let mut client = Client::new(inner);
    if stack.retries_above > 0 {
        client = Client::new(ServiceBuilder::new().retry(Retries::of(stack.retries_above)).service(client));
    }
    if let Some(most) = stack.limit_above {
        client = Client::new(ServiceBuilder::new().concurrency_limit(most).service(client));
    }
    if stack.buffer_above {
        client = Client::new(ServiceBuilder::new().buffer(8).service(client));
    }
    if let Some(time) = stack.patience {
        client = Client::new(ServiceBuilder::new().timeout(millis(time)).service(client));
    }
    client
}

/// Right around the layer: when it gets a request, and whether it had a token then.
#[derive(Clone)]
struct Above<S> {
    inner: S,
    world: World,
    token: LiveToken,
}

impl<S> Service<Request<Parcel>> for Above<S>
where
    S: Service<Request<Parcel>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Parcel>) -> Self::Future {
        let had_token = self.token.authorization().is_some();
        self.world.trace.note(Happened::Called { request: Label::of(&request).number, had_token });
        let sent = self.inner.call(request);
        Box::pin(async move { sent.await.map_err(Into::into) })
    }
}

/// Right below the layer: what it sends, and whether it keeps what it doesn't need.
pub struct Below<B> {
    inner: Inner<B>,
    world: World,
    ready_since: Option<Duration>,
}

impl<B> Clone for Below<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), world: self.world.clone(), ready_since: None }
    }
}

impl<B> Service<Request<B>> for Below<B> {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = <Inner<B> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = ready!(self.inner.poll_ready(context));
        self.ready_since.get_or_insert(self.world.trace.now());
        Poll::Ready(ready)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.no_longer_ready();
        let (request_number, token) = (Label::of(&request).number, token_of(&request));
        self.world.trace.note(Happened::Sent { request: request_number, token });
        self.inner.call(request)
    }
}

impl<B> Below<B> {
    fn no_longer_ready(&mut self) {
        if let Some(since) = mem::take(&mut self.ready_since)
            && since < self.world.trace.now()
        {
            self.world.trace.note(Happened::Blocked { since, program: self.world.program });
        }
    }
}

impl<B> Drop for Below<B> {
    fn drop(&mut self) {
        self.no_longer_ready();
    }
}

/// Sends again what was answered 429 or 503, a second later.
#[derive(Clone)]
struct Retries {
    left: u8,
}

impl Retries {
    fn of(left: u8) -> Self {
        Self { left }
    }
}

impl<B: Again> retry::Policy<Request<B>, Response<Full<Bytes>>, BoxError> for Retries {
    type Future = Sleep;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<Full<Bytes>>, BoxError>,
    ) -> Option<Self::Future> {
        let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let is_busy = result.as_ref().is_ok_and(|response| busy.contains(&response.status()));
        self.left = self.left.checked_sub(u8::from(is_busy))?;
        is_busy.then(|| sleep(Duration::from_secs(1)))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        let mut again = Request::new(request.body().again()?);
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        *again.extensions_mut() = request.extensions().clone();
        Some(again)
    }
}
