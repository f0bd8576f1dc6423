//! What users may do with the types they hold: send them to other threads, share them, name them, clone them.

use std::{
    error::Error as StdError,
    fmt::{Debug, Display},
    future::Future,
    io,
    marker::PhantomPinned,
    rc::Rc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full, combinators::UnsyncBoxBody};
use tower::{BoxError, Layer, Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, BoxTokenSource, Builder, Driver, Error, ErrorKind, FetchError,
    FetchErrorKind, FetchReason, FetchRequest, IntoTokenSource, InvalidOrigin, InvalidToken, LiveToken, OnUnauthorized,
    Origin, PerRequest, ResponseFuture, SourceFn, State, Status, StatusWatch, TokenError, TokenFile, TokenSource,
    clock, replay, source_fn,
};

/// What may go anywhere.
fn anywhere<T: Send + Sync + Unpin + Debug + 'static>() {}
/// What may go to another thread.
fn sends<T: Send + Unpin + Debug + 'static>() {}
fn clones<T: Clone>() {}
fn copies<T: Copy + Eq + std::hash::Hash>() {}
fn is_error<T: StdError + Display + Send + Sync + Unpin + 'static>() {}
fn is_source<T: TokenSource + Send + 'static>() {}
fn is_future<T: Future<Output = O> + Send + 'static, O>() {}

/// Services and bodies as users have them: the weakest that a multi-threaded runtime takes.
type Boxed = BoxCloneSyncService<Request<UnsyncBoxBody<Bytes, BoxError>>, Response<()>, BoxError>;
type Http = Static<Request<Empty<Bytes>>>;

/// A service whose future is ready: as small as there can be one.
struct Static<R>(std::marker::PhantomData<fn(R)>);

impl<R> Clone for Static<R> {
    fn clone(&self) -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<R> Service<R> for Static<R> {
    type Response = Response<()>;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Response<()>, io::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        std::future::ready(Ok(Response::new(())))
    }
}

#[test]
fn what_users_hold_goes_anywhere() {
    anywhere::<AccessToken>();
    anywhere::<LiveToken>();
    anywhere::<Status>();
    anywhere::<State>();
    anywhere::<StatusWatch>();
    anywhere::<FetchRequest>();
    anywhere::<FetchReason>();
    anywhere::<FetchErrorKind>();
    anywhere::<ErrorKind>();
    anywhere::<Origin>();
    anywhere::<TokenFile>();
    anywhere::<SourceFn<fn()>>();
    anywhere::<clock::SystemClock>();
    anywhere::<PerRequest>();
    anywhere::<OnUnauthorized>();
    anywhere::<BearerAuthLayer>();
    anywhere::<BearerAuthLayer<replay::Never>>();
    anywhere::<BearerAuth<Boxed, replay::Auto>>();
    anywhere::<BearerAuth<Http, replay::Auto>>();
    anywhere::<BearerAuth<Http>>(); // the default is the default's name
    anywhere::<BearerAuth<Http, replay::Never>>();
    anywhere::<replay::Auto>();
    anywhere::<replay::Never>();
    anywhere::<replay::Off>();
    anywhere::<replay::Cloned>();
    anywhere::<replay::WhenEmpty<UnsyncBoxBody<Bytes, BoxError>>>();
    anywhere::<replay::Buffered<UnsyncBoxBody<Bytes, BoxError>>>();
    // Some ways to box want `Sync` (reqwest's), though the body that is kept isn't.
    anywhere::<replay::Tee<UnsyncBoxBody<Bytes, BoxError>>>();
    anywhere::<replay::Spare<Request<String>>>();
    // Sources need not be `Sync`, so what owns one isn't.
    sends::<Builder>();
    sends::<Driver>();
    sends::<BoxTokenSource>();
}

#[test]
fn handles_are_cloned_and_codes_compared() {
    clones::<AccessToken>();
    clones::<LiveToken>();
    clones::<Status>();
    clones::<Origin>();
    clones::<FetchRequest>();
    clones::<BearerAuthLayer>();
    clones::<BearerAuthLayer<replay::Never>>();
    // Whatever the body is: a policy holds functions, not bodies.
    clones::<replay::WhenEmpty<Rc<()>>>();
    clones::<replay::Buffered<Rc<()>>>();
    clones::<BearerAuth<Http, replay::Auto>>();
    clones::<BearerAuth<Boxed, replay::Never>>();
    copies::<State>();
    copies::<FetchReason>();
    copies::<FetchErrorKind>();
    copies::<ErrorKind>();
    copies::<OnUnauthorized>();
}

