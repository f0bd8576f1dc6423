//! What hostile or slow servers, broken bodies and misuse do to each replay policy: whatever is sent a second time is whole.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_bearer::{
    Error, ErrorKind,
    replay::{Auto, Buffered, Cloned, Never, ReplayPolicy, Tee, WhenEmpty},
};

mod support;
use support::{
    API, Issuer,
    hasty::{End, Hasty, Seen},
    layer, ok, secs,
};

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

fn boxed<B>(body: B) -> Boxed
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

fn buffered(limit: usize) -> Buffered<Boxed> {
    Buffered::new(limit, Tee::boxed_unsync)
}

/// Ten frames of ten bytes, one after the other, and trailers.
fn stream_of_100() -> Boxed {
    let data = (b'a'..b'k').map(|byte| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte; 10]))));
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "100".parse().unwrap())]);
    boxed(StreamBody::new(stream::iter(data.chain([Ok(Frame::trailers(trailers))]))))
}

fn whole_100() -> Bytes {
    (b'a'..b'k').flat_map(|byte| vec![byte; 10]).collect()
}

/// One request through the layer, with a token that is refused once. The status, and what arrived.
async fn send<B, P>(api: &Hasty, policy: P, body: B) -> (Result<u16, Error<BoxError>>, Vec<Seen>)
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    P: ReplayPolicy<Request<B>> + Clone,
{
    let issuer = Issuer::new().takes(secs(1));
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).replay(policy)).service(api.clone());
    let request = Request::post(format!("{API}/upload")).body(body).unwrap();
    let result = service.oneshot(request).await.map(|response| response.status().as_u16());
    sleep(secs(10)).await;
    let refused = result.is_ok() || api.seen().len() > 1;
    assert_eq!(issuer.fetches(), if refused { 2 } else { 1 }, "a 401 renews the token in any case");
    (result, api.seen())
}

// Buffered

#[tokio::test(start_paused = true)]
async fn an_early_401_in_the_middle_of_an_upload() {
    // From "nothing was read" to "all was read, trailers and end as well".
    for reads in 0..=12 {
        let (result, seen) = send(&Hasty::new(reads), buffered(1000), stream_of_100()).await;
        assert_eq!((result.unwrap(), seen.len()), (200, 2), "after {reads}");
        assert_eq!((&seen[1].data[..], &seen[1].end), (&whole_100()[..], &End::Whole), "after {reads}");
        assert_eq!(seen[1].trailers.as_ref().unwrap()["x-sum"], "100");
        // The first attempt never saw an end before the end.
        match &seen[0].end {
            End::Whole => assert!(reads == 12 && seen[0].data == whole_100(), "after {reads}: an end that is none"),
            End::Error(error) => assert!(error.contains("sent again"), "{error}"),
            End::StillSending => panic!("after {reads}: the first attempt hangs"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_the_401_is_handed_on() {
    for (limit, reads, expected) in
        [(99, 10, 401), (100, 10, 200), (0, 1, 401), (0, 0, 200), (10, 1, 200), (10, 2, 401), (19, 2, 401)]
    {
        let (result, seen) = send(&Hasty::new(reads), buffered(limit), stream_of_100()).await;
        assert_eq!(result.unwrap(), expected, "limit {limit}, {reads} frames read");
        assert_eq!(seen.len(), if expected == 200 { 2 } else { 1 });
        let last = seen.last().unwrap();
        // Also where the 401 is handed on, the attempt under way may go on to its end.
        assert_eq!((&last.data[..], &last.end), (&whole_100()[..], &End::Whole), "limit {limit}, {reads} frames read");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_other_token_comes_the_upload_goes_on() {
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    sleep(secs(1)).await;
    issuer.takes(secs(1)).fails(tower_bearer::FetchError::try_again("down"));
    let api = Hasty::new(3);
    let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(1000))).service(api.clone());
    let request = Request::post(format!("{API}/upload")).body(stream_of_100()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 401);
    sleep(secs(1)).await;
    let seen = api.seen();
    assert_eq!((seen.len(), &seen[0].data[..], &seen[0].end), (1, &whole_100()[..], &End::Whole));
}

#[tokio::test(start_paused = true)]
async fn while_another_token_is_awaited_nothing_more_is_sent_in_vain() {
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    sleep(secs(1)).await;
    issuer.takes(secs(5));
    let api = Hasty::new(3);
    let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(1000))).service(api.clone());
    let request = Request::post(format!("{API}/upload")).body(stream_of_100()).unwrap();
    let response = tokio::spawn(service.oneshot(request));
    sleep(secs(4)).await;
    let seen = api.seen();
    assert_eq!((seen.len(), seen[0].data.len(), &seen[0].end), (1, 30, &End::StillSending));
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_an_error_and_nothing_is_sent_again() {
    let broken = || {
        let frames = [Ok(Frame::data(Bytes::from("ab"))), Err("the disk is gone"), Ok(Frame::data(Bytes::from("cd")))];
        boxed(StreamBody::new(stream::iter(frames)))
    };
    // Before the 401: the request fails.
    let (result, seen) = send(&Hasty::new(5), buffered(1000), broken()).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Inner);
    assert_eq!((seen.len(), &seen[0].end), (1, &End::Error("the disk is gone".into())));
    // After it: the second attempt fails, the first doesn't see an end.
    let (result, seen) = send(&Hasty::new(1), buffered(1000), broken()).await;
    assert_eq!(result.unwrap_err().into_inner_boxed().unwrap().to_string(), "the disk is gone");
    assert_eq!((seen.len(), &seen[1].end), (2, &End::Error("the disk is gone".into())));
    assert!(matches!(&seen[0].end, End::Error(error) if error.contains("sent again")));
}

/// Tells when it is dropped.
struct Guarded<B>(B, #[allow(dead_code)] Option<oneshot::Sender<()>>);

impl<B: Body + Unpin> Body for Guarded<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_before_the_end_of_the_body_ends_the_copying_and_not_the_body() {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let body = StreamBody::new(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|data| (Ok::<_, Infallible>(Frame::data(data)), receiver))
    }));
    // Answers 200 after one frame, as a server does that streams both ways.
    let api = Hasty::new(0).refuses(0);
    let both_ways = {
        let api = api.clone();
        tower::service_fn(move |request: Request<Boxed>| {
            let api = api.clone();
            async move {
                api.seen.lock().unwrap().push(Seen::default());
                let mut body = Box::pin(request.into_body());
                assert!(api.read(0, &mut body, 1).await);
                tokio::spawn(async move { api.read(0, &mut body, usize::MAX).await });
                Ok::<_, BoxError>(ok())
            }
        })
    };
    let token = Issuer::new().ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(8))).service(both_ways);
    let request = Request::post(format!("{API}/both")).body(boxed(body)).unwrap();
    let (response, sent) = tokio::join!(service.oneshot(request), sender.send(Bytes::from("1234")));
    sent.unwrap();
    assert_eq!(response.unwrap().status(), 200);
    for _ in 0..100 {
        sender.send(Bytes::from("1234")).await.unwrap();
    }
    drop(sender);
    sleep(secs(1)).await;
    assert_eq!((api.seen()[0].data.len(), &api.seen()[0].end), (404, &End::Whole));
}

