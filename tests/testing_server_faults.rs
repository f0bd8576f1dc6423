//! Tests the test bench: every fault of `AuthorizationServer`, seen by a plain HTTP client.

#![cfg(feature = "testing")]

use std::time::{Duration, Instant, SystemTime};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
    redirect::Policy,
};
use serde_json::Value;
use tower_bearer::testing::{AuthorizationServer, Fault};

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
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { server: AuthorizationServer::start().await.unwrap(), client }
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

#[tokio::test]
async fn faults_without_an_answer() {
    let bench = Bench::new().await;
    for (fault, issued) in [(Fault::drop_before_acting(), 0), (Fault::drop_after_acting(), 1)] {
        bench.server.fault(fault);
        let error = bench.ask().send().await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(bench.server.tokens_issued(), issued);
    }
    bench.server.fault(Fault::hang());
    let hanging = tokio::spawn(bench.ask().send());
    bench.server.wait_for_token_requests(3).await;
    assert_eq!(bench.server.tokens_issued(), 1);
    // Others have their answers meanwhile; this one comes to nothing but the end of the connection.
    assert_eq!(bench.ask().send().await.unwrap().status(), 200);
    tokio::time::sleep(MOMENT).await;
    assert!(!hanging.is_finished());
    bench.server.shutdown().await;
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn faults_that_take_time() {
    let bench = Bench::new().await;
    for fault in [Fault::delay(MOMENT), Fault::slow_drip(MOMENT)] {
        bench.server.fault(fault);
        let start = Instant::now();
        let answer = json(bench.ask().send().await.unwrap()).await;
        assert!(start.elapsed() >= MOMENT);
        assert_eq!(bench.api_status(answer["access_token"].as_str().unwrap()).await, 200);
    }
    // What has dripped can be read, long before the rest is there.
    bench.server.fault(Fault::slow_drip(200 * MOMENT));
    let mut response = bench.ask().send().await.unwrap();
    let announced = response.content_length().unwrap();
    let mut read = 0;
    for _ in 0..3 {
        read += response.chunk().await.unwrap().unwrap().len() as u64;
    }
    assert!(read < announced, "{read} of {announced} bytes");
}

#[tokio::test]
async fn faults_that_bend_the_body() {
    let bench = Bench::new().await;
    bench.server.fault(Fault::truncated());
    let mut response = bench.ask().send().await.unwrap();
    let announced = response.content_length().unwrap();
    let start = response.chunk().await.unwrap().unwrap();
    assert!(start.starts_with(b"{\"access_token\":\"") && (start.len() as u64) < announced);
    assert!(response.chunk().await.is_err());

    bench.server.fault(Fault::huge(1_000_000));
    let body = bench.ask().send().await.unwrap().bytes().await.unwrap();
    assert_eq!(body.len(), 1_000_000);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(bench.api_status(answer["access_token"].as_str().unwrap()).await, 200);

    for (fault, name, raw) in [
        (Fault::expires_in("\"3600\""), "expires_in", "\"expires_in\":\"3600\""),
        (Fault::expires_in("1e20"), "expires_in", "\"expires_in\":1e20"),
        (Fault::access_token("null"), "access_token", "\"access_token\":null"),
        (Fault::token_type(Some("DPoP")), "token_type", "\"token_type\":\"DPoP\""),
        (Fault::member("x", "[1]"), "x", "\"x\":[1]"),
        (Fault::token_type(None), "token_type", ""),
        (Fault::without("expires_in"), "expires_in", ""),
    ] {
        bench.server.fault(fault);
        let body = bench.ask().send().await.unwrap().text().await.unwrap();
        assert!(body.contains(raw), "{body}");
        assert_eq!(body.contains(&format!("\"{name}\"")), !raw.is_empty(), "{body}");
    }
    assert_eq!(bench.server.tokens_issued(), 9);

    bench.server.faults(2, Fault::access_token("\"mine\""));
    assert_eq!((bench.token().await, bench.token().await), ("mine".into(), "mine".into()));
    assert_eq!(bench.api_status("mine").await, 200);

    bench.server.fault(Fault::token_type(None));
    let response = bench.post(GRANT).send().await.unwrap();
    assert_eq!(response.status(), 401, "an answer that is an error is not bent");
}

#[tokio::test]
async fn faults_that_replace_the_answer() {
    let bench = Bench::new().await;
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let late = Fault::status(503).retry_after(Duration::from_millis(1500));
    let dated = Fault::status(429).retry_after_date(date);
    let rejected = Fault::status(401).error("invalid_client").description("expired");
    let rejection = r#"{"error":"invalid_client","error_description":"expired"}"#;
    let other = Fault::status(500).body("text/plain", "oops").header("x-y", "z");
    for (fault, status, (name, value), body) in [
        (late, 503, (RETRY_AFTER, "2"), ""),
        (dated, 429, (RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT"), ""),
        (rejected, 401, (CONTENT_TYPE, "application/json"), rejection),
        (other, 500, (CONTENT_TYPE, "text/plain"), "oops"),
        (Fault::redirect("http://x/y"), 307, (LOCATION, "http://x/y"), ""),
        (Fault::html(), 200, (CONTENT_TYPE, "text/html; charset=utf-8"), "<!doctype html>"),
        (Fault::empty(), 200, (CONTENT_TYPE, ""), ""),
        (Fault::error_in_200("x"), 200, (WWW_AUTHENTICATE, ""), r#"{"error":"x"}"#),
    ] {
        bench.server.fault(fault);
        let response = bench.ask().send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(text(response.headers(), name.as_str()), value);
        let got = response.text().await.unwrap();
        assert!(got.starts_with(body) && got.is_empty() == body.is_empty(), "{got}");
    }
    assert_eq!((bench.server.token_requests(), bench.server.tokens_issued()), (8, 0));
}

#[tokio::test]
async fn faults_queue_last_and_clear() {
    let bench = Bench::new().await;
    let status = async || bench.ask().send().await.unwrap().status().as_u16();
    bench.server.fault_always(Fault::status(503));
    bench.server.fault_for(LONG, Fault::status(502));
    bench.server.faults(2, Fault::status(500));
    assert_eq!((status().await, status().await, status().await), (500, 500, 502));
    // In its place one that ends.
    bench.server.fault_for(MOMENT, Fault::status(501));
    tokio::time::sleep(MOMENT).await;
    assert_eq!((status().await, status().await), (503, 503));
    bench.server.api_fault(Fault::status(500));
    bench.server.clear_faults();
    assert_eq!(status().await, 200);
    assert_eq!(bench.api_status(&bench.token().await).await, 200);
}

#[tokio::test]
async fn the_api_has_faults_of_its_own() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench.server.api_faults(2, Fault::status(503));
    assert_eq!(bench.api_status(&token).await, 503);
    assert_eq!(bench.api_status("unknown").await, 503);
    bench.server.api_fault(Fault::drop_before_acting());
    assert!(bench.api("/x", &token).send().await.is_err());
    bench.server.api_fault(Fault::delay(MOMENT));
    let start = Instant::now();
    assert_eq!(bench.api_status(&token).await, 200);
    assert!(start.elapsed() >= MOMENT);
    let counts = bench.server.api();
    assert_eq!((counts.faulted, counts.accepted, counts.total()), (3, 1, 4));
}
