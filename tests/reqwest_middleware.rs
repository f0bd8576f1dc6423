//! The layer as a middleware of `reqwest-middleware`, among others of its kind.
#![cfg(all(feature = "testing", feature = "oauth2", feature = "reqwest-middleware"))]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Extensions, StatusCode, header::AUTHORIZATION};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use tower_bearer::{
    BearerAuthLayer, Error, ErrorKind, FetchError, LiveToken, Origin, PerRequest,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::Never,
    source_fn,
    testing::AuthorizationServer,
};

struct Bench {
    server: AuthorizationServer,
    layer: BearerAuthLayer,
}

impl Bench {
    async fn new() -> Self {
        let server = AuthorizationServer::start().await.unwrap();
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
        let token = LiveToken::spawn(ClientCredentials::new(endpoint));
        token.ready().await.unwrap();
        let layer = BearerAuthLayer::new(token, Origin::parse(&server.origin()).unwrap());
        Self { server, layer }
    }

    fn client(&self) -> ClientWithMiddleware {
        client(self.layer.clone())
    }
}

fn client(middleware: impl Middleware) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new()).with(middleware).build()
}

/// Counts what passes, and leaves a mark in the extensions.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

#[derive(Clone, Debug, PartialEq)]
struct Mark(u64);

impl Middleware for Counter {
    fn handle<'a, 'b, 'c, 'run>(
        &'a self,
        request: Request,
        extensions: &'b mut Extensions,
        next: Next<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'run>>
    where
        'a: 'run,
        'b: 'run,
        'c: 'run,
        Self: 'run,
    {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(extensions.get(), (number > 1).then_some(&Mark(number - 1)), "what was there before");
        extensions.insert(Mark(number));
        next.run(request, extensions)
    }
}

#[tokio::test]
async fn it_recovers_inside_of_those_before_it_and_outside_of_those_behind_it() {
    let bench = Bench::new().await;
    let (before, behind) = (Counter::default(), Counter::default());
    let client = ClientBuilder::new(reqwest::Client::new()).with(before.clone()).with(bench.layer.clone());
    let client = client.with(Behind(behind.clone())).build();
    let settled = ClientBuilder::new(reqwest::Client::new()).with(bench.layer.clone()).build();
    assert_eq!(settled.get(bench.server.api_url("/documents")).send().await.unwrap().status(), StatusCode::OK);
    bench.server.revoke_all();
    let response = client.put(bench.server.api_url("/echo")).body("the whole body").send().await.unwrap();
    assert_eq!((response.status(), &*response.text().await.unwrap()), (StatusCode::OK, "the whole body"));
    assert_eq!((before.0.load(Ordering::SeqCst), behind.0.load(Ordering::SeqCst)), (1, 2));
    assert_eq!((bench.server.api().revoked, bench.server.api().accepted), (1, 2));
}

/// The same counter, with marks of its own: what the first attempt left is there for the second.
struct Behind(Counter);

#[derive(Clone, Debug, PartialEq)]
struct Seen(u64);

impl Middleware for Behind {
    fn handle<'a, 'b, 'c, 'run>(
        &'a self,
        request: Request,
        extensions: &'b mut Extensions,
        next: Next<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'run>>
    where
        'a: 'run,
        'b: 'run,
        'c: 'run,
        Self: 'run,
    {
        let number = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(extensions.get(), Some(&Mark(1)), "what came from above");
        assert_eq!(extensions.get(), (number > 1).then_some(&Seen(number - 1)));
        extensions.insert(Seen(number));
        next.run(request, extensions)
    }
}

#[tokio::test]
async fn errors_are_ours_or_reqwests_own() {
    let bench = Bench::new().await;
    let ours = |error: reqwest_middleware::Error| match error {
        reqwest_middleware::Error::Middleware(error) => {
            error.downcast::<Error<reqwest_middleware::Error>>().unwrap().kind()
        }
        other => panic!("{other:?}"),
    };
    let error = bench.client().get("http://127.0.0.1:9/").send().await.unwrap_err();
    assert_eq!(ours(error), ErrorKind::ForeignOrigin);
    let rejected = LiveToken::spawn(source_fn(async |_| Err(FetchError::rejected("unknown client"))));
    let layer = BearerAuthLayer::new(rejected, Origin::parse(&bench.server.origin()).unwrap());
    let error = client(layer).get(bench.server.api_url("/echo")).send().await.unwrap_err();
    assert_eq!(ours(error), ErrorKind::Rejected);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let layer = bench.layer.clone().also_origin(Origin::parse(&format!("http://{closed}")).unwrap());
    let error = client(layer).get(format!("http://{closed}/")).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn what_a_request_wants_is_in_its_extensions() {
    let bench = Bench::new().await;
    let url = bench.server.api_url("/echo");
    let asks = client(bench.layer.clone().ask_requests());
    let without = PerRequest::new().without_token();
    let response = asks.get(&url).with_extension(without).send().await.unwrap();
    assert_eq!((response.status(), bench.server.api().missing), (StatusCode::UNAUTHORIZED, 1));
    assert_eq!(bench.server.token_requests(), 1, "nothing was refused that was sent");
    // Who isn't asked has no say.
    assert_eq!(bench.client().get(&url).with_extension(without).send().await.unwrap().status(), StatusCode::OK);
    // Nobody brings another token: the wait after the 401 is the request's own, not the layer's ten minutes.
    let hanging = source_fn({
        let mut first = true;
        move |_| {
            let first = std::mem::take(&mut first);
            async move {
                if !first {
                    std::future::pending::<()>().await;
                }
                Ok(tower_bearer::AccessToken::new("unknown")?)
            }
        }
    });
    let layer = BearerAuthLayer::spawn(hanging, Origin::parse(&bench.server.origin()).unwrap());
    let impatient = client(layer.max_wait(Duration::from_secs(600)).ask_requests());
    let wait = PerRequest::new().max_wait(Duration::from_millis(50));
    let response = impatient.get(&url).with_extension(wait).send().await.unwrap();
    assert_eq!((response.status(), bench.server.api().unknown), (StatusCode::UNAUTHORIZED, 1));
}

#[tokio::test]
async fn an_own_header_is_replaced_unless_it_is_kept_and_never_sends_nothing_again() {
    let bench = Bench::new().await;
    let url = bench.server.api_url("/echo");
    let own = |client: &ClientWithMiddleware| client.get(&url).header(AUTHORIZATION, "Basic Zm9vOmJhcg==").send();
    assert_eq!(own(&bench.client()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(
        own(&client(bench.layer.clone().keep_authorization())).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(bench.server.token_requests(), 1);
    bench.server.revoke_all();
    let never = client(bench.layer.clone().replay(Never));
    assert_eq!(never.get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    bench.server.wait_for_token_requests(2).await;
}

/// Gives the first attempt up after a moment, and makes another one.
struct Impatient;

impl Middleware for Impatient {
    fn handle<'a, 'b, 'c, 'run>(
        &'a self,
        request: Request,
        extensions: &'b mut Extensions,
        next: Next<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'run>>
    where
        'a: 'run,
        'b: 'run,
        'c: 'run,
        Self: 'run,
    {
        Box::pin(async move {
            extensions.insert(Mark(7));
            let again = request.try_clone().unwrap();
            let first = tokio::time::timeout(Duration::from_millis(100), next.clone().run(request, extensions)).await;
            assert!(first.is_err(), "it hangs");
            assert_eq!(extensions.get(), Some(&Mark(7)), "what it was given is there for the next one");
            next.run(again, extensions).await
        })
    }
}

/// The first request doesn't get through.
#[derive(Default)]
struct HangsOnce(AtomicU64);

impl Middleware for HangsOnce {
    fn handle<'a, 'b, 'c, 'run>(
        &'a self,
        request: Request,
        extensions: &'b mut Extensions,
        next: Next<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'run>>
    where
        'a: 'run,
        'b: 'run,
        'c: 'run,
        Self: 'run,
    {
        Box::pin(async move {
            assert_eq!(extensions.get(), Some(&Mark(7)));
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                std::future::pending::<()>().await;
            }
            next.run(request, extensions).await
        })
    }
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_the_extensions_for_the_next_one() {
    let bench = Bench::new().await;
    let client = ClientBuilder::new(reqwest::Client::new()).with(Impatient).with(bench.layer.clone());
    let client = client.with(HangsOnce::default()).build();
    assert_eq!(client.get(bench.server.api_url("/echo")).send().await.unwrap().status(), 200);
}
