//! Token responses whose members aren't where RFC 6749 §5.1 puts them: wrapped, and called otherwise.
#![cfg(feature = "oauth2")]

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer::{
    FetchError, FetchErrorKind, LiveToken,
    oauth2::{AnswerMember, EndpointError, Form, ProvedBy, RefreshToken, Stored, TokenEndpoint, TokenSet},
};

const LIMIT: Duration = Duration::from_secs(5);

/// In any answer that is an error.
const TOKEN: &str = "wz5q-kx8j";

fn at(status: u16, body: impl Into<Bytes>) -> TokenEndpoint {
    let answer = Response::builder().status(status).body(Full::new(body.into())).unwrap();
    let service = service_fn(move |_: Request<Full<Bytes>>| std::future::ready(Ok::<_, Infallible>(answer.clone())));
    TokenEndpoint::new("https://id.test/token")
        .unwrap()
        .client_secret_post("client-7", "secret-s3cr")
        .http_service(service)
}

async fn exchange(endpoint: TokenEndpoint) -> Result<TokenSet, FetchError> {
    endpoint.exchange(Form::grant("authorization_code"), LIMIT).await
}

/// The endpoint's own text.
async fn refusal(endpoint: TokenEndpoint) -> String {
    let error = exchange(endpoint).await.unwrap_err();
    let cause: &EndpointError = error.cause().downcast_ref().unwrap();
    assert!(!format!("{error:?} {error}").contains("wz5q"), "{error}");
    cause.to_string()
}

#[tokio::test]
async fn a_token_in_a_wrapper_is_as_good_as_any() {
    // Feishu, Withings, TikTok, and a path.
    for (path, body) in [
        (
            "data",
            r#"{"code":0,"msg":"success","data":{"access_token":"a","refresh_token":"r","expires_in":60,"scope":"x y"}}"#,
        ),
        (
            "body",
            r#"{"status":0,"body":{"userid":"7","access_token":"a","refresh_token":"r","expires_in":60,"scope":"x y"}}"#,
        ),
        (
            "data",
            r#"{"data":{"access_token":"a","refresh_token":"r","expires_in":"60","scope":"x y","error_code":0,"description":""},"message":"success"}"#,
        ),
        (
            "response.data",
            r#"{"response":{"code":200,"data":{"scope":"x y","access_token":"a","refresh_token":"r","expires_in":60}}}"#,
        ),
        // A byte order mark, a line end within a string, and members that come twice.
        (
            "data",
            "\u{feff}{\"data\":{},\"msg\":\"a\nb\",\"data\":{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_in\":60,\"scope\":\"x y\"}}",
        ),
    ] {
        let set = exchange(at(200, body).answer_in(path)).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!((set.access_token(), set.refresh_token()), (Some("a"), Some("r")), "{body}");
        assert_eq!((set.lifetime(), set.scope()), (Some(Duration::from_secs(60)), Some("x y")), "{body}");
    }
}