#[test]
fn errors_go_wherever_errors_go() {
    is_error::<FetchError>();
    is_error::<TokenError>();
    is_error::<InvalidToken>();
    is_error::<InvalidOrigin>();
    is_error::<Error<io::Error>>();
    is_error::<Error<BoxError>>();
    // Whatever the inner error is: it is boxed only where there is one.
    is_error::<Error<Rc<()>>>();
    is_error::<Error<PhantomPinned>>();
    clones::<FetchError>();
    clones::<TokenError>();
    let _: fn(Error<io::Error>) -> BoxError = Into::into;
}

#[test]
fn sources_are_what_they_say() {
    is_source::<AccessToken>();
    is_source::<TokenFile>();
    is_source::<BoxTokenSource>();
    // A source need not be `Sync`: one task owns it.
    let cell = std::cell::Cell::new(0);
    let source = source_fn(move |_| {
        cell.set(cell.get() + 1);
        async { Ok(AccessToken::new("secret")?) }
    });
    fn into<T: IntoTokenSource>(source: T) -> BoxTokenSource {
        source.into_token_source().boxed()
    }
    let _ = into(into(source));
}

/// Futures can be named, kept in a struct, and sent where the inner ones can be.
struct Named {
    _http: ResponseFuture<Http, Request<Empty<Bytes>>>,
    _boxed: ResponseFuture<Boxed, Request<UnsyncBoxBody<Bytes, BoxError>>>,
    _by_trait: <BearerAuth<Http, replay::Auto> as Service<Request<Empty<Bytes>>>>::Future,
}

#[test]
fn futures_are_named_sent_and_shared() {
    is_future::<ResponseFuture<Http, Request<Empty<Bytes>>>, Result<Response<()>, Error<io::Error>>>();
    is_future::<ResponseFuture<Boxed, Request<UnsyncBoxBody<Bytes, BoxError>>>, Result<_, Error<BoxError>>>();
    is_future::<Driver, ()>();
    sends::<ResponseFuture<Boxed, Request<UnsyncBoxBody<Bytes, BoxError>>>>();
    // And shared where the inner future can be, though the request that is kept often can't.
    fn shared<T: Send + Sync + 'static>() {}
    shared::<ResponseFuture<Static<Request<UnsyncBoxBody<Bytes, BoxError>>>, Request<UnsyncBoxBody<Bytes, BoxError>>>>(
    );
    fn sent<T: Send>() {}
    sent::<Named>();
}

#[cfg(feature = "reqwest")]
#[test]
fn the_same_holds_around_reqwest() {
    anywhere::<BearerAuth<reqwest::Client, replay::Auto>>();
    clones::<BearerAuth<reqwest::Client, replay::Auto>>();
    is_future::<ResponseFuture<reqwest::Client, reqwest::Request>, Result<reqwest::Response, Error<reqwest::Error>>>();
    fn service<R, S: Service<R, Error = Error<reqwest::Error>>>() {}
    service::<reqwest::Request, BearerAuth<reqwest::Client, replay::Auto>>();
}

#[cfg(feature = "tonic")]
#[test]
fn the_same_holds_for_tonic() {
    use tonic::{Status, body::Body, client::GrpcService, transport::Channel};
    use tower_bearer::{TonicAuth, TonicAuthLayer, TonicResponseFuture};

    anywhere::<TonicAuthLayer>();
    clones::<TonicAuthLayer>();
    anywhere::<TonicAuth<Channel>>();
    clones::<TonicAuth<Channel>>();
    is_future::<TonicResponseFuture<Channel>, Result<Response<Body>, Status>>();
    fn is_grpc<S: GrpcService<Body, Error = Status>>() {}
    is_grpc::<TonicAuth<Channel>>();
    is_grpc::<TonicAuth<Channel, replay::Never>>();
}

#[tokio::test]
async fn layered_services_are_boxed_and_spawned() {
    let layer = BearerAuthLayer::spawn(AccessToken::new("secret").unwrap(), Origin::parse("https://api.test").unwrap());
    let boxed: BoxCloneSyncService<Request<Full<Bytes>>, Response<()>, Error<io::Error>> =
        ServiceBuilder::new().boxed_clone_sync().layer(layer.clone()).service(Static(std::marker::PhantomData));
    let mut service: BearerAuth<_, replay::Auto> = layer.layer(boxed);
    let task = tokio::spawn(async move {
        let ready = std::future::poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx)).await;
        ready.unwrap();
        let request = Request::get("https://api.test/").body(Full::default()).unwrap();
        service.call(request).await.unwrap().status()
    });
    assert_eq!(task.await.unwrap(), 200);
}
