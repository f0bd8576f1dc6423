//! A success that carries a refresh token never loses it, whatever else it carries.
#![cfg(feature = "oauth2")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::service_fn;
use tower_bearer::{
    FetchRequest, TokenSource,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
};

/// Answers like this, and keeps what it was sent.
struct Endpoint {
    answer: Arc<Mutex<Response<Full<Bytes>>>>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    fn new() -> Self {
        Self { answer: Arc::default(), sent: Arc::default() }
    }

    fn answers(&self, status: u16, kind: &str, body: impl Into<Bytes>) {
        let answer = Response::builder().status(status).header("content-type", kind);
        *self.answer.lock().unwrap() = answer.body(Full::new(body.into())).unwrap();
    }

    fn source(&self) -> Stored<RefreshToken> {
        let (answer, sent) = (self.answer.clone(), self.sent.clone());
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let (answer, sent) = (answer.lock().unwrap().clone(), sent.clone());
            async move {
                let body = request.into_body().collect().await.unwrap_or_else(|never| match never {}).to_bytes();
                sent.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
                Ok::<_, Infallible>(answer)
            }
        });
        let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("app", "secret");
        let grant = RefreshToken::new(endpoint.http_service(service));
        Stored::new(grant).holding(TokenSet::of_refresh_token("r0"))
    }

    /// Fetches once, and says whether there is a token and what is sent next.
    async fn renews(&self, what: &str) -> bool {
        let mut source = self.source();
        let account = source.handle();
        let fetched = source.fetch(FetchRequest::new(Duration::from_secs(5))).await;
        let held = account.token_set().unwrap();
        assert_eq!(held.refresh_token(), Some("r1"), "{what}: {fetched:?}");
        self.answers(503, "text/plain", "");
        let refused = fetched.as_ref().ok().cloned();
        let next = FetchRequest::new(Duration::from_secs(5));
        let _ = source.fetch(next).await;
        if refused.is_none() {
            let sent = self.sent.lock().unwrap().last().unwrap().clone();
            assert!(sent.contains("refresh_token=r1"), "{what}: the next attempt goes on with it: {sent}");
        }
        fetched.is_ok()
    }
}

#[tokio::test]
async fn odd_members_cost_no_refresh_token() {
    let endpoint = Endpoint::new();
    for (name, value, usable) in [
        ("expires_in", json!("3600s"), true),
        ("expires_in", json!(-1), true),
        ("expires_in", json!("2027-01-01T00:00:00Z"), true),
        ("expires_in", json!({}), true),
        ("token_type", json!("bot"), true),
        ("token_type", json!("BearerToken"), true),
        ("token_type", json!("mac"), false),
        ("token_type", json!(7), false),
        ("access_token", json!("a b"), false),
        ("access_token", json!(""), false),
        ("access_token", json!(7), false),
        ("access_token", Value::Null, false),
        ("errors", json!(["deprecated"]), true),
        ("errors", json!([{"code": "W1", "message": "deprecated"}]), true),
        ("error", json!(""), true),
        ("error", json!("none"), true),
        ("error", json!("invalid_grant"), false),
        ("message", json!("welcome"), true),
        ("scope", json!({"a": 1}), true),
    ] {
        let mut body = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r1"});
        body[name] = value.clone();
        endpoint.answers(200, "application/json", body.to_string());
        assert_eq!(endpoint.renews(&format!("{name} {value}")).await, usable, "{name} {value}");
    }
    endpoint.answers(
        200,
        "application/x-www-form-urlencoded; charset=utf-8",
        "access_token=a&refresh_token=r1&token_type=bearer",
    );
    assert!(endpoint.renews("a form").await);
    endpoint.answers(
        200,
        "application/json",
        b"\xef\xbb\xbf{\"access_token\":\"a\",\"refresh_token\":\"r1\"}".to_vec(),
    );
    assert!(endpoint.renews("a byte order mark").await);
    for odd in ["1e400".to_owned(), "9".repeat(10_000), format!("{}1{}", "[".repeat(500), "]".repeat(500))] {
        for name in ["expires_in", "scope", "unknown"] {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r1","{name}":{odd}}}"#);
            endpoint.answers(200, "application/json", body);
            assert!(endpoint.renews(name).await);
        }
    }
    let broken = b"{\"access_token\":\"a\",\"refresh_token\":\"r1\",\"hint\":\"two\nlines, caf\xe9\"}".to_vec();
    endpoint.answers(200, "application/json", broken);
    assert!(endpoint.renews("raw bytes in a text").await);
}

#[tokio::test]
async fn whatever_is_added_changed_or_dropped_the_refresh_token_stays() {
    let mut rng = Rng::with_seed(12);
    let endpoint = Endpoint::new();
    let (mut used, mut unused) = (0, 0);
    for _ in 0..2_000 {
        let mut body = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 3600, "scope": "x"});
        for _ in 0..rng.usize(0..5) {
            let name = NAMES[rng.usize(..NAMES.len())];
            let members = body.as_object_mut().unwrap();
            match rng.u8(..4) {
                0 => drop(members.remove(name)),
                _ => drop(members.insert(name.to_owned(), value(&mut rng, 2))),
            }
        }
        body["refresh_token"] = json!("r1");
        let status = [200, 200, 200, 201, 202, 206, 299][rng.usize(..7)];
        let kind = ["application/json", "text/html", "text/plain", "application/jwt"][rng.usize(..4)];
        endpoint.answers(status, kind, body.to_string());
        match endpoint.renews(&format!("{status} {kind} {body}")).await {
            true => used += 1,
            false => unused += 1,
        }
    }
    assert!(used > 200 && unused > 200, "{used} {unused}");
}

fn value(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!([0.0, -1.0, 3.5, 1e300, 60.0][rng.usize(..5)]),
        3 => json!(WORDS[rng.usize(..WORDS.len())]),
        4 => json!("x".repeat(rng.usize(..3_000))),
        5 => json!("\u{0}\n\u{2028}é\"\\"),
        6 => Value::Array((0..rng.usize(..3)).map(|_| value(rng, depth - 1)).collect()),
        _ => Value::Object(
            (0..rng.usize(..3)).map(|_| (NAMES[rng.usize(..NAMES.len())].to_owned(), value(rng, depth - 1))).collect(),
        ),
    }
}

const NAMES: [&str; 18] = [
    "access_token",
    "token_type",
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "scope",
    "id_token",
    "error",
    "error_description",
    "errors",
    "errorCode",
    "errcode",
    "message",
    "status",
    "ok",
    "success",
    "data",
    "last_login",
];

const WORDS: [&str; 14] = [
    "",
    " ",
    "Bearer",
    "bot",
    "mac",
    "3600s",
    "-1",
    "never",
    "a b",
    "invalid_grant",
    "server_error",
    "too_many_requests",
    "failure",
    "2027-01-01",
];
