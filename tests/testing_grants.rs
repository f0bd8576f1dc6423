//! Tests the test bench: every grant of `AuthorizationServer`, and the endpoints around them, seen by a plain HTTP
//! client.

#![cfg(feature = "testing")]

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};
use serde_json::{Value, json};
use tower_bearer::testing::{AuthorizationServer, Builder, ClientAuthMethods, Fault};

const FORM: &str = "application/x-www-form-urlencoded";
const CALLBACK: &str = "http://127.0.0.1:1/cb?kept=1";

/// Short enough to wait for.
const MOMENT: Duration = Duration::from_millis(100);

/// Longer than any machine stands still.
const LONG: Duration = Duration::from_secs(3600);

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

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

    fn post(&self, url: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        self.client.post(url).header(CONTENT_TYPE, FORM).body(query(fields)).basic_auth("client", Some("secret"))
    }

    /// A token request: the status and the answer.
    async fn ask(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        read(self.post(&self.server.token_url(), fields).send().await.unwrap()).await
    }

    async fn refresh(&self, token: &Value) -> (u16, Value) {
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())]).await
    }

    async fn exchange(&self, code: &str, more: &[(&str, &str)]) -> (u16, Value) {
        let fields = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)];
        self.ask(&[&fields, more].concat()).await
    }

    fn authorize_url(&self, more: &[(&str, &str)]) -> String {
        let fields = [("response_type", "code"), ("client_id", "client"), ("redirect_uri", CALLBACK)];
        format!("{}?{}", self.server.authorization_url(), query(&[&fields, more].concat()))
    }

    fn code(&self, more: &[(&str, &str)]) -> String {
        parameters(&self.server.approve(&self.authorize_url(more)))["code"].clone()
    }

    async fn api(&self, token: &Value) -> StatusCode {
        let request = self.client.get(self.server.api_url("/x")).bearer_auth(token.as_str().unwrap());
        request.send().await.unwrap().status()
    }

    async fn introspect(&self, token: &Value) -> Value {
        let fields = [("token", token.as_str().unwrap())];
        read(self.post(&self.server.introspection_url(), &fields).send().await.unwrap()).await.1
    }

    async fn revoke(&self, token: &Value) -> (u16, Value) {
        let fields = [("token", token.as_str().unwrap())];
        read(self.post(&self.server.revocation_url(), &fields).send().await.unwrap()).await
    }
}

