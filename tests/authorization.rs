//! A user's authorization, from the first code to its end and beyond, against the loopback server.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

use std::time::Duration;

use reqwest::Client;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, ErrorKind, LiveToken, Origin, State, Status,
    oauth2::{
        AuthorizationCode, AuthorizationErrorKind, LegacyPassword, PendingAuthorization, RefreshToken, Stored,
        TokenEndpoint, TokenSet,
    },
    replay,
    testing::{AuthorizationServer, Builder, Fault},
};

#[path = "support/pace.rs"]
mod pace;
use pace::pace;

const REDIRECT_URI: &str = "http://127.0.0.1:8421/callback";

async fn start(builder: Builder) -> AuthorizationServer {
    builder.start().await.unwrap()
}

fn endpoint(server: &AuthorizationServer) -> TokenEndpoint {
    TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret")
}

fn login(server: &AuthorizationServer) -> AuthorizationCode {
    AuthorizationCode::new(endpoint(server), &server.authorization_url(), REDIRECT_URI).unwrap().scope("read")
}

async fn authorize(server: &AuthorizationServer) -> TokenSet {
    let login = login(server);
    let pending = login.start();
    let callback = server.approve(pending.url());
    login.finish(pending, &callback).await.unwrap()
}

fn source(server: &AuthorizationServer, set: TokenSet) -> Stored<RefreshToken> {
    Stored::new(RefreshToken::new(endpoint(server))).holding(set)
}

type ApiClient = BearerAuth<Client, replay::Auto>;

fn client(server: &AuthorizationServer, token: &LiveToken) -> ApiClient {
    BearerAuthLayer::new(token.clone(), Origin::parse(&server.origin()).unwrap()).layer(Client::new())
}

async fn get(client: &mut ApiClient, server: &AuthorizationServer) -> Result<u16, ErrorKind> {
    let request = reqwest::Request::new(http::Method::GET, server.api_url("/documents").parse().unwrap());
    match client.ready().await.unwrap().call(request).await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) => Err(error.kind()),
    }
}

async fn until(token: &LiveToken, wanted: impl Fn(&Status) -> bool) {
    let mut watch = token.watch();
    while !wanted(&watch.changed().await.expect("the token is there")) {}
}

