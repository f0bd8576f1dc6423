//! Responses that are easily mistaken: what counts as a refresh token in them, and what as the server's refusal.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::scene::{HOUR, MINUTE, Rotating, SECOND, Server, Shelf, account};
use crate::{
    FetchError, LiveToken, State,
    oauth2::{
        EndpointError, Grant, RefreshToken, Stored, TokenEndpoint, TokenSet,
        endpoint_error::{
            reported_error::ReportedError,
            verdict::{Verdict, judge},
        },
        grant::GrantKind,
        masking::Masks,
        response::{EndpointResponse, shape::ResponseShape},
    },
    store::Account,
};

fn read(status: u16, kind: &'static str, body: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    let response = EndpointResponse {
        endpoint: "https://id.test/token",
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers,
        body,
        shape: &ResponseShape::default(),
        now: SystemTime::UNIX_EPOCH,
    };
    let brought =
        response.read_tokens(GrantKind::RefreshToken { worked: true }, &Masks::new(std::iter::empty())).ok()?;
    use secrecy::ExposeSecret;
    brought.refresh_token.map(|token| token.expose_secret().to_owned())
}

/// A placeholder must not replace the refresh token that works.
#[test]
fn what_is_no_refresh_token_is_not_taken_for_one() {
    let mut wrong = Vec::new();
    for (kind, body) in [
        // A maintenance page with the texts of a single-page application, or with an example.
        (
            "text/html",
            "<!doctype html><script>window.texts={\"login\":\"Log in\",\"refresh_token\":\"Refresh token\"}</script><p>Back soon</p>",
        ),
        (
            "text/html",
            "<!doctype html><h1>API</h1><pre>{\"access_token\":\"2YotnFZFEjr1zCsicMWpAA\",\"refresh_token\":\"tGzv3JOkF0XG5Qx2TlKWIA\"}</pre>",
        ),
        // "The one you have", or none.
        ("application/json", r#"{"access_token":"a2","expires_in":60,"refresh_token":0}"#),
        ("application/json", r#"{"access_token":"a2","expires_in":60,"refresh_token":"null"}"#),
        ("application/json", r#"{"access_token":"a2","expires_in":60,"refresh_token":"undefined"}"#),
        ("application/x-www-form-urlencoded", "access_token=a2&expires_in=60&refresh_token=null"),
        // A gateway that sends back the request with masked values.
        ("application/json", r#"{"ok":false,"error":"internal_error","refresh_token":"[FILTERED]"}"#),
        ("application/json", r#"{"grant_type":"refresh_token","refresh_token":"********"}"#),
    ] {
        if let Some(taken) = read(200, kind, body.as_bytes()) {
            wrong.push(format!("{taken:?} of {body}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// "No 2xx answer that carries a refresh token loses it, whatever else it carries".
#[test]
fn no_success_loses_its_refresh_token() {
    let mut wrong = Vec::new();
    for (kind, body) in [
        ("application/json", "{\"data\":{\"access_token\":\"a2\",\"refresh_token\":\"r2\"}}"),
        ("application/json", "{\"status\":0,\"body\":{\"access_token\":\"a2\",\"refresh_token\":\"r2\"}}"),
        ("application/x-www-form-urlencoded", "\u{feff}{\"access_token\":\"a2\",\"refresh_token\":\"r2\"}"),
        (
            "application/x-www-form-urlencoded",
            "<br />Notice: x in y\n{\"access_token\":\"a2\",\"refresh_token\":\"r2\"}",
        ),
        ("application/x-www-form-urlencoded", "access_token=a2&refresh_token=r2&refresh_token="),
        ("application/json", "{\"access_token\":\"a2\",\"refresh_token\":\"r2\"} trailing"),
        ("application/json", "[{\"access_token\":\"a2\",\"refresh_token\":\"r2\"}]"),
        ("application/json", "\"{\\\"access_token\\\":\\\"a2\\\",\\\"refresh_token\\\":\\\"r2\\\"}\""),
        ("text/html", "access_token=a2&refresh_token=r2\n"),
    ] {
        if read(200, kind, body.as_bytes()).as_deref() != Some("r2") {
            wrong.push(format!("{kind}: {body}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A response that was cut off after the tokens.
/// The value of another member, or a sentence, is no refresh token.
#[test]
fn what_only_speaks_of_a_refresh_token_is_none() {
    for (body, expected) in [
        (r#"{"data":{"access_token":"a2","refresh_token":"r2","old_refresh_token":"r1"}}"#, Some("r2")),
        (r#"{"error":"oops","error_description":"refresh_token=ab12xx is locked"}"#, None),
        ("notice: the old_refresh_token=r1&access_token=a was removed\n", None),
    ] {
        assert_eq!(read(200, "application/json", body.as_bytes()).as_deref(), expected, "{body}");
    }
}

#[test]
fn no_form_that_breaks_off_loses_its_refresh_token() {
    let headers = HeaderMap::new();
    let body = b"access_token=a2&refresh_token=r2&scope=x&token_type=bea";
    let response = EndpointResponse {
        endpoint: "https://id.test/token",
        status: StatusCode::OK,
        headers: &headers,
        body,
        shape: &ResponseShape::default(),
        now: SystemTime::UNIX_EPOCH,
    };
    let broken = FetchError::try_again(EndpointError::unsent("reset"));
    assert!(response.salvage(broken).is_ok_and(|brought| brought.refresh_token.is_some()));
}

/// A proxy answers 503 when it lost the connection to the server after it had sent the request.
#[test]
fn a_401_in_words_of_a_gateway_is_no_certain_word_about_the_user() {
    let mut wrong = Vec::new();
    for body in [
        json!({"error": "Token expired"}),
        json!({"message": "TOKEN_EXPIRED"}),
        json!({"error": "Invalid token"}),
        json!({"error": "User not found"}),
    ] {
        let said = ReportedError::of(StatusCode::UNAUTHORIZED, body.as_object());
        let judged = judge(GrantKind::RefreshToken { worked: true }, StatusCode::UNAUTHORIZED, said.as_ref());
        if judged.verdict == Verdict::Reauthorize && judged.certain {
            wrong.push(body.to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A server that acts, behind a proxy that answers 503.
struct Behind(Server, watch::Receiver<bool>);

impl Grant for Behind {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        let breaks = *self.1.borrow();
        let brought = Rotating(self.0.clone()).exchange(held, limit).await;
        if breaks && brought.is_ok() {
            let response = EndpointResponse {
                endpoint: "https://id.test/token",
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: &HeaderMap::new(),
                now: SystemTime::UNIX_EPOCH,
                shape: &ResponseShape::default(),
                body:
                    b"upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            };
            return Err(response.refusal(GrantKind::RefreshToken { worked: true }, &Masks::new(std::iter::empty())));
        }
        brought
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account()
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_503_that_came_when_it_had_acted_the_token_in_use_serves_to_its_end() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let breaks = watch::Sender::new(false);
    let source = Stored::in_store(Behind(server.clone(), breaks.subscribe()), shelf.clone())
        .clock(server.wall)
        .replay_grace(Duration::ZERO);
    let source = source.holding(TokenSet::of_refresh_token("r0"));
    server.grace(SECOND / 100);
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    breaks.send_replace(true);
    let _ = token.refresh().await;
    breaks.send_replace(false);
    sleep(20 * MINUTE).await;
    assert_eq!(server.reuses(), 0, "r1 was shown again, and a1 has 40 minutes left");
}

/// An HTML page with 200, although nothing was spent.
#[tokio::test(start_paused = true)]
async fn a_maintenance_page_costs_no_refresh_token() {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    let wall = Server::new().wall;
    let down = watch::Sender::new(true);
    let is_down = down.subscribe();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let down = *is_down.borrow();
        async move {
            let form = request.into_body().collect().await.unwrap().to_bytes();
            let (status, kind, body) = match (down, form.windows(16).any(|part| part == b"refresh_token=r0")) {
                (true, _) => (
                    200,
                    "text/html",
                    "<!doctype html><script>window.texts={\"refresh_token\":\"Refresh token\"}</script><p>Back soon</p>",
                ),
                (false, true) => (200, "application/json", "{\"access_token\":\"a\",\"expires_in\":60}"),
                (false, false) => (400, "application/json", "{\"error\":\"invalid_grant\"}"),
            };
            Ok::<_, std::convert::Infallible>(
                Response::builder().status(status).header("content-type", kind).body(Full::from(body)).unwrap(),
            )
        }
    });
    let endpoint =
        TokenEndpoint::new("https://id.test/token").unwrap().public_client("app").http_service(service).clock(wall);
    let source = Stored::in_store(RefreshToken::new(endpoint).subject("anna"), Shelf::new())
        .clock(wall)
        .holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(wall).seed(1).spawn();
    sleep(10 * SECOND).await;
    down.send_replace(false);
    sleep(5 * MINUTE).await;
    assert_eq!(token.status().state(), State::Live, "{:?}", token.status().last_error());
}
