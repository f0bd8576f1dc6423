//! Marked secrets go in wherever secrets go in, and are searched for in everything that comes out: `Debug`, errors with all of
//! their causes, and what is logged. What servers send back is in `secret_echoes.rs`.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

#[path = "support/leaks.rs"]
mod leaks;

use std::{convert::Infallible, error::Error as StdError, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{Empty, Full};
use leaks::{
    ACCESS, CLIENT, FILE, OWN_HEADER, PARAM, QUERY, REFRESH, SECRET, URL_PART, assert_clean, assert_debug_clean, leaks,
    said,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, FetchError, FetchErrorKind, FetchRequest, IntoTokenSource, LiveToken, Origin,
    TokenFile, TokenSource,
    oauth2::{ClientCredentials, Form, Grant, Stored, TokenEndpoint},
    replay::{Auto, ReplayPolicy, Spare},
    source_fn,
    testing::{AuthorizationServer, Fault},
};

const LIMIT: Duration = Duration::from_secs(5);

fn token() -> AccessToken {
    AccessToken::new(ACCESS.secret).unwrap().expires_in(Duration::from_secs(60)).scope("read")
}

fn endpoint(url: &str) -> TokenEndpoint {
    TokenEndpoint::new(url).unwrap().client_secret_basic(CLIENT.secret, SECRET.secret)
}

async fn fetch(source: impl IntoTokenSource) -> Result<AccessToken, FetchError> {
    source.into_token_source().fetch(FetchRequest::new(LIMIT)).await
}

/// The answer of a token endpoint with every secret that one can have.
fn full_answer() -> String {
    serde_json::json!({"access_token": ACCESS.secret, "refresh_token": REFRESH.secret, "expires_in": 60, "scope": "read",
        "id_token": REFRESH.secret})
    .to_string()
}

fn full_endpoint() -> TokenEndpoint {
    let url = format!("https://id.test/token?key={}", QUERY.secret);
    endpoint(&url)
        .http_service(service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(full_answer())) }))
}

/// A request of somebody who has secrets of their own.
fn own_request(origin: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("{origin}/{0}?{0}", URL_PART.secret))
        .header(AUTHORIZATION, OWN_HEADER.secret)
        .body(Empty::new())
        .unwrap()
}

#[test]
fn the_search_finds_what_it_should() {
    for marked in leaks::ALL {
        for (name, shape) in leaks::SHAPES {
            let text = format!("text {} more", shape(marked.secret));
            assert!(!leaks(&text).is_empty(), "{} as {name} is overlooked in {text}", marked.secret);
        }
    }
    assert!(leaks("the token endpoint answered 400 Bad Request, invalid_client").is_empty());
}

#[tokio::test]
async fn debug_of_what_holds_tokens() {
    assert_debug_clean("AccessToken", &token());
    assert_debug_clean("authorization", &token().authorization());
    assert_debug_clean("AccessToken::boxed", &token().boxed());
    let (one, secret) = (token(), ACCESS.secret.to_owned());
    assert_debug_clean("SourceFn", &source_fn(move |_| std::future::ready(Ok(one.clone()))));
    assert_debug_clean("Builder", &LiveToken::builder(token()));

    let (live, driver) = LiveToken::builder(token()).pair();
    assert_debug_clean("Driver", &driver);
    tokio::spawn(driver);
    live.ready().await.unwrap();
    assert_debug_clean("LiveToken", &live);
    assert_debug_clean("Status", &live.status());
    assert_debug_clean("StatusWatch", &live.watch());
    assert_debug_clean("LiveToken::authorization", &live.authorization());

    let layer = BearerAuthLayer::new(live, Origin::parse("https://api.test").unwrap());
    assert_debug_clean("BearerAuthLayer", &layer);
    let mut service = layer.layer(service_fn(move |request: Request<Empty<Bytes>>| {
        // It did get there, in place of the user's own.
        assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {secret}"));
        assert_eq!(request.headers().get_all(AUTHORIZATION).iter().count(), 1);
        assert_debug_clean("the header on its way", &request.headers());
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let future = service.ready().await.unwrap().call(own_request("https://api.test"));
    assert_debug_clean("ResponseFuture", &future);
    future.await.unwrap();
    assert_debug_clean("BearerAuth", &service);
    assert_debug_clean("BearerAuth, cloned", &service.clone());
}

#[tokio::test]
async fn debug_of_a_request_that_waits_or_is_kept() {
    let pending = LiveToken::spawn(source_fn(|_| std::future::pending()));
    let layer = BearerAuthLayer::new(pending, Origin::parse("https://api.test").unwrap());
    let inner = service_fn(|_: Request<Empty<Bytes>>| std::future::ready(Ok::<_, Infallible>(Response::new(()))));
    let future = layer.layer(inner).oneshot(own_request("https://api.test"));
    let mut service = layer.layer(inner);
    let waiting = service.ready().await.unwrap().call(own_request("https://api.test"));
    assert_debug_clean("a ResponseFuture that waits", &waiting);
    drop(future);

    let kept = Auto.keep(&mut own_request("https://api.test"));
    assert_debug_clean("replay::Spare", &kept.unwrap());
    assert_debug_clean("replay::Spare", &Spare::new(own_request("https://api.test")));
}

#[tokio::test]
async fn debug_of_what_asks_token_endpoints() {
    let form = Form::grant("client_credentials").param("assertion", PARAM.secret);
    assert_debug_clean("Form", &form);
    assert_debug_clean("TokenEndpoint", &full_endpoint());
    for proof in
        [TokenEndpoint::client_secret_basic, TokenEndpoint::client_secret_basic_raw, TokenEndpoint::client_secret_post]
    {
        assert_debug_clean("TokenEndpoint", &proof(full_endpoint(), CLIENT.secret, SECRET.secret));
    }
    let grant = ClientCredentials::new(full_endpoint()).param("assertion", PARAM.secret);
    assert_debug_clean("ClientCredentials", &grant);

    let set = grant.exchange(None, LIMIT).await.unwrap();
    assert_eq!(set.refresh_token(), Some(REFRESH.secret));
    assert_debug_clean("TokenSet", &set);

    let mut stored = Stored::new(grant);
    assert_debug_clean("Stored", &stored);
    let token = stored.fetch(FetchRequest::new(LIMIT)).await.unwrap();
    assert_eq!(token.expose_secret(), ACCESS.secret);
    assert_debug_clean("Stored, with a set", &stored);
    assert_debug_clean("the token it brought", &token);
}

/// `FetchRequest` names the token that was refused.
#[tokio::test]
async fn debug_of_a_fetch_request_with_a_refused_token() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let live = LiveToken::spawn(source_fn(move |request: FetchRequest| {
        tell.send(request).unwrap();
        std::future::ready(Ok(token()))
    }));
    let layer = BearerAuthLayer::new(live, Origin::parse("https://api.test").unwrap());
    let refusing = service_fn(|_: Request<Empty<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(Response::builder().status(401).body(()).unwrap()))
    });
    layer.layer(refusing).oneshot(own_request("https://api.test")).await.unwrap();
    told.recv().await.unwrap();
    let request = told.recv().await.unwrap();
    assert_eq!(request.refused().unwrap().expose_secret(), ACCESS.secret);
    assert_debug_clean("FetchRequest", &request);
}

