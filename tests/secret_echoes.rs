//! Servers that send back what they were sent, in every shape that servers write: none of it comes out of an error, and of an
//! answer that may hold a token nothing at all does.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

#[path = "support/leaks.rs"]
mod leaks;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use leaks::{ACCESS, CLIENT, Marked, PARAM, QUERY, REFRESH, SECRET, SHAPES, assert_clean, leaks, said};
use tower::service_fn;
use tower_bearer::{
    AccessToken, FetchError, FetchRequest, IntoTokenSource, TokenSource,
    oauth2::{ClientCredentials, EndpointError, ProvedBy, TokenEndpoint},
};

/// The ways to send the client's secret.
const PROOFS: [fn(TokenEndpoint) -> TokenEndpoint; 2] = [
    |endpoint| endpoint.client_secret_basic(CLIENT.secret, SECRET.secret),
    |endpoint| endpoint.client_secret_post(CLIENT.secret, SECRET.secret),
];

/// Where a server puts what it sends back. `@` is the place; `true`: within the quotes of JSON, in which an escape is read.
const PLACES: &[(&str, bool)] = &[
    (r#"{"error":"invalid_client","error_description":"no client with @, sorry"}"#, true),
    (r#"{"error":"unheard of @"}"#, true),
    (r#"{"error":{"code":7,"message":"bad: @"}}"#, true),
    (r#"{"errors":[{"message":"bad: @"},{"message":"@"}]}"#, true),
    (r#"{"message":"@"}"#, true),
    (r#"{"error":"invalid_request","request":{"form":"a=@&b=c"},"error_description":"@ @@"}"#, true),
    (r#"{"status":1,"you_sent":["@"]}"#, true),
    (r#"{"cut off":"@"#, true),
    ("bad secret @!", false),
    ("<html><body class=\"x\">\r\n\t<h1>400</h1> secret=@&amp;x</body>", false),
    ("@", false),
];

async fn fetch(grant: ClientCredentials) -> Result<AccessToken, FetchError> {
    grant.into_token_source().fetch(FetchRequest::new(Duration::from_secs(5))).await
}

/// A grant with everything marked, whose token endpoint is this answer.
fn grant(proof: fn(TokenEndpoint) -> TokenEndpoint, status: u16, body: impl Into<Bytes>) -> ClientCredentials {
    let body = body.into();
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let answer = Response::builder().status(status).body(Full::new(body.clone())).unwrap();
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let url = format!("https://id.test/token?tenant=1&key={}", QUERY.secret);
    let endpoint = proof(TokenEndpoint::new(&url).unwrap()).http_service(service);
    ClientCredentials::new(endpoint).scope("read").param("assertion", PARAM.secret)
}

async fn refused(status: u16, body: impl Into<Bytes>) -> FetchError {
    fetch(grant(PROOFS[1], status, body)).await.expect_err("not a token")
}

/// Within quotes as a server's own JSON library writes them, unless the shape is such quoting already.
fn quoted(shape: &str, echo: &str) -> String {
    if shape.starts_with("JSON") || shape == "Rust" {
        return echo.trim_matches('"').to_owned();
    }
    let json = serde_json::to_string(echo).unwrap();
    json[1..json.len() - 1].to_owned()
}

#[tokio::test]
async fn what_was_sent_never_comes_back_in_an_error() {
    let mut bad = Vec::new();
    for Marked { secret, .. } in [SECRET, PARAM, QUERY, CLIENT] {
        for (name, shape) in SHAPES {
            let echo = shape(secret);
            for (number, (place, in_json)) in PLACES.iter().enumerate() {
                let body = place.replace('@', &if *in_json { quoted(name, &echo) } else { echo.clone() });
                for status in [400, 200] {
                    let error = fetch(grant(PROOFS[number % 2], status, body.clone())).await.unwrap_err();
                    if !leaks(&said(&error)).is_empty() {
                        bad.push(format!("{secret}, {name}: {error}"));
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} leaks:\n{}", bad.len(), bad.join("\n"));
}

/// A code and its text stand in one member, and so does a secret that looks like them.
#[tokio::test]
async fn a_secret_with_a_colon_in_it_is_not_taken_apart() {
    for secret in ["zq7k: xj4v", "zq7k:  xj4v", "zq7k: xj4v: w8zx"] {
        for place in [
            r#"{"error":"@"}"#,
            r#"{"error":"no client @ here"}"#,
            r#"{"error":"bad: @"}"#,
            r#"{"error":"@: bad","error_description":"@"}"#,
            r#"{"errcode":"@","errmsg":"no"}"#,
            r#"{"error":{"code":"@","message":"no"}}"#,
            r#"{"errors":["@"]}"#,
            r#"{"code":"@","message":"no"}"#,
        ] {
            for status in [200, 400] {
                let body = place.replace('@', secret);
                let service = service_fn(move |_: Request<Full<Bytes>>| {
                    let answer = Response::builder().status(status).body(Full::new(Bytes::from(body.clone()))).unwrap();
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let endpoint = TokenEndpoint::new("https://id.test/").unwrap().client_secret_post("id", secret);
                let error = fetch(ClientCredentials::new(endpoint.http_service(service))).await.unwrap_err();
                assert_clean(place, &said(&error));
            }
        }
    }
    let usual = refused(400, r#"{"error":"invalid_client: no such id"}"#).await.to_string();
    assert!(usual.contains(", invalid_client (it says: no such id)"), "{usual}");
}

/// Of an error with 200 the same is shown as with 400: what stands in a member that servers explain themselves in.
#[tokio::test]
async fn what_was_sent_never_comes_back_in_an_error_that_comes_with_200() {
    let (mut bad, mut explained) = (Vec::new(), 0);
    let members = TEXTS.iter().map(|name| format!(r#"{{"error":"e","{name}":"bad: @ !"}}"#));
    let members = members.chain(TEXTS.iter().map(|name| format!(r#"{{"{name}":"@"}}"#)));
    let members = members.chain(TEXTS.iter().map(|name| format!(r#"{{"error":{{"code":7,"{name}":"@"}}}}"#)));
    let members: Vec<_> =
        members.chain(CODES.iter().map(|name| format!(r#"{{"{name}":"@","message":"no"}}"#))).collect();
    for (at, (name, shape)) in SHAPES.iter().enumerate() {
        for (number, place) in members.iter().enumerate() {
            let secret = [SECRET, PARAM][(at + number) % 2].secret;
            let body = place.replace('@', &quoted(name, &shape(secret)));
            let error = fetch(grant(PROOFS[number / 2 % 2], 200, body)).await.unwrap_err();
            explained += usize::from(error.to_string().contains("it says: "));
            if !leaks(&said(&error)).is_empty() {
                bad.push(format!("{secret}, {name}, {place}: {error}"));
            }
        }
    }
    assert!(bad.is_empty(), "{} leaks:\n{}", bad.len(), bad.join("\n"));
    let all = SHAPES.len() * members.len();
    assert!(explained > all * 9 / 10, "only {explained} of {all} are explained");
}

/// Where servers explain errors, and where they have codes.
const TEXTS: [&str; 13] = [
    "error_description",
    "errorDescription",
    "errorSummary",
    "errorMessage",
    "error_message",
    "error_msg",
    "errmsg",
    "message",
    "msg",
    "description",
    "detail",
    "reason",
    "title",
];
const CODES: [&str; 10] = [
    "error",
    "errorCode",
    "error_code",
    "errcode",
    "err_code",
    "errorType",
    "error_type",
    "suberror",
    "code",
    "status",
];

#[tokio::test]
async fn a_short_value_that_was_sent_does_not_open_up_a_token() {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLXd6NXFreDhq";
    for value in ["1", "I", "J9", "i", "e"] {
        let service = service_fn(move |_: Request<Full<Bytes>>| async move {
            let body = format!("expired: {jwt} (x)");
            Ok::<_, std::convert::Infallible>(Response::builder().status(400).body(body).unwrap())
        });
        let endpoint =
            TokenEndpoint::new("https://id.test/").unwrap().client_secret_basic("id", "s").http_service(service);
        let error = fetch(ClientCredentials::new(endpoint).param("p", value)).await.unwrap_err().to_string();
        let shown: String = error.replace("[masked]", "").chars().filter(char::is_ascii_alphanumeric).collect();
        for part in jwt.split(['.', 'J', 'I', '1', 'i', 'e']).filter(|part| part.len() > 3) {
            assert!(!shown.contains(part), "{part} with {value:?} came through in {error}");
        }
    }
}

/// The other endpoints of a server are told secrets as well.
#[tokio::test]
async fn what_was_sent_to_a_verification_url_never_comes_back() {
    for (name, shape) in SHAPES {
        let echo = [ACCESS, QUERY, SECRET, CLIENT].map(|marked| shape(marked.secret)).join(" | ");
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let answer = Response::builder().status(403).body(echo.clone()).unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let url = format!("https://id.test/verify?key={}", QUERY.secret);
        for by in [ProvedBy::Token, ProvedBy::Client] {
            let endpoint = PROOFS[0](TokenEndpoint::new("https://id.test/").unwrap()).http_service(service.clone());
            let error = endpoint.verify(&url, ACCESS.secret, by).await.unwrap_err();
            assert_clean(name, &said(&error));
        }
    }
}

#[tokio::test]
async fn basic_of_a_pair_too_short_to_be_known_by_its_halves() {
    for (sent, echo) in [("c+", "YWI6YyUyQg"), ("c+", "YWI6Yys"), ("c", "YWI6Yw")] {
        let answer = format!("no Authorization: Basic {echo}==");
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let answer = Response::builder().status(401).body(answer.clone()).unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let endpoint = TokenEndpoint::new("https://id.test/").unwrap().client_secret_basic("ab", sent);
        let error = fetch(ClientCredentials::new(endpoint.http_service(service))).await.unwrap_err().to_string();
        assert!(error.contains("it says: ") && !error.contains(echo), "{error}");
    }
}

#[tokio::test]
async fn a_token_in_an_answer_that_is_no_success_is_not_shown() {
    for status in [302, 400, 404, 500, 502] {
        for body in [
            format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, ACCESS.secret),
            format!(r#"{{"refresh_token":"{}"}}"#, REFRESH.secret),
            format!(r#"{{"data":{{"access_token":"{}"}}}}"#, ACCESS.secret),
            format!(r#"{{"error":"gave_{}","access_token":"{0}"}}"#, ACCESS.secret),
            format!(r#"{{"error_description":"{}","id_token":"{0}"}}"#, ACCESS.secret),
            format!(r#"{{"error":"e","error_description":"id_token={}"}}"#, ACCESS.secret),
            format!(r#"{{"session":"{}"}}"#, ACCESS.secret),
            format!("<html>{}</html>", ACCESS.secret),
            format!(r#"{{"error":"server_error","error_description":"gave {}","access_token":"{0}"}}"#, ACCESS.secret),
        ] {
            let error = refused(status, body.clone()).await;
            assert_clean(&body, &said(&error));
        }
    }
}

#[tokio::test]
async fn other_charsets_hide_nothing() {
    let text = format!("bad secret {} or {}", SECRET.secret, PARAM.secret);
    let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(c as u32).unwrap()).collect();
    for (name, body) in [
        ("UTF-16LE", wide(u16::to_le_bytes)),
        ("UTF-16BE", wide(u16::to_be_bytes)),
        ("UTF-16LE with a mark", [vec![0xff, 0xfe], wide(u16::to_le_bytes)].concat()),
        ("Latin-1", latin),
    ] {
        assert_clean(name, &said(&refused(400, body).await));
    }
}

#[tokio::test]
async fn an_excerpt_is_one_short_line_of_visible_text() {
    let evil = "\u{1b}[31mred\u{1b}]0;title\u{7}\r\nERROR forged line\u{0}\u{8}\u{9b}1m\u{2028}\u{202e}\u{2066}\u{feff}\u{200b}";
    let wide = "ä b ".repeat(500);
    let repeated = evil.repeat(40);
    let json = |text: &str| serde_json::json!({"error": "invalid_client", "error_description": text}).to_string();
    for body in
        [evil.to_owned(), json(evil), wide.clone(), json(&wide), repeated.clone(), json(&repeated), "x y".repeat(9000)]
    {
        for status in [300, 400, 401, 404, 429, 500, 503, 599, 999] {
            let error = refused(status, body.clone()).await;
            let text = error.to_string();
            let unseen = |c: char| {
                c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            };
            assert!(!text.contains(unseen), "{text:?}");
            let Some((_, shown)) = text.split_once("(it says: ") else {
                assert!(!body.starts_with('{') && body.len() > 512, "{text}");
                continue;
            };
            let shown = shown.rsplit_once("); ").unwrap().0;
            assert!(shown.chars().count() <= 256, "{} characters of {text}", shown.chars().count());
        }
    }
}

#[tokio::test]
async fn nothing_of_a_success_that_may_hold_a_token_is_shown() {
    let word = ACCESS.secret;
    for body in [
        format!(r#"{{"error":"{word}","error_description":"{word}","id_token":"{word}"}}"#),
        format!(r#"{{"error":"invalid_client","error_description":"{word}","{word}":1,"token":"{word}"}}"#),
        format!(r#"{{"error":{{"code":"{word}","message":"{word}","access_token":"{word}"}}}}"#),
        format!(r#"{{"errors":[{{"code":"{word}","message":"{word}"}}],"data":{{"accessToken":"{word}"}}}}"#),
        format!(r#"{{"error":"x","message":"{{\"access_token\":\"{word}\"}}"}}"#),
        format!(r#"{{"error":"x","message":"id_token={word}"}}"#),
        format!(r#"{{"message":"{word}","x":"{word}"}}"#),
        format!(r#"{{"access_token":"{word} {word}"}}"#),
        format!(r#"{{"access_token":["{word}"]}}"#),
        format!(r#"{{"access_token":"{word}","token_type":"{word}"}}"#),
        format!(r#"{{"access_token":"{word} x","expires_in":"{word}"}}"#),
        format!(r#"{{"access_token":"","expires_in":-1,"scope":"{word}"}}"#),
        format!(r#"{{"{word}":"{word}"}}"#),
        format!(r#"{{"access_token":"{word}"#),
        format!(r#"["{word}"]"#),
        format!(r#""{word}""#),
        format!("access_token={word} x&token_type=bearer"),
        format!("{{{word}}}"),
        format!("<html>{word}</html>"),
    ] {
        for status in [200, 201, 204, 206, 299] {
            let error = refused(status, body.clone()).await;
            assert_clean(&body, &said(&error));
            let error: &EndpointError = error.cause().downcast_ref().unwrap();
            assert!(!error.to_string().contains("it says"), "{error}");
            assert_eq!(error.code(), body.contains("invalid_client").then_some("invalid_client"));
        }
    }
}
