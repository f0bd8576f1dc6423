//! The reverse proxy of the examples: bodies stream through it both ways, piece by piece, and a revoked token isn't felt.
#![cfg(all(feature = "testing", feature = "oauth2", feature = "reqwest"))]

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    StatusCode,
    header::{AUTHORIZATION, HOST},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, sync::mpsc};
use tower_bearer::{
    BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::AuthorizationServer,
};

#[path = "../examples/shared/reverse_proxy.rs"]
mod reverse_proxy;
use reverse_proxy::reverse_proxy;

async fn serve(router: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// An API that sends each piece back as it comes, to those whom the testing server lets in.
fn echo(gate: String) -> Router {
    let http = reqwest::Client::new();
    Router::new().fallback(async move |request: Request| -> Response {
        assert_eq!(request.headers().get_all(AUTHORIZATION).iter().count(), 1);
        assert!(!request.headers().contains_key("x-hop") && !request.headers().contains_key("connection"));
        assert!(request.headers()[HOST].to_str().unwrap().starts_with("127.0.0.1"));
        let question = http.get(&gate).header(AUTHORIZATION, &request.headers()[AUTHORIZATION]);
        if !question.send().await.unwrap().status().is_success() {
            return (StatusCode::UNAUTHORIZED, "refused").into_response();
        }
        let path = request.uri().to_string();
        ([("x-path", path), ("connection", "x-answer".into()), ("x-answer", "1".into())], request.into_body())
            .into_response()
    })
}

#[tokio::test]
async fn bodies_stream_both_ways_through_a_401() {
    let server = AuthorizationServer::start().await.unwrap();
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    token.ready().await.unwrap();
    let upstream = serve(echo(server.api_url("/gate"))).await;
    let layer = BearerAuthLayer::new(token, Origin::parse(&format!("http://{upstream}")).unwrap());
    let proxy = serve(reverse_proxy(layer, upstream.to_string().parse().unwrap())).await;

    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let settled = Request::get(format!("http://{proxy}/")).body(Body::empty()).unwrap();
    assert_eq!(client.request(settled).await.unwrap().status(), StatusCode::OK);
    server.revoke_all();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async {
        Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
    });
    let request = Request::post(format!("http://{proxy}/a/b?c=d"))
        .header(AUTHORIZATION, "Bearer a-stranger's")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap();
    sender.send(Bytes::from_static(b"piece 0;")).await.unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!((response.status(), &response.headers()["x-path"]), (StatusCode::OK, &"/a/b?c=d".parse().unwrap()));
    assert!(!response.headers().contains_key("x-answer"));
    let mut body = response.into_body();
    for number in 1..=50 {
        // Each piece is back before the next is sent: nobody on the way collects.
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, format!("piece {};", number - 1));
        sender.send(format!("piece {number};").into()).await.unwrap();
    }
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "piece 50;");
    assert_eq!((server.api().revoked, server.api().accepted), (1, 2));
}

#[tokio::test]
async fn without_a_token_the_proxy_says_unavailable_or_bad_gateway_and_not_why() {
    let upstream = serve(echo("http://127.0.0.1:9".into())).await;
    let origin = || Origin::parse(&format!("http://{upstream}")).unwrap();
    for (error, status) in [
        (tower_bearer::FetchError::try_again("marked"), StatusCode::SERVICE_UNAVAILABLE),
        (tower_bearer::FetchError::rejected("marked"), StatusCode::BAD_GATEWAY),
    ] {
        let source = tower_bearer::source_fn(move |_| std::future::ready(Err(error.clone())));
        let layer = BearerAuthLayer::spawn(source, origin()).max_wait(std::time::Duration::ZERO);
        let proxy = serve(reverse_proxy(layer, upstream.to_string().parse().unwrap())).await;
        let response = reqwest::get(format!("http://{proxy}/")).await.unwrap();
        assert_eq!((response.status(), &*response.text().await.unwrap()), (status, ""));
    }
}
