//! The reader of token responses, through the public API, with responses that chance has bent: it never panics, a success
//! with a token that can't be used shows nothing of itself, a refusal nothing of what was sent, and a good token is good.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

#[path = "support/leaks.rs"]
mod leaks;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::Full;
use leaks::{ACCESS, CLIENT, PARAM, QUERY, REFRESH, SECRET, SHAPES, assert_clean, said};
use tower::service_fn;
use tower_bearer::{
    FetchRequest, IntoTokenSource, TokenSource,
    oauth2::{ClientCredentials, EndpointError, TokenEndpoint},
};

const LIMIT: Duration = Duration::from_secs(5);

/// Valid answers; `@` is a secret of the server's.
const GOOD: &[&str] = &[
    r#"{"access_token":"@","token_type":"Bearer","expires_in":3600}"#,
    r#"{"access_token":"@","token_type":"bearer","expires_in":"3600","refresh_token":"@r","scope":"read write"}"#,
    r#"{"token_type":"Bearer","scope":["a","b"],"expires_in":59.5,"id_token":"@r","access_token":"@","x":{"y":[1,null,true]}}"#,
    r#"{"access_token":"@","error":null,"error_description":"","message":"@r"}"#,
];

/// Refusals; `$` is something that was sent, in some shape.
const REFUSALS: &[&str] = &[
    r#"{"error":"invalid_client","error_description":"bad client $"}"#,
    r#"{"error":{"code":"x","message":"no $ here"},"message":"$"}"#,
    r#"{"errors":[{"message":"$"}]}"#,
    "<html><h1>no</h1> $ </html>",
    "no client with $, sorry",
    "bad: $",
];

/// What is put in at random places.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "-",
    "1e999",
    "0",
    ".",
    " ",
    "\n",
    "\u{0}",
    "\u{1b}[1m",
    "\u{feff}",
    "ü",
    "\"access_token\":",
    "\"error\":",
    "\"errors\":[",
    "\"message\":",
    "\"expires_in\":",
    "\"token_type\":\"mac\",",
    "\"scope\":[",
    "%",
    "&",
    "[masked]",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
];

fn bend(text: &str, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.usize(0..4) {
        let at = rng.usize(0..=bytes.len());
        let to = (at + rng.usize(0..8)).min(bytes.len());
        match rng.u8(0..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, PIECES[rng.usize(0..PIECES.len())].bytes())),
            3 => drop(bytes.splice(at..to, PIECES[rng.usize(0..PIECES.len())].bytes())),
            4 => bytes.splice(at..at, [rng.u8(..)]).for_each(drop),
            _ => {
                let copy = bytes[at..to].repeat(rng.usize(1..20));
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

/// An endpoint that answers whatever lies in the box.
fn grant(answer: &Arc<Mutex<Response<Bytes>>>) -> ClientCredentials {
    let answer = answer.clone();
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let answer = answer.lock().unwrap().clone().map(Full::new);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let url = format!("https://id.test/token?key={}", QUERY.secret);
    let endpoint = TokenEndpoint::new(&url).unwrap().client_secret_basic(CLIENT.secret, SECRET.secret);
    ClientCredentials::new(endpoint.http_service(service)).param("assertion", PARAM.secret)
}

#[tokio::test]
async fn bent_successes_show_nothing_of_themselves() {
    let mut rng = Rng::with_seed(20);
    let answer = Arc::new(Mutex::new(Response::new(Bytes::new())));
    let (mut tokens, mut errors) = (0, 0);
    for round in 0..3_000 {
        let text = GOOD[rng.usize(0..GOOD.len())].replace("@r", REFRESH.secret).replace('@', ACCESS.secret);
        let body = bend(&text, &mut rng);
        let shown = String::from_utf8_lossy(&body).into_owned();
        *answer.lock().unwrap() = Response::new(body.into());
        match grant(&answer).into_token_source().fetch(FetchRequest::new(LIMIT)).await {
            Ok(token) => {
                tokens += 1;
                assert!(!token.expose_secret().is_empty());
                assert!(token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
                assert!(token.authorization().to_str().is_ok());
            }
            Err(error) => {
                errors += 1;
                assert_clean(&format!("round {round}, {shown}"), &said(&error));
                let error: &EndpointError = error.cause().downcast_ref().unwrap();
                assert!(!error.to_string().contains("it says"), "round {round}, {shown}: {error}");
            }
        }
    }
    assert!(tokens > 500 && errors > 500, "{tokens} tokens, {errors} errors");
}

#[tokio::test]
async fn bent_refusals_show_nothing_that_was_sent() {
    let mut rng = Rng::with_seed(21);
    let answer = Arc::new(Mutex::new(Response::new(Bytes::new())));
    let sent = [SECRET, PARAM, QUERY, CLIENT];
    let mut said_something = 0;
    for round in 0..900 {
        // Bent around the secret, not within it: what is left of one that was cut up can't be known.
        let (before, after) = REFUSALS[rng.usize(0..REFUSALS.len())].split_once('$').unwrap();
        let (name, shape) = SHAPES[rng.usize(0..SHAPES.len())];
        let echo = shape(sent[rng.usize(0..sent.len())].secret);
        let echo = match before.starts_with('{') && !name.starts_with("JSON") && name != "Rust" {
            true => serde_json::to_string(&echo).unwrap().trim_matches('"').to_owned(),
            false => echo.trim_matches('"').to_owned(),
        };
        let body = [bend(before, &mut rng), echo.into_bytes(), bend(&after.replace('$', ""), &mut rng)].concat();
        let shown = String::from_utf8_lossy(&body).into_owned();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = http::StatusCode::from_u16(rng.u16(300..1000)).unwrap();
        *answer.lock().unwrap() = response;
        let error = grant(&answer).into_token_source().fetch(FetchRequest::new(LIMIT)).await.unwrap_err();
        assert_clean(&format!("round {round}, {name}, {shown}"), &said(&error));
        let error = error.to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        if let Some((_, excerpt)) = error.split_once("(it says: ") {
            said_something += 1;
            assert!(excerpt.rsplit_once("); ").unwrap().0.chars().count() <= 256, "{error}");
        }
    }
    // Of bodies that say nothing in a known member, only sentences are shown.
    assert!(said_something > 300, "{said_something}");
}
