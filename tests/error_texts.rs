//! What each error shows, as people see it: `{}`, anyhow's `{:#}` and `{:?}`. All of it is in `tests/error_texts.txt`, so that it can be read, and a
//! change is noticed.
//!
//! ```console
//! cargo test --all-features --test error_texts
//! TOWER_BEARER_ERRORS=write cargo test --all-features --test error_texts   # after a change of texts: then read what has changed
//! ```

#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

use std::{env, error::Error, fmt::Write, fs, io, time::Duration};

use tower_bearer::{
    AccessToken, FetchError, LiveToken, NotSent, Origin, TokenError,
    oauth2::{AuthorizationCode, ClientCredentials, EndpointError, RefreshToken, Stored, TokenEndpoint, TokenSet},
    source_fn,
    store::{FileStore, StoreError},
    testing::{AuthorizationServer, Fault},
};

/// What is shown of all of them.
#[derive(Default)]
struct Texts {
    text: String,
    /// What the addresses of servers are called instead.
    names: Vec<(String, &'static str)>,
}

impl Texts {
    fn chapter(&mut self, title: &str) {
        writeln!(self.text, "# {title}\n").unwrap();
    }

    fn show(&mut self, when: &str, error: impl Error + Send + Sync + 'static) {
        let (short, debug) = (error.to_string(), format!("{error:?}"));
        let long = format!("{:#}", anyhow::Error::new(error));
        assert_ne!(short, "the request failed", "{when}: alone it says nothing");
        assert!(!is_repeated(&long), "{when}: says something twice: {long}");
        for secret in ["marked-secret", "marked-refresh"] {
            assert!(![&short, &long, &debug].into_iter().any(|text| text.contains(secret)), "{when}: shows {secret}");
        }
        let named = |text: &str| self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let [short, long, debug] = [&short, &long, &debug].map(|text| named(text));
        writeln!(self.text, "{when}\n    {{}}    {short}").unwrap();
        if long != short {
            writeln!(self.text, "    {{:#}}  {long}").unwrap();
        }
        writeln!(self.text, "    {{:?}}  {debug}\n").unwrap();
    }
}

/// Whether a part of this, between colons, is there twice.
fn is_repeated(text: &str) -> bool {
    let parts: Vec<_> = text.split(": ").filter(|part| part.len() > 12).collect();
    parts.iter().enumerate().any(|(number, part)| parts[..number].contains(part))
}

#[tokio::test]
async fn what_errors_show() {
    let mut texts = Texts::default();
    of_sources(&mut texts);
    of_tokens(&mut texts).await;
    of_requests(&mut texts).await;
    of_token_endpoints(&mut texts).await;
    of_logins(&mut texts).await;
    of_stores(&mut texts).await;
    of_input(&mut texts);

    let path = "tests/error_texts.txt";
    if env::var_os("TOWER_BEARER_ERRORS").is_some_and(|what| what == "write") {
        fs::write(path, &texts.text).unwrap();
        return;
    }
    let written = fs::read_to_string(path).unwrap();
    for (number, (is, was)) in texts.text.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, was, "{path}, line {}", number + 1);
    }
    assert_eq!(texts.text.lines().count(), written.lines().count());
}

fn of_sources(texts: &mut Texts) {
    texts.chapter("FetchError, of a source");
    let io = || io::Error::new(io::ErrorKind::ConnectionReset, "connection reset");
    texts.show("try_again", FetchError::try_again(io()));
    texts.show("try_again, with a cause that has one", FetchError::try_again(Outer(io())));
    texts.show("rejected", FetchError::rejected("unknown client"));
    texts.show("rejected_for_good", FetchError::rejected_for_good("wrong password"));
    texts.show("reauthorize", FetchError::reauthorize("the user has withdrawn"));
    texts.show("NotSent", NotSent::because(io()));
}

/// The error of this token, from a source that fails like this.
async fn token_error(name: Option<&'static str>, error: FetchError) -> TokenError {
    let builder = LiveToken::builder(source_fn(move |_| std::future::ready(Err(error.clone())))).seed(1);
    let token = match name {
        Some(name) => builder.name(name).spawn(),
        None => builder.spawn(),
    };
    not_ready(&token).await
}

