//! Against a real server, in the name of a user: `oidc-provider` with its own login and consent pages, PKCE required, refresh
//! tokens that rotate with reuse detection. Needs Node.js, like `interop.rs`.
#![cfg(all(feature = "oauth2", feature = "reqwest"))]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use reqwest::Client;
use serde_json::Value;
use support::{browser::Browser, node::Node};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_bearer::{
    BearerAuthLayer, ErrorKind, LiveToken, Origin, State,
    oauth2::{AuthorizationCode, AuthorizationErrorKind, RefreshToken, Stored, TokenEndpoint, TokenSet},
};

const NATIVE_REDIRECT: &str = "http://127.0.0.1:54321/callback";

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn native(server: &Node) -> TokenEndpoint {
    let id = text(&server["clients"]["native"]["client_id"]);
    TokenEndpoint::new(text(&server["token_url"])).unwrap().public_client(id)
}

fn login(server: &Node, endpoint: TokenEndpoint, redirect_uri: &str) -> AuthorizationCode {
    AuthorizationCode::new(endpoint, text(&server["authorization_url"]), redirect_uri)
        .unwrap()
        .scope("openid offline_access read")
        .param("prompt", "consent")
        .issuer(text(&server["issuer"]))
}

/// A person agrees, and the code is exchanged.
async fn authorize(server: &Node) -> TokenSet {
    let login = login(server, native(server), NATIVE_REDIRECT);
    let pending = login.start();
    let callback = Browser::new().decide(pending.url(), "allow").await;
    login.finish(pending, callback.as_str()).await.unwrap()
}

async fn get(token: &LiveToken, api: &Node) -> u16 {
    let layer = BearerAuthLayer::new(token.clone(), Origin::parse(text(&api["url"])).unwrap());
    let request = reqwest::Request::new(http::Method::GET, text(&api["documents_url"]).parse().unwrap());
    layer.layer(Client::new()).ready().await.unwrap().call(request).await.unwrap().status().as_u16()
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_code_becomes_a_token_that_is_renewed_with_rotating_refresh_tokens() {
    // The server rounds it down; what is left outlives a machine that stands still for a second.
    let server = Node::start("authorization-server.mjs", &[], &[("ACCESS_TOKEN_TTL", "3")]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
    let set = authorize(&server).await;
    assert!(set.refresh_token().is_some());
    let token = LiveToken::spawn(Stored::new(RefreshToken::new(native(&server))).holding(set));
    for _ in 0..500 {
        assert_eq!(get(&token, &api).await, 200);
        if token.status().generation() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(token.status().generation() >= 3, "{:?}", token.status());
    // Had a spent refresh token been sent again, the server would have ended them all.
    assert_eq!(token.status().failures(), 0);
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_confidential_web_client_works_as_well() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let client = &server["clients"]["web"];
    let endpoint = TokenEndpoint::new(text(&server["token_url"]))
        .unwrap()
        .client_secret_basic(text(&client["client_id"]), text(&client["client_secret"]));
    let login = login(&server, endpoint, text(&client["redirect_uris"][0]));

    // Between the two steps it lies in a session.
    let session = serde_json::to_string(&login.start()).unwrap();
    let pending: tower_bearer::oauth2::PendingAuthorization = serde_json::from_str(&session).unwrap();
    let callback = Browser::new().decide(pending.url(), "allow").await;
    let set = login.finish(pending, callback.query().unwrap()).await.unwrap();
    assert!(set.access_token().is_some());
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_user_who_says_no_is_told_from_everything_else() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let login = login(&server, native(&server), NATIVE_REDIRECT);
    let pending = login.start();
    let callback = Browser::new().decide(pending.url(), "abort").await;
    let error = login.finish(pending, callback.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Denied);
    assert!(error.description().is_some(), "{error}");

    // Somebody else's callback.
    let theirs = login.start();
    let callback = Browser::new().decide(theirs.url(), "allow").await;
    let error = login.finish(login.start(), callback.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::StateMismatch);

    // A code that was spent. (The same pending authorization, kept twice.)
    let kept = serde_json::to_string(&theirs).unwrap();
    login.finish(theirs, callback.as_str()).await.unwrap();
    let again = serde_json::from_str(&kept).unwrap();
    let error = login.finish(again, callback.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::CodeRefused, "{error}");
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_dead_refresh_token_is_a_state_and_a_new_authorization_revives_the_same_token() {
    // Not to be renewed before its refresh token is revoked.
    let server = Node::start("authorization-server.mjs", &[], &[("ACCESS_TOKEN_TTL", "4")]).await;
    let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
    let endpoint = native(&server);
    let set = authorize(&server).await;
    let refresh_token = set.refresh_token().unwrap().to_owned();
    let source = Stored::new(RefreshToken::new(endpoint.clone())).holding(set);
    let account = source.handle();
    let token = LiveToken::spawn(source);
    assert_eq!(get(&token, &api).await, 200);

    endpoint.revoke(text(&server["revocation_url"]), &refresh_token).await.unwrap();
    let mut watch = token.watch();
    while let Some(status) = watch.changed().await {
        if status.state() == State::ReauthorizationRequired && !status.is_usable() {
            break;
        }
    }
    assert_eq!(token.ready().await.unwrap_err().kind(), ErrorKind::ReauthorizationRequired);

    account.adopt(authorize(&server).await).await;
    token.ready().await.unwrap();
    assert_eq!(get(&token, &api).await, 200);
    assert_eq!(token.status().state(), State::Live);
}

#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn a_token_in_hand_is_asked_about_adopted_and_given_back() {
    let server = Node::start("authorization-server.mjs", &[], &[]).await;
    let client = &server["clients"]["basic"];
    let endpoint = TokenEndpoint::new(text(&server["token_url"]))
        .unwrap()
        .client_secret_basic(text(&client["client_id"]), text(&client["client_secret"]));
    // This server introspects opaque tokens only.
    let form = tower_bearer::oauth2::Form::grant("client_credentials")
        .param("scope", "read")
        .param("resource", "https://opaque.test/");
    let set = endpoint.exchange(form, Duration::from_secs(10)).await.unwrap();
    let secret = set.access_token().unwrap();

    let told = endpoint.introspect(text(&server["introspection_url"]), secret).await.unwrap();
    assert!(told.is_active());
    assert_eq!(told.scope(), Some("read"));
    let left = told.time_left().unwrap();
    assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");

    let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint.clone())).holding(told.to_token_set(secret)));
    token.ready().await.unwrap();
    assert!(token.status().time_left().unwrap() <= left);

    endpoint.revoke(text(&server["revocation_url"]), secret).await.unwrap();
    assert!(!endpoint.introspect(text(&server["introspection_url"]), secret).await.unwrap().is_active());
    // Given back twice is no error.
    endpoint.revoke(text(&server["revocation_url"]), secret).await.unwrap();
}

