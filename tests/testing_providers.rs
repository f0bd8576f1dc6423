//! Tests the test bench: each provider's simulator takes what that provider takes and refuses the rest, seen by a
//! plain HTTP client.

#![cfg(feature = "testing")]

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, header::CONTENT_TYPE, redirect::Policy};
use serde_json::{Value, json};
use tower_bearer::testing::{
    AuthorizationServer, Builder,
    providers::{self, CLIENT_ID, CLIENT_SECRET, PASSWORD, REDIRECT_URI, SIGNNOW_BASIC_VALUE, USER},
};

type Field<'a> = (&'a str, &'a str);

const IN_FORM: [Field<'_>; 2] = [("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
const CLIENT_CREDENTIALS: Field<'_> = ("grant_type", "client_credentials");
const CODE: Field<'_> = ("grant_type", "authorization_code");
const REFRESH: Field<'_> = ("grant_type", "refresh_token");
const BACK: Field<'_> = ("redirect_uri", REDIRECT_URI);

struct Bench {
    server: AuthorizationServer,
    client: Client,
}

impl Bench {
    async fn new(builder: Builder) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { server: builder.start().await.unwrap(), client }
    }

    fn form(&self, fields: &[Field<'_>]) -> RequestBuilder {
        let request = self.client.post(self.server.token_url());
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(query(fields))
    }

    /// RFC 7578, written by hand.
    fn multipart(&self, fields: &[Field<'_>]) -> RequestBuilder {
        let part = |(name, value)| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        let body = fields.iter().copied().map(part).collect::<String>() + "--b--\r\n";
        let request = self.client.post(self.server.token_url());
        request.header(CONTENT_TYPE, "multipart/form-data; boundary=b").body(body)
    }

    fn json(&self, fields: &[Field<'_>]) -> RequestBuilder {
        let members: serde_json::Map<_, _> = fields.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let request = self.client.post(self.server.token_url());
        request.header(CONTENT_TYPE, "application/json").body(Value::from(members).to_string())
    }

    /// The callback's query after the user allowed what is asked.
    fn authorize(&self, more: &[Field<'_>]) -> Vec<(String, String)> {
        let fields = [&[("response_type", "code"), ("client_id", CLIENT_ID), BACK], more].concat();
        let callback = self.server.approve(&format!("{}?{}", self.server.authorization_url(), query(&fields)));
        assert!(callback.starts_with(&format!("{REDIRECT_URI}?")), "{callback}");
        Url::parse(&callback).unwrap().query_pairs().into_owned().collect()
    }

    fn code(&self, more: &[Field<'_>]) -> String {
        let callback = self.authorize(more);
        assert_eq!(callback[0].0, "code", "{callback:?}");
        callback[0].1.clone()
    }

    async fn api(&self, path: &str, token: &Value) -> u16 {
        let request = self.client.get(self.server.api_url(path)).bearer_auth(token.as_str().unwrap());
        request.send().await.unwrap().status().as_u16()
    }
}

/// As the provider wants it: by HTTP Basic, as is.
fn basic(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth(CLIENT_ID, Some(CLIENT_SECRET))
}

/// The Base64 of the form-encoded parts (RFC 6749 §2.3.1).
fn encoded_basic(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth(CLIENT_ID, Some("s3cr3t%2B%2F%3D%2541"))
}

fn query(fields: &[Field<'_>]) -> String {
    let mut url = Url::parse("x:").unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

async fn refused(request: RequestBuilder, status: u16, error: &str) {
    let (got, body) = answer(request).await;
    assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{body}");
}

/// An answer with exactly these members besides its tokens.
fn assert_answer((status, mut body): (u16, Value), tokens: &[&str], others: Value) -> Vec<Value> {
    assert_eq!(status, 200, "{body}");
    let tokens = tokens.iter().map(|name| body.as_object_mut().unwrap().remove(*name).expect(name)).collect();
    assert_eq!(body, others);
    tokens
}

const BOTH: [&str; 2] = ["access_token", "refresh_token"];

#[tokio::test]
async fn agrello() {
    let bench = Bench::new(providers::agrello()).await;
    let scope = ("scope", "read write");
    let code = bench.code(&[scope]);
    let exchange = [CODE, ("code", &code), BACK];
    refused(bench.form(&[&exchange[..], &IN_FORM].concat()), 401, "invalid_client").await;
    refused(basic(bench.multipart(&exchange)), 400, "invalid_request").await;
    refused(basic(bench.form(&exchange[..2])), 400, "invalid_grant").await;
    let told = json!({"token_type": "Bearer", "expires_in": 3600, "scope": "read write"});
    let tokens = assert_answer(answer(encoded_basic(bench.form(&exchange))).await, &BOTH, told.clone());
    assert_eq!(bench.api("/x", &tokens[0]).await, 200);
    let refresh = [REFRESH, ("refresh_token", tokens[1].as_str().unwrap())];
    assert_answer(answer(basic(bench.form(&refresh))).await, &BOTH, told);
    refused(basic(bench.form(&[CLIENT_CREDENTIALS])), 400, "unsupported_grant_type").await;
    assert_eq!(bench.authorize(&[])[0], ("error".to_owned(), "invalid_scope".to_owned()), "a scope is needed");
}

#[tokio::test]
async fn signicat_express() {
    let bench = Bench::new(providers::signicat_express()).await;
    let all = ("scope", "document_read document_write document_file event identify");
    let told = json!({"token_type": "Bearer", "expires_in": 3600});
    let ask = basic(bench.form(&[CLIENT_CREDENTIALS, all]));
    let token = assert_answer(answer(ask).await, &["access_token"], told).remove(0);
    refused(encoded_basic(bench.form(&[CLIENT_CREDENTIALS])), 401, "invalid_client").await;
    refused(bench.form(&[&[CLIENT_CREDENTIALS], &IN_FORM[..]].concat()), 401, "invalid_client").await;
    refused(basic(bench.form(&[CLIENT_CREDENTIALS, ("scope", "admin")])), 400, "invalid_scope").await;
    refused(basic(bench.multipart(&[CLIENT_CREDENTIALS])), 400, "invalid_request").await;
    refused(basic(bench.form(&[REFRESH, ("refresh_token", "x")])), 400, "unsupported_grant_type").await;
    assert_eq!(answer(bench.client.get(bench.server.authorization_url())).await.0, 404);
    let (ok, scope, missing) = (bench.api("/x", &token).await, bench.api("/forbidden", &token).await, json!("x"));
    assert_eq!((ok, scope, bench.api("/x", &missing).await), (200, 403, 401));
}

#[tokio::test]
async fn signnow() {
    let bench = Bench::new(providers::signnow()).await;
    let login = [("grant_type", "password"), ("username", USER), ("password", PASSWORD)];
    let ready_made = |request: RequestBuilder| request.header("authorization", format!("Basic {SIGNNOW_BASIC_VALUE}"));
    let told = json!({"token_type": "bearer", "expires_in": 2_592_000, "scope": "*", "last_login": 1});
    let tokens = assert_answer(answer(ready_made(bench.multipart(&login))).await, &BOTH, told.clone());
    let refresh = [REFRESH, ("refresh_token", tokens[1].as_str().unwrap())];
    assert_answer(answer(basic(bench.multipart(&refresh))).await, &BOTH, told);

    let code = bench.code(&[]);
    let exchange = [CODE, ("code", &code), ("scope", "*"), ("expiration_time", "60")];
    let told = json!({"token_type": "bearer", "expires_in": 60, "scope": "*", "last_login": 1});
    assert_answer(answer(basic(bench.multipart(&exchange))).await, &BOTH, told);
    for time in ["60.0", "0", "2592001", "soon"] {
        let fields = [&login[..], &[("expiration_time", time)]].concat();
        refused(basic(bench.multipart(&fields)), 400, "invalid_request").await;
    }

    for user in [USER, "nobody@example.com"] {
        let wrong = [("grant_type", "password"), ("username", user), ("password", "wrong")];
        assert_eq!(answer(basic(bench.multipart(&wrong))).await, (400, json!({"error": "Invalid credentials."})));
    }
    assert_eq!(bench.server.password_attempts(USER).rejected, 1);
    refused(encoded_basic(bench.multipart(&login)), 401, "invalid_client").await;
    refused(bench.multipart(&[&login[..], &IN_FORM].concat()), 401, "invalid_client").await;
    refused(basic(bench.multipart(&login[..2])), 400, "invalid_request").await;
    refused(basic(bench.multipart(&[CLIENT_CREDENTIALS])), 400, "unsupported_grant_type").await;
    refused(basic(bench.multipart(&[&login[..], &[("scope", "a  b")]].concat())), 400, "invalid_scope").await;
    for request in [bench.form(&login), bench.json(&login), bench.multipart(&login).body("--b\r\n")] {
        let (status, body) = answer(basic(request)).await;
        assert_eq!((status, body.get("error"), &body["errors"][0]["code"]), (400, None, &json!(65536)));
    }
}

#[tokio::test]
async fn signnow_verifies() {
    let bench = Bench::new(providers::signnow().lifetime(Some(Duration::from_secs(100)))).await;
    let url = bench.server.token_url();
    refused(basic(bench.client.get(&url)), 401, "invalid_token").await;
    let login = [("grant_type", "password"), ("username", USER), ("password", PASSWORD)];
    let (_, body) = answer(basic(bench.multipart(&login))).await;
    assert_eq!(body["expires_in"], 100, "what is enforced is what is told");
    let token = body["access_token"].as_str().unwrap();
    for request in [bench.client.get(&url).bearer_auth(token), basic(bench.client.get(&url))] {
        let (status, body) = answer(request).await;
        let left = body["expires_in"].as_str().expect("a string").parse::<u64>().unwrap();
        assert!(status == 200 && (90..=100).contains(&left), "{status} {body}");
        let expected = json!({"access_token": token, "scope": "*", "expires_in": body["expires_in"],
            "token_type": "bearer"});
        assert_eq!(body, expected);
    }
    bench.server.revoke(token);
    refused(bench.client.get(&url).bearer_auth(token), 401, "invalid_token").await;
    refused(bench.client.get(&url), 401, "invalid_token").await;
    refused(bench.client.get(&url).basic_auth(CLIENT_ID, Some("wrong")), 401, "invalid_token").await;
    assert_eq!(bench.server.token_requests(), 1, "asking about a token is not asking for one");
}

#[tokio::test]
async fn agile_planner() {
    let bench = Bench::new(providers::agile_planner()).await;
    let code = bench.code(&[("state", "s")]);
    let exchange = [&[CODE, ("code", &code), BACK][..], &IN_FORM].concat();
    refused(basic(bench.form(&exchange[..3])), 401, "invalid_client").await;
    refused(bench.multipart(&exchange), 400, "invalid_request").await;
    refused(bench.form(&[&exchange[..], &[("code_verifier", "v")]].concat()), 400, "invalid_request").await;
    refused(bench.form(&[&exchange[..], &[("scope", "s")]].concat()), 400, "invalid_request").await;
    refused(bench.form(&[&exchange[..2], &exchange[3..]].concat()), 400, "invalid_grant").await;
    let token = assert_answer(answer(bench.form(&exchange)).await, &["access_token"], json!({})).remove(0);
    assert_eq!(bench.api("/x", &token).await, 200);
    let refresh = [&[REFRESH, ("refresh_token", "r")], &IN_FORM[..]].concat();
    refused(bench.form(&refresh), 400, "unsupported_grant_type").await;

    let pkce = [("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"), ("code_challenge_method", "S256")];
    for more in [&pkce[..], &[("scope", "s")], &[("nonce", "n")]] {
        assert_eq!(bench.authorize(more)[0].1, "invalid_request", "{more:?}");
    }
    let elsewhere = [("response_type", "code"), ("client_id", CLIENT_ID), ("redirect_uri", "http://127.0.0.1:1/")];
    let url = format!("{}?{}", bench.server.authorization_url(), query(&elsewhere));
    assert_eq!(bench.client.get(url).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn agile_planner_shortens_lives_and_says_nothing() {
    let bench = Bench::new(providers::agile_planner().lifetime(Some(Duration::from_millis(50)))).await;
    let code = bench.code(&[]);
    let exchange = [&[CODE, ("code", &code), BACK][..], &IN_FORM].concat();
    let token = assert_answer(answer(bench.form(&exchange)).await, &["access_token"], json!({})).remove(0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.api("/x", &token).await, 401);
}

#[tokio::test]
async fn esignglobal() {
    let bench = Bench::new(providers::esignglobal()).await;
    let told = json!({"token_type": "bearer", "expires_in": 86_398, "scope": "read-write"});
    let ask = [&[CLIENT_CREDENTIALS], &IN_FORM[..]].concat();
    assert_answer(answer(bench.multipart(&ask)).await, &["access_token"], told.clone());

    let code = bench.code(&[]);
    let exchange = [&[CODE, ("code", &code)][..], &IN_FORM].concat();
    let tokens = assert_answer(answer(bench.multipart(&exchange)).await, &BOTH, told.clone());
    let refresh = [&[REFRESH, ("refresh_token", tokens[1].as_str().unwrap())], &IN_FORM[..]].concat();
    let tokens = assert_answer(answer(bench.multipart(&refresh)).await, &BOTH, told);
    assert_eq!(bench.api("/x", &tokens[0]).await, 200);
    refused(bench.multipart(&refresh), 400, "invalid_grant").await;
    assert_eq!(bench.server.reuse_detections(), 1);

    let url = format!("{}?{}", bench.server.token_url(), query(&ask));
    let in_url = bench.multipart(&[]).build().unwrap();
    let in_url = bench.client.post(url).headers(in_url.headers().clone()).body("--b--\r\n");
    for request in [bench.form(&ask), bench.json(&ask), in_url] {
        let (status, body) = answer(request).await;
        assert_eq!((status, body.get("error"), &body["code"]), (415, None, &json!(415)), "{body}");
    }
    refused(basic(bench.multipart(&[CLIENT_CREDENTIALS])), 401, "invalid_client").await;
    let password = [&[("grant_type", "password"), ("username", USER), ("password", PASSWORD)], &IN_FORM[..]].concat();
    refused(bench.multipart(&password), 400, "unsupported_grant_type").await;
}

#[tokio::test]
async fn what_no_provider_documents_is_not_there() {
    let all: [fn() -> Builder; 5] = [
        providers::agrello,
        providers::signicat_express,
        providers::signnow,
        providers::agile_planner,
        providers::esignglobal,
    ];
    for (provider, path) in
        all.into_iter().zip(["/token", "/token", "/oauth2/token", "/token", "/esignglobal/v1/oauth2/accessToken"])
    {
        let bench = Bench::new(provider()).await;
        assert_eq!(bench.server.token_url(), bench.server.url(path));
        for path in ["/introspect", "/revoke", "/.well-known/oauth-authorization-server"] {
            assert_eq!(bench.client.get(bench.server.url(path)).send().await.unwrap().status(), 404);
        }
    }
}
