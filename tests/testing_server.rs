//! Tests the test bench: every rule of `AuthorizationServer`, seen by a plain HTTP client.

#![cfg(feature = "testing")]

use std::time::{Duration, Instant};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};
use serde_json::{Value, json};
use tower_bearer::testing::{AuthorizationServer, Builder, Fault};

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";

/// Short enough to wait for.
const MOMENT: Duration = Duration::from_millis(100);

/// Longer than any machine stands still.
const LONG: Duration = Duration::from_secs(3600);

struct Bench {
    server: AuthorizationServer,
    client: Client,
}

impl Bench {
    async fn new() -> Self {
        Self::with(AuthorizationServer::builder()).await
    }

    async fn with(builder: Builder) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { server: builder.start().await.unwrap(), client }
    }

    /// A token request without client authentication.
    fn post(&self, body: &str) -> RequestBuilder {
        self.client.post(self.server.token_url()).header(CONTENT_TYPE, FORM).body(body.to_owned())
    }

    fn ask(&self) -> RequestBuilder {
        self.post(GRANT).basic_auth("client", Some("secret"))
    }

    async fn token(&self) -> String {
        let answer = json(self.ask().send().await.unwrap()).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn api(&self, path: &str, token: &str) -> RequestBuilder {
        self.client.get(self.server.api_url(path)).bearer_auth(token)
    }

    async fn api_status(&self, token: &str) -> StatusCode {
        self.api("/documents", token).send().await.unwrap().status()
    }
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

// The token endpoint

#[tokio::test]
async fn a_token_answer_is_what_rfc_6749_says() {
    let bench = Bench::new().await;
    let response = bench.ask().send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response.headers(), "cache-control"), "no-store");
    assert_eq!(text(response.headers(), "content-type"), "application/json");
    let answer = json(response).await;
    let token = answer["access_token"].as_str().unwrap();
    assert!(token.len() == 43 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
    let expected = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
    assert_eq!(answer, expected);
    assert_ne!(bench.token().await, token);
    assert_eq!((bench.server.token_requests(), bench.server.tokens_issued()), (2, 2));
}

#[tokio::test]
async fn clients_authenticate_by_header_or_form_but_not_both() {
    let builder = AuthorizationServer::builder();
    let bench = Bench::with(builder.client("a b", "p:%").client("public", "")).await;
    let form = |fields: &str| bench.post(&format!("{GRANT}&{fields}"));
    for (request, status, code) in [
        (bench.post(GRANT).basic_auth("a+b", Some("p%3A%25")), 200, Value::Null),
        (bench.post(GRANT).basic_auth("a b", Some("p:%")), 200, Value::Null),
        (form("client_id=a+b&client_secret=p:%25"), 200, Value::Null),
        (form("client_id=public"), 200, Value::Null),
        (bench.post(GRANT).basic_auth("public", Some("")), 200, Value::Null),
        (bench.post(GRANT).basic_auth("a b", Some("wrong")), 401, json!("invalid_client")),
        (form("client_id=a+b&client_secret=wrong"), 401, json!("invalid_client")),
        (bench.post(GRANT), 401, json!("invalid_client")),
        (form("client_id=public&client_secret=x").basic_auth("public", Some("")), 400, json!("invalid_request")),
        (bench.ask(), 401, json!("invalid_client")), // the default client is gone
    ] {
        let (by_header, request) = {
            let request = request.build().unwrap();
            (request.headers().contains_key(AUTHORIZATION), request)
        };
        let shown = format!("{:?} {request:?}", request.headers().get(AUTHORIZATION));
        let response = bench.client.execute(request).await.unwrap();
        assert_eq!(response.status(), status, "{shown}");
        let challenged = text(response.headers(), "www-authenticate").starts_with("Basic ");
        assert_eq!(challenged, by_header && status == 401, "{shown}");
        assert_eq!(json(response).await["error"], code, "{shown}");
    }
}

