//! All that this crate logs, at every level, all that it measures, and every error it hands out, in runs with marked secrets
//! against the loopback server: every kind of fault, refreshes, outages, 401s, replays. One test, because a log is the whole
//! process's.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

#[path = "support/leaks.rs"]
mod leaks;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{Full, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use leaks::{
    ACCESS, CLIENT, FILE, Log, OWN_HEADER, PARAM, QUERY, REFRESH, SECRET, SHAPES, URL_PART, assert_clean, said,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, FetchError, FetchRequest, IntoTokenSource, LiveToken, Origin, TokenFile, TokenSource,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::{AuthorizationServer, Fault},
};

/// Named, so that it is measured too.
fn live(source: impl IntoTokenSource) -> LiveToken {
    LiveToken::builder(source).name("a name").spawn()
}

async fn server(lifetime: Duration) -> AuthorizationServer {
    let server = AuthorizationServer::builder().client(CLIENT.secret, SECRET.secret).lifetime(Some(lifetime));
    server.start().await.unwrap()
}

fn grant(server: &AuthorizationServer) -> ClientCredentials {
    let url = format!("{}?key={}", server.token_url(), QUERY.secret);
    // Shared, because a hundred of them take their time. A connection of an earlier test's runtime is of no use.
    thread_local! {
        static CLIENT_OF_TEST: reqwest::Client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    }
    let client = CLIENT_OF_TEST.with(Clone::clone);
    let endpoint =
        TokenEndpoint::new(&url).unwrap().client_secret_basic(CLIENT.secret, SECRET.secret).reqwest_client(client);
    ClientCredentials::new(endpoint).scope("read").param("assertion", PARAM.secret)
}

/// Everything that can go wrong at the token endpoint, with secrets in all that has a text.
fn faults() -> Vec<(&'static str, Fault)> {
    let echo = |shape: fn(&str) -> String| {
        let sent = [SECRET, PARAM, QUERY, CLIENT].map(|marked| shape(marked.secret)).join(" or ");
        let basic = SHAPES.iter().find(|(name, _)| *name == "Basic").unwrap().1(SECRET.secret);
        format!("no {sent}; Authorization: {basic}")
    };
    let beside_a_token =
        serde_json::json!({"error": ACCESS.secret, "error_description": REFRESH.secret, "id_token": ACCESS.secret});
    let beside_a_token = beside_a_token.to_string();
    let mut faults = vec![
        ("delay", Fault::delay(Duration::from_millis(700))),
        ("hang", Fault::hang()),
        ("drop before", Fault::drop_before_acting()),
        ("drop after", Fault::drop_after_acting()),
        ("status", Fault::status(500)),
        ("redirect", Fault::redirect(&format!("http://127.0.0.1:9/?{}", URL_PART.secret))),
        ("html", Fault::html()),
        ("empty", Fault::empty()),
        ("error in 200", Fault::status(200).body("application/json", beside_a_token)),
        ("truncated", Fault::truncated()),
        ("huge", Fault::huge(1 << 20)),
        ("drip", Fault::slow_drip(Duration::from_secs(20))),
        ("type", Fault::token_type(Some(REFRESH.secret))),
        ("expires_in", Fault::expires_in(&format!("\"{}\"", REFRESH.secret))),
        ("access_token", Fault::access_token(&format!("\"{} \\n\"", FILE.secret))),
        ("access_token that is none", Fault::access_token(&format!("[\"{}\"]", ACCESS.secret))),
        ("without", Fault::without("access_token").header("x-secret", ACCESS.secret)),
        ("member", Fault::member("expires_in", &format!("{{\"{}\":1}}", REFRESH.secret))),
        ("seconds", Fault::status(429).retry_after(Duration::from_secs(7)).header("location", URL_PART.secret)),
        ("date", Fault::status(503).retry_after_date(SystemTime::now() + Duration::from_secs(7))),
    ];
    for (name, shape) in SHAPES {
        faults.push((name, Fault::status(400).error("invalid_request").description(&echo(*shape))));
        faults.push((name, Fault::status(401).error(&echo(*shape))));
        faults.push((name, Fault::error_in_200(&echo(*shape)).description(&echo(*shape))));
        faults.push((name, Fault::status(503).body("text/html", format!("<h1>{}</h1>\u{1b}[1m", echo(*shape)))));
    }
    faults
}

#[tokio::test]
async fn nothing_marked_is_logged_or_said_in_an_error() {
    let log = Log::of_the_process();
    #[cfg(feature = "metrics")]
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
    tokio::join!(
        every_fault_of_the_token_endpoint(),
        rejected_rotated_and_down(),
        requests_that_are_refused_and_replayed(),
        a_file_that_is_no_token(),
    );

    let lines = log.lines();
    for line in &lines {
        assert_clean("the log", line);
    }
    #[cfg(feature = "metrics")]
    {
        let scraped = metrics.render();
        assert_clean("metrics", &scraped);
        assert!(scraped.contains(r#"tower_bearer_fetches_total{token="a name",outcome="try_again"}"#), "{scraped}");
        assert!(scraped.contains("tower_bearer_refusals_total"), "{scraped}");
    }
    // It was a run with something in it.
    for (said, times) in [
        ("fetching a token", 100),
        ("fetched a token", 5),
        ("could not fetch a token", 100),
        ("has expired before another one came", 1),
        ("can't be sent again", 1),
        ("DEBUG", 10),
        ("WARN", 10),
    ] {
        let seen = lines.iter().filter(|line| line.contains(said)).count();
        assert!(seen >= times, "{seen} times {said:?}");
    }
}

async fn every_fault_of_the_token_endpoint() {
    let server = server(Duration::from_secs(3600)).await;
    for (name, fault) in faults() {
        // One that was given up before the server had seen it has left its fault.
        server.clear_faults();
        server.fault(fault.clone());
        let fetched = grant(&server).into_token_source().fetch(FetchRequest::new(Duration::from_millis(500))).await;
        match fetched {
            Err(error) => assert_clean(name, &said(&error)),
            Ok(token) => assert_clean(name, &format!("{token:?}")),
        }
        // Once more through a live token: what waiters, watchers and the log are told.
        if !matches!(name, "hang" | "drip") {
            server.clear_faults();
            server.fault(fault);
            let live = live(grant(&server));
            if let Err(error) = live.refresh().await {
                assert_clean(name, &said(&error));
            }
            assert_clean(name, &format!("{:?} {:?} {:?}", live, live.status(), live.watch()));
            if let Some(error) = live.status().last_error() {
                assert_clean(name, &said(error));
            }
        }
    }
}

async fn rejected_rotated_and_down() {
    let server = server(Duration::from_millis(400)).await;
    let live = live(grant(&server));
    live.ready().await.unwrap();
    let layer = BearerAuthLayer::new(live.clone(), Origin::parse(&server.origin()).unwrap())
        .max_wait(Duration::from_millis(50));
    let mut watch = live.watch();
    while watch.changed().await.expect("it is there").generation() < 4 {}
    server.fault_always(Fault::status(503).body("text/plain", SECRET.secret));
    while live.authorization().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = layer.layer(reqwest::Client::new()).oneshot(own_request(&server, "x")).await.unwrap_err();
    assert_clean("a request without a token", &said(&error));
    assert!(error.as_token().is_some(), "{error}");

    server.clear_faults();
    server.set_secret(CLIENT.secret, "another");
    while !live.status().last_error().is_some_and(|error| error.to_string().contains("invalid_client")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_clean("rejected", &said(&live.ready().await.unwrap_err()));
    live.shutdown().await;
    assert_clean("stopped", &said(&live.ready().await.unwrap_err()));
}

/// A request of somebody with secrets of their own.
fn own_request(server: &AuthorizationServer, path: &str) -> reqwest::Request {
    let url = format!("{}?{}", server.api_url(path), URL_PART.secret);
    let mut request = reqwest::Request::new(reqwest::Method::POST, url.parse().unwrap());
    request.headers_mut().insert(AUTHORIZATION, OWN_HEADER.secret.parse().unwrap());
    *request.body_mut() = Some(PARAM.secret.into());
    request
}

async fn requests_that_are_refused_and_replayed() {
    let server = server(Duration::from_secs(60)).await;
    server.fault(Fault::access_token(&format!("\"{}\"", ACCESS.secret)));
    let live = live(grant(&server));
    live.ready().await.unwrap();
    assert_eq!(live.authorization().unwrap(), format!("Bearer {}", ACCESS.secret));
    let layer = BearerAuthLayer::new(live.clone(), Origin::parse(&server.origin()).unwrap());

    // Revoked, and sent again with the next token.
    server.revoke_all();
    let service = layer.layer(reqwest::Client::new());
    for (path, status) in [("echo", 200), ("unauthorized", 401), ("scope-401", 401), ("forbidden", 403), ("x", 200)] {
        let response = service.clone().oneshot(own_request(&server, path)).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_clean(path, &format!("{live:?} {:?} {service:?}", live.status()));
    }

    // A body that can't be sent again: the one warning that the request path has.
    let service = layer.layer(Client::builder(TokioExecutor::new()).build_http());
    server.revoke_all();
    let frames =
        futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(FILE.secret)))]);
    let request = Request::post(format!("{}?{}", server.api_url("echo"), URL_PART.secret))
        .header(AUTHORIZATION, OWN_HEADER.secret)
        .header(CONTENT_TYPE, URL_PART.secret)
        .body(StreamBody::new(Box::pin(frames)))
        .unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 401);

    // Nobody there.
    let origin = server.origin();
    server.shutdown().await;
    let request = Request::post(format!("{origin}/{0}?{0}", URL_PART.secret)).body(Full::<Bytes>::default()).unwrap();
    let service = layer.layer(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    let error = service.oneshot(request).await.unwrap_err();
    assert_clean("nobody there", &said(&error));
    let error: Result<(), _> = live.refresh().await;
    assert_clean("nobody there", &said(&error.unwrap_err()));
}

async fn a_file_that_is_no_token() {
    let path = std::env::temp_dir().join(format!("tower-bearer-logs-{}", std::process::id()));
    std::fs::write(&path, FILE.secret).unwrap();
    let live = live(TokenFile::new(&path));
    let error = live.refresh().await.unwrap_err();
    assert_clean("a file", &said(&error));
    std::fs::remove_file(path).unwrap();
}

/// A source of the user's that panics with a secret: its message stays with the panic.
#[tokio::test]
async fn a_source_that_panics_is_quiet() {
    let live = live(tower_bearer::source_fn(|_| async {
        if true {
            std::panic::panic_any(SECRET.secret);
        }
        Err(FetchError::try_again("never"))
    }));
    assert_clean("a panic", &said(&live.refresh().await.unwrap_err()));
    for line in Log::of_the_process().lines() {
        assert_clean("the log", &line);
    }
}
