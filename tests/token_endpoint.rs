//! The OAuth2 wing on the wire, against the loopback authorization server: what is sent, and what becomes of each answer.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

use std::time::{Duration, Instant, SystemTime};

use tower_bearer::{
    AccessToken, ErrorKind, FetchError, FetchErrorKind, FetchRequest, IntoTokenSource, LiveToken, TokenSource,
    oauth2::{ClientCredentials, EndpointError, LegacyPassword, RefreshToken, Stored, TokenEndpoint, TokenSet},
    testing::{AuthorizationServer, Fault},
};

/// Only a machine that stands still takes so long.
const LIMIT: Duration = Duration::from_secs(60);

fn grant(server: &AuthorizationServer) -> ClientCredentials {
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
    ClientCredentials::new(endpoint)
}

async fn fetch(source: impl IntoTokenSource) -> Result<AccessToken, FetchError> {
    source.into_token_source().fetch(FetchRequest::new(LIMIT)).await
}

fn endpoint_error(error: &FetchError) -> &EndpointError {
    error.cause().downcast_ref().unwrap_or_else(|| panic!("not the endpoint's: {error}"))
}

#[tokio::test]
async fn sends_what_the_rfc_asks_for() {
    let server = AuthorizationServer::start().await.unwrap();
    let token = fetch(grant(&server).scope("read write").scope("write2").param("audience", "https://api.test/?a=b&c"))
        .await
        .unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["read", "write", "write2"]);

    let sent = server.recorded().pop().unwrap();
    assert_eq!(sent.method(), "POST");
    assert_eq!(sent.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(sent.headers()["accept"], "application/json");
    assert_eq!(sent.headers()["authorization"], "Basic Y2xpZW50OnNlY3JldA==");
    let fields: Vec<_> = sent.form().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [("grant_type", "client_credentials"), ("scope", "read write write2"), ("audience", "https://api.test/?a=b&c")]
    );
}

/// RFC 8707 §2.
#[tokio::test]
async fn a_parameter_may_come_several_times() {
    let server = AuthorizationServer::start().await.unwrap();
    let grant = grant(&server).param("resource", "https://a.test/").param("resource", "https://b.test/");
    fetch(grant).await.unwrap();
    let sent = server.recorded().pop().unwrap();
    let resources: Vec<_> = sent.form().iter().filter(|(name, _)| name == "resource").map(|(_, value)| value).collect();
    assert_eq!(resources, ["https://a.test/", "https://b.test/"]);
}

#[tokio::test]
async fn every_way_to_prove_the_client() {
    let (id, secret) = ("service:a b", "s3cr%t+/=&ü");
    let server = AuthorizationServer::builder().client(id, secret).client("raw", secret).start().await.unwrap();
    let at = || TokenEndpoint::new(&server.token_url()).unwrap();
    for endpoint in [
        at().client_secret_basic(id, secret),
        at().client_secret_basic_raw("raw", secret),
        at().client_secret_post(id, secret),
    ] {
        fetch(ClientCredentials::new(endpoint)).await.unwrap();
    }
    let open = AuthorizationServer::builder().client("public", "").start().await.unwrap();
    let endpoint = TokenEndpoint::new(&open.token_url()).unwrap().public_client("public");
    fetch(ClientCredentials::new(endpoint)).await.unwrap();
    let sent = open.recorded().pop().unwrap();
    assert_eq!(sent.field("client_id"), Some("public"));
    assert!(sent.headers().get("authorization").is_none());
}