#[tokio::test]
async fn wrong_requests_are_told_so() {
    let bench = Bench::with(AuthorizationServer::builder().scopes(&["read", "write"])).await;
    let form = |body: &str| bench.post(body).basic_auth("client", Some("secret"));
    for (request, status, code) in [
        (form("grant_type=password"), 400, "unsupported_grant_type"),
        (form(""), 400, "invalid_request"),
        (form(&format!("{GRANT}&{GRANT}")), 400, "invalid_request"),
        (form(&format!("{GRANT}&scope=read+admin")), 400, "invalid_scope"),
        (bench.client.post(bench.server.token_url()).body(GRANT), 400, "invalid_request"),
        (bench.client.get(bench.server.token_url()), 405, "invalid_request"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(response.headers().contains_key("allow"), status == 405);
        assert_eq!(json(response).await["error"], code);
    }
    let answer = form(&format!("{GRANT}&scope=write+read")).send().await.unwrap();
    assert_eq!(json(answer).await["scope"], "write read");
    assert_eq!((bench.server.token_requests(), bench.server.tokens_issued()), (7, 1));
}

#[tokio::test]
async fn requests_are_recorded_and_not_shown() {
    let bench = Bench::new().await;
    let body = format!("{GRANT}&scope=a+b&client_id=client&client_secret=secret");
    bench.post(&body).header("x-id", "7").send().await.unwrap();
    bench.client.get(bench.server.token_url()).send().await.unwrap();
    let recorded = bench.server.recorded();
    assert_eq!((recorded.len(), recorded[1].method()), (2, &Method::GET));
    let request = &recorded[0];
    assert_eq!(&request.body()[..], body.as_bytes());
    assert_eq!(request.form()[1], ("scope".to_owned(), "a b".to_owned()));
    assert_eq!(text(request.headers(), "x-id"), "7");
    assert!(request.received_at() <= recorded[1].received_at());
    let shown = format!("{recorded:?} {:?}", bench.server);
    assert!(!shown.contains("\"secret\"") && !shown.contains("a b"), "{shown}");
}

#[tokio::test]
async fn the_record_is_bounded() {
    let bench = Bench::new().await;
    bench.server.fault_always(Fault::empty());
    for number in 0..1030 {
        bench.post(&format!("n={number}")).send().await.unwrap();
    }
    let recorded = bench.server.recorded();
    assert_eq!((recorded.len(), recorded[0].field("n")), (1024, Some("6")));
    assert_eq!(bench.server.token_requests(), 1030);
}

#[tokio::test]
async fn latency_is_spent_after_the_token_was_issued() {
    let bench = Bench::with(AuthorizationServer::builder().latency(LONG)).await;
    let asked = tokio::spawn(bench.ask().send());
    bench.server.wait_for_token_requests(1).await;
    assert_eq!(bench.server.tokens_issued(), 1);
    assert!(!asked.is_finished(), "the latency is an hour");

    let bench = Bench::with(AuthorizationServer::builder().latency(MOMENT)).await;
    let start = Instant::now();
    assert_eq!(bench.ask().send().await.unwrap().status(), 200);
    assert!(start.elapsed() >= MOMENT);
}

#[tokio::test]
async fn secrets_rotate() {
    let bench = Bench::new().await;
    bench.server.set_secret("client", "next");
    assert_eq!(bench.ask().send().await.unwrap().status(), 401);
    let next = bench.post(GRANT).basic_auth("client", Some("next"));
    assert_eq!(next.send().await.unwrap().status(), 200);
}

// Tokens

#[tokio::test]
async fn tokens_end_when_they_say() {
    let bench = Bench::with(AuthorizationServer::builder().lifetime(Some(LONG))).await;
    let ask = async || json(bench.ask().send().await.unwrap()).await;
    let long = ask().await;
    bench.server.set_lifetime(None);
    let endless = ask().await;
    bench.server.set_lifetime(Some(MOMENT));
    let short = ask().await;
    assert_eq!((&long["expires_in"], endless.get("expires_in")), (&json!(3600), None));
    assert_eq!(short["expires_in"], 0.1);

    // Each ends when it said itself, whatever was said to those who came later.
    tokio::time::sleep(MOMENT).await;
    let response = bench.api("/documents", short["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(text(response.headers(), "www-authenticate").contains("the token expired"));
    for answer in [long, endless] {
        assert_eq!(bench.api_status(answer["access_token"].as_str().unwrap()).await, 200);
    }
    let counts = bench.server.api();
    assert_eq!((counts.accepted, counts.expired, counts.total()), (2, 1, 3));
}

#[tokio::test]
async fn revoked_tokens_are_refused() {
    let bench = Bench::with(AuthorizationServer::builder().token_len(1000)).await;
    let (first, second, third) = (bench.token().await, bench.token().await, bench.token().await);
    assert_eq!(first.len(), 1000);
    assert!(bench.server.revoke(&first) && !bench.server.revoke(&first));
    assert!(!bench.server.revoke("never issued"));
    assert_eq!(bench.api_status(&first).await, 401);
    assert_eq!(bench.api_status(&second).await, 200);
    assert_eq!(bench.server.revoke_all(), 2);
    assert_eq!(bench.api_status(&third).await, 401);
    assert_eq!(bench.api_status(&bench.token().await).await, 200);
    assert_eq!((bench.server.api().revoked, bench.server.api().accepted), (2, 2));
}

#[tokio::test]
async fn the_oldest_tokens_are_forgotten() {
    let bench = Bench::with(AuthorizationServer::builder().remember(1)).await;
    let first = bench.token().await;
    assert_eq!(bench.api_status(&first).await, 200);
    bench.token().await;
    assert_eq!(bench.api_status(&first).await, 401);
    assert_eq!(bench.server.api().unknown, 1);
}

// The API

#[tokio::test]
async fn the_api_wants_a_token_and_says_why() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let none = bench.client.get(bench.server.api_url("/documents"));
    let twice = bench.api("/documents", &token).header(AUTHORIZATION, "Bearer other");
    for (request, status, challenge) in [
        (none, 401, "Bearer realm=\"api\""),
        (twice, 400, ""),
        (bench.api("/x", "other"), 401, INVALID),
        (bench.api("/unauthorized", &token), 401, INVALID),
        (bench.api("/scope-401", &token), 401, SCOPE),
        (bench.api("/forbidden", &token), 403, SCOPE),
        (bench.api("/documents", &token), 200, ""),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{}", response.url());
        let got = text(response.headers(), "www-authenticate");
        if status == 401 && challenge.ends_with("\"api\"") {
            assert_eq!(got, challenge);
        }
        assert!(got.starts_with(challenge) && got.is_empty() == challenge.is_empty(), "{got}");
    }
    let counts = bench.server.api();
    assert_eq!((counts.accepted, counts.missing, counts.unknown), (1, 1, 1));
    assert_eq!((counts.refused, counts.forbidden, counts.malformed), (2, 1, 1));
    assert_eq!((counts.unauthorized(), counts.total()), (4, 7));
}

const INVALID: &str = "Bearer realm=\"api\", error=\"invalid_token\", error_description=";
const SCOPE: &str = "Bearer realm=\"api\", error=\"insufficient_scope\"";

#[tokio::test]
async fn the_api_answers() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let put = bench.client.put(bench.server.api_url("a/b?c=d")).bearer_auth(&token).body("four");
    let expected = json!({"method": "PUT", "path": "/api/a/b", "body_length": 4});
    assert_eq!(json(put.send().await.unwrap()).await, expected);

    let echo = bench.api("/echo", &token).header(CONTENT_TYPE, "text/x").body("again");
    let echo = echo.send().await.unwrap();
    assert_eq!(text(echo.headers(), "content-type"), "text/x");
    assert_eq!(echo.text().await.unwrap(), "again");

    let target = "http://127.0.0.1:1/x";
    for request in [
        bench.api(&format!("/redirect?to={target}"), &token),
        bench.client.get(bench.server.url(&format!("/redirect?to={target}"))),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 307);
        assert_eq!(text(response.headers(), "location"), target);
    }
    for path in ["/", "/apis", "/token/"] {
        let response = bench.client.get(bench.server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}

// The end

#[tokio::test]
async fn it_stops_when_told_and_when_dropped() {
    for told in [true, false] {
        let bench = Bench::new().await;
        bench.server.fault(Fault::hang());
        let (client, url) = (bench.client.clone(), bench.server.token_url());
        let hanging = tokio::spawn(bench.ask().timeout(100 * MOMENT).send());
        bench.server.wait_for_token_requests(1).await;
        if told {
            bench.server.shutdown().await;
        } else {
            drop(bench);
        }
        let error = hanging.await.unwrap().unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert!(client.get(url).send().await.unwrap_err().is_connect());
    }
}

#[test]
fn handles_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<AuthorizationServer>();
    check::<Builder>();
    check::<Fault>();
}