/// The error of `refresh` while there is a valid token.
async fn refresh_error(error: FetchError) -> TokenError {
    let mut first = Some(AccessToken::new("marked-token").unwrap());
    let next = move |_| std::future::ready(first.take().ok_or_else(|| error.clone()));
    let token = LiveToken::builder(source_fn(next)).name("crm").spawn();
    token.ready().await.unwrap();
    token.refresh().await.unwrap_err()
}

async fn of_tokens(texts: &mut Texts) {
    texts.chapter("TokenError, of a live token");
    let io = || io::Error::new(io::ErrorKind::ConnectionReset, "connection reset");
    texts.show("Timeout, with a cause", token_error(None, FetchError::try_again(Outer(io()))).await);
    let slow = LiveToken::spawn(source_fn(|_| std::future::pending()));
    texts.show("Timeout, without one", slow.ready_within(Duration::from_millis(10)).await.unwrap_err());
    texts.show("Rejected", token_error(None, FetchError::rejected("unknown client")).await);
    texts.show(
        "Rejected, of a token with a name",
        token_error(Some("crm"), FetchError::rejected("unknown client")).await,
    );
    texts.show("ReauthorizationRequired", token_error(Some("crm"), FetchError::reauthorize("withdrawn")).await);
    let stopped = LiveToken::builder(AccessToken::new("a").unwrap()).name("crm").spawn();
    stopped.ready().await.unwrap();
    stopped.shutdown().await;
    texts.show("Stopped", stopped.refresh().await.unwrap_err());
    texts.show("Unavailable, of refresh", refresh_error(FetchError::try_again("down")).await);
    texts.show("Rejected, of refresh", refresh_error(FetchError::rejected("unknown client")).await);
    texts.show("ReauthorizationRequired, of refresh", refresh_error(FetchError::reauthorize("withdrawn")).await);
}