fn query(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("x:").unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// The status and the JSON, null where there is none.
async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn parameters(url: &str) -> HashMap<String, String> {
    assert!(url.starts_with(&format!("{CALLBACK}&")), "{url}");
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

fn refused(code: &str) -> impl Fn((u16, Value)) + '_ {
    move |(status, answer)| {
        assert_eq!((status, answer["error"].as_str()), (if code == "invalid_client" { 401 } else { 400 }, Some(code)))
    }
}

// Refresh tokens

#[tokio::test]
async fn a_refresh_rotates_and_reuse_ends_everything() {
    let bench = Bench::new().await;
    let other = bench.server.issue_refresh_token("client", None).into();
    let first = bench.server.issue_refresh_token("client", Some("a b")).into();
    let (status, answer) = bench.refresh(&first).await;
    let (access, second) = (&answer["access_token"], &answer["refresh_token"]);
    let expected = json!({"access_token": access, "token_type": "Bearer", "expires_in": 3600,
        "refresh_token": second, "scope": "a b"});
    assert_eq!((status, &answer), (200, &expected));
    assert_eq!(bench.api(access).await, 200);
    assert_eq!((bench.server.refresh_tokens_issued(), bench.server.tokens_issued()), (3, 1));

    refused("invalid_grant")(bench.refresh(&first).await);
    assert_eq!(bench.server.reuse_detections(), 1);
    refused("invalid_grant")(bench.refresh(second).await);
    assert_eq!(bench.api(access).await, 401);
    assert_eq!(bench.refresh(&other).await.0, 200, "another authorization goes on");
    assert_eq!(bench.server.reuse_detections(), 1);
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_within_the_grace() {
    for grace in [LONG, MOMENT] {
        let bench = Bench::with(AuthorizationServer::builder().refresh_grace(grace)).await;
        let token = bench.server.issue_refresh_token("client", None).into();
        bench.server.fault(Fault::drop_after_acting());
        let fields = [("grant_type", "refresh_token"), ("refresh_token", Value::as_str(&token).unwrap())];
        assert!(bench.post(&bench.server.token_url(), &fields).send().await.is_err());
        tokio::time::sleep(MOMENT).await;
        let again = bench.refresh(&token).await;
        if grace == LONG {
            assert_eq!(again.0, 200, "{}", again.1);
        } else {
            refused("invalid_grant")(again);
        }
        assert_eq!(bench.server.reuse_detections(), u64::from(grace != LONG));
    }
}

#[tokio::test]
async fn without_rotation_a_refresh_token_lasts() {
    let bench = Bench::with(AuthorizationServer::builder().rotation(false)).await;
    let token = bench.server.issue_refresh_token("client", None).into();
    for _ in 0..2 {
        let (status, answer) = bench.refresh(&token).await;
        assert_eq!((status, answer.get("refresh_token")), (200, None));
    }
    assert!(bench.server.revoke_refresh_token(token.as_str().unwrap()));
    assert!(!bench.server.revoke_refresh_token(token.as_str().unwrap()));
    refused("invalid_grant")(bench.refresh(&token).await);
    assert_eq!(bench.server.reuse_detections(), 0);
}

#[tokio::test]
async fn refresh_tokens_end_and_may_say_when() {
    let builder = AuthorizationServer::builder().refresh_lifetime(Some(LONG)).tell_refresh_lifetime(true);
    let bench = Bench::with(builder).await;
    let (_, answer) = bench.refresh(&bench.server.issue_refresh_token("client", None).into()).await;
    assert_eq!(answer["refresh_expires_in"], 3600);
    // The next one is shorter.
    bench.server.set_refresh_lifetime(Some(MOMENT));
    let (status, answer) = bench.refresh(&answer["refresh_token"]).await;
    assert_eq!((status, &answer["refresh_expires_in"]), (200, &json!(0.1)));
    tokio::time::sleep(MOMENT).await;
    refused("invalid_grant")(bench.refresh(&answer["refresh_token"]).await);
    bench.server.set_refresh_lifetime(None);
    let (_, answer) = bench.refresh(&bench.server.issue_refresh_token("client", None).into()).await;
    assert_eq!(answer.get("refresh_expires_in"), None);
}

#[tokio::test]
async fn a_refresh_token_is_its_clients_and_has_a_scope() {
    let bench = Bench::new().await;
    refused("invalid_grant")(bench.refresh(&bench.server.issue_refresh_token("other", None).into()).await);
    refused("invalid_grant")(bench.refresh(&"unknown".into()).await);
    refused("invalid_request")(bench.ask(&[("grant_type", "refresh_token")]).await);
    let token = bench.server.issue_refresh_token("client", Some("a b"));
    let ask =
        async |scope| bench.ask(&[("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)]).await;
    refused("invalid_scope")(ask("a c").await);
    assert_eq!(ask("b").await.1["scope"], "b");
    assert_eq!(bench.server.reuse_detections(), 0);
}

// Passwords

#[tokio::test]
async fn passwords_are_checked_and_counted() {
    let bench = Bench::with(AuthorizationServer::builder().user("ann", "pa&ss").user("bob", "x")).await;
    let ask = async |user, password| {
        bench.ask(&[("grant_type", "password"), ("username", user), ("password", password)]).await
    };
    let (status, answer) = ask("ann", "pa&ss").await;
    assert_eq!((status, bench.api(&answer["access_token"]).await.as_u16()), (200, 200));
    assert_eq!(bench.introspect(&answer["access_token"]).await["username"], "ann");
    assert_eq!(bench.refresh(&answer["refresh_token"]).await.0, 200);
    refused("invalid_grant")(ask("ann", "wrong").await);
    refused("invalid_grant")(ask("eve", "wrong").await);
    refused("invalid_request")(ask("ann", "").await);
    bench.server.set_password("bob", "y");
    refused("invalid_grant")(ask("bob", "x").await);
    let counts = ["ann", "bob", "eve"].map(|user| bench.server.password_attempts(user));
    assert_eq!(counts.map(|count| (count.accepted, count.rejected)), [(1, 1), (0, 1), (0, 0)]);
    let shown = format!("{:?}", AuthorizationServer::builder().user("ann", "pa&ss").client("a", "hidden"));
    assert!(shown.contains("ann") && !shown.contains("pa&ss") && !shown.contains("hidden"), "{shown}");
}

// Codes

#[tokio::test]
async fn a_code_is_exchanged_once() {
    let bench = Bench::new().await;
    let code = bench.code(&[("scope", "read")]);
    let (status, answer) = bench.exchange(&code, &[]).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("read")));
    assert_eq!(bench.api(&answer["access_token"]).await, 200);
    refused("invalid_grant")(bench.exchange(&code, &[]).await);
    assert_eq!(bench.api(&answer["access_token"]).await, 401);
    refused("invalid_grant")(bench.refresh(&answer["refresh_token"]).await);
    refused("invalid_grant")(bench.exchange("unknown", &[]).await);
    assert_eq!(bench.server.reuse_detections(), 0);
}

#[tokio::test]
async fn a_code_is_bound_to_client_redirect_uri_and_verifier() {
    let bench = Bench::with(AuthorizationServer::builder().client("client", "secret").client("other", "o")).await;
    let pkce = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    let (code, plain) = (bench.code(&pkce), bench.code(&[]));
    let exchange = [("grant_type", "authorization_code"), ("code", &plain), ("redirect_uri", CALLBACK)];
    let request = bench.client.post(bench.server.token_url()).header(CONTENT_TYPE, FORM).body(query(&exchange));
    refused("invalid_grant")(read(request.basic_auth("other", Some("o")).send().await.unwrap()).await);
    refused("invalid_grant")(bench.ask(&exchange[..2]).await);
    refused("invalid_grant")(bench.exchange(&code, &[]).await);
    refused("invalid_grant")(bench.exchange(&code, &[("code_verifier", CHALLENGE)]).await);
    refused("invalid_grant")(bench.exchange(&plain, &[("code_verifier", VERIFIER)]).await);
    assert_eq!(bench.exchange(&code, &[("code_verifier", VERIFIER)]).await.0, 200);
    assert_eq!(bench.exchange(&plain, &[]).await.0, 200);
}

#[tokio::test]
async fn codes_expire() {
    let bench = Bench::with(AuthorizationServer::builder().code_lifetime(MOMENT)).await;
    let code = bench.code(&[]);
    tokio::time::sleep(MOMENT).await;
    refused("invalid_grant")(bench.exchange(&code, &[]).await);
    assert_eq!(bench.server.tokens_issued(), 0);
}

#[tokio::test]
async fn the_page_asks_and_the_answer_goes_to_the_client() {
    let bench = Bench::with(AuthorizationServer::builder().announce_issuer(true)).await;
    let url = bench.authorize_url(&[("state", "s &"), ("scope", "read <all>")]);
    let page = bench.client.get(&url).send().await.unwrap();
    assert_eq!(
        (page.status().as_u16(), &page.headers()[CONTENT_TYPE]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    let html = page.text().await.unwrap();
    for part in ["lang=\"en\"", "id=\"allow\"", "id=\"deny\"", "name=\"decision\"", "&lt;all&gt;"] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    let decide = async |decision: &str| {
        let request = bench.client.post(&url).header(CONTENT_TYPE, FORM).body(format!("decision={decision}"));
        let response = request.send().await.unwrap();
        let location = response.headers().get("location").map(|url| url.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    };
    let (status, location) = decide("allow").await;
    let allowed = parameters(&location.unwrap());
    assert_eq!((status, allowed["state"].as_str(), &allowed["iss"]), (302, "s &", &bench.server.issuer()));
    assert_eq!(bench.exchange(&allowed["code"], &[]).await.1["scope"], "read <all>");
    let (status, location) = decide("deny").await;
    let location = location.unwrap();
    assert!(location.contains("&error=access_denied&error_description=The+user+denied+the+request&state=s+%26&iss="));
    assert_eq!((status, location), (302, bench.server.deny(&url)));
    assert_eq!(decide("maybe").await, (400, None));
}

#[tokio::test]
async fn wrong_authorization_requests_are_told_so() {
    let builder = AuthorizationServer::builder().client("client", "secret").client("public", "");
    let bench = Bench::with(builder.require_pkce(true).scopes(&["read"])).await;
    let pkce = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    for (fields, code) in [
        (&[][..], "invalid_request"),
        (&[("code_challenge", VERIFIER)], "invalid_request"),
        (&[("code_challenge", CHALLENGE), ("code_challenge_method", "plain")], "invalid_request"),
        (&[pkce[0], pkce[1], ("scope", "write")], "invalid_scope"),
    ] {
        let response = bench.client.get(bench.authorize_url(fields)).send().await.unwrap();
        assert_eq!(response.status(), 302);
        assert_eq!(parameters(response.headers()["location"].to_str().unwrap())["error"], code, "{fields:?}");
    }
    let url = bench.server.authorization_url();
    for (client, redirect_uri) in [("nobody", CALLBACK), ("client", "https://example.com/cb"), ("client", "")] {
        let query = query(&[("response_type", "code"), ("client_id", client), ("redirect_uri", redirect_uri)]);
        let response = bench.client.get(format!("{url}?{query}")).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("location")), (400, None), "{query}");
    }
    assert_eq!(bench.client.put(bench.authorize_url(&pkce)).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn unknown_parameters_may_be_refused() {
    let bench = Bench::with(AuthorizationServer::builder().reject_unknown_parameters(true)).await;
    let denied = parameters(&bench.server.approve(&bench.authorize_url(&[("nonce", "1")])));
    assert_eq!(denied["error"], "invalid_request");
    refused("invalid_request")(bench.ask(&[("grant_type", "client_credentials"), ("audience", "x")]).await);
    assert_eq!(bench.ask(&[("grant_type", "client_credentials"), ("scope", "x")]).await.0, 200);
}

// Around the grants

#[tokio::test]
async fn tokens_can_be_asked_about() {
    let bench = Bench::with(AuthorizationServer::builder().client("client", "secret").client("public", "")).await;
    let (_, answer) = bench.exchange(&bench.code(&[("scope", "read")]), &[]).await;
    let (access, refresh) = (&answer["access_token"], &answer["refresh_token"]);
    let about = bench.introspect(access).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 3500..=now + 3600).contains(&about["exp"].as_u64().unwrap()), "{about}");
    let issuer = bench.server.issuer();
    let expected = json!({"active": true, "client_id": "client", "scope": "read", "token_type": "Bearer",
        "exp": about["exp"], "iss": issuer});
    assert_eq!(about, expected);
    let expected = json!({"active": true, "client_id": "client", "scope": "read", "iss": issuer});
    assert_eq!(bench.introspect(refresh).await, expected);
    bench.refresh(refresh).await;
    let inactive = json!({"active": false});
    assert_eq!((bench.introspect(refresh).await, bench.introspect(&"x".into()).await), (inactive.clone(), inactive));

    let url = bench.server.introspection_url();
    let public = bench.client.post(&url).header(CONTENT_TYPE, FORM).body("client_id=public&token=x");
    refused("invalid_client")(read(public.send().await.unwrap()).await);
    refused("invalid_request")(read(bench.post(&url, &[]).send().await.unwrap()).await);
    assert_eq!(bench.client.get(&url).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn tokens_can_be_revoked() {
    let bench = Bench::new().await;
    let (_, answer) = bench.exchange(&bench.code(&[]), &[]).await;
    let (access, refresh) = (&answer["access_token"], &answer["refresh_token"]);
    assert_eq!(bench.revoke(access).await.0, 200);
    assert_eq!(bench.api(access).await, 401);
    let (_, answer) = bench.refresh(refresh).await;
    assert_eq!(bench.revoke(&answer["refresh_token"]).await.0, 200);
    assert_eq!(bench.api(&answer["access_token"]).await, 401);
    refused("invalid_grant")(bench.refresh(&answer["refresh_token"]).await);
    assert_eq!(bench.revoke(&"unknown".into()).await.0, 200);
    refused("invalid_grant")(bench.revoke(&bench.server.issue_refresh_token("other", None).into()).await);
}

#[tokio::test]
async fn the_server_describes_itself() {
    let builder = AuthorizationServer::builder().token_path("/t").client_auth(ClientAuthMethods::Post);
    let bench = Bench::with(builder.grants(&["authorization_code"]).scopes(&["read"]).announce_issuer(true)).await;
    let issuer = bench.server.issuer();
    let response = bench.client.get(format!("{issuer}/.well-known/oauth-authorization-server")).send().await.unwrap();
    let post = json!(["client_secret_post"]);
    let expected = json!({
        "issuer": issuer,
        "authorization_endpoint": bench.server.authorization_url(),
        "token_endpoint": bench.server.token_url(),
        "token_endpoint_auth_methods_supported": post,
        "introspection_endpoint": bench.server.introspection_url(),
        "introspection_endpoint_auth_methods_supported": post,
        "revocation_endpoint": bench.server.revocation_url(),
        "revocation_endpoint_auth_methods_supported": post,
        "grant_types_supported": ["authorization_code"],
        "response_types_supported": ["code"],
        "scopes_supported": ["read"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    assert_eq!(read(response).await, (200, expected));
    assert!(bench.server.token_url().ends_with("/t"));
}

/// RFC 7523: an extension grant (RFC 6749 §4.5).
#[tokio::test]
async fn a_grant_that_only_the_test_knows_gets_a_token() {
    const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let form = [("grant_type", JWT_BEARER), ("assertion", "a.b.c"), ("scope", "read")];
    let (status, answer) = Bench::new().await.ask(&form).await;
    assert_eq!((status, &answer["error"]), (400, &json!("unsupported_grant_type")));

    let builder = AuthorizationServer::builder().grants(&[JWT_BEARER]).reject_unknown_parameters(true);
    let bench = Bench::with(builder).await;
    let (status, answer) = bench.ask(&form).await;
    assert_eq!((status, &answer["scope"], &answer["refresh_token"]), (200, &json!("read"), &Value::Null));
    assert_eq!(bench.server.recorded()[0].field("assertion"), Some("a.b.c"));
    let token = answer["access_token"].as_str().unwrap();
    let api = bench.client.get(bench.server.api_url("/a")).bearer_auth(token);
    assert_eq!(api.send().await.unwrap().status(), 200);
    let (status, _) = bench.ask(&[("grant_type", "client_credentials")]).await;
    assert_eq!(status, 400, "it isn't named");
}
