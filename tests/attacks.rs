//! What an attack has found in the reading of answers, and in whose tokens are whose.
#![cfg(feature = "oauth2")]

#[path = "support/authority.rs"]
mod authority;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use authority::Wall;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::sleep;
use tower::service_fn;
use tower_bearer::{
    FetchRequest, LiveToken, State, TokenSource,
    oauth2::{ClientCredentials, LegacyPassword, RefreshToken, Stored, TokenEndpoint, TokenSet},
};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A status, a content type, the parts of a body, and whether it breaks off behind them.
#[derive(Clone)]
struct Says(u16, &'static str, Vec<Bytes>, bool);

fn says(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Says {
    Says(status, kind, vec![body.into()], false)
}

type Sent = Arc<Mutex<Vec<String>>>;

/// Answers one after the other, and the last for ever.
fn endpoint(answers: impl IntoIterator<Item = Says>) -> (TokenEndpoint, Sent) {
    let answers: Arc<Mutex<VecDeque<Says>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
    let sent = Sent::default();
    let noted = sent.clone();
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
        };
        let noted = noted.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            noted.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
            let Says(status, kind, parts, breaks) = answer;
            let mut frames: Vec<Result<Frame<Bytes>, std::io::Error>> =
                parts.into_iter().map(|part| Ok(Frame::data(part))).collect();
            if breaks {
                frames.push(Err(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let body: Body = StreamBody::new(tokio_stream(frames)).boxed_unsync();
            Ok::<_, Infallible>(Response::builder().status(status).header("content-type", kind).body(body).unwrap())
        }
    });
    let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("app", "secret");
    (endpoint.http_service(service), sent)
}

fn tokio_stream<T: Send + Unpin>(items: Vec<T>) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::iter(items)
}

/// What the answer's refresh token `r1` becomes: what is sent next.
async fn next_after(answer: Says) -> String {
    let (endpoint, sent) = endpoint([answer, says(503, "text/plain", "")]);
    let mut source = Stored::new(RefreshToken::new(endpoint)).holding(TokenSet::of_refresh_token("r0"));
    let _ = source.fetch(FetchRequest::new(Duration::from_secs(5))).await;
    let held = source.handle().token_set().unwrap();
    drop(sent);
    held.refresh_token().unwrap_or_default().to_owned()
}

/// Each kind by itself: "No 2xx answer that carries a refresh token loses it, whatever else it carries".
macro_rules! keeps {
    ($name:ident, $answer:expr) => {
        #[tokio::test]
        async fn $name() {
            assert_eq!(next_after($answer).await, "r1", "the refresh token that arrived is lost, and r0 is spent");
        }
    };
}

const GOOD: &str = r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r1"}"#;
const FORM: &str = "access_token=a&token_type=bearer&refresh_token=r1";