async fn of_requests(texts: &mut Texts) {
    use http::{Request, Response};
    use tower::{Layer, ServiceExt, service_fn};
    use tower_bearer::BearerAuthLayer;

    texts.chapter("Error, of a request");
    let origin = || Origin::parse("https://api.example.com").unwrap();
    let broken = service_fn(|_: Request<String>| async {
        Err::<Response<String>, _>(Outer(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")))
    });
    let get = |uri: &str| Request::get(uri).body(String::new()).unwrap();
    let token = LiveToken::spawn(AccessToken::new("marked-secret").unwrap());
    token.ready().await.unwrap();
    let service = BearerAuthLayer::new(token, origin()).layer(broken);
    let error = service.clone().oneshot(get("https://api.example.com/a")).await.unwrap_err();
    texts.show("Inner", error);
    let error = service.oneshot(get("https://user:marked-secret@evil.example/marked-secret")).await.unwrap_err();
    texts.show("ForeignOrigin", error);
    let rejected = source_fn(|_| std::future::ready(Err(FetchError::rejected("unknown client"))));
    let token = LiveToken::builder(rejected).name("crm").spawn();
    let service = BearerAuthLayer::new(token, origin()).layer(broken);
    texts.show("Rejected", service.oneshot(get("https://api.example.com/a")).await.unwrap_err());
    let down =
        source_fn(|_| std::future::ready(Err(FetchError::try_again("down").retry_after(Duration::from_secs(60)))));
    let token = LiveToken::builder(down).name("crm").spawn();
    let service = BearerAuthLayer::new(token, origin()).layer(broken);
    texts.show("Unavailable", service.oneshot(get("https://api.example.com/a")).await.unwrap_err());
}

async fn of_token_endpoints(texts: &mut Texts) {
    texts.chapter("FetchError and TokenError, of a token endpoint");
    let server = AuthorizationServer::start().await.unwrap();
    let address = server.token_url().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    texts.names.push((address, "127.0.0.1:PORT"));
    for (when, fault) in [
        ("401 invalid_client", Fault::status(401).error("invalid_client").description("no such client")),
        ("400 invalid_grant", Fault::status(400).error("invalid_grant")),
        ("503", Fault::status(503)),
        ("503 with Retry-After", Fault::status(503).retry_after(Duration::from_secs(30))),
        ("200 with a page", Fault::html()),
        ("200 without a token", Fault::status(200).body("application/json", "{}")),
        ("a connection that breaks off", Fault::truncated()),
    ] {
        server.fault(fault);
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "marked-secret");
        let source = RefreshToken::new(endpoint);
        let source = Stored::new(source).holding(TokenSet::of_refresh_token("marked-refresh"));
        let token = LiveToken::builder(source).name("crm").spawn();
        let error = not_ready(&token).await;
        let cause = error.cause().expect("the endpoint has failed").clone();
        assert!(cause.cause().is::<EndpointError>(), "{cause:?}");
        texts.show(when, cause);
        texts.show(&format!("{when}, for who waits"), error);
    }
    let endpoint =
        TokenEndpoint::new("http://localhost:1/token").unwrap().client_secret_basic("client", "marked-secret");
    let token = LiveToken::builder(ClientCredentials::new(endpoint)).name("crm").spawn();
    texts.show("nobody at its address", not_ready(&token).await);
}

/// What is said when the time is up, after the first attempt has failed.
async fn not_ready(token: &LiveToken) -> TokenError {
    let mut watch = token.watch();
    while watch.changed().await.expect("it is there").failures() == 0 {}
    token.ready_within(Duration::from_millis(50)).await.unwrap_err()
}

async fn of_logins(texts: &mut Texts) {
    texts.chapter("AuthorizationError, of a login");
    let server = AuthorizationServer::start().await.unwrap();
    let address = server.token_url().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    texts.names.push((address, "127.0.0.1:PORT"));
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "marked-secret");
    let login =
        AuthorizationCode::new(endpoint, &server.authorization_url(), "http://127.0.0.1:8400/callback").unwrap();
    for (when, query) in [
        ("the user denied", "error=access_denied&error_description=no&state=STATE"),
        ("another login's state", "code=c&state=other"),
        ("no code", "state=STATE"),
    ] {
        let pending = login.start();
        let query = query.replace("STATE", pending.state());
        texts.show(when, login.finish(pending, &query).await.unwrap_err());
    }
    let pending = login.start();
    server.fault(Fault::status(400).error("invalid_grant"));
    let query = format!("code=marked-secret&state={}", pending.state());
    texts.show("the code was refused", login.finish(pending, &query).await.unwrap_err());
}

async fn of_stores(texts: &mut Texts) {
    texts.chapter("StoreError, and what it means for who waits");
    texts.show("unreachable", StoreError::unreachable(Outer(io::Error::other("no route to host"))));
    texts.show("unusable", StoreError::unusable("the table is missing: run the migration"));
    let directory = env::temp_dir().join(format!("tower-bearer-errors-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("tokens");
    fs::write(&file, "no tokens").unwrap();
    // Whatever the machine's umask is.
    #[cfg(unix)]
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    texts.names.push((directory.display().to_string(), "/DIRECTORY"));
    let endpoint =
        TokenEndpoint::new("http://localhost:1/token").unwrap().client_secret_basic("client", "marked-secret");
    let source = Stored::in_store(RefreshToken::new(endpoint).subject("user/1"), FileStore::new(&file));
    let token = LiveToken::builder(source).name("crm").spawn();
    texts.show("a file that holds no tokens", token.ready_within(Duration::from_secs(5)).await.unwrap_err());
    fs::remove_dir_all(&directory).unwrap();
}

fn of_input(texts: &mut Texts) {
    texts.chapter("What is wrong with what was given");
    texts.show("InvalidToken", AccessToken::new("two words").unwrap_err());
    texts.show("InvalidOrigin", Origin::parse("http://api.example.com").unwrap_err());
    texts.show("InvalidEndpoint", TokenEndpoint::new("http://id.example.com/token").unwrap_err());
}

/// An error with a cause, as HTTP clients have them.
#[derive(Debug)]
struct Outer(io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("error sending request")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