#[tokio::test]
async fn what_cannot_work_is_an_error_before_anything_is_sent() {
    let server = AuthorizationServer::start().await.unwrap();
    let at = || TokenEndpoint::new(&server.token_url()).unwrap();
    for (endpoint, hint) in [
        (at(), "client_secret_basic"),
        (at().client_secret_basic("", "secret"), "empty"),
        (at().client_secret_post("", "secret"), "empty"),
        (at().public_client(""), "empty"),
        (at().client_secret_basic_raw("a:b", "secret"), "colon"),
    ] {
        let error = fetch(ClientCredentials::new(endpoint)).await.unwrap_err();
        assert_eq!(error.kind(), FetchErrorKind::Rejected, "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
    assert_eq!(server.token_requests(), 0);

    for url in
        ["", "no url", "ftp://id.test/token", "http://id.test/token", "https://u:p@id.test/", "https://id.test/#f"]
    {
        TokenEndpoint::new(url).expect_err(url);
    }
    assert!(TokenEndpoint::insecure_http("http://id.mesh/token").is_ok());
}

/// One answer of the server, and what must become of it.
type Case = (&'static str, Fault, Result<Option<u64>, (FetchErrorKind, Option<u16>)>);

#[tokio::test]
async fn every_answer_becomes_a_token_or_an_error_that_says_what_to_do() {
    use FetchErrorKind::{Rejected, TryAgain};
    let json = "application/json";
    let raw = |status, body: &'static str| Fault::status(status).body(json, body);
    let cases: Vec<Case> = vec![
        ("expires_in 3600", Fault::expires_in("3600"), Ok(Some(3600))),
        ("expires_in text", Fault::expires_in("\"3600\""), Ok(Some(3600))),
        ("expires_in float", Fault::expires_in("3600.0"), Ok(Some(3600))),
        ("expires_in 0", Fault::expires_in("0"), Ok(None)),
        ("expires_in null", Fault::expires_in("null"), Ok(None)),
        ("expires_in missing", Fault::without("expires_in"), Ok(None)),
        ("expires_in empty", Fault::expires_in("\"\""), Ok(None)),
        ("expires_in 1e20", Fault::expires_in("1e20"), Ok(Some(u64::MAX))),
        ("expires_in -1", Fault::expires_in("-1"), Ok(None)),
        ("expires_in abc", Fault::expires_in("\"abc\""), Ok(None)),
        ("expires_in NaN", Fault::expires_in("\"NaN\""), Ok(None)),
        ("expires_in list", Fault::expires_in("[1]"), Ok(None)),
        ("type Bearer", Fault::token_type(Some("Bearer")), Ok(Some(3600))),
        ("type bearer", Fault::token_type(Some("bearer")), Ok(Some(3600))),
        ("type BEARER", Fault::token_type(Some("BEARER")), Ok(Some(3600))),
        ("type missing", Fault::token_type(None), Ok(Some(3600))),
        ("type bot", Fault::token_type(Some("bot")), Ok(Some(3600))),
        ("type BearerToken", Fault::token_type(Some("BearerToken ")), Ok(Some(3600))),
        ("type mac", Fault::token_type(Some("mac")), Err((TryAgain, Some(200)))),
        ("type DPoP", Fault::token_type(Some("DPoP")), Err((TryAgain, Some(200)))),
        ("other members", Fault::member("last_login", "{\"a\":[1,null]}"), Ok(Some(3600))),
        ("twice, the last counts", Fault::member("expires_in", "60"), Ok(Some(60))),
        ("scope as a list", Fault::member("scope", "[\"a\"]"), Ok(Some(3600))),
        ("status 201", raw(201, "{\"access_token\":\"t\",\"expires_in\":5}"), Ok(Some(5))),
        ("no JSON type", Fault::status(200).body("text/plain", "{\"access_token\":\"t\"}"), Ok(None)),
        ("token empty", Fault::access_token("\"\""), Err((TryAgain, Some(200)))),
        ("token number", Fault::access_token("5"), Err((TryAgain, Some(200)))),
        ("token null", Fault::access_token("null"), Err((TryAgain, Some(200)))),
        ("token newline", Fault::access_token("\"a\\nb\""), Err((TryAgain, Some(200)))),
        ("token control", Fault::access_token("\"a\\u0000b\""), Err((TryAgain, Some(200)))),
        ("token missing", Fault::without("access_token"), Err((TryAgain, Some(200)))),
        ("empty", Fault::empty(), Err((TryAgain, Some(200)))),
        ("html", Fault::html(), Err((TryAgain, Some(200)))),
        ("no object", raw(200, "[1]"), Err((TryAgain, Some(200)))),
        ("cut off", raw(200, "{\"access_token\":\"marked"), Err((TryAgain, Some(200)))),
        ("error in 200", Fault::error_in_200("invalid_client"), Err((Rejected, Some(200)))),
        ("errors in 200", raw(200, "{\"errors\":[{\"code\":1,\"message\":\"no\"}]}"), Err((TryAgain, Some(200)))),
        ("truncated", Fault::truncated(), Err((TryAgain, Some(200)))),
        ("huge", Fault::huge(10 << 20), Err((TryAgain, Some(200)))),
        ("dropped before", Fault::drop_before_acting(), Err((TryAgain, None))),
        ("dropped after", Fault::drop_after_acting(), Err((TryAgain, None))),
        ("redirect", Fault::redirect("http://127.0.0.1:9/elsewhere"), Err((TryAgain, Some(307)))),
        // Nobody knows whose word that is: it is final when it was seen again.
        ("400 empty", Fault::status(400), Err((TryAgain, Some(400)))),
        ("400 text", Fault::status(400).body("text/plain", "Invalid credentials."), Err((TryAgain, Some(400)))),
        ("400 code", Fault::status(400).error("invalid_scope"), Err((Rejected, Some(400)))),
        ("401 code", Fault::status(401).error("invalid_client"), Err((Rejected, Some(401)))),
        ("403 empty", Fault::status(403), Err((TryAgain, Some(403)))),
        ("404", Fault::status(404), Err((TryAgain, Some(404)))),
        ("429", Fault::status(429).retry_after(Duration::from_secs(7)), Err((TryAgain, Some(429)))),
        ("500", Fault::status(500), Err((TryAgain, Some(500)))),
        ("503 html", Fault::status(503).body("text/html", "<h1>down</h1>"), Err((TryAgain, Some(503)))),
    ];
    let server = AuthorizationServer::start().await.unwrap();
    for (name, fault, expected) in cases {
        server.fault(fault);
        let outcome = fetch(grant(&server)).await;
        match (outcome, expected) {
            (Ok(token), Ok(lifetime)) => {
                assert_eq!(token.lifetime().map(|lifetime| lifetime.as_secs()), lifetime, "{name}");
            }
            (Err(error), Err((kind, status))) => {
                let cause = endpoint_error(&error);
                assert_eq!(error.kind(), kind, "{name}: {error}");
                assert_eq!(cause.status().map(|status| status.as_u16()), status, "{name}: {error}");
                assert!(!error.to_string().contains("marked"), "{name}: {error}");
            }
            (outcome, expected) => panic!("{name}: {outcome:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_answer_is_given_up_and_a_drip_too() {
    let server = AuthorizationServer::start().await.unwrap();
    for fault in [Fault::hang(), Fault::slow_drip(Duration::from_secs(20)), Fault::delay(Duration::from_secs(20))] {
        // For every request: who is late to send it may be given up before the server has seen it.
        server.fault_always(fault);
        let mut source = grant(&server).into_token_source();
        let error = source.fetch(FetchRequest::new(Duration::from_millis(200))).await.unwrap_err();
        assert_eq!(error.kind(), FetchErrorKind::TryAgain);
        assert!(error.to_string().contains("200ms"), "{error}");
        server.clear_faults();
        // The next one is not in its way.
        source.fetch(FetchRequest::new(LIMIT)).await.unwrap();
    }
}

#[tokio::test]
async fn an_exchange_that_nobody_waits_for_any_more_is_finished_and_used() {
    let server = AuthorizationServer::builder().latency(Duration::from_millis(100)).start().await.unwrap();
    let mut source = grant(&server).into_token_source();
    tokio::select! {
        // The server counts before it spends its latency, so that this is seen first however late one looks.
        biased;
        () = server.wait_for_token_requests(1) => {}
        fetched = source.fetch(FetchRequest::new(LIMIT)) => panic!("nobody waits for it any more: {fetched:?}"),
    }
    source.fetch(FetchRequest::new(LIMIT)).await.unwrap();
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test]
async fn a_secret_that_was_mended_needs_no_restart() {
    let server = AuthorizationServer::start().await.unwrap();
    server.set_secret("client", "another");
    let token = LiveToken::spawn(grant(&server));
    let error = token.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(endpoint_error(error.cause().unwrap()).code(), Some("invalid_client"));
    server.set_secret("client", "secret");
    token.refresh().await.unwrap();
    token.ready().await.unwrap();
}

/// It is sent as it is, and the refusal names it: nobody sees it otherwise.
#[tokio::test]
async fn a_refusal_names_what_begins_or_ends_with_white_space() {
    let server = AuthorizationServer::builder().user("ann", "pa55word").start().await.unwrap();
    let held = server.issue_refresh_token("client", None);
    let endpoint = || TokenEndpoint::new(&server.token_url()).unwrap();
    let good = || endpoint().client_secret_post("client", "secret");
    let with_refresh_token = |endpoint, token: &str| {
        Stored::new(RefreshToken::new(endpoint)).holding(TokenSet::of_refresh_token(token.to_owned())).boxed()
    };
    let mut without = Vec::new();
    for (source, expected) in [
        (
            ClientCredentials::new(endpoint().client_secret_basic("client", "secret\n")).into_token_source().boxed(),
            "; the client secret ends with a line end: is that meant?",
        ),
        (
            ClientCredentials::new(endpoint().client_secret_post(" client", "secret")).into_token_source().boxed(),
            "; the client id begins with a blank: is that meant?",
        ),
        (
            // `echo client:secret | base64`
            ClientCredentials::new(endpoint().client_basic_value("Y2xpZW50OnNlY3JldAo=")).into_token_source().boxed(),
            "; the client secret in the Basic value ends with a line end: is that meant?",
        ),
        (
            LegacyPassword::new(good(), "ann", "pa55word\r\n").into_token_source().boxed(),
            "; the password ends with a line end: is that meant?",
        ),
        (with_refresh_token(good(), &format!("{held}\n")), "; the refresh token ends with a line end: is that meant?"),
        // What a refusal isn't about, it doesn't name.
        (with_refresh_token(good(), "another"), ""),
        (ClientCredentials::new(good()).scope("unknown").param("note", "x\n").into_token_source().boxed(), ""),
        (ClientCredentials::new(endpoint().client_secret_basic("client", "wrong")).into_token_source().boxed(), ""),
    ] {
        if expected.is_empty() {
            server.fault(Fault::status(400).error("invalid_scope"));
            without.push(LiveToken::spawn(source).ready().await.unwrap_err().to_string());
            continue;
        }
        let said = LiveToken::spawn(source).ready().await.unwrap_err().to_string();
        assert!(said.ends_with(expected), "{said}");
        assert!(!said.contains("pa55word") && !said.contains(&held), "{said}");
    }
    for said in without {
        assert!(!said.contains("is that meant"), "{said}");
    }
    // A server that takes it gets it: it may be meant.
    server.set_secret("client", "secret\n");
    fetch(ClientCredentials::new(endpoint().client_secret_basic("client", "secret\n"))).await.unwrap();
}

#[tokio::test]
async fn retry_after_as_seconds_and_as_a_date() {
    let server = AuthorizationServer::start().await.unwrap();
    let started = Instant::now();
    let in_two_minutes = SystemTime::now() + Duration::from_secs(120);
    for fault in
        [Fault::status(503).retry_after(Duration::from_secs(120)), Fault::status(503).retry_after_date(in_two_minutes)]
    {
        server.fault(fault);
        let token = LiveToken::spawn(grant(&server));
        // A request that can wait for ten seconds doesn't: the next attempt lies beyond them.
        while token.status().failures() == 0 {
            token.watch().changed().await;
            tokio::task::yield_now().await;
        }
        let next = token.status().next_attempt_in().unwrap().as_secs_f64();
        // A date has whole seconds, a wait is up to a second longer than asked for, and some of it is over.
        let since = started.elapsed().as_secs_f64();
        assert!(next <= 121.0 && next + since >= 119.0, "{next} after {since}");
    }
}

#[tokio::test]
async fn talks_through_the_users_own_service() {
    use http_body_util::BodyExt;
    use tower::service_fn;

    let service = service_fn(|request: http::Request<http_body_util::Full<bytes::Bytes>>| async move {
        assert_eq!(request.uri(), "https://id.example.com/token?tenant=1");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "grant_type=client_credentials&client_id=id&client_secret=s");
        let answer = String::from(r#"{"access_token":"mine"}"#);
        Ok::<_, std::io::Error>(http::Response::new(answer))
    });
    let endpoint = TokenEndpoint::new("https://id.example.com/token?tenant=1")
        .unwrap()
        .client_secret_post("id", "s")
        .http_service(service);
    let token = fetch(ClientCredentials::new(endpoint)).await.unwrap();
    assert_eq!(token.expose_secret(), "mine");
}

#[tokio::test]
async fn a_client_that_follows_redirects_is_found_out() {
    let server = AuthorizationServer::start().await.unwrap();
    let elsewhere = AuthorizationServer::start().await.unwrap();
    server.fault(Fault::redirect(&elsewhere.token_url()));
    let endpoint = TokenEndpoint::new(&server.token_url())
        .unwrap()
        .client_secret_post("client", "secret")
        .reqwest_client(reqwest::Client::new());
    let error = fetch(ClientCredentials::new(endpoint)).await.unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");
}

/// A refresh token isn't spent by a request that was never sent.
#[tokio::test]
async fn what_was_never_sent_is_known_of_every_client() {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use tower_bearer::NotSent;

    let resolves_to_nothing = TokenEndpoint::insecure_http("http://no-such-host.invalid/token").unwrap();
    let nobody_listens = TokenEndpoint::new("http://127.0.0.1:1/token").unwrap();
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let unsent = tower::service_fn(|_| async { Err::<http::Response<String>, _>(NotSent::because("no connection")) });
    let wrapped = tower::service_fn(|_| async {
        let error = std::io::Error::other(NotSent::because("no connection"));
        Err::<http::Response<String>, _>(error)
    });
    let unknown = tower::service_fn(|_| async { Err::<http::Response<String>, _>(std::io::Error::other("broken")) });
    for (name, endpoint, acted) in [
        ("reqwest, DNS", resolves_to_nothing.clone(), false),
        ("reqwest, refused", nobody_listens.clone(), false),
        ("hyper-util, DNS", resolves_to_nothing.clone().http_service(hyper.clone()), false),
        ("hyper-util, refused", nobody_listens.clone().http_service(hyper), false),
        ("its own word", nobody_listens.clone().http_service(unsent), false),
        ("its own word, wrapped", nobody_listens.clone().http_service(wrapped), false),
        ("no word", nobody_listens.clone().http_service(unknown), true),
    ] {
        let error = fetch(ClientCredentials::new(endpoint.client_secret_basic("client", "secret"))).await.unwrap_err();
        assert_eq!(endpoint_error(&error).may_have_acted(), acted, "{name}: {error}");
    }
}