#[tokio::test]
async fn members_may_have_other_names() {
    // DingTalk's, and eSign's with a moment.
    let body = r#"{"accessToken":"a","refreshToken":"r","expireIn":7200,"access_token":"other"}"#;
    let endpoint = at(200, body)
        .answer_member(AnswerMember::AccessToken, "wrong")
        .answer_member(AnswerMember::AccessToken, "accessToken")
        .answer_member(AnswerMember::RefreshToken, "refreshToken")
        .answer_member(AnswerMember::ExpiresIn, "expireIn");
    let set = exchange(endpoint).await.unwrap();
    assert_eq!((set.access_token(), set.refresh_token()), (Some("a"), Some("r")));
    assert_eq!(set.lifetime(), Some(Duration::from_secs(7200)));

    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(7000);
    let body = format!(r#"{{"code":0,"message":"成功","data":{{"token":"a","expiresIn":"{}"}}}}"#, end.as_millis());
    let endpoint = at(200, body)
        .answer_in("data")
        .answer_member(AnswerMember::AccessToken, "token")
        .answer_member(AnswerMember::ExpiresAt, "expiresIn");
    let lifetime = exchange(endpoint).await.unwrap().lifetime().unwrap().as_secs();
    assert!((6000..=7000).contains(&lifetime), "{lifetime}");

    // Of a form as well; and the standard name isn't read any more.
    let form = Response::builder()
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from("access_token=other&tenant_token=a&expires=5")))
        .unwrap();
    let service = service_fn(move |_: Request<Full<Bytes>>| std::future::ready(Ok::<_, Infallible>(form.clone())));
    let endpoint = at(200, "").http_service(service).answer_member(AnswerMember::AccessToken, "tenant_token");
    assert_eq!(exchange(endpoint).await.unwrap().access_token(), Some("a"));
    let text =
        refusal(at(200, format!(r#"{{"access_token":"{TOKEN}"}}"#)).answer_member(AnswerMember::AccessToken, "token"))
            .await;
    assert!(text.contains("there is no `token` in it"), "{text}");
}

/// Another's token in the wrapper (Slack has the bot's there, and the user's within) is never taken.
#[tokio::test]
async fn a_token_in_another_place_is_not_taken() {
    let good = r#"{"ok":true,"access_token":"bot","token_type":"bot","authed_user":{"id":"U1","access_token":"user","token_type":"user"}}"#;
    assert_eq!(exchange(at(200, good).answer_in("authed_user")).await.unwrap().access_token(), Some("user"));
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, what) in [
        (format!(r#"{{"access_token":"{TOKEN}"}}"#), "there is no `data` in it"),
        (format!(r#"{{"access_token":"{TOKEN}","data":{{}}}}"#), "there is no `access_token` in its `data`"),
        (
            format!(r#"{{"access_token":"{TOKEN}","data":{{"access_token":null}}}}"#),
            "there is no `access_token` in its `data`",
        ),
        (format!(r#"{{"data":{{"data":{{"access_token":"{TOKEN}"}}}}}}"#), "there is no `access_token` in its `data`"),
        (format!(r#"{{"data":[{{"access_token":"{TOKEN}"}}]}}"#), "its `data` is an array, not an object"),
        (format!(r#"{{"data":"{{\"access_token\":\"{TOKEN}\"}}"}}"#), "its `data` is a string, not an object"),
        (format!(r#"{{"access_token":"{TOKEN}","data":null}}"#), "its `data` is null, not an object"),
        (r#"{"data":7}"#.into(), "its `data` is a number, not an object"),
        (r#"{"data":-7.5}"#.into(), "its `data` is a number, not an object"),
        (r#"{"data":true}"#.into(), "its `data` is a boolean, not an object"),
        (format!(r#"{{"data":{{"access_token":["{TOKEN}"]}}}}"#), "its `access_token` is an array, not a string"),
        (format!(r#"{{"data":{{"access_token":"{TOKEN} x"}}}}"#), "its `access_token` can't be used"),
        (format!(r#"{{"data":{{"access_token":"{TOKEN}","token_type":"mac"}}}}"#), "its `token_type` is \"mac\""),
        (format!(r#"[{{"data":{{"access_token":"{TOKEN}"}}}}]"#), "it is an array, not an object"),
        (format!(r#"{{"access_token":"{TOKEN}","data":{deep}}}"#), "there is no `access_token` in its `data`"),
        (r#"{"code":0,"msg":"success","data":{}}"#.into(), "there is no `access_token` in its `data`"),
        (String::new(), "it is empty"),
        (format!(r#"{{"data":{{"access_token":"{TOKEN}"#), "it is no JSON object as far as"),
        (format!("access_token={TOKEN}&data=x"), "it is no JSON object as far as"),
    ] {
        let text = refusal(at(200, body.clone()).answer_in("data")).await;
        assert!(text.contains(&format!("200 OK, but {what}")), "{}: {text}", &body[..body.len().min(100)]);
    }
}

#[tokio::test]
async fn an_error_in_the_wrapper_or_within_is_one() {
    for (body, shown) in [
        (
            r#"{"code":20003,"msg":"invalid authorization code","data":null}"#,
            ", 20003 (it says: invalid authorization code)",
        ),
        (r#"{"code":20003,"msg":"invalid authorization code"}"#, ", 20003 (it says: invalid authorization code)"),
        (
            r#"{"code":20003,"msg":"invalid authorization code","data":{}}"#,
            ", 20003 (it says: invalid authorization code)",
        ),
        // TikTok, Withings.
        (
            r#"{"data":{"captcha":"","description":"Invalid code","error_code":10008},"message":"error"}"#,
            ", 10008 (it says: error Invalid code)",
        ),
        (r#"{"status":503,"data":{},"error":"Invalid Params"}"#, ", Invalid Params;"),
        (r#"{"error":"invalid_grant","error_description":"no secret-s3cr"}"#, ", invalid_grant (it says: no [masked])"),
    ] {
        for status in [200, 400] {
            let text = refusal(at(status, body).answer_in("data")).await;
            assert!(text.contains(shown), "{body}: {text}");
        }
    }
    // Beside a token nothing is shown, and a code of the RFCs counts although there is one.
    for body in [
        format!(r#"{{"error":"invalid_grant","error_description":"{TOKEN}","data":{{"access_token":"{TOKEN}"}}}}"#),
        format!(r#"{{"access_token":"{TOKEN}","error":"invalid_grant","msg":"{TOKEN}","data":null}}"#),
        format!(r#"{{"data":{{"error":"invalid_grant","error_description":"{TOKEN}","token":"{TOKEN}"}}}}"#),
    ] {
        for status in [200, 400] {
            let text = refusal(at(status, body.clone()).answer_in("data")).await;
            assert!(text.contains(", invalid_grant; ") && !text.contains("it says"), "{body}: {text}");
        }
    }
    // Any other doesn't.
    let warned = r#"{"code":1,"msg":"deprecated","data":{"access_token":"a"}}"#;
    assert_eq!(exchange(at(200, warned).answer_in("data")).await.unwrap().access_token(), Some("a"));
}

/// A form has nothing to wrap its members in.
#[tokio::test]
async fn a_form_is_read_as_it_is() {
    for (form, kind) in [
        ("access_token=a&refresh_token=r&expires_in=60", true),
        ("access_token=a&refresh_token=r&expires_in=60", false),
        ("x=1&access_token=b&own=a&refreshToken=r&expires_in=60", true),
        ("x=1&own=a&refreshToken=r&expires_in=60", false),
    ] {
        let mut answer = Response::builder();
        if kind {
            answer = answer.header("content-type", "application/x-www-form-urlencoded");
        }
        let answer = answer.body(Full::new(Bytes::from(form))).unwrap();
        let service =
            service_fn(move |_: Request<Full<Bytes>>| std::future::ready(Ok::<_, Infallible>(answer.clone())));
        let mut endpoint = at(200, "").http_service(service).answer_in("data");
        if form.contains("own") {
            endpoint = endpoint
                .answer_member(AnswerMember::AccessToken, "own")
                .answer_member(AnswerMember::RefreshToken, "refreshToken");
        }
        let set = exchange(endpoint).await.unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!((set.access_token(), set.refresh_token()), (Some("a"), Some("r")), "{form}");
    }
}

/// An error with the members of a success, and nothing in them, is one.
#[tokio::test]
async fn an_empty_access_token_is_none() {
    for nothing in [r#""""#, r#"" ""#, "null", "false", "0", "[]", "{}"] {
        let data = format!(r#""access_token":{nothing},"refresh_token":"","expires_in":0"#);
        for (path, body) in [
            ("", format!(r#"{{"code":20003,"msg":"invalid code",{data}}}"#)),
            ("data", format!(r#"{{"code":20003,"msg":"invalid code","data":{{{data}}}}}"#)),
        ] {
            for status in [200, 400] {
                let text = refusal(at(status, body.clone()).answer_in(path)).await;
                assert!(text.contains(", 20003 (it says: invalid code); "), "{status} {body}: {text}");
            }
        }
        let text = refusal(at(200, format!("{{{data}}}"))).await;
        assert!(text.contains("there is no `access_token` in it"), "{nothing}: {text}");
        let body = format!(r#"{{"error":"invalid_client","access_token":{nothing}}}"#);
        let error = exchange(at(400, body.clone())).await.unwrap_err();
        let cause: &EndpointError = error.cause().downcast_ref().unwrap();
        assert!(!cause.may_have_acted(), "{body}");
    }
    let form = Response::builder()
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from("error=bad_verification_code&error_description=No&access_token=")))
        .unwrap();
    let service = service_fn(move |_: Request<Full<Bytes>>| std::future::ready(Ok::<_, Infallible>(form.clone())));
    let text = refusal(at(200, "").http_service(service)).await;
    assert!(text.contains(", bad_verification_code (it says: No); "), "{text}");
}

/// It must not be lost, whatever else is wrong.
#[tokio::test]
async fn a_refresh_token_of_another_name_is_kept_when_the_rest_is_of_no_use() {
    for body in [
        r#"{"data":{"refreshToken":"r"}}"#,
        r#"{"data":{"refreshToken":"r","accessToken":7}}"#,
        r#"{"data":[{"refreshToken":"r"}]}"#,
        r#"{"data":{"refreshToken":"r","accessToken":"cut off"#,
    ] {
        let endpoint = at(200, body)
            .answer_in("data")
            .answer_member(AnswerMember::AccessToken, "accessToken")
            .answer_member(AnswerMember::RefreshToken, "refreshToken");
        let set = exchange(endpoint).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!((set.access_token(), set.refresh_token()), (None, Some("r")), "{body}");
    }
}

#[tokio::test]
async fn who_has_not_said_where_it_is_learns_how_to() {
    for (body, hint) in [
        (
            format!(r#"{{"code":0,"msg":"success","data":{{"access_token":"{TOKEN}"}}}}"#),
            r#"`TokenEndpoint.answer_in("data")` reads one"#,
        ),
        (
            format!(r#"{{"status":0,"body":{{"access_token":"{TOKEN}"}}}}"#),
            r#"`TokenEndpoint.answer_in("body")` reads one"#,
        ),
        (
            format!(r#"{{"accessToken":"{TOKEN}","expireIn":7200}}"#),
            r#"`TokenEndpoint.answer_member(AnswerMember::AccessToken, "accessToken")` reads one"#,
        ),
        (
            format!(r#"{{"code":0,"message":"成功","data":{{"token":"{TOKEN}","expiresIn":"1"}}}}"#),
            r#"`TokenEndpoint.answer_in("data").answer_member(AnswerMember::AccessToken, "token")` reads one"#,
        ),
        (
            format!(r#"{{"code":1,"msg":"success","data":{{"access_token":"{TOKEN}"}}}}"#),
            r#"`TokenEndpoint.answer_in("data")` reads one"#,
        ),
        (
            format!(r#"{{"code":"0000","message":"OK","result":{{"access_token":"{TOKEN}"}}}}"#),
            r#"`TokenEndpoint.answer_in("result")` reads one"#,
        ),
        (
            format!(r#"{{"status":"error","data":{{"access_token":"{TOKEN}"}}}}"#),
            r#"`TokenEndpoint.answer_in("data")` reads one"#,
        ),
        (
            format!("{}{{\"data\":{{\"access_token\":\"{TOKEN}\"}}}}", '\u{feff}'),
            r#"`TokenEndpoint.answer_in("data")` reads one"#,
        ),
    ] {
        let text = refusal(at(200, body.clone())).await;
        assert!(text.contains("200 OK, but there is no `access_token` in it") && text.contains(hint), "{body}: {text}");
    }
}

#[tokio::test]
async fn the_other_endpoints_are_read_as_their_standards_have_it() {
    let endpoint = at(200, r#"{"active":true,"scope":"x","data":{"active":false}}"#).answer_in("data");
    assert!(endpoint.introspect("https://id.test/introspect", "a").await.unwrap().is_active());
    at(200, "").answer_in("data").revoke("https://id.test/revoke", "a").await.unwrap();
    let refused = || at(400, r#"{"error":"invalid_client","error_description":"who?"}"#).answer_in("data");
    for error in [
        refused().introspect("https://id.test/introspect", "a").await.unwrap_err(),
        refused().revoke("https://id.test/revoke", "a").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), FetchErrorKind::Rejected);
        assert!(error.to_string().contains("invalid_client (it says: who?)"), "{error}");
    }
    // Slack's errors come with 200.
    let refused = || at(200, r#"{"ok":false,"error":"invalid_auth"}"#);
    for endpoint in [refused(), refused().answer_in("data")] {
        for error in [
            endpoint.introspect("https://id.test/introspect", "a").await.unwrap_err(),
            endpoint.revoke("https://id.test/revoke", "a").await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("200 OK, invalid_auth; "), "{error}");
        }
    }
    at(200, r#"{"ok":false,"error":"token_revoked"}"#).revoke("https://id.test/revoke", "a").await.unwrap();
    for body in [r#"{"ok":true,"revoked":true}"#, r#"{"message":"done"}"#, "OK", "<html>gone</html>"] {
        at(200, body).revoke("https://id.test/revoke", "a").await.unwrap();
    }
    let marked = at(200, "\u{feff}{\"active\":true,\"error\":\"x\"}");
    assert!(marked.introspect("https://id.test/introspect", "a").await.unwrap().is_active());
    // This one has the form of a token response.
    let endpoint = at(200, r#"{"data":{"access_token":"a","expires_in":60}}"#).answer_in("data");
    let set = endpoint.verify("https://id.test/verify", "a", ProvedBy::Token).await.unwrap();
    assert_eq!(set.lifetime(), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_live_token_is_renewed_from_wrapped_answers() {
    let body = r#"{"code":0,"data":{"access_token":"a1","refresh_token":"r1","expires_in":3600}}"#;
    let grant = RefreshToken::new(at(200, body).answer_in("data"));
    let live = LiveToken::spawn(Stored::new(grant).holding(TokenSet::of_refresh_token("r0")));
    live.ready().await.unwrap();
    assert_eq!(live.authorization().unwrap(), "Bearer a1");
}