#[tokio::test(start_paused = true)]
async fn refresh_tokens_rotate_and_none_is_spent_twice() {
    pace();
    let server = start(AuthorizationServer::builder().lifetime(Some(Duration::from_millis(400)))).await;
    let source = source(&server, authorize(&server).await);
    let account = source.handle();
    let token = LiveToken::spawn(source);
    let mut client = client(&server, &token);
    while token.status().generation() < 8 {
        assert_eq!(get(&mut client, &server).await, Ok(200));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.reuse_detections(), 0);
    assert!(server.refresh_tokens_issued() >= 8);

    // At the end the user logs out: the newest one is given back, and that ends them all.
    token.shutdown().await;
    let newest = account.token_set().unwrap().refresh_token().unwrap().to_owned();
    let told = endpoint(&server).introspect(&server.introspection_url(), &newest).await.unwrap();
    assert!(told.is_active());
    endpoint(&server).revoke(&server.revocation_url(), &newest).await.unwrap();
    let told = endpoint(&server).introspect(&server.introspection_url(), &newest).await.unwrap();
    assert!(!told.is_active());
    assert_eq!(server.reuse_detections(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_refresh_token_is_seen_before_and_after_and_healed_by_a_new_authorization() {
    pace();
    let server = start(
        AuthorizationServer::builder()
            .lifetime(Some(Duration::from_secs(3)))
            .refresh_lifetime(Some(Duration::from_secs(600)))
            .tell_refresh_lifetime(true),
    )
    .await;
    let source = source(&server, authorize(&server).await);
    let account = source.handle();
    let token = LiveToken::spawn(source);
    let mut client = client(&server, &token);
    assert_eq!(get(&mut client, &server).await, Ok(200));
    let left = token.status().authorization_left().expect("the server told");
    assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(590), "{left:?}");

    // The provider ends the authorization: seen while the token still works …
    server.fault_always(Fault::status(400).error("invalid_grant"));
    token.refresh().await.unwrap_err();
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    assert_eq!(get(&mut client, &server).await, Ok(200), "the token has some life left");
    assert_eq!(token.status().next_attempt_in(), None, "nothing is tried without the user");

    // … and when it is over, by every request, at once.
    until(&token, |status| !status.is_usable()).await;
    assert_eq!(get(&mut client, &server).await, Err(ErrorKind::ReauthorizationRequired));
    let requests = server.token_requests();

    server.clear_faults();
    account.adopt(authorize(&server).await).await;
    assert_eq!(get(&mut client, &server).await, Ok(200), "the same client goes on");
    assert_eq!(token.status().state(), State::Live);
    assert_eq!(server.token_requests(), requests + 1, "the code's exchange, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    pace();
    let server = start(AuthorizationServer::builder().rotation(false).lifetime(Some(Duration::from_millis(300)))).await;
    let token = LiveToken::spawn(source(&server, authorize(&server).await));
    until(&token, |status| status.generation() >= 4).await;
    let sent = server.recorded();
    let spent: Vec<_> = sent.iter().filter_map(|sent| sent.field("refresh_token")).collect();
    assert!(spent.len() >= 3 && spent.iter().all(|one| one == &spent[0]));
}

#[tokio::test(start_paused = true)]
async fn a_password_is_sent_once_and_again_when_the_refresh_token_is_dead() {
    pace();
    let server =
        start(AuthorizationServer::builder().user("alice", "right").lifetime(Some(Duration::from_millis(300)))).await;
    let token = LiveToken::spawn(LegacyPassword::new(endpoint(&server), "alice", "right"));
    until(&token, |status| status.generation() >= 3).await;
    assert_eq!(server.password_attempts("alice").accepted, 1);
    server.fault(Fault::status(400).error("invalid_grant"));
    let before = token.status().generation();
    until(&token, |status| status.generation() > before).await;
    assert_eq!(server.password_attempts("alice").accepted, 2);
    assert_eq!(token.status().failures(), 0);
}

#[tokio::test]
async fn a_token_from_elsewhere_is_adopted_with_the_life_it_has_left() {
    let server = start(AuthorizationServer::builder().lifetime(Some(Duration::from_secs(100)))).await;
    let set = authorize(&server).await;
    let (access, refresh) = (set.access_token().unwrap().to_owned(), set.refresh_token().unwrap().to_owned());
    let told = endpoint(&server).introspect(&server.introspection_url(), &access).await.unwrap();
    assert!(told.is_active());

    let adopted = told.to_token_set(&access).with_refresh_token(&refresh);
    let token = LiveToken::spawn(source(&server, adopted));
    token.ready().await.unwrap();
    assert_eq!(token.authorization().unwrap(), format!("Bearer {access}"));
    let left = token.status().time_left().unwrap();
    assert!(left <= Duration::from_secs(100) && left > Duration::from_secs(90), "{left:?}");
    token.refresh().await.unwrap();
    assert_ne!(token.authorization().unwrap(), format!("Bearer {access}"), "its refresh token works");

    endpoint(&server).revoke(&server.revocation_url(), &access).await.unwrap();
    let told = endpoint(&server).introspect(&server.introspection_url(), &access).await.unwrap();
    assert!(!told.is_active());
    for url in ["nowhere", "http://id.test/"] {
        assert!(endpoint(&server).revoke(url, &access).await.is_err());
    }
}

#[tokio::test]
async fn a_session_carries_the_pending_authorization_and_nothing_else_ends_it() {
    let server = start(AuthorizationServer::builder().announce_issuer(true)).await;
    let login = login(&server).issuer(server.issuer());
    let stored = |pending: &PendingAuthorization| serde_json::to_string(pending).unwrap();
    let restored = |text: &str| serde_json::from_str::<PendingAuthorization>(text).unwrap();

    let session = stored(&login.start());
    let callback = server.approve(restored(&session).url());
    login.finish(restored(&session), &callback).await.unwrap();

    // Loaded again, the code is spent: the server ends what it issued for it (RFC 6749 §4.1.2).
    let error = login.finish(restored(&session), &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::CodeRefused);

    let other = login.start();
    let error = login.finish(other, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::StateMismatch);

    let pending = login.start();
    let denied = server.deny(pending.url());
    let error = login.finish(pending, &denied).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Denied);

    let late = login.clone().valid_for(Duration::ZERO);
    let pending = late.start();
    let callback = server.approve(pending.url());
    let error = late.finish(pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Expired);

    let stranger = login.clone().issuer("https://id.example.com");
    let pending = stranger.start();
    let callback = server.approve(pending.url());
    let error = stranger.finish(pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::WrongIssuer);
}

#[tokio::test]
async fn a_verifier_that_does_not_fit_gets_no_token() {
    let server = start(AuthorizationServer::builder().require_pkce(true)).await;
    let login = login(&server);
    let pending = login.start();
    let callback = server.approve(pending.url());
    // Somebody got hold of the code and the state, but began their own authorization.
    let mut theirs: serde_json::Value = serde_json::to_value(login.start()).unwrap();
    theirs["state"] = serde_json::to_value(&pending).unwrap()["state"].clone();
    let theirs = serde_json::from_value(theirs).unwrap();
    let error = login.finish(theirs, &callback).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::CodeRefused);
}

fn kept(pending: &PendingAuthorization) -> PendingAuthorization {
    serde_json::from_str(&serde_json::to_string(pending).unwrap()).unwrap()
}

/// Mix-up (RFC 9700 §4.4): the code of one server must not get to another one.
#[tokio::test]
async fn a_login_at_another_server_gets_neither_code_nor_verifier() {
    let (honest, evil) = (start(AuthorizationServer::builder()).await, start(AuthorizationServer::builder()).await);
    let (ours, theirs) = (login(&honest), login(&evil));
    let pending = ours.start();
    let callback = honest.approve(pending.url());
    for callback in [callback.as_str(), callback.split_once('?').unwrap().1, "error=access_denied", ""] {
        let error = theirs.finish(kept(&pending), callback).await.unwrap_err();
        assert_eq!(error.kind(), AuthorizationErrorKind::WrongLogin, "{error}");
        assert!(error.to_string().contains("token endpoint"), "{error}");
    }
    // At the same server: another client, another redirect URI, another issuer.
    let elsewhere =
        AuthorizationCode::new(endpoint(&honest), &honest.authorization_url(), "http://127.0.0.1:8421/other");
    for (login, part) in [
        (ours.clone().client_id("other"), "client id"),
        (elsewhere.unwrap(), "redirect URI"),
        (ours.clone().issuer(honest.issuer()), "issuer"),
    ] {
        let error = login.finish(kept(&pending), &callback).await.unwrap_err();
        assert_eq!(error.kind(), AuthorizationErrorKind::WrongLogin, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!((honest.token_requests(), evil.token_requests()), (0, 0));
    // The code is as good as it was.
    ours.finish(pending, &callback).await.unwrap();
}

#[tokio::test]
async fn a_callback_at_another_address_is_not_exchanged() {
    let server = start(AuthorizationServer::builder()).await;
    let login = login(&server);
    let pending = login.start();
    let callback = server.approve(pending.url());
    let query = callback.strip_prefix(REDIRECT_URI).unwrap();
    for address in [
        "https://127.0.0.1:8421/callback",
        "http://localhost:8421/callback",
        "http://127.0.0.1:8422/callback",
        "http://127.0.0.1:8421/other",
        "/other",
        "//evil.test/callback",
    ] {
        let error = login.finish(kept(&pending), &format!("{address}{query}")).await.unwrap_err();
        assert_eq!(error.kind(), AuthorizationErrorKind::StateMismatch, "{address}");
    }
    assert_eq!(server.token_requests(), 0);
    for shape in ["/callback", "", "HTTP://127.0.0.1:8421/%63allback"] {
        let pending = login.start();
        let callback = server.approve(pending.url()).replacen(REDIRECT_URI, shape, 1);
        login.finish(pending, &callback).await.unwrap();
    }
}

/// RFC 6749 §4.1.3: it is in both requests or in none.
#[tokio::test]
async fn an_empty_redirect_uri_is_left_out_of_both_requests() {
    let server = start(AuthorizationServer::builder().redirect_uri(REDIRECT_URI)).await;
    let login = AuthorizationCode::new(endpoint(&server), &server.authorization_url(), "").unwrap();
    let pending = login.start();
    assert!(!pending.url().contains("redirect_uri"), "{}", pending.url());
    let callback = server.approve(pending.url());
    login.finish(pending, &callback).await.unwrap();
    assert_eq!(server.recorded()[0].field("redirect_uri"), None);
}

#[tokio::test]
async fn an_error_has_the_code_of_the_server() {
    let server = start(AuthorizationServer::builder()).await;
    let login = login(&server);
    let pending = login.start();
    let error = login.finish(kept(&pending), &server.deny(pending.url())).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (AuthorizationErrorKind::Denied, Some("access_denied")));
    let silent = format!("error=Login_Required&state={}", pending.state());
    let error = login.finish(kept(&pending), &silent).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (AuthorizationErrorKind::InteractionRequired, Some("Login_Required")));
    let guessed = format!("code=guessed?&state={}", pending.state());
    let error = login.finish(pending, &guessed).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (AuthorizationErrorKind::CodeRefused, Some("invalid_grant")));
    assert_eq!(server.recorded()[0].field("code"), Some("guessed?"));
}