#[tokio::test]
async fn debug_of_the_servers_of_tests() {
    let builder = AuthorizationServer::builder().client("id", SECRET.secret);
    assert_debug_clean("testing::Builder", &builder);
    let server = builder.start().await.unwrap();
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("id", SECRET.secret);
    fetch(ClientCredentials::new(endpoint).param("assertion", PARAM.secret)).await.unwrap();
    assert_debug_clean("AuthorizationServer", &server);
    assert_debug_clean("TokenRequest", &server.recorded());
    assert_eq!(server.recorded()[0].field("assertion"), Some(PARAM.secret));
    for fault in [
        Fault::access_token(&format!("\"{}\"", ACCESS.secret)),
        Fault::member("refresh_token", REFRESH.secret),
        Fault::status(400).error(SECRET.secret).description(PARAM.secret.split_once('ü').unwrap().0),
        Fault::status(500).body("text/plain", SECRET.secret).header("x-secret", URL_PART.secret),
        Fault::redirect(URL_PART.secret),
    ] {
        assert_debug_clean("Fault", &fault);
    }
}

#[tokio::test]
async fn errors_about_what_cannot_be_used() {
    for text in [format!("{} ", FILE.secret), format!("{}\n", ACCESS.secret), format!("\u{1b}{}ü", ACCESS.secret)] {
        let error = AccessToken::new(&*text).unwrap_err();
        assert_clean("InvalidToken", &said(&error));
        assert_clean("InvalidToken as FetchError", &said(&FetchError::from(error)));
    }
    for url in [
        format!("https://user:{0}@{0}.test/{0}?{0}#{0}", URL_PART.secret),
        format!("{}://x", URL_PART.secret),
        format!("https://{}:99999", URL_PART.secret),
        format!("http://{}/", URL_PART.secret),
        format!("https://[{}]/", URL_PART.secret),
        format!("https://{}\n/", SECRET.secret),
        format!("https://api.test/{}", URL_PART.secret),
        format!("ftp://{}@api.test", URL_PART.secret),
        URL_PART.secret.to_owned(),
        SECRET.secret.to_owned(),
    ] {
        for error in [Origin::parse(&url).err(), Origin::insecure_http(&url).err()].into_iter().flatten() {
            assert_clean("InvalidOrigin", &said(&error));
        }
        for error in [TokenEndpoint::new(&url).err(), TokenEndpoint::insecure_http(&url).err()].into_iter().flatten() {
            assert_clean("InvalidEndpoint", &said(&error));
        }
    }

    let path = std::env::temp_dir().join(format!("tower-bearer-secrets-{}", std::process::id()));
    for content in
        [FILE.secret.as_bytes(), &[FILE.secret.as_bytes(), b"\xff"].concat(), &FILE.secret.repeat(9000).into_bytes()]
    {
        std::fs::write(&path, content).unwrap();
        assert_debug_clean("TokenFile", &TokenFile::new(&path));
        assert_clean("an error of TokenFile", &said(&fetch(TokenFile::new(&path)).await.unwrap_err()));
    }
    std::fs::remove_file(path).unwrap();

    for endpoint in [
        TokenEndpoint::new("https://id.test").unwrap(),
        endpoint("https://id.test").client_secret_basic("", SECRET.secret),
        endpoint("https://id.test").client_secret_basic_raw(CLIENT.secret, SECRET.secret),
        endpoint("https://id.test").client_secret_post("", SECRET.secret),
    ] {
        let error = fetch(ClientCredentials::new(endpoint).param("p", PARAM.secret)).await.unwrap_err();
        assert_clean("credentials that can't be sent", &said(&error));
    }
}

