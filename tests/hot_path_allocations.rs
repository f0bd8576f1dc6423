//! What the layer adds to a request on a valid token, counted by an allocator: nothing beyond tower-http's static layer, and
//! with a replay kept, what the table says.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomData,
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{Empty, Full};
use tower::{Layer, Service};
use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay};
use tower_http::auth::AddAuthorizationLayer;

/// Answers at once and allocates nothing. What it was sent, it drops.
struct Static<R>(PhantomData<fn(R)>);

impl<R> Clone for Static<R> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<R> Service<R> for Static<R> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

/// Where a request's names and values come from decides what a copy of it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Values that are constants: shared by every copy.
    Constant,
    /// Names and values made at run time, each on memory of its own that the first copy turns into shared memory.
    Fresh,
}

const FRESH: &str = "https://api.test/documents?page=2";

fn request<B>(kind: Kind, headers: usize, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.uri_mut() = match kind {
        Kind::Constant => Uri::from_static(FRESH),
        Kind::Fresh => FRESH.parse().unwrap(),
    };
    for (number, name) in NAMES.into_iter().enumerate().take(headers) {
        let (name, value) = match kind {
            Kind::Constant => (HeaderName::from_static(name), HeaderValue::from_static("a constant")),
            Kind::Fresh => (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(&format!("value {number}")).unwrap(),
            ),
        };
        request.headers_mut().insert(name, value);
    }
    request
}

const NAMES: [&str; 12] = [
    "x-custom-0",
    "x-custom-1",
    "x-custom-2",
    "x-custom-3",
    "x-custom-4",
    "x-custom-5",
    "x-custom-6",
    "x-custom-7",
    "x-custom-8",
    "x-custom-9",
    "x-custom-10",
    "x-custom-11",
];

/// The allocations of one request, from the call to the end of its future: the same for each of a hundred.
fn allocations<S, B: Clone>(service: &mut S, kind: Kind, headers: usize, body: &B) -> u64
where
    S: Service<Request<B>, Response = Response<()>>,
    S::Error: std::fmt::Debug,
{
    let mut one = || {
        let request = request(kind, headers, body.clone());
        let counted = measure(|| {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(service.poll_ready(cx).is_ready());
            let mut response = pin!(service.call(request));
            let Poll::Ready(response) = response.as_mut().poll(cx) else { panic!("waits on a valid token") };
            assert_eq!(response.unwrap().status(), StatusCode::OK);
        });
        assert!(counted.count_current <= 0, "something is kept: {counted:?}");
        counted.count_total
    };
    // The first two make the service's own view of the token.
    let first = (one(), one(), one()).2;
    for _ in 0..100 {
        assert_eq!(one(), first);
    }
    first
}

fn origin() -> Origin {
    Origin::parse("https://api.test").unwrap()
}

async fn token() -> LiveToken {
    let token = LiveToken::spawn(AccessToken::new("a".repeat(1024)).unwrap());
    token.ready().await.unwrap();
    token
}

fn of_tower_http<B: Clone>(kind: Kind, headers: usize, body: &B) -> u64 {
    let layer = AddAuthorizationLayer::bearer(&"a".repeat(1024)).as_sensitive(true);
    allocations(&mut layer.layer(Static(PhantomData)), kind, headers, body)
}

#[tokio::test]
async fn without_replay_nothing_is_added_to_a_static_header() {
    let token = token().await;
    for kind in [Kind::Constant, Kind::Fresh] {
        for headers in [0, 5, 6, 12] {
            let body = Full::new(Bytes::from_static(b"text"));
            let floor = of_tower_http(kind, headers, &body);
            // The map of headers grows where it was full: what `http` does, and the proof that somebody counts.
            assert_eq!(floor, if headers == 5 { 0 } else { 2 }, "{headers} other headers");
            let layer = BearerAuthLayer::new(token.clone(), origin());
            let mut never = layer.clone().replay(replay::Never).layer(Static(PhantomData));
            let mut without = layer.without_recovery().layer(Static(PhantomData));
            for (name, counted) in [
                ("Never", allocations(&mut never, kind, headers, &body)),
                ("without_recovery", allocations(&mut without, kind, headers, &body)),
            ] {
                assert_eq!(counted, floor, "{name}, {headers} other headers, {kind:?}");
            }
        }
    }
}

