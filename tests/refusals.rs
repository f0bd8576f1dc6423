//! What token endpoints of real providers answer when they refuse, and what becomes of it: `vectors/refusals.json`.
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
use serde_json::Value;
use tokio::time::sleep;
use tower::service_fn;
use tower_bearer::{
    LiveToken, State,
    clock::Clock,
    oauth2::{
        AuthorizationCode, AuthorizationErrorKind, ClientCredentials, EndpointError, Form, Grant, LegacyPassword,
        RefreshToken, Stored, TokenEndpoint, TokenSet,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

struct Case {
    name: String,
    grant: String,
    wanted: String,
    answer: Response<Full<Bytes>>,
    requests: Arc<AtomicU64>,
}

impl Case {
    fn all() -> Vec<Self> {
        let vectors: Value = serde_json::from_str(include_str!("vectors/refusals.json")).unwrap();
        let text =
            |case: &Value, name: &str| case[name].as_str().unwrap_or_else(|| panic!("{name} in {case}")).to_owned();
        let cases = vectors["cases"].as_array().unwrap().iter().map(|case| {
            let mut answer = Response::builder().status(u16::try_from(case["status"].as_u64().unwrap()).unwrap());
            for (name, value) in case["headers"].as_object().unwrap() {
                answer = answer.header(name, value.as_str().unwrap());
            }
            Self {
                name: text(case, "name"),
                grant: text(case, "grant"),
                wanted: text(case, "wanted"),
                answer: answer.body(Full::from(text(case, "body"))).unwrap(),
                requests: Arc::default(),
            }
        });
        cases.collect()
    }

    fn endpoint(&self) -> TokenEndpoint {
        let (answer, requests) = (self.answer.clone(), self.requests.clone());
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            requests.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Infallible>(answer.clone()))
        });
        let endpoint = TokenEndpoint::new("https://id.test/token").unwrap();
        endpoint.client_secret_basic("app", "secret").http_service(service)
    }

    /// The state in the end, with no token in use.
    async fn state_of(&self, grant: impl Grant) -> State {
        let wall = Wall::new();
        let source = Stored::new(grant).holding(TokenSet::of_refresh_token("r0")).clock(wall);
        let token = LiveToken::builder(source).clock(wall).spawn();
        sleep(10 * MINUTE).await;
        let status = token.status();
        assert!(status.last_error().is_some() || status.is_usable(), "{}", self.name);
        status.state()
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_ends_where_its_users_need_it() {
    let cases = Case::all();
    assert!(cases.len() >= 88);
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = match &*case.wanted {
            "rejected" | "rejected_for_good" => State::Rejected,
            "reauthorize" => State::ReauthorizationRequired,
            "try_again" => State::Starting,
            _ if case.grant == "authorization_code" => {
                case_of_a_code(case, &mut wrong).await;
                continue;
            }
            "the code is visible to the grant" => {
                let error = case.endpoint().exchange(Form::grant("urn:test:device"), MINUTE).await.unwrap_err();
                let error = error.cause().downcast_ref::<EndpointError>().unwrap();
                assert_eq!(error.code(), Some("authorization_pending"));
                continue;
            }
            other => panic!("{other} is wanted of {}", case.name),
        };
        let state = match &*case.grant {
            "client_credentials" => case.state_of(ClientCredentials::new(case.endpoint())).await,
            "refresh_token" => case.state_of(RefreshToken::new(case.endpoint())).await,
            "password" => {
                let token = LiveToken::spawn(LegacyPassword::new(case.endpoint(), "anna", "password"));
                sleep(10 * MINUTE).await;
                token.status().state()
            }
            other => panic!("{other} of {}", case.name),
        };
        if state != expected {
            wrong.push(format!("{}: {state:?} instead of {expected:?}", case.name));
        }
        if case.wanted == "rejected_for_good" {
            assert_eq!(case.requests.load(Ordering::Relaxed), 1, "{}: it locks the account", case.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn case_of_a_code(case: &Case, wrong: &mut Vec<String>) {
    let login = AuthorizationCode::new(case.endpoint(), "https://id.test/authorize", "https://app.test/cb").unwrap();
    let pending = login.start();
    let callback = format!("?code=c&state={}", pending.state());
    let kind = login.finish(pending, &callback).await.map(|_| ()).map_err(|error| error.kind());
    let expected = match &*case.wanted {
        "ok" => Ok(()),
        "reauthorize (the code)" => Err(AuthorizationErrorKind::CodeRefused),
        "rejected (the client or the request, not the code)" => Err(AuthorizationErrorKind::Refused),
        other => panic!("{other} is wanted of {}", case.name),
    };
    if kind != expected {
        wrong.push(format!("{}: {kind:?} instead of {expected:?}", case.name));
    }
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
        let answer = Response::builder().status(status).header("content-type", kind).body(Full::from(body)).unwrap();
        let requests = Arc::<AtomicU64>::default();
        let case = Case { name: body.into(), grant: String::new(), wanted: String::new(), answer, requests };
        let wall = Wall::new();
        let held =
            TokenSet::of_access_token("a").expires_in(hour).with_refresh_token("r0").with_requested_at(wall.wall());
        let source = Stored::new(RefreshToken::new(case.endpoint())).holding(held).clock(wall);
        let token = LiveToken::builder(source).clock(wall).spawn();
        sleep(hour - MINUTE).await;
        let seen = case.requests.load(Ordering::Relaxed);
        assert!(seen >= 3, "{status} {body}: tried again, {seen} times");
        assert_eq!((token.status().state(), token.status().is_usable()), (State::Failing, true), "{status} {body}");
        sleep(3 * MINUTE).await;
        assert_eq!(token.status().state(), expected, "{status} {body}: the token is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_in_the_way_of_a_password_is_tried_again_twice_and_no_more() {
    let answer = Response::builder().status(403).header("content-type", "text/html").body(Full::from("<p>no")).unwrap();
    let requests = Arc::<AtomicU64>::default();
    let case = Case { name: String::new(), grant: String::new(), wanted: String::new(), answer, requests };
    let wall = Wall::new();
    let source = Stored::new(LegacyPassword::new(case.endpoint(), "anna", "password")).clock(wall);
    let token = LiveToken::builder(source).clock(wall).spawn();
    sleep(60 * MINUTE).await;
    assert_eq!((token.status().state(), case.requests.load(Ordering::Relaxed)), (State::Rejected, 3));
}