/// Futures may be kept for long after they are done, in a `select!` or a join handle.
#[tokio::test(start_paused = true)]
async fn what_was_kept_goes_when_the_response_is_there_and_not_with_its_future() {
    for (refuses, reads) in [(0, 0), (1, 0), (1, 10)] {
        let (token, kept) = (Issuer::new().ready().await, Arc::new(()));
        let api = Hasty::new(reads).refuses(refuses);
        let mut service = ServiceBuilder::new().layer(layer(&token).replay(buffered(50))).service(api);
        let request = Request::post(format!("{API}/a")).extension(kept.clone()).body(stream_of_100()).unwrap();
        let mut response = Box::pin(support::call(&mut service, request).await);
        let status = response.as_mut().await.unwrap().status().as_u16();
        assert_eq!(status, if reads == 10 { 401 } else { 200 });
        assert_eq!(Arc::strong_count(&kept), 1);
        drop(response);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_in_the_middle_of_the_body_drops_the_body() {
    for reads in [1, 2] {
        let (dropped, was_dropped) = oneshot::channel();
        let first = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("ab")))]);
        let body = boxed(Guarded(StreamBody::new(Box::pin(first.chain(stream::pending()))), Some(dropped)));
        let (issuer, api) = (Issuer::new(), Hasty::new(reads));
        let token = issuer.ready().await;
        sleep(secs(1)).await;
        issuer.hangs();
        let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(1000))).service(api);
        let request = Request::post(format!("{API}/upload")).body(body).unwrap();
        // One frame read: waits for a token with the 401 held. Two wanted: the first attempt is still under way.
        timeout(secs(1), service.oneshot(request)).await.unwrap_err();
        // An attempt that goes on in the background holds it until the client ends it.
        let ended = timeout(secs(1), was_dropped).await;
        assert_eq!(ended.is_ok(), reads == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_are_those_of_the_original_and_of_the_whole() {
    for reads in 0..=1 {
        let (result, seen) = send(&Hasty::new(reads), buffered(1000), boxed(Full::new(whole_100()))).await;
        assert_eq!((result.unwrap(), seen.len()), (200, 2));
        assert_eq!((seen[0].size_hint.exact(), seen[1].size_hint.exact()), (Some(100), Some(100)), "after {reads}");
        assert_eq!(seen[1].data, whole_100());
    }
    // Empty stays empty, and is sent again.
    let (result, seen) = send(&Hasty::new(0), buffered(0), boxed(Full::<Bytes>::default())).await;
    assert_eq!((result.unwrap(), seen.len(), seen[1].size_hint.exact()), (200, 2, Some(0)));
}

/// The API doesn't take the new token yet, and not the one before either.
#[tokio::test(start_paused = true)]
async fn each_further_attempt_is_whole_as_well() {
    for reads in [0, 3, 12] {
        let (issuer, api) = (Issuer::new().fresh(), Hasty::new(reads).refuses(2));
        let token = issuer.ready().await;
        let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(1000))).service(api.clone());
        let request = Request::post(format!("{API}/upload")).body(stream_of_100()).unwrap();
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200, "after {reads}");
        sleep(secs(10)).await;
        let seen = api.seen();
        assert_eq!(seen.len(), 3);
        assert_eq!((&seen[2].data[..], &seen[2].end), (&whole_100()[..], &End::Whole), "after {reads}");
        assert_eq!(seen[2].trailers.as_ref().unwrap()["x-sum"], "100");
        for before in &seen[..2] {
            assert!(reads == 12 || matches!(before.end, End::Error(_)), "after {reads}: {:?}", before.end);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_attempts_are_refused_the_last_401_is_handed_on() {
    let (issuer, api) = (Issuer::new(), Hasty::new(3).refuses(100));
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token).replay(buffered(1000))).service(api.clone());
    let request = Request::post(format!("{API}/upload")).body(stream_of_100()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 401);
    sleep(secs(10)).await;
    let seen = api.seen();
    // Once, and `RESENDS` times.
    assert!((2..=5).contains(&seen.len()), "{}", seen.len());
    let last = seen.last().unwrap();
    assert_eq!((&last.data[..], &last.end), (&whole_100()[..], &End::Whole));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waited_for_the_first_token_is_sent_again_whole() {
    let (issuer, api) = (Issuer::new().takes(secs(1)), Hasty::new(4));
    let service = ServiceBuilder::new().layer(layer(&issuer.live()).replay(buffered(1000))).service(api.clone());
    let request = Request::post(format!("{API}/upload")).body(stream_of_100()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    let seen = api.seen();
    assert_eq!((seen.len(), &seen[1].data[..], &seen[1].end), (2, &whole_100()[..], &End::Whole));
}

// The others

/// All clones share one stream. It may know how much is left of it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Full<Bytes>>>, bool);

impl Body for Shared {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut *self.0.lock().unwrap()).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        if self.1 { self.0.lock().unwrap().size_hint() } else { SizeHint::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_lies_is_not_sent_again() {
    for knows_length in [true, false] {
        let body = Shared(Arc::new(Mutex::new(Full::from("text"))), knows_length);
        let (result, seen) = send(&Hasty::new(1), Cloned, body).await;
        assert_eq!((result.unwrap(), seen.len()), (401, 1), "knows its length: {knows_length}");
    }
    let (result, seen) = send(&Hasty::new(1), Cloned, Full::<Bytes>::from("text")).await;
    assert_eq!((result.unwrap(), seen.len(), &seen[1].data[..]), (200, 2, &b"text"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_emptied_while_the_token_is_awaited_is_not_sent_again() {
    // The first attempt has read nothing when it is refused, and all of it a moment later.
    let body = Shared(Arc::new(Mutex::new(Full::from("text"))), true);
    let (result, seen) = send(&Hasty::new(0), Cloned, body).await;
    assert_eq!((result.unwrap(), seen.len(), &seen[0].data[..]), (401, 1, &b"text"[..]));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_empty_is_sent_again_empty() {
    let policy = WhenEmpty::new(|| boxed(Full::default()));
    let (result, seen) = send(&Hasty::new(1), policy, boxed(Full::from("text"))).await;
    assert_eq!((result.unwrap(), seen.len()), (401, 1));
    let (result, seen) = send(&Hasty::new(1), policy, stream_of_100()).await;
    assert_eq!((result.unwrap(), seen.len()), (401, 1));
    let (result, seen) = send(&Hasty::new(1), policy, boxed(Full::default())).await;
    assert_eq!((result.unwrap(), seen.len(), &seen[1].data[..]), (200, 2, &b""[..]));
}

#[tokio::test(start_paused = true)]
async fn auto_and_never_leave_streams_alone() {
    let (result, seen) = send(&Hasty::new(1), Auto, stream_of_100()).await;
    assert_eq!((result.unwrap(), seen.len(), &seen[0].end), (401, 1, &End::Whole));
    let (result, seen) = send(&Hasty::new(1), Never, Full::<Bytes>::from("text")).await;
    assert_eq!((result.unwrap(), seen.len()), (401, 1));
}
