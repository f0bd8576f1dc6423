//! Bad input: settings that make no sense, answers that are none, servers that mean ill. Each is a clear error or is put up
//! with; never a panic, a wait without end, or memory without bound. What servers send on the wire is in `bad_servers.rs`.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

use std::{
    convert::Infallible,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Empty, Full, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, ErrorKind, FetchError, FetchErrorKind, FetchRequest, IntoTokenSource, LiveToken,
    Origin, State, TokenFile, TokenSource,
    clock::Clock,
    oauth2::{ClientCredentials, TokenEndpoint},
    source_fn,
    testing::{AuthorizationServer, Fault},
};

const MAX: Duration = Duration::MAX;
const GOOD: &str = r#"{"access_token":"good","expires_in":60}"#;

async fn fetch(source: impl IntoTokenSource) -> Result<AccessToken, FetchError> {
    source.into_token_source().fetch(FetchRequest::new(Duration::from_secs(5))).await
}

fn endpoint() -> TokenEndpoint {
    TokenEndpoint::new("https://id.test/token").unwrap().client_secret_basic("id", "secret")
}

/// A token endpoint that answers this.
fn answering(answer: Response<impl Into<Bytes>>) -> TokenEndpoint {
    let answer = answer.map(|body| Full::new(body.into()));
    endpoint().http_service(service_fn(move |_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(answer.clone()))
    }))
}

async fn answer(status: u16, body: impl Into<Bytes>) -> Result<AccessToken, FetchError> {
    let answer = Response::builder().status(status).body(body.into()).unwrap();
    fetch(ClientCredentials::new(answering(answer))).await
}

/// Far more than it takes on a busy machine, far less than what takes the square of a size.
fn in_time(what: &str, started: Instant) {
    assert!(started.elapsed() < Duration::from_secs(60), "{what} took {:?}", started.elapsed());
}

