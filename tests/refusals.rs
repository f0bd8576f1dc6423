//! What is only guessed of a refusal becomes final late. What each answer means, `vectors/answers` has.
#![cfg(feature = "oauth2")]

#[path = "support/authority.rs"]
mod authority;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authority::Wall;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::sleep;
use tower::service_fn;
use tower_bearer::{
    LiveToken, State,
    clock::Clock,
    oauth2::{LegacyPassword, RefreshToken, Stored, TokenEndpoint, TokenSet},
};

const MINUTE: Duration = Duration::from_secs(60);

/// An endpoint that always answers this, and how often it was asked.
fn endpoint(status: u16, kind: &str, body: &'static str) -> (TokenEndpoint, Arc<AtomicU64>) {
    let answer = Response::builder().status(status).header("content-type", kind);
    let answer = answer.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
    let requests = Arc::<AtomicU64>::default();
    let asked = requests.clone();
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        asked.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(answer.clone()))
    });
    let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("app", "secret");
    (endpoint.http_service(service), requests)
}

/// A proxy's page, and what real servers say of dead refresh tokens and wrong secrets without a code: the same to anybody who sees it
/// once.
#[tokio::test(start_paused = true)]
async fn what_is_guessed_is_final_when_it_was_seen_again_and_the_token_in_use_is_over() {
    let hour = 60 * MINUTE;
    for (status, kind, body, expected) in [
        (403, "text/html", "<h1>Forbidden</h1>", State::ReauthorizationRequired),
        (400, "text/plain", "", State::ReauthorizationRequired),
        (403, "text/plain", "", State::ReauthorizationRequired),
        (400, "application/json", r#"{"message":"Bad Request"}"#, State::ReauthorizationRequired),
        (401, "text/html", "<h1>Unauthorized</h1>", State::Rejected),
        (401, "application/json", r#"{"error":"access_denied"}"#, State::Rejected),
    ] {
        let (endpoint, requests) = endpoint(status, kind, body);
        let wall = Wall::new();
        let held =
            TokenSet::of_access_token("a").expires_in(hour).with_refresh_token("r0").with_requested_at(wall.wall());
        let source = Stored::new(RefreshToken::new(endpoint)).holding(held).clock(wall);
        let token = LiveToken::builder(source).clock(wall).spawn();
        sleep(hour - MINUTE).await;
        let seen = requests.load(Ordering::Relaxed);
        assert!(seen >= 3, "{status} {body}: tried again, {seen} times");
        assert_eq!((token.status().state(), token.status().is_usable()), (State::Failing, true), "{status} {body}");
        sleep(3 * MINUTE).await;
        assert_eq!(token.status().state(), expected, "{status} {body}: the token is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_in_the_way_of_a_password_is_tried_again_twice_and_no_more() {
    let (endpoint, requests) = endpoint(403, "text/html", "<p>no");
    let wall = Wall::new();
    let source = Stored::new(LegacyPassword::new(endpoint, "anna", "password")).clock(wall);
    let token = LiveToken::builder(source).clock(wall).spawn();
    sleep(60 * MINUTE).await;
    assert_eq!((token.status().state(), requests.load(Ordering::Relaxed)), (State::Rejected, 3));
}