#[tokio::test]
async fn errors_of_foreign_origins() {
    let live = LiveToken::spawn(token());
    live.ready().await.unwrap();
    let layer = BearerAuthLayer::new(live, Origin::parse("https://api.test").unwrap());
    let inner = service_fn(|_: Request<Empty<Bytes>>| std::future::ready(Ok::<_, Infallible>(Response::new(()))));
    let secret = URL_PART.secret;
    for url in [
        format!("https://{secret}:{secret}@evil.test:444/{secret}?{secret}"),
        format!("http://{secret}@api.test/{secret}"),
        format!("https://api.test:444/?{secret}"),
        format!("{secret}:{secret}@api.test:443"),
        format!("https://api.test:x{secret}@evil.test/"),
    ] {
        let Ok(uri) = url.parse::<http::Uri>() else { continue };
        let mut request = own_request("https://api.test");
        *request.uri_mut() = uri;
        let error = layer.layer(inner).oneshot(request).await.expect_err(&url);
        assert_clean(&url, &said(&error));
        assert!(error.to_string().contains(".test"), "{error}");

        let Ok(url) = reqwest::Url::parse(&url) else { continue };
        let mut request = reqwest::Request::new(reqwest::Method::GET, url.clone());
        request.headers_mut().insert(AUTHORIZATION, OWN_HEADER.secret.parse().unwrap());
        let error = layer.layer(reqwest::Client::new()).oneshot(request).await.expect_err("foreign");
        assert_clean(url.as_str(), &said(&error));
    }
    for url in [
        format!("data:text/plain,{secret}"),
        format!("blob:https://u:{secret}@h/{secret}"),
        format!("x://u:{secret}@h"),
    ] {
        let request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
        let error = layer.layer(reqwest::Client::new()).oneshot(request).await.expect_err(&url);
        assert_clean(&url, &said(&error));
    }
}

/// What the user's own transport says when it fails.
#[derive(Debug)]
struct Talkative(String, Option<Box<Talkative>>);

impl std::fmt::Display for Talkative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Talkative {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

#[tokio::test]
async fn errors_of_transports_that_say_what_they_sent() {
    for (name, shape) in leaks::SHAPES {
        let sent = [SECRET, PARAM, QUERY, CLIENT].map(|marked| shape(marked.secret)).join(" | ");
        let url = format!("https://id.test/token?key={}", QUERY.secret);
        let cause = Talkative(format!("POST {url} with {sent}\u{1b}[31m"), None);
        let error = Talkative("could not send".into(), Some(Box::new(Talkative(sent.clone(), Some(Box::new(cause))))));
        let mut failure = Some(error);
        let service = tower::util::BoxCloneSyncService::new(service_fn({
            let failure = std::sync::Arc::new(std::sync::Mutex::new(failure.take()));
            move |_: Request<Full<Bytes>>| {
                let error = failure.lock().unwrap().take().unwrap();
                async move { Err::<Response<Full<Bytes>>, _>(error) }
            }
        }));
        let grant = ClientCredentials::new(endpoint(&url).http_service(service)).param("assertion", PARAM.secret);
        let error = fetch(grant).await.unwrap_err();
        assert_clean(name, &said(&error));
        assert!(error.to_string().contains("could not send"), "{error}");

        // The same from a body that breaks off.
        let text = sent.clone();
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let frames =
                vec![Ok(http_body::Frame::data(Bytes::from_static(b"{"))), Err(io::Error::other(text.clone()))];
            let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let grant = ClientCredentials::new(endpoint(&url).http_service(service)).param("assertion", PARAM.secret);
        assert_clean(name, &said(&fetch(grant).await.unwrap_err()));
    }
}

#[tokio::test]
async fn errors_of_a_service_that_panics_are_quiet() {
    let service = service_fn(|_: Request<Full<Bytes>>| async move {
        if true {
            std::panic::panic_any(SECRET.secret);
        }
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let error = fetch(ClientCredentials::new(endpoint("https://id.test").http_service(service))).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::TryAgain);
    assert_clean("a panic", &said(&error));
}
