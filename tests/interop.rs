//! Against real servers: `oidc-provider` issues the tokens, `express-oauth2-jwt-bearer` checks them.
//!
//! These tests need Node.js and `npm ci` in `tests/interop`, so `cargo test` leaves them out and says so; `scripts/test` installs
//! what they need and runs them with `--include-ignored`. Asked for, they never pass by skipping.
#![cfg(all(feature = "oauth2", feature = "reqwest"))]

mod support;

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use support::{call::run_call, node::Node};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, ErrorKind, LiveToken, Origin,
    oauth2::{ClientCredentials, EndpointError, TokenEndpoint},
    replay,
};

type ApiClient = BearerAuth<Client, replay::Auto>;

fn basic(server: &Node) -> ClientCredentials {
    let client = &server["clients"]["basic"];
    let (id, secret) = (text(&client["client_id"]), text(&client["client_secret"]));
    let endpoint = TokenEndpoint::new(text(&server["token_url"])).unwrap().client_secret_basic(id, secret);
    ClientCredentials::new(endpoint).scope("read")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn client(token: &LiveToken, api: &Node) -> ApiClient {
    BearerAuthLayer::new(token.clone(), Origin::parse(text(&api["url"])).unwrap()).layer(Client::new())
}

async fn get(client: &mut ApiClient, url: &Value) -> StatusCode {
    let request = reqwest::Request::new(http::Method::GET, text(url).parse().unwrap());
    client.ready().await.unwrap().call(request).await.unwrap().status()
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn an_id_and_a_secret_that_need_encoding_work_in_basic_and_in_the_form() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;

    let mut by_basic = client(&LiveToken::spawn(basic(&server)), &api);
    assert_eq!(get(&mut by_basic, &api["documents_url"]).await, 200);

    let post = &server["clients"]["post"];
    let endpoint = TokenEndpoint::new(text(&server["token_url"]))
        .unwrap()
        .client_secret_post(text(&post["client_id"]), text(&post["client_secret"]));
    let mut by_form = client(&LiveToken::spawn(ClientCredentials::new(endpoint).scope("read")), &api);
    assert_eq!(get(&mut by_form, &api["documents_url"]).await, 200);
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_missing_scope_is_handed_on_and_fetches_nothing() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
    let token = LiveToken::spawn(basic(&server));
    let mut client = client(&token, &api);
    assert_eq!(get(&mut client, &api["admin_url"]).await, 403);
    assert_eq!(get(&mut client, &api["documents_url"]).await, 200);
    assert_eq!(token.status().generation(), 1);
    assert_eq!(server.counts().await["token"], 1);
}

/// `oidc-provider` rounds the second in which a token ends down, so a token of three seconds lives for two to three, and some are
/// over before their renewal is due: the API's 401 has to be recovered from, too. That takes a token that outlives a machine that
/// stands still for a second.
#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn no_request_fails_while_tokens_of_three_seconds_rotate() {
    let server = Node::start("authorization-server.mjs", &[], &[("ACCESS_TOKEN_TTL", "3")]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
    let token = LiveToken::spawn(basic(&server));
    let mut client = client(&token, &api);
    for _ in 0..150 {
        assert_eq!(get(&mut client, &api["documents_url"]).await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tokens = token.status().generation();
    assert!(tokens >= 3, "{tokens} tokens in at least 7.5 seconds");
    let fetches = server.counts().await["token"].as_u64().unwrap();
    assert!(
        (tokens..=tokens + 1).contains(&fetches),
        "each token was fetched once, another may be on its way: {fetches}"
    );
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn refusals_say_what_is_wrong() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let at = || TokenEndpoint::new(text(&server["token_url"])).unwrap();
    let id = text(&server["clients"]["basic"]["client_id"]);
    for (grant, code) in [
        (ClientCredentials::new(at().client_secret_basic(id, "marked wrong")), "invalid_client"),
        (ClientCredentials::new(at().client_secret_basic("nobody", "marked wrong")), "invalid_client"),
        (basic(&server).scope("admin"), "invalid_scope"),
        (basic(&server).param("resource", "https://other.test/"), "invalid_target"),
    ] {
        let error = LiveToken::spawn(grant).ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        let cause = error.cause().unwrap().cause().downcast_ref::<EndpointError>().unwrap();
        assert_eq!(cause.code(), Some(code), "{error}");
        assert!(!error.to_string().contains("marked"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn the_call_example_calls_the_real_api() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
    let client = &server["clients"]["basic"];
    let (output, report) = run_call(&[
        "--token-url",
        text(&server["token_url"]),
        "--client-id",
        text(&client["client_id"]),
        "--client-secret",
        text(&client["client_secret"]),
        "--scope",
        "read",
        "-X",
        "POST",
        "-d",
        "12345",
        "--count",
        "3",
        text(&api["documents_url"]),
    ])
    .await;
    assert!(output.status.success(), "{report}");
    assert_eq!(report["statuses"]["200"], 3);
}