#[test]
fn what_is_no_token_and_no_url() {
    for token in ["", " ", "a b", "a\n", "a\r\nX-Evil: 1", "a\u{0}", "\u{1b}[1m", "ü", "\u{feff}a", "a\u{7f}", "\t"] {
        AccessToken::new(token).expect_err(token);
    }
    assert_eq!(AccessToken::new("a".repeat(1 << 20)).unwrap().authorization().len(), (1 << 20) + 7);
    let long = format!("https://{}.test", "a".repeat(70_000));
    for url in [
        "",
        " ",
        "x",
        "//h",
        "https",
        "https:",
        "https://",
        "ws://h",
        "file:///etc",
        "data:,x",
        "https://h:x",
        "https://[::1",
        "https://a b",
        "https://a\r\nb",
        "https://u@h",
        "https://u:p@h",
        "mailto:a@b",
        "javascript:1",
        "http://10.0.0.1",
        &long,
    ] {
        Origin::parse(url).expect_err(url);
        // A URL is read as browsers read it, an origin to the letter.
        if !matches!(url, "https://a\r\nb") && url != long {
            TokenEndpoint::new(url).expect_err(url);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lifetimes_and_waits_beyond_all_reason() {
    let token = || AccessToken::new("t").unwrap();
    let ns = Duration::from_nanos(1);
    for (name, token) in [
        ("lifetime max", token().expires_in(MAX)),
        ("lifetime zero", token().expires_in(Duration::ZERO)),
        ("lifetime u64::MAX s", token().expires_in(Duration::from_secs(u64::MAX))),
        ("age zero", token().expires_in(MAX).age(Duration::ZERO)),
        ("age of the endless", token().expires_in(MAX).age(MAX)),
        ("age of the unknown", token().age(MAX)),
        ("recheck never", token().recheck_after(MAX)),
        ("recheck always", token().recheck_after(Duration::ZERO)),
        ("recheck a ns", token().recheck_after(ns).expires_in(MAX)),
    ] {
        for assumed in [None, Some(Duration::ZERO), Some(Duration::from_secs(1)), Some(MAX)] {
            let mut builder = LiveToken::builder(token.clone()).seed(1);
            if let Some(assumed) = assumed {
                builder = builder.assume_lifetime(assumed);
            }
            let live = builder.spawn();
            // Dead on arrival: what is assumed of a token that is older than that.
            if !(name == "age of the unknown" && assumed == Some(Duration::from_secs(1))) {
                live.ready().await.unwrap_or_else(|error| panic!("{name}, {assumed:?}: {error}"));
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_ne!(live.status().state(), State::Stopped, "{name}");
            let _ = live.refresh().await;
        }
    }
    for (name, token) in [
        ("over when it came", token().expires_in(Duration::from_secs(5)).age(MAX)),
        ("over at once", token().expires_in(ns).age(ns)),
    ] {
        let live = LiveToken::spawn(token);
        live.refresh().await.expect_err(name);
        assert!(!live.status().is_usable());
    }
    let api = service_fn(|_: Request<Empty<Bytes>>| std::future::ready(Ok::<_, Infallible>(Response::new(()))));
    for (wait, kind) in [(Duration::ZERO, ErrorKind::Timeout), (MAX, ErrorKind::Unavailable)] {
        let live = LiveToken::spawn(source_fn(move |_| async move {
            if wait.is_zero() { std::future::pending().await } else { Err(FetchError::rejected("no").retry_after(MAX)) }
        }));
        let layer = BearerAuthLayer::new(live, Origin::parse("https://api.test").unwrap()).max_wait(wait);
        let request = Request::get("/").body(Empty::new()).unwrap();
        let error = layer.layer(api).oneshot(request).await.unwrap_err();
        assert!(error.kind() == kind || error.kind() == ErrorKind::Rejected, "{error}");
    }
    for limit in [Duration::ZERO, ns, MAX] {
        let mut source = ClientCredentials::new(answering(Response::new(GOOD))).into_token_source();
        let fetched = source.fetch(FetchRequest::new(limit)).await;
        assert!(fetched.is_ok() || limit < MAX, "{fetched:?}");
    }
}

/// A wall clock that somebody has set.
struct Set(SystemTime);

impl Clock for Set {
    fn wall(&self) -> SystemTime {
        self.0
    }

    fn suspended(&self) -> Duration {
        MAX
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_any_kind_and_clocks_far_off() {
    let early = SystemTime::UNIX_EPOCH;
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    for wall in [early, late, early - Duration::from_secs(1 << 40), early + Duration::from_secs(i64::MAX as u64)] {
        for (value, most) in [
            ("0", 61),
            ("7", 68),
            ("3600", 3601),
            ("18446744073709551615", 3601),
            ("18446744073709551616", 61),
            ("99999999999999999999999999999999", 61),
            ("-1", 61),
            ("1.5", 61),
            ("", 61),
            ("soon", 61),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 3601),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3601),
            ("Mon, 00 Foo 0000 99:99:99 GMT", 61),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 3601),
            ("Sun Nov  6 08:49:37 1994", 3601),
            ("\u{e9}\u{ff}", 61),
        ] {
            let mut response = Response::new("down");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let value_sent = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            response.headers_mut().insert("retry-after", value_sent);
            let grant = ClientCredentials::new(answering(response).clock(Set(wall)));
            let live = LiveToken::builder(grant).seed(1).clock(Set(wall)).spawn();
            live.refresh().await.unwrap_err();
            let next = live.status().next_attempt_in().unwrap();
            assert!(next <= Duration::from_secs(most) && !next.is_zero(), "{value:?}: {next:?}");
        }
        let live = LiveToken::builder(ClientCredentials::new(answering(Response::new(GOOD)).clock(Set(wall))));
        live.clock(Set(wall)).spawn().ready().await.unwrap();
    }
}

#[tokio::test]
async fn json_that_is_deep_wide_or_strange() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let started = Instant::now();
    for n in [127, 128, 20_000] {
        for status in [200, 400, 500] {
            for body in [
                deep(n),
                "[".repeat(2 * n),
                format!("{}1{}", r#"{"a":"#.repeat(n / 3), "}".repeat(n / 3)),
                format!(r#"{{"access_token":{}}}"#, deep(n)),
                format!(r#"{{"access_token":"t","scope":{}}}"#, deep(n)),
                format!(r#"{{"access_token":"t","expires_in":{}}}"#, deep(n)),
                format!(r#"{{"error":{}}}"#, deep(n)),
                format!(r#"{{"errors":{}}}"#, deep(n)),
                format!(r#"{{"message":{}}}"#, deep(n)),
            ] {
                if let Ok(token) = answer(status, body).await {
                    assert_eq!((token.expose_secret(), status), ("t", 200));
                }
            }
            // Passed over, not built: depth costs nothing.
            let passed = answer(200, format!(r#"{{"x":{},"access_token":"t"}}"#, deep(n))).await;
            assert_eq!(passed.unwrap().expose_secret(), "t");
        }
    }
    let wide: String = (0..6000).map(|n| format!(r#""k{n}":0,"#)).collect();
    assert!(answer(200, format!(r#"{{{wide}"access_token":"t"}}"#)).await.is_ok());
    in_time("odd JSON", started);
}

#[tokio::test]
async fn answers_that_are_almost_right() {
    let bytes = |parts: &[&[u8]]| parts.concat();
    for (name, body, good) in [
        ("twice", GOOD.replace('}', r#","access_token":"good","token_type":"x","token_type":"Bearer"}"#).into(), true),
        ("twice, and then none", GOOD.replace('}', r#","access_token":null}"#).into(), false),
        ("escaped name", GOOD.replace("access_token", "\\u0061ccess_token").into(), true),
        ("other case", GOOD.replace("access_token", "Access_Token").into(), false),
        ("an error that is none", GOOD.replace('}', r#","error":null,"errors":[],"message":"hi"}"#).into(), true),
        ("invalid UTF-8 inside", bytes(&[br#"{"x":"#, b"\"\xff\xfe\"", br#","access_token":"good"}"#]), true),
        ("invalid UTF-8 in the token", bytes(&[br#"{"access_token":""#, b"\xc3\x28", br#""}"#]), false),
        ("half a surrogate", br#"{"access_token":"\ud800"}"#.to_vec(), false),
        ("half a surrogate elsewhere", br#"{"x":"\ud800","access_token":"good"}"#.to_vec(), true),
        ("a byte order mark", bytes(&[b"\xef\xbb\xbf", GOOD.as_bytes()]), true),
        ("UTF-16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect(), false),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabVJLNN-.\x8e/\xc9".to_vec(), false),
        ("white space around", format!("\r\n\t {GOOD} \n").into(), true),
        ("something behind it", format!("{GOOD}x").into(), false),
        ("two of them", format!("{GOOD}{GOOD}").into(), false),
        ("a prefix against hijacking", format!(")]}}',\n{GOOD}").into(), false),
        ("one in a list", format!("[{GOOD}]").into(), false),
        ("a list of its members", br#"["good",null,"Bearer",60,null,null,null,null,null]"#.to_vec(), false),
        ("1e400", GOOD.replace("60", "1e400").into(), true),
        ("-0", GOOD.replace("60", "-0.0").into(), true),
        ("1e-300", GOOD.replace("60", "1e-300").into(), true),
        ("1e308", GOOD.replace("60", "1e308").into(), true),
        ("text 1e400", GOOD.replace("60", "\"1e400\"").into(), true),
        ("text inf", GOOD.replace("60", "\"inf\"").into(), true),
        ("text -inf", GOOD.replace("60", "\"-inf\"").into(), true),
        ("u64::MAX", GOOD.replace("60", "18446744073709551615").into(), true),
        ("beyond u128", GOOD.replace("60", &"9".repeat(60)).into(), true),
        ("ten thousand digits", GOOD.replace("60", &"9".repeat(10_000)).into(), true),
    ] {
        let body: Vec<u8> = body;
        match answer(200, body.clone()).await {
            Ok(token) => assert!(good && token.expose_secret() == "good", "{name}"),
            Err(error) => {
                assert!(!good && error.kind() == FetchErrorKind::TryAgain, "{name}: {error}");
                assert!(!error.to_string().contains("good"), "{name}: {error}");
            }
        }
        for status in [100, 101, 199, 300, 304, 400, 418, 600, 999] {
            let error = answer(status, body.clone()).await.expect_err(name);
            assert!(error.to_string().contains(&status.to_string()), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }
}

#[tokio::test]
async fn at_most_a_mebibyte_in_whatever_pieces() {
    let padded = |to: usize| format!("{GOOD}{}", " ".repeat(to - GOOD.len()));
    for (size, fits) in [(65_536, true), ((1 << 20) - 1, true), (1 << 20, true), ((1 << 20) + 1, false)] {
        for piece in [1, 1000, 65_536, 1 << 21] {
            let body = Bytes::from(padded(size));
            let service = service_fn(move |_: Request<Full<Bytes>>| {
                let frames: Vec<_> = body
                    .chunks(piece)
                    .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
                    .collect();
                let body = StreamBody::new(futures_util::stream::iter(frames));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            if piece == 1 && size > 65_536 {
                continue;
            }
            let fetched = fetch(ClientCredentials::new(endpoint().http_service(service))).await;
            assert_eq!(fetched.is_ok(), fits, "{size} bytes, {piece} at a time");
            assert!(fetched.is_ok() || fetched.unwrap_err().to_string().contains("1024 KiB"));
        }
        // The same on the wire.
        let server = AuthorizationServer::builder().client("id", "secret").start().await.unwrap();
        server.fault(Fault::huge(size));
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("id", "secret");
        assert_eq!(fetch(ClientCredentials::new(endpoint)).await.is_ok(), fits, "{size}");
    }
}

/// Bodies that are always ready and never end: a timeout must be able to come in between.
#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let frames: [fn() -> Frame<Bytes>; 2] = [|| Frame::data(Bytes::new()), || Frame::trailers(http::HeaderMap::new())];
    for frame in frames {
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let body = StreamBody::new(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(frame())));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let started = Instant::now();
        let mut source = ClientCredentials::new(endpoint().http_service(service)).into_token_source();
        let error = source.fetch(FetchRequest::new(Duration::from_millis(100))).await.unwrap_err();
        assert!(error.to_string().contains("100ms"), "{error}");
        in_time("a body without end", started);
    }
}

#[tokio::test]
async fn settings_cannot_inject_anything() {
    let evil = "x\r\nX-Evil: 1\r\n\r\nGET / HTTP/1.1&grant_type=password&scope=admin#\u{0}\u{1b}ü%0d%0a";
    for (id, secret) in [(evil, "s"), ("id", evil), ("id", "s")] {
        let server = AuthorizationServer::builder().client(id, secret).start().await.unwrap();
        let at = || TokenEndpoint::new(&server.token_url()).unwrap();
        for endpoint in [at().client_secret_basic(id, secret), at().client_secret_post(id, secret)] {
            let grant = ClientCredentials::new(endpoint)
                .scope("a\r\nX-Evil:1\n&scope=b")
                .param("p", evil)
                .param(evil, "v")
                .param("empty", "");
            fetch(grant).await.unwrap();
            let sent = server.recorded().pop().unwrap();
            assert_eq!(sent.field("p"), Some(evil));
            assert_eq!(sent.field(evil), Some("v"));
            assert_eq!(sent.form().iter().filter(|(name, _)| name == "grant_type").count(), 1);
            assert!(sent.headers().keys().all(|name| name != "x-evil"));
            assert_eq!(sent.field("scope"), Some("a X-Evil:1 &scope=b"));
            // RFC 6749 §3.2: a parameter without a value counts as left out, so it is.
            assert_eq!(sent.field("empty"), None);
        }
    }
}

/// Text made to cost the search for what was sent as much as can be, with secrets that are alike: it took minutes when each place was tried.
#[tokio::test]
async fn excerpts_of_the_worst_text_come_in_time() {
    let secret = format!("{}b", "a".repeat(40));
    let mut slowest = (Duration::ZERO, "");
    let started = Instant::now();
    for text in [
        "a", "%61", "%2561", "\\", "\\u0061", "&amp;", "&#97;", "ü", "Ã", "\u{fffd}", "?", "YWFh", "+", "aaa%25",
        "\\\"", "&#92;",
    ] {
        let body = text.repeat(65_000 / text.len());
        let answer = Response::builder().status(400).body(body).unwrap();
        let endpoint = answering(answer).client_secret_basic("ü%\\&", secret.clone());
        let source = ClientCredentials::new(endpoint)
            .param("a", "üüüüüüüüüüüüüüüü")
            .param("b", "%25%25%25%25")
            .param("c", "\\".repeat(250))
            .param("d", text.repeat(4000 / text.len()));
        let mut source = source.into_token_source();
        // The best of a few, because other processes run as well.
        let best = {
            let mut best = Duration::MAX;
            for _ in 0..5 {
                let started = Instant::now();
                source.fetch(FetchRequest::new(Duration::from_secs(10))).await.unwrap_err();
                best = best.min(started.elapsed());
            }
            best
        };
        slowest = slowest.max((best, text));
    }
    eprintln!("the slowest: {slowest:?}");
    let (_, text) = slowest;
    in_time(text, started);
}

/// A file that is none: opening a pipe nobody writes to waits for ever, each time in another thread.
#[cfg(unix)]
#[tokio::test]
async fn files_that_are_no_files() {
    let folder = std::env::temp_dir();
    let pipe = folder.join(format!("tower-bearer-pipe-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), &folder, "/dev/zero".as_ref(), "/dev/null".as_ref(), "a\0b".as_ref(), "".as_ref()] {
        let fetched = tokio::time::timeout(Duration::from_secs(30), fetch(TokenFile::new(path))).await;
        let _ = fetched.unwrap_or_else(|_| std::process::abort()).expect_err("no token");
    }
    std::fs::remove_file(pipe).unwrap();
}