/// A service that is cloned for every request must not pay either.
#[tokio::test]
async fn a_clone_for_every_request_adds_nothing() {
    let token = token().await;
    let service = BearerAuthLayer::new(token, origin()).without_recovery().layer(Static(PhantomData));
    for _ in 0..100 {
        let request = request(Kind::Fresh, 5, Full::new(Bytes::from_static(b"text")));
        let counted = measure(|| {
            let mut service = service.clone();
            let mut response = pin!(service.call(request));
            assert!(response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        });
        assert_eq!(counted.count_total, 0, "there is room for a sixth header");
    }
}

/// What [`replay::Auto`] adds to a request that can be sent again, in allocations:
///
/// | other headers | 0 | 5 | 6 | 12 |
/// |---|---|---|---|---|
/// | constants | 1 | 3 | 3 | 3 |
/// | names and values made at run time | 1 | 13 | 15 | 27 |
///
/// One for the box that holds the copy, two for the copy's map of headers. What was made at run time lies on memory of its own,
/// and its first copy makes that shared: two more for each header of a custom name. URI and body cost nothing (`Empty`, and
/// `Full` of constant or shared bytes).
const EXTRA: [(Kind, [(usize, u64); 4]); 2] =
    [(Kind::Constant, [(0, 1), (5, 3), (6, 3), (12, 3)]), (Kind::Fresh, [(0, 1), (5, 13), (6, 15), (12, 27)])];

#[tokio::test]
async fn a_replay_that_is_kept_costs_what_the_table_says() {
    let token = token().await;
    let layer = BearerAuthLayer::new(token, origin());
    let mut wrong = Vec::new();
    for (kind, row) in EXTRA {
        for (headers, expected) in row {
            let full = Full::new(Bytes::from_static(b"text"));
            let shared = Full::new(Bytes::from(vec![0; 64]).clone());
            let empty = Empty::<Bytes>::new();
            let extra = [
                allocations(&mut layer.layer(Static(PhantomData)), kind, headers, &full)
                    - of_tower_http(kind, headers, &full),
                allocations(&mut layer.layer(Static(PhantomData)), kind, headers, &shared)
                    - of_tower_http(kind, headers, &shared),
                allocations(&mut layer.layer(Static(PhantomData)), kind, headers, &empty)
                    - of_tower_http(kind, headers, &empty),
            ];
            println!("{kind:?}, {headers} other headers: {extra:?} more");
            if extra != [expected; 3] {
                wrong.push((kind, headers, extra));
            }
        }
    }
    assert!(wrong.is_empty(), "not as in the table: {wrong:?}");
}

/// Both bodies boxed, what they share, the original, and who decides between them: whatever the body's length, before the first
/// byte of it is copied.
#[test]
fn what_is_buffered_costs_five_allocations_before_it_is_sent() {
    type Boxed = http_body_util::combinators::UnsyncBoxBody<Bytes, tower_bearer::BoxError>;
    let policy = replay::Buffered::<Boxed>::new(64 * 1024, http_body_util::BodyExt::boxed_unsync);
    let body = http_body_util::BodyExt::map_err(Full::from("text"), |never: std::convert::Infallible| match never {});
    let mut request = Request::new(http_body_util::BodyExt::boxed_unsync(body));
    let counted = measure(|| {
        std::hint::black_box(replay::ReplayPolicy::keep(&policy, &mut request));
    });
    assert_eq!(counted.count_total, 5);
}

#[test]
fn the_future_is_hardly_larger_than_the_inner_one() {
    type Future<R> = <tower_bearer::BearerAuth<Static<R>, replay::Auto> as Service<R>>::Future;
    type Http = Request<Full<Bytes>>;
    let inner = size_of::<<Static<Http> as Service<Http>>::Future>();
    let whole = size_of::<Future<Http>>();
    println!("the inner future has {inner} bytes, the whole {whole}");
    assert!(whole <= inner + 64, "{inner}, {whole}");
}