/// Whatever shape a refusal has, the state that follows is right.
#[tokio::test]
async fn every_shape_of_refusal_leads_to_the_right_state() {
    use State::{ReauthorizationRequired, Rejected, Starting};
    let plain = |status| Fault::status(status).body("text/plain", "Invalid credentials.");
    let server = start(AuthorizationServer::builder().user("alice", "right")).await;
    // Client credentials, refresh token, password.
    for (name, fault, states) in [
        // Without a code nobody knows whose word it is, and it is tried again; a password slowly, and three times at the most.
        ("empty 400", Fault::status(400), [Starting, Starting, Starting]),
        ("empty 403", Fault::status(403), [Starting, Starting, Starting]),
        ("empty 401", Fault::status(401), [Starting, Starting, Starting]),
        ("400 in words", plain(400), [Starting, Starting, Starting]),
        ("403 in words", plain(403), [Starting, Starting, Starting]),
        ("invalid_grant", Fault::status(400).error("invalid_grant"), [Rejected, ReauthorizationRequired, Rejected]),
        ("the same in 200", Fault::error_in_200("invalid_grant"), [Rejected, ReauthorizationRequired, Rejected]),
        ("invalid_client", Fault::status(401).error("invalid_client"), [Rejected, Rejected, Rejected]),
        ("503", Fault::status(503), [Starting, Starting, Starting]),
        ("html", Fault::html(), [Starting, Starting, Starting]),
        ("nothing", Fault::drop_before_acting(), [Starting, Starting, Starting]),
    ] {
        server.clear_faults();
        server.fault_always(fault);
        let tokens = [
            LiveToken::spawn(tower_bearer::oauth2::ClientCredentials::new(endpoint(&server))),
            LiveToken::spawn(source(&server, TokenSet::of_refresh_token("held"))),
            LiveToken::spawn(LegacyPassword::new(endpoint(&server), "alice", "right")),
        ];
        for (token, expected) in tokens.iter().zip(states) {
            until(token, |status| status.failures() > 0).await;
            assert_eq!(token.status().state(), expected, "{name}: {:?}", token.status());
        }
    }
}

#[tokio::test]
async fn a_verification_that_says_nothing_is_no_verification() {
    let service = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
        Ok::<_, std::io::Error>(http::Response::new(String::from(r#"{"active":false}"#)))
    });
    let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().public_client("id").http_service(service);
    let by = tower_bearer::oauth2::ProvedBy::Token;
    assert!(endpoint.verify("https://id.test/token", "secret", by).await.is_err());
}

#[tokio::test]
async fn an_adopted_access_token_that_cannot_be_sent_leaves_the_refresh_token() {
    let server = start(AuthorizationServer::builder()).await;
    let refresh_token = server.issue_refresh_token("client", None);
    let set = TokenSet::of_access_token("line\nbreak").with_refresh_token(refresh_token);
    LiveToken::spawn(source(&server, set)).ready().await.unwrap();
}
