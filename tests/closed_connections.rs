//! Servers that close a connection with their 401 and don't say so: what is sent again may meet that connection.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};
#[cfg(feature = "hyper-util")]
use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response};
use http_body_util::Full;
#[cfg(feature = "hyper-util")]
use hyper::{server::conn::http2, service::service_fn};
#[cfg(feature = "hyper-util")]
use hyper_util::rt::TokioIo;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
#[cfg(feature = "hyper-util")]
use tokio::sync::Notify;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, FetchError, NotSent, Origin};

mod support;
use support::{API, Issuer, layer, ok, refused, secs};

/// How often each path was asked for.
type Asked = Arc<Mutex<BTreeMap<String, u32>>>;

/// Answers 401 to the first request for a path and 200 to later ones. It closes the connection as the next request comes that follows a 401:
/// nothing of that is processed.
async fn serve(mut stream: TcpStream, asked: Asked) -> io::Result<()> {
    let (mut text, mut closing) = (Vec::new(), false);
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).await?;
        if length == 0 || closing {
            return Ok(());
        }
        text.extend_from_slice(&buffer[..length]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(text.drain(..end + 4).collect()).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let times = *asked.lock().unwrap().entry(path).and_modify(|times| *times += 1).or_insert(1);
        closing = times == 1;
        let status = if closing { "401 Unauthorized" } else { "200 OK" };
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    }
}

/// The status of each of forty requests, 0 where there was none, and how often each was asked for.
async fn send(method: Method) -> (Vec<u16>, Vec<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, asked) = (format!("http://{}", listener.local_addr().unwrap()), Asked::default());
    let shared = asked.clone();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, shared.clone()));
        }
    });
    let answers = join_all((0..40).map(async |number| {
        // A client for each: in a pool that they share, what is sent once more may meet another connection that closes.
        let client = Client::builder(TokioExecutor::new()).build_http();
        // A token for each: between two fetches of one there is a second.
        let token = Issuer::new().ready().await;
        let layer = BearerAuthLayer::new(token, Origin::parse(&origin).unwrap());
        let service = ServiceBuilder::new().layer(layer).service(client);
        let request = Request::builder().method(&method).uri(format!("{origin}/{number}"));
        let result = service.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await;
        result.map_or(0, |response| response.status().as_u16())
    }));
    let answers = answers.await;
    serving.abort();
    let asked = asked.lock().unwrap().values().copied().collect();
    (answers, asked)
}

/// What hyper's own errors mean is known with the feature alone.
#[cfg(feature = "hyper-util")]
#[tokio::test]
async fn what_is_sent_again_on_a_connection_that_is_closed_is_sent_once_more_where_it_may_be_repeated() {
    let (answers, asked) = send(Method::GET).await;
    assert_eq!((answers, asked), (vec![200; 40], vec![2; 40]));
}

/// Answers 401 to the first request, over HTTP/2, and with the next one breaks the connection off within a frame.
#[cfg(feature = "hyper-util")]
async fn serve_until_it_breaks(mut stream: TcpStream, asked: Arc<AtomicU32>) {
    let breaks = Arc::new(Notify::new());
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn({
        let breaks = breaks.clone();
        move |_| {
            let (times, breaks) = (asked.fetch_add(1, Ordering::SeqCst) + 1, breaks.clone());
            async move {
                if times == 2 {
                    breaks.notify_one();
                    pending::<()>().await;
                }
                let status = if times == 1 { 401 } else { 200 };
                Response::builder().status(status).body(Full::<Bytes>::default())
            }
        }
    });
    let server = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service);
    tokio::select! {
        _ = server => {}
        _ = tokio::io::copy_bidirectional(&mut stream, &mut near) => {}
        () = breaks.notified() => stream.write_all(&[0, 0]).await.unwrap(),
    }
}

#[cfg(feature = "hyper-util")]
#[tokio::test]
async fn what_is_sent_again_on_a_connection_that_breaks_off_within_a_frame_is_sent_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<AtomicU32>::default());
    let shared = asked.clone();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_until_it_breaks(stream, shared.clone()));
        }
    });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let layer = BearerAuthLayer::new(Issuer::new().ready().await, Origin::parse(&origin).unwrap());
    let request = Request::get(format!("{origin}/a")).body(Full::<Bytes>::default()).unwrap();
    let result = ServiceBuilder::new().layer(layer).service(client).oneshot(request).await;
    serving.abort();
    assert_eq!(result.map(|response| response.status().as_u16()).map_err(|error| format!("{error:?}")), Ok(200));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// Nobody knows whether it was processed (RFC 9110 §9.2.2).
#[tokio::test]
async fn what_may_not_be_repeated_fails_as_it_would_without_the_layer() {
    let (answers, asked) = send(Method::POST).await;
    assert!(answers.iter().all(|status| [0, 200].contains(status)), "{answers:?}");
    assert!(answers.contains(&0), "the test needs connections that are closed");
    assert!(asked.iter().all(|times| *times <= 2), "none is processed twice");
}

/// A client that refuses the first request, and can't send these. Its error says so, if it is told to.
async fn lost(times: u32, unsent: bool, method: Method) -> (Result<u16, String>, u32) {
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    let client = tower::service_fn(move |_: Request<String>| {
        let mut calls = counted.lock().unwrap();
        *calls += 1;
        let answer: Result<Response<String>, io::Error> = match *calls {
            1 => Ok(refused()),
            call if call > 1 + times => Ok(ok()),
            _ if unsent => Err(io::Error::other(NotSent::because("the connection is gone"))),
            _ => Err(io::Error::other("the connection is gone")),
        };
        std::future::ready(answer)
    });
    let token = Issuer::new().ready().await;
    let service = ServiceBuilder::new().layer(layer(&token)).service(client);
    let request = Request::builder().method(method).uri(format!("{API}/a")).body(String::from("text")).unwrap();
    let result = service.oneshot(request).await;
    let result = result.map(|response| response.status().as_u16());
    let calls = *calls.lock().unwrap();
    (result.map_err(|error| error.inner().unwrap().to_string()), calls)
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_sent_once_more_whatever_it_is() {
    for method in [Method::GET, Method::POST] {
        assert_eq!(lost(1, true, method.clone()).await, (Ok(200), 3));
        let (result, calls) = lost(2, true, method.clone()).await;
        assert!(result.unwrap_err().contains("the connection is gone"));
        assert_eq!(calls, 3, "once");
        assert_eq!(lost(1, false, method).await, (Err("the connection is gone".into()), 2));
    }
}

/// A 401 that wasn't held is asked for once more where no token comes, and that meets a connection that is closed.
#[tokio::test(start_paused = true)]
async fn a_401_that_was_dropped_is_asked_for_on_another_connection() {
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    tokio::time::sleep(secs(10)).await;
    issuer.takes(secs(1)).fails(FetchError::try_again("down"));
    let asked = Asked::default();
    let api = tower::service_fn(move |request: Request<String>| {
        let path = request.uri().path().to_owned();
        let times = *asked.lock().unwrap().entry(path).and_modify(|times| *times += 1).or_insert(1);
        let answer = if times == 2 { Err(io::Error::other(NotSent::because("closed"))) } else { Ok(refused()) };
        std::future::ready(answer)
    });
    let service = ServiceBuilder::new().layer(layer(&token)).service(api);
    let answers = join_all((0..3).map(async |number| {
        let request = Request::get(format!("{API}/{number}")).body(String::new()).unwrap();
        service.clone().oneshot(request).await.unwrap().status().as_u16()
    }));
    assert_eq!(answers.await, [401; 3]);
}
