//! What an error tells of a token endpoint's response, word for word: enough to find out what is wrong without a packet capture.
#![cfg(feature = "oauth2")]

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer::oauth2::{AuthorizationCode, EndpointError, Form, TokenEndpoint};

const LIMIT: Duration = Duration::from_secs(5);

/// Longer than what is taken for a word, and shorter than what is taken for a token.
const TOKEN: &str = "wz5q-kx8j";

fn endpoint(answer: Response<impl Into<Bytes>>) -> TokenEndpoint {
    let answer = answer.map(|body| Full::new(body.into()));
    let service = service_fn(move |_: Request<Full<Bytes>>| std::future::ready(Ok::<_, Infallible>(answer.clone())));
    TokenEndpoint::new("https://id.test/token")
        .unwrap()
        .client_secret_post("client-7", "secret-s3cr")
        .http_service(service)
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

/// What the endpoint's error says after the endpoint's name, and its code.
async fn told(grant: &str, answer: Response<Vec<u8>>) -> (String, Option<String>) {
    let error = endpoint(answer).exchange(Form::grant(grant), LIMIT).await.unwrap_err();
    let cause: &EndpointError = error.cause().downcast_ref().unwrap();
    let text = cause.to_string();
    let text = text
        .strip_prefix("the authorization server at https://id.test/token answered ")
        .unwrap_or_else(|| panic!("{text}"));
    (text.to_owned(), cause.code().map(str::to_owned))
}

#[tokio::test]
async fn an_error_that_comes_with_200_is_told_as_with_400() {
    for (body, code, says) in [
        // Slack, GitHub, WeChat, Feishu, Alipay's and Instagram's spellings.
        (r#"{"ok":false,"error":"invalid_code"}"#, Some("invalid_code"), ""),
        (
            r#"{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired.","error_uri":"https://docs.test/"}"#,
            Some("bad_verification_code"),
            "The code passed is incorrect or expired.",
        ),
        (r#"{"errcode":40029,"errmsg":"invalid code"}"#, Some("40029"), "invalid code"),
        (
            r#"{"code":20003,"msg":"The authorization code is invalid"}"#,
            Some("20003"),
            "The authorization code is invalid",
        ),
        (r#"{"code":20014,"msg":"no app","data":null}"#, Some("20014"), "no app"),
        (r#"{"code":"InvalidCode","message":"no"}"#, Some("InvalidCode"), "no"),
        (r#"{"error":{"code":190,"message":"expired","type":"OAuthException"}}"#, Some("190"), "expired"),
        (
            r#"{"error_type":"OAuthException","code":400,"error_message":"Invalid code"}"#,
            Some("OAuthException"),
            "Invalid code",
        ),
        (r#"{"message":"session is over","access_token":null,"refresh_token":""}"#, None, "session is over"),
        (
            r#"{"error":"invalid_grant","error_description":"no secret-s3cr here"}"#,
            Some("invalid_grant"),
            "no [masked] here",
        ),
        (r#"{"error":"secret-s3cr","error_description":"no"}"#, None, "no"),
    ] {
        for status in [200, 201, 400] {
            let (text, told_code) = told("authorization_code", answer(status, &[], body)).await;
            let code_shown = code.map(|code| format!(", {code}")).unwrap_or_default();
            let says_shown = if says.is_empty() { String::new() } else { format!(" (it says: {says})") };
            let (shown, advice) = text.split_once("; ").unwrap();
            let reason = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(shown, format!("{reason}{code_shown}{says_shown}"), "{body}");
            assert_eq!(told_code.as_deref(), code, "{body}");
            assert!(!advice.is_empty());
        }
    }
    let long = format!(r#"{{"error":"x","error_description":"{}"}}"#, "so it is ".repeat(200));
    let (text, _) = told("authorization_code", answer(200, &[], long)).await;
    let says = text.split_once("(it says: ").unwrap().1.split_once(")").unwrap().0;
    assert_eq!(says.chars().count(), 256, "{text}");
}

/// A copy of the token may stand in any of them.
#[tokio::test]
async fn of_an_error_beside_a_token_nothing_is_shown() {
    for tokens in [
        format!(r#""access_token":"{TOKEN} x""#),
        format!(r#""access_token":["{TOKEN}"]"#),
        format!(r#""id_token":"{TOKEN}""#),
        format!(r#""data":{{"accessToken":"{TOKEN}"}}"#),
        format!(r#""data":[{{"x":{{"token":"{TOKEN}"}}}}]"#),
        format!(r#""detail":"{{\"refreshToken\":\"{TOKEN}\"}}""#),
        format!(r#""msg":"see ?access_token={TOKEN}""#),
    ] {
        for error in [
            format!(r#""error":"no_{TOKEN}","error_description":"{TOKEN}""#),
            format!(r#""code":20003,"msg":"{TOKEN}""#),
            format!(r#""errors":[{{"code":"x","message":"{TOKEN}"}}]"#),
        ] {
            let body = format!("{{{error},{tokens}}}");
            let (text, code) = told("authorization_code", answer(200, &[], body.clone())).await;
            assert!(!text.contains("wz5q") && !text.contains("it says") && code.is_none(), "{body}: {text}");
        }
    }
    let form = format!("error=x&error_description={TOKEN}&id_token={TOKEN}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let (text, _) = told("authorization_code", answer(200, &kind, form)).await;
    assert!(!text.contains("wz5q"), "{text}");
    let (text, code) =
        told("authorization_code", answer(200, &kind, "error=bad_verification_code&error_description=No")).await;
    assert!(text.contains("(it says: No)") && code.as_deref() == Some("bad_verification_code"), "{text}");
}

/// The headers and the body of an answer, and what its error begins with.
type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, &'a str);

#[tokio::test]
async fn what_comes_and_is_not_understood_is_named() {
    let json = [("content-type", "application/json; charset=utf-8")];
    let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let token = r#"{"access_token":"a"}"#;
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let cases: Vec<Case<'_>> = vec![
        (&json, "".into(), "it is empty;"),
        (&[], " \r\n".into(), "it is empty;"),
        (&[], "\u{feff}".into(), "it is empty;"),
        (&json, r#"{"foo":1}"#.into(), "there is no `access_token` in it (application/json, 9 bytes);"),
        (&json, r#"{"ok":true}"#.into(), "there is no `access_token` in it (application/json, 11 bytes);"),
        (&json, r#"[{"access_token":"a"}]"#.into(), "it is an array, not an object (application/json, 22 bytes);"),
        (&json, r#""a""#.into(), "it is a string, not an object (application/json, 3 bytes);"),
        (&json, "7".into(), "it is a number, not an object (application/json, 1 bytes);"),
        (&json, "false".into(), "it is a boolean, not an object (application/json, 5 bytes);"),
        (&json, "null".into(), "it is null, not an object (application/json, 4 bytes);"),
        (
            &[("content-type", "text/plain")],
            "no".into(),
            "it is no JSON object as far as line 1 column 2 (text/plain, 2 bytes);",
        ),
        (
            &[("content-type", "text/html; charset=utf-8")],
            "<!DOCTYPE html>\n<html><head><TITLE>\n Sign in\u{202e} </TITLE>".into(),
            "it is a page with the title \"Sign in\" (text/html, 56 bytes);",
        ),
        (
            &[],
            "<html><title>Success code=4/x</title>".into(),
            "it is no JSON object as far as line 1 column 1 (no media type, 37 bytes);",
        ),
        (
            &[],
            "<html><title>secret-s3cr</title>".into(),
            "it is a page with the title \"[masked]\" (no media type, 32 bytes);",
        ),
        (
            &[],
            format!("<html><title>{TOKEN}</title>{{\"token\":\"{TOKEN}\"}}").into(),
            "it is no JSON object as far as",
        ),
        (&[("content-encoding", "gzip")], gzip.clone(), "it is encoded as gzip: let the HTTP client decode it"),
        (&[], gzip.clone(), "it is encoded as gzip: let"),
        (&[("content-encoding", "identity, BR")], b"\x0b\x02\x80\xff\x03".to_vec(), "it is encoded as br: let"),
        (&[("content-encoding", "secret-s3cr")], vec![0xff], "it is encoded as [masked]: let"),
        // Decoded already.
        (&[("content-encoding", "gzip")], "no".into(), "it is no JSON object as far as"),
        (&json, utf16(token, u16::to_le_bytes), "it is in UTF-16, and JSON is in UTF-8 (RFC 8259 §8.1);"),
        (&json, utf16(token, u16::to_be_bytes), "it is in UTF-16,"),
        (&json, [vec![0xff, 0xfe], utf16(token, u16::to_le_bytes)].concat(), "it is in UTF-16,"),
        (&json, r#"{"access_token":"a","token_type":"mac"}"#.into(), "its `token_type` is \"mac\", not Bearer,"),
        (&json, r#"{"access_token":"a","token_type":"DPoP"}"#.into(), "its `token_type` is \"DPoP\", not Bearer,"),
        (
            &json,
            r#"{"access_token":"abcdefgh","token_type":"abcdefgh"}"#.into(),
            "its `token_type` is another one, not Bearer,",
        ),
        (
            &json,
            r#"{"access_token":"a","token_type":"abcdefghijklmnop"}"#.into(),
            "its `token_type` is another one, not Bearer,",
        ),
        (&json, r#"{"access_token":"a","token_type":7}"#.into(), "its `token_type` is a number, not Bearer,"),
        (&json, r#"{"access_token":5}"#.into(), "its `access_token` is a number, not a string;"),
        (&json, r#"{"access_token":{"value":"a"}}"#.into(), "its `access_token` is an object, not a string;"),
        (&json, r#"{"access_token":["a"]}"#.into(), "its `access_token` is an array, not a string;"),
        (&json, r#"{"access_token":true}"#.into(), "its `access_token` is a boolean, not a string;"),
    ];
    for (headers, body, expected) in cases {
        let (text, code) = told("authorization_code", answer(200, headers, body.clone())).await;
        let what = text.strip_prefix("200 OK, but ").unwrap_or_else(|| panic!("{expected}: {text}"));
        assert!(what.starts_with(expected), "{expected}: {text}");
        assert!(code.is_none() && !text.contains("wz5q"), "{text}");
        // With another status as well, instead of what is unreadable.
        if expected.contains("encoded as") {
            let (text, _) = told("authorization_code", answer(400, headers, body)).await;
            assert!(text.contains(&format!(" ({expected}")), "{text}");
        }
    }
    let (text, _) = told("authorization_code", answer(200, &json, r#"{"ok":false}"#)).await;
    assert!(text.starts_with("200 OK (application/json, 12 bytes); "), "{text}");
}

#[tokio::test]
async fn an_answer_without_known_members_is_named_whatever_its_status() {
    let page = [("content-type", "text/html")];
    let json = [("content-type", "application/json")];
    let cases: [Case<'_>; 9] = [
        (&json, r#"{"foo":"bar"}"#.into(), " (application/json, 13 bytes); "),
        (&json, r#"[{"foo":"bar"}]"#.into(), " (application/json, 15 bytes); "),
        (&json, format!(r#"{{"data":{{"access_token":"{TOKEN}"}}}}"#).into(), " (application/json, 37 bytes); "),
        (
            &page,
            "<html><title>Forbidden</title>".into(),
            " (it is a page with the title \"Forbidden\", text/html, 30 bytes); ",
        ),
        (&page, "<html><title>a&#47;b</title>".into(), " (text/html, 28 bytes); "),
        (&page, "<html><title>a%2Fb</title>".into(), " (text/html, 26 bytes); "),
        // What proxies say.
        (&[], "upstream connect error".into(), " (it says: upstream connect error); "),
        (&[], "so it is ".repeat(100).into(), " (no media type, 900 bytes); "),
        (&[], "".into(), "; "),
    ];
    for (headers, body, expected) in cases {
        for status in [400, 403, 503] {
            let (text, code) = told("authorization_code", answer(status, headers, body.clone())).await;
            let reason = http::StatusCode::from_u16(status).unwrap().to_string();
            assert!(text.starts_with(&format!("{reason}{expected}")) && code.is_none(), "{expected}: {text}");
        }
    }
    // Nothing else is left of an error that is hidden, or masked.
    for body in [format!(r#"{{"ok":false,"x":{{"token":"{TOKEN}"}}}}"#), r#"{"success":"false"}"#.into()] {
        let (text, _) = told("authorization_code", answer(200, &json, body.clone())).await;
        assert!(text.starts_with(&format!("200 OK (application/json, {} bytes); ", body.len())), "{text}");
    }
    let (text, _) = told("authorization_code", answer(400, &[("content-type", "a/secret-s3cr")], "{}")).await;
    assert!(text.starts_with("400 Bad Request (a/[masked], 2 bytes); "), "{text}");
}

/// What many call their client.
#[tokio::test]
async fn a_client_id_that_is_a_word_leaves_codes_as_they_are() {
    let body = r#"{"error":"invalid_client_thing","error_description":"client clients are no client"}"#;
    let endpoint = endpoint(answer(400, &[], body)).client_secret_post("client", "secret-s3cr");
    let error = endpoint.exchange(Form::grant("client_credentials"), LIMIT).await.unwrap_err().to_string();
    assert!(error.contains(", invalid_client_thing (it says: [masked] clients are no [masked]); "), "{error}");
}

#[tokio::test]
async fn white_space_in_what_a_verification_is_authorized_with_is_named() {
    use tower_bearer::oauth2::ProvedBy;
    for (by, is_named) in [(ProvedBy::Client, true), (ProvedBy::Token, false)] {
        let endpoint = endpoint(answer(401, &[], "")).client_secret_basic("client-7", "secret-s3cr\n");
        let error = endpoint.verify("https://id.test/verify", "a", by).await.unwrap_err().to_string();
        assert_eq!(error.contains("the client secret ends with a line end: is that meant?"), is_named, "{error}");
    }
}

/// Keycloak calls a wrong secret `unauthorized_client`, with 401.
#[tokio::test]
async fn a_wrong_secret_of_keycloak_is_advised_upon_as_one() {
    let body = r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#;
    let client = "check client id and secret first";
    let registration = "check whether the client's registration allows this grant";
    for (status, advice) in [(401, client), (400, registration)] {
        let live = tower_bearer::LiveToken::spawn(tower_bearer::oauth2::ClientCredentials::new(endpoint(answer(
            status,
            &[],
            body,
        ))));
        let error = live.ready().await.unwrap_err();
        assert_eq!(error.kind(), tower_bearer::ErrorKind::Rejected);
        let text = error.to_string();
        assert!(text.contains("unauthorized_client (it says: Invalid client or Invalid client credentials)"), "{text}");
        assert!(text.contains(&format!("; {advice}")), "{text}");

        let login =
            AuthorizationCode::new(endpoint(answer(status, &[], body)), "https://id.test/", "https://app.test/")
                .unwrap();
        let pending = login.start();
        let callback = format!("code=c&state={}", pending.state());
        let text = login.finish(pending, &callback).await.unwrap_err().to_string();
        assert!(text.contains(&format!("; {advice}")), "{text}");
    }
}
