//! What goes over the wire to each of five providers, against simulators that refuse everything else: one test per provider,
//! one assertion per cell of its contract.
#![cfg(all(feature = "multipart", feature = "testing"))]

use std::time::Duration;

use tower_bearer::{
    AccessToken, FetchError, FetchErrorKind, FetchRequest, IntoTokenSource, LiveToken, State, TokenSource,
    oauth2::{
        AuthorizationCode, AuthorizationErrorKind, ClientCredentials, EndpointError, LegacyPassword, ProvedBy,
        RefreshToken, Stored, TokenEndpoint, TokenSet,
    },
    testing::{
        AuthorizationServer, TokenRequest,
        providers::{self, CLIENT_ID, CLIENT_SECRET, PASSWORD, REDIRECT_URI, SIGNNOW_BASIC_VALUE, USER},
    },
};

fn at(server: &AuthorizationServer) -> TokenEndpoint {
    TokenEndpoint::new(&server.token_url()).unwrap()
}

async fn fetch(source: impl IntoTokenSource) -> Result<AccessToken, FetchError> {
    source.into_token_source().fetch(FetchRequest::new(Duration::from_secs(5))).await
}

fn last(server: &AuthorizationServer) -> TokenRequest {
    server.recorded().pop().expect("a request")
}

fn is_multipart(request: &TokenRequest) -> bool {
    request.headers()["content-type"].to_str().unwrap().starts_with("multipart/form-data; boundary=")
}

fn login(server: &AuthorizationServer, endpoint: TokenEndpoint) -> AuthorizationCode {
    AuthorizationCode::new(endpoint, &server.authorization_url(), REDIRECT_URI).unwrap()
}

async fn authorize(server: &AuthorizationServer, login: &AuthorizationCode) -> TokenSet {
    let pending = login.start();
    let callback = server.approve(pending.url());
    login.finish(pending, &callback).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A set whose access token is used up, so that a fetch has to renew it.
fn only_refresh(set: &TokenSet) -> TokenSet {
    TokenSet::of_refresh_token(set.refresh_token().expect("a refresh token"))
}

#[tokio::test]
async fn agrello() {
    let server = providers::agrello().start().await.unwrap();
    let endpoint = at(&server).client_secret_basic(CLIENT_ID, CLIENT_SECRET);
    let set = authorize(&server, &login(&server, endpoint.clone()).scope("one two")).await;
    let sent = last(&server);
    assert_eq!(sent.headers()["content-type"], "application/x-www-form-urlencoded");
    assert!(sent.headers()["authorization"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(sent.field("grant_type"), Some("authorization_code"));
    assert_eq!(sent.field("redirect_uri"), Some(REDIRECT_URI));
    assert!(sent.field("client_secret").is_none());

    let held = only_refresh(&set);
    fetch(Stored::new(RefreshToken::new(endpoint)).holding(held)).await.unwrap();
    assert_eq!(last(&server).field("grant_type"), Some("refresh_token"));

    let in_form = at(&server).client_secret_post(CLIENT_ID, CLIENT_SECRET);
    let error = fetch(Stored::new(RefreshToken::new(in_form)).holding(only_refresh(&set))).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::Rejected, "{error}");
}

#[tokio::test]
async fn signicat_express() {
    let server = providers::signicat_express().start().await.unwrap();
    let grant = |endpoint| ClientCredentials::new(endpoint);
    let raw = || at(&server).client_secret_basic_raw(CLIENT_ID, CLIENT_SECRET);
    let token = fetch(grant(raw()).scope("document_read document_write document_file event identify")).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    let sent = last(&server);
    assert_eq!(sent.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(sent.field("scope"), Some("document_read document_write document_file event identify"));

    let error = fetch(grant(raw()).scope("everything")).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::Rejected);
    assert_eq!(error.cause().downcast_ref::<EndpointError>().unwrap().code(), Some("invalid_scope"));

    // Encoded, the secret is another one to this server.
    let encoded = at(&server).client_secret_basic(CLIENT_ID, CLIENT_SECRET);
    assert_eq!(fetch(grant(encoded)).await.unwrap_err().kind(), FetchErrorKind::Rejected);
}

#[tokio::test]
async fn signnow() {
    let server = providers::signnow().start().await.unwrap();
    assert!(server.token_url().ends_with("/oauth2/token"));
    let endpoint = || at(&server).client_basic_value(SIGNNOW_BASIC_VALUE).multipart();

    let grant = LegacyPassword::new(endpoint(), USER, PASSWORD).scope("*").param("expiration_time", "3600");
    let token = fetch(grant).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["*"]);
    let sent = last(&server);
    assert!(is_multipart(&sent));
    assert_eq!(sent.headers()["authorization"], format!("Basic {SIGNNOW_BASIC_VALUE}"));
    assert_eq!((sent.field("username"), sent.field("password")), (Some(USER), Some(PASSWORD)));
    assert_eq!(sent.field("expiration_time"), Some("3600"));

    // Verification: the same fields, `expires_in` as a string.
    for by in [ProvedBy::Token, ProvedBy::Client] {
        let set = endpoint().verify(&server.token_url(), token.expose_secret(), by).await.unwrap();
        assert!((3590..=3600).contains(&set.lifetime().unwrap().as_secs()), "{by:?}: {set:?}");
        assert_eq!(set.access_token(), Some(token.expose_secret()));
    }
    let error = endpoint().verify(&server.token_url(), "unknown", ProvedBy::Token).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::Rejected);

    // The other two grants.
    let set = authorize(&server, &login(&server, endpoint())).await;
    assert_eq!(set.lifetime(), Some(Duration::from_secs(2_592_000)));
    fetch(Stored::new(RefreshToken::new(endpoint())).holding(only_refresh(&set))).await.unwrap();
    assert!(is_multipart(&last(&server)));

    // Urlencoded is refused.
    let error = fetch(LegacyPassword::new(at(&server).client_basic_value(SIGNNOW_BASIC_VALUE), USER, PASSWORD)).await;
    assert!(error.is_err());
}