/// A proxy before the token endpoint that answers 502 while it is down; the first request is carried out nevertheless, or not.
fn behind_a_proxy(server: &Node, down: &Arc<AtomicBool>, first_acts: bool) -> TokenEndpoint {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let (down, acts) = (down.clone(), Arc::new(AtomicBool::new(first_acts)));
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let (client, is_down) = (client.clone(), down.load(Ordering::SeqCst));
        let acts = !is_down || acts.swap(false, Ordering::SeqCst);
        async move {
            let mut answer = Response::default();
            if acts {
                let (head, body) = client.request(request).await?.into_parts();
                answer = Response::from_parts(head, Full::new(body.collect().await?.to_bytes()));
            }
            if is_down {
                answer = Response::default();
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
            }
            Ok::<Response<Full<Bytes>>, BoxError>(answer)
        }
    });
    native(server).http_service(service)
}

/// This server has no grace: whoever shows a spent refresh token loses all.
#[tokio::test]
#[ignore = "needs Node.js: run scripts/test"]
async fn an_outage_ends_no_authorization_unless_an_answer_was_lost_and_then_not_the_token_in_use() {
    for first_acts in [false, true] {
        let server = Node::start("authorization-server.mjs", &[], &[("ACCESS_TOKEN_TTL", "16")]).await;
        let api = Node::start("api.mjs", &[text(&server["issuer"])], &[]).await;
        let set = authorize(&server).await;
        let down = Arc::new(AtomicBool::new(false));
        let grant = RefreshToken::new(behind_a_proxy(&server, &down, first_acts));
        let token = LiveToken::spawn(Stored::new(grant).holding(set).replay_grace(Duration::ZERO));
        token.ready().await.unwrap();
        down.store(true, Ordering::SeqCst);
        let mut answered = 0;
        while token.status().is_usable() {
            // In the last moment it may end on the way.
            let left = token.status().time_left();
            if left.is_some_and(|left| left > Duration::from_secs(2)) {
                assert_eq!(get(&token, &api).await, 200, "the token in use serves: acted: {first_acts}");
                answered += u32::from(token.status().failures() > 0);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(answered > 0, "or the outage began too late");
        // The last resort is tried while the proxy is down, and again when it is up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(token.status().state(), State::Expired);
        down.store(false, Ordering::SeqCst);
        let mut watch = token.watch();
        let ended = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let state = watch.changed().await.unwrap().state();
                if [State::Live, State::ReauthorizationRequired].contains(&state) {
                    break state;
                }
            }
        });
        let state = ended.await.expect("within a minute of its return");
        if first_acts {
            assert_eq!(state, State::ReauthorizationRequired, "the server's word");
            assert!(token.status().last_error().unwrap().to_string().contains("the answer never came"));
        } else {
            assert_eq!((state, get(&token, &api).await), (State::Live, 200), "nothing was spent");
        }
    }
}