keeps!(
    keeps_the_refresh_token_before_a_warning_of_php,
    says(200, "application/json", format!("{GOOD}\n<br />\n<b>Deprecated</b>: x"))
);
keeps!(
    keeps_the_refresh_token_behind_a_warning_of_php,
    says(200, "text/html", format!("<br />\n<b>Deprecated</b>: x\n{GOOD}"))
);
keeps!(
    keeps_the_refresh_token_of_an_answer_that_is_cut,
    says(200, "application/json", r#"{"access_token":"a","refresh_token":"r1","scope":"re"#)
);
keeps!(
    keeps_the_refresh_token_of_an_answer_that_breaks_off,
    Says(200, "application/json", vec![r#"{"access_token":"a","refresh_token":"r1","sc"#.into()], true)
);
keeps!(keeps_the_refresh_token_in_json_that_is_called_a_form, says(200, "application/x-www-form-urlencoded", GOOD));
keeps!(keeps_the_refresh_token_in_a_form_that_is_called_text, says(200, "text/plain", FORM));
keeps!(keeps_the_refresh_token_in_a_form_that_is_called_json, says(200, "application/json", FORM));
keeps!(
    keeps_the_refresh_token_of_a_long_answer,
    says(
        200,
        "application/json",
        format!(r#"{{"access_token":"a","refresh_token":"r1","id_token":"{}"}}"#, "x".repeat(70_000))
    )
);
keeps!(keeps_the_refresh_token_in_an_array, says(200, "application/json", format!("[{GOOD}]")));
keeps!(
    keeps_the_refresh_token_beside_an_empty_second_one,
    says(200, "application/json", r#"{"access_token":"a","refresh_token":"r1","refresh_token":null}"#)
);
keeps!(
    keeps_the_refresh_token_beside_a_name_that_is_no_text,
    says(200, "application/json", r#"{"access_token":"a","refresh_token":"r1","\ud800":1}"#)
);

#[tokio::test]
async fn a_blank_refresh_token_does_not_take_the_place_of_a_good_one() {
    let answer = says(200, "application/json", r#"{"access_token":"a","expires_in":3600,"refresh_token":" "}"#);
    assert_eq!(next_after(answer).await, "r0", "the one that was held is replaced by a blank");
}

#[tokio::test]
async fn a_refresh_token_that_is_a_number_is_not_taken_for_none() {
    let answer = says(200, "application/json", r#"{"access_token":"a","expires_in":3600,"refresh_token":20270101}"#);
    assert_ne!(next_after(answer).await, "r0", "the server has rotated, and the spent one is kept and sent again");
}

/// "…and the next attempt goes on with it."
#[tokio::test(start_paused = true)]
async fn an_error_beside_a_new_refresh_token_is_not_the_end_of_it() {
    let mut wrong = Vec::new();
    for code in ["invalid_grant", "access_denied", "login_required", "invalid_scope", "invalid_client"] {
        let odd = format!(r#"{{"access_token":"a","expires_in":3600,"refresh_token":"r1","error":"{code}"}}"#);
        let good = r#"{"access_token":"b","expires_in":3600,"refresh_token":"r2"}"#;
        let (endpoint, _) = endpoint([says(200, "application/json", odd), says(200, "application/json", good)]);
        let wall = Wall::new();
        let source = Stored::new(RefreshToken::new(endpoint.clock(wall))).holding(TokenSet::of_refresh_token("r0"));
        let token = LiveToken::builder(source.clock(wall)).clock(wall).spawn();
        sleep(Duration::from_secs(120)).await;
        if !(token.status().state() == State::Live) {
            wrong.push(format!("{code}: {:?}", token.status().state()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Two tenants of one server, by path: `realms/1` and `realms/2`, with the same client id in both.
#[test]
fn two_tenants_by_path_are_two_accounts() {
    let of =
        |url: &str| TokenEndpoint::new(url).unwrap().client_secret_basic("backend", "secret").account().for_client();
    let mut alike = Vec::new();
    for (one, other) in [
        (
            "https://id.test/realms/1/protocol/openid-connect/token",
            "https://id.test/realms/2/protocol/openid-connect/token",
        ),
        ("https://id.test/1001/oauth2/token", "https://id.test/1002/oauth2/token"),
        ("https://id.test/accounts/7/oauth/token", "https://id.test/accounts/8/oauth/token"),
        (
            "https://id.test/realms/sso/protocol/openid-connect/token",
            "https://id.test/realms/api/protocol/openid-connect/token",
        ),
        (
            "https://id.test/realms/identity/protocol/openid-connect/token",
            "https://id.test/realms/token/protocol/openid-connect/token",
        ),
        (
            "https://id.test/realms/v1/protocol/openid-connect/token",
            "https://id.test/realms/v2/protocol/openid-connect/token",
        ),
        ("https://id.test/token?merchant=a", "https://id.test/token?merchant=b"),
        ("https://id.test/token?practiceid=1", "https://id.test/token?practiceid=2"),
        ("https://id.test/token?locationId=1", "https://id.test/token?locationId=2"),
        ("https://id.test/token?p=policy_a", "https://id.test/token?p=policy_b"),
    ] {
        if of(one).id() == of(other).id() {
            alike.push(format!("{one} = {other}"));
        }
    }
    assert!(alike.is_empty(), "{alike:#?}");
}

/// And what it costs: b's requests carry a's token.
#[tokio::test]
async fn no_tenant_is_handed_the_token_of_another() {
    let directory = std::env::temp_dir().join(format!("tower-bearer-attack-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let source = |tenant: u32| {
        let body = format!(r#"{{"access_token":"of-{tenant}","expires_in":3600}}"#);
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let answer = Response::builder().header("content-type", "application/json").body(Full::from(body.clone()));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        let url = format!("https://id.test/realms/{tenant}/protocol/openid-connect/token");
        let endpoint = TokenEndpoint::new(&url).unwrap().client_secret_basic("backend", "secret").http_service(service);
        // One file by mistake; one Redis and its keys by `Account::id` without any.
        Stored::in_store(ClientCredentials::new(endpoint), tower_bearer::store::FileStore::new(directory.join("token")))
    };
    let fetch = async |tenant| {
        source(tenant)
            .fetch(FetchRequest::new(Duration::from_secs(5)))
            .await
            .map(|token| token.expose_secret().to_owned())
    };
    assert_eq!(fetch(1).await.unwrap(), "of-1");
    assert_ne!(fetch(2).await.ok().as_deref(), Some("of-1"), "tenant 2 sends the token of tenant 1");
}

/// The parts of a server's name aren't told apart.
#[test]
fn a_tenant_that_is_called_like_two_is_another() {
    let of = |tenant: &str, org: Option<&str>| {
        let grant =
            RefreshToken::new(TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("app", "s"));
        let grant = grant.param("tenant", tenant).subject("anna");
        let grant = match org {
            Some(org) => grant.param("org", org),
            None => grant,
        };
        tower_bearer::oauth2::Grant::account(&grant).id()
    };
    assert_ne!(of("a", Some("b")), of("a?org=b", None));
}

/// A proxy's short "no" to everybody, in plain text, ends a password for good, in the store as well.
#[tokio::test(start_paused = true)]
async fn five_seconds_of_a_proxys_403_do_not_end_a_password() {
    let mut wrong = Vec::new();
    for (status, kind, body) in [
        (403, "text/plain", "RBAC: access denied"),
        (403, "application/json", r#"{"message":"Forbidden"}"#),
        (401, "text/plain", "no healthy upstream for authz"),
        (400, "text/plain", ""),
        (500, "application/json", r#"{"error":"invalid_grant"}"#),
        (503, "application/json", r#"{"message":"The incoming token has expired"}"#),
    ] {
        let good = r#"{"access_token":"b","expires_in":3600}"#;
        let (endpoint, _) = endpoint([says(status, kind, body), says(200, "application/json", good)]);
        let wall = Wall::new();
        let grant = LegacyPassword::new(endpoint.clock(wall), "anna", "password");
        let token = LiveToken::builder(Stored::new(grant).clock(wall)).clock(wall).spawn();
        sleep(Duration::from_secs(600)).await;
        if !(token.status().state() == State::Live) {
            wrong.push(format!("{status} {body}: {:?}", token.status().state()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
