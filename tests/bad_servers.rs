//! Servers that speak HTTP badly, byte for byte on a socket, and challenges that are none: each is a clear error or is put up
//! with, within the time that an exchange may take.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, FetchError, FetchErrorKind, FetchRequest, IntoTokenSource, LiveToken, Origin,
    TokenSource,
    oauth2::{ClientCredentials, TokenEndpoint},
};

/// How long an exchange with a server takes that never comes to an end.
const LIMIT: Duration = Duration::from_millis(1500);

/// What a good answer needs only on a machine that stands still.
const LONG: Duration = Duration::from_secs(60);

/// Asks a server for a token that sends `first` and then, if there is any, `next` again and again.
async fn ask(first: &str, next: &'static str, limit: Duration) -> Result<AccessToken, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let first = first.to_owned();
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(first.as_bytes()).await;
            while !next.is_empty() && socket.write_all(next.as_bytes()).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    });
    let endpoint = TokenEndpoint::new(&url).unwrap().client_secret_basic("id", "secret");
    let started = Instant::now();
    let fetched = ClientCredentials::new(endpoint).into_token_source().fetch(FetchRequest::new(limit)).await;
    assert!(started.elapsed() < limit + LONG, "{:?}", started.elapsed());
    server.abort();
    fetched
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const BODY: &str = "Content-Length: 23\r\n\r\n{\"access_token\":\"good\"}";

#[tokio::test]
async fn what_is_odd_and_still_an_answer() {
    assert_eq!(BODY.split_once("\r\n\r\n").unwrap().1.len(), 23);
    let chunks = "Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n10;ext=1\r\n{\"access_token\":\r\n7\r\n\"good\"}\r\n0\r\n\
                  x-t: 1\r\naccess_token: evil\r\n\r\n";
    for (name, answer) in [
        ("as it should be", format!("{OK}{BODY}")),
        (
            "interim answers",
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{OK}{BODY}"),
        ),
        ("chunks with extensions and trailers", format!("{OK}{chunks}")),
        ("HTTP/1.0 that ends with the connection", "HTTP/1.0 200\r\n\r\n{\"access_token\":\"good\"}".to_owned()),
        ("no reason", format!("HTTP/1.1 200\r\n{BODY}")),
        ("another reason", format!("HTTP/1.1 200 \u{e9}\u{1b}[31m\t\r\n{BODY}").replace('\u{1b}', "")),
        ("more than was announced", format!("{OK}{BODY}HTTP/1.1 500 no\r\n\r\n")),
        ("cookies", format!("{OK}{}{BODY}", "Set-Cookie: a=b\r\n".repeat(50))),
    ] {
        let token = ask(&answer, "", LONG).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(token.expose_secret(), "good", "{name}");
    }
}

#[tokio::test]
async fn what_is_no_answer() {
    for (name, first, next) in [
        ("nothing", "", ""),
        ("garbage", "\u{0}\u{1}marked garbage\r\n\r\n", ""),
        ("another protocol", "220 smtp.test marked\r\n", ""),
        ("garbage without end", "", "marked"),
        ("interim answers without end", "", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("a header without end", "HTTP/1.1 200 OK\r\nX-Marked: ", "marked "),
        ("headers without end", "HTTP/1.1 200 OK\r\n", "X-Marked: marked\r\n"),
        ("a body without end", "HTTP/1.1 200 OK\r\n\r\n", "marked"),
        ("chunks without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nm\r\n"),
        ("a chunk's extension without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "marked"),
        ("trailers without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Marked: marked\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", ""),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", ""),
        ("a length beyond u64", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}", ""),
        ("a length of u64::MAX", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551614\r\n\r\n{}", "marked"),
        (
            "other protocols",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: marked\r\nConnection: upgrade\r\n\r\n",
            "marked",
        ),
        ("no chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmarked\r\n", ""),
        ("a chunk too large", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "m"),
        ("a status that is none", "HTTP/1.1 099 marked\r\n\r\n", ""),
        ("a redirect without a place", "HTTP/1.1 307 x\r\nLocation: marked://\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let error = ask(first, next, LIMIT).await.expect_err(name);
        assert_eq!(error.kind(), FetchErrorKind::TryAgain, "{name}: {error}");
        assert!(!error.to_string().contains("marked"), "{name}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{name}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_and_headers_of_any_size_and_kind() {
    let started = Instant::now();
    let large = 32 * 1024;
    let values = [
        "Bearer ".repeat(large / 7),
        "a=b,".repeat(large / 4),
        format!("Bearer error=\"{}", "\\".repeat(large)),
        format!("Bearer error=\"{}\"", "\\\"".repeat(large / 2)),
        format!("Bearer {}", "=".repeat(large)),
        format!("Bearer {}", "x=\"y\", ".repeat(large / 7)),
        ",".repeat(large),
        " ".repeat(large),
        "\"".repeat(large),
        "\u{e9}".repeat(1000),
    ];
    let names: [HeaderName; 2] = [http::header::WWW_AUTHENTICATE, HeaderName::from_static("grpc-status")];
    for (value, name) in values.iter().flat_map(|value| names.iter().map(move |name| (value, name))) {
        for times in [1, 20] {
            let mut response = Response::builder().status(401).body(()).unwrap();
            for _ in 0..times {
                response.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let live = LiveToken::spawn(AccessToken::new("t").unwrap());
            let layer = BearerAuthLayer::new(live, Origin::parse("https://api.test").unwrap());
            let api =
                service_fn(move |_: Request<Empty<Bytes>>| std::future::ready(Ok::<_, Infallible>(response.clone())));
            let response = layer.layer(api).oneshot(Request::get("/").body(Empty::new()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 401);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