#[tokio::test]
async fn a_wrong_password_at_signnow_is_tried_once_and_never_again_by_itself() {
    let server = providers::signnow().start().await.unwrap();
    let endpoint = at(&server).client_basic_value(SIGNNOW_BASIC_VALUE).multipart();
    let token = LiveToken::spawn(LegacyPassword::new(endpoint, USER, "wrong"));
    let error = token.ready().await.unwrap_err().to_string();
    assert!(error.contains("Invalid credentials."), "{error}");
    assert!(!error.contains("wrong"), "{error}");
    assert_eq!(token.status().state(), State::Rejected);
    assert_eq!(token.status().next_attempt_in(), None, "nothing is planned");
    assert_eq!(server.token_requests(), 1);
    // Mended, it is tried when somebody says so.
    server.set_password(USER, "wrong");
    token.refresh().await.unwrap();
}

#[tokio::test]
async fn agile_planner() {
    let server = providers::agile_planner().start().await.unwrap();
    let endpoint = || at(&server).client_secret_post(CLIENT_ID, CLIENT_SECRET);
    let plain = login(&server, endpoint()).insecure_without_pkce();
    let set = authorize(&server, &plain).await;
    // Only `access_token` is promised, and nothing else comes.
    assert!(set.access_token().is_some());
    assert_eq!((set.lifetime(), set.refresh_token(), set.scope()), (None, None, None));
    let sent = last(&server);
    assert_eq!(sent.headers()["content-type"], "application/x-www-form-urlencoded");
    assert!(sent.headers().get("authorization").is_none());
    let fields: Vec<_> = sent.form().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fields, ["grant_type", "code", "redirect_uri", "client_id", "client_secret"]);

    // PKCE's parameters are unknown to it: the user would be sent back with an error.
    let with_pkce = login(&server, endpoint());
    let pending = with_pkce.start();
    let callback = server.approve(pending.url());
    let error = with_pkce.finish(pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Refused, "{error}");

    let pending = plain.start();
    let callback = server.deny(pending.url());
    let error = plain.finish(pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Denied);
    assert!(error.description().is_some());

    // Nothing tells when it ends but a 401, and then the user must agree again.
    let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint())).holding(set));
    token.ready().await.unwrap();
    assert_eq!(token.status().next_attempt_in(), None, "no timer");
    assert!(token.refresh().await.is_err());
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    assert!(token.status().is_usable(), "the token goes on until the API refuses it");
}

#[tokio::test]
async fn esignglobal() {
    let server = providers::esignglobal().start().await.unwrap();
    assert!(server.token_url().ends_with("/esignglobal/v1/oauth2/accessToken"));
    let endpoint = || at(&server).client_secret_post(CLIENT_ID, CLIENT_SECRET).multipart();
    let token = fetch(ClientCredentials::new(endpoint())).await.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(86_398)));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["read-write"]);
    let sent = last(&server);
    assert!(is_multipart(&sent));
    assert_eq!((sent.field("client_id"), sent.field("client_secret")), (Some(CLIENT_ID), Some(CLIENT_SECRET)));
    assert!(sent.headers().get("authorization").is_none());

    let set = authorize(&server, &login(&server, endpoint())).await;
    let days = Duration::from_secs(30 * 86_400);
    let source = Stored::new(RefreshToken::new(endpoint()).refresh_lifetime(days)).holding(only_refresh(&set));
    let token = LiveToken::spawn(source);
    token.ready().await.unwrap();
    let left = token.status().authorization_left().unwrap();
    assert!(left <= days && left > days - Duration::from_secs(60), "{left:?}");

    // Urlencoded and Basic are refused.
    let form = at(&server).client_secret_post(CLIENT_ID, CLIENT_SECRET);
    assert!(fetch(ClientCredentials::new(form)).await.is_err());
    let basic = at(&server).client_secret_basic(CLIENT_ID, CLIENT_SECRET).multipart();
    assert_eq!(fetch(ClientCredentials::new(basic)).await.unwrap_err().kind(), FetchErrorKind::Rejected);
}
