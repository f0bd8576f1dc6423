//! `examples/login.rs`, with a person who agrees in the browser, or needn't.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tower_bearer::{
    FetchRequest, TokenSource,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::FileStore,
    testing::{AuthorizationServer, Fault},
};

use super::{Directory, support::call::example};

/// The program, on its way.
struct Login {
    program: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Login {
    fn begin(server: &AuthorizationServer, args: &[&str]) -> Self {
        let mut program = Command::new(example("login"))
            .args(["--authorization-url", &server.authorization_url(), "--token-url", &server.token_url()])
            .args(["--client-id", "native", "--client-auth", "none", "--issuer", &server.issuer()])
            .args(["--scope", "documents", "--no-browser", "--count", "2", &server.api_url("/documents")])
            .args(args)
            .env_remove("CLIENT_SECRET")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stderr = BufReader::new(program.stderr.take().unwrap()).lines();
        Self { program, stderr, said: Vec::new() }
    }

    /// The authorization URL that it prints.
    async fn url(&mut self, server: &AuthorizationServer) -> String {
        self.line(&server.authorization_url()).await
    }

    /// The next line that begins so.
    async fn line(&mut self, begins: &str) -> String {
        loop {
            let line = self.stderr.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it prints {begins}, not {:?}", self.said));
            self.said.push(line.clone());
            if line.starts_with(begins) {
                return line;
            }
        }
    }

    /// The person agrees.
    async fn agree(&mut self, server: &AuthorizationServer) -> reqwest::Url {
        let callback: reqwest::Url = server.approve(&self.url(server).await).parse().unwrap();
        assert_eq!(reqwest::get(callback.clone()).await.unwrap().status(), 200);
        callback
    }

    /// What it said, and its report; `None` if it has made none.
    async fn end(mut self) -> (bool, String, Option<serde_json::Value>) {
        let mut report = String::new();
        self.program.stdout.take().unwrap().read_to_string(&mut report).await.unwrap();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            self.said.push(line);
        }
        let is_good = self.program.wait().await.unwrap().success();
        (is_good, self.said.join("\n"), serde_json::from_str(&report).ok())
    }
}

#[tokio::test]
async fn login_listens_for_the_browser_and_then_calls() {
    let server = AuthorizationServer::builder().client("native", "").announce_issuer(true).start().await.unwrap();
    let mut login = Login::begin(&server, &[]);
    let callback: reqwest::Url = server.approve(&login.url(&server).await).parse().unwrap();
    assert_eq!(callback.path(), "/callback");
    // What browsers do besides: a connection that says nothing, and a look for an icon.
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", callback.port().unwrap())).await.unwrap();
    assert_eq!(reqwest::get(callback.join("/favicon.ico").unwrap()).await.unwrap().status(), 404);
    // Another login's, and what anybody's page may call.
    for other in ["/callback?code=x&state=y", "/callback?code=x", "/callback?error=access_denied"] {
        assert_eq!(reqwest::get(callback.join(other).unwrap()).await.unwrap().status(), 400, "{other}");
    }
    let page = reqwest::get(callback).await.unwrap();
    assert_eq!(page.status(), 200);
    let (is_good, said, report) = login.end().await;
    assert!(is_good, "{said}");
    assert_eq!(report.unwrap()["ok"], 2);
}

/// Most providers take the registered one only.
#[tokio::test]
async fn login_listens_at_the_redirect_uri_that_is_registered() {
    // Below the ports that systems hand out by themselves, and free a moment ago.
    let free = || loop {
        let port = fastrand::u16(20_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break port;
        }
    };
    for (host, path) in [
        ("127.0.0.1", "/oauth/back?app=1"),
        ("localhost", "/callback"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "/@app/zurück"),
    ] {
        let uri = format!("http://{host}:{}{path}", free());
        let server = AuthorizationServer::builder().client("native", "").announce_issuer(true).redirect_uri(&uri);
        let server = server.start().await.unwrap();
        let mut login = Login::begin(&server, &["--redirect-uri", &uri]);
        let callback: reqwest::Url = server.approve(&login.url(&server).await).parse().unwrap();
        assert_eq!(callback.path(), reqwest::Url::parse(&uri).unwrap().path());
        // Another path is nobody's.
        let elsewhere = callback.join("/elsewhere?code=x&state=y").unwrap();
        assert_eq!(reqwest::get(elsewhere).await.unwrap().status(), 404);
        assert_eq!(reqwest::get(callback).await.unwrap().status(), 200);
        let (is_good, said, report) = login.end().await;
        assert!(is_good && report.unwrap()["ok"] == 2, "{uri}: {said}");
    }
}

#[tokio::test]
async fn login_says_which_redirect_uri_it_can_listen_at() {
    let server = AuthorizationServer::builder().client("native", "").start().await.unwrap();
    for (uri, said) in [
        ("https://127.0.0.1:8400/callback", "on its own machine only"),
        ("http://app.example.com:8400/callback", "on its own machine only"),
        ("http://127.0.0.1.example.com:8400/", "on its own machine only"),
        ("http://127.0.0.1@example.com:8400/", "on its own machine only"),
        ("http://127.0.0.1:8400/#callback", "on its own machine only"),
        ("my-app://callback", "on its own machine only"),
        ("/callback", "on its own machine only"),
        ("http://127.0.0.1/callback", "no port from 1 to 65535"),
        ("http://[::1]/callback", "no port from 1 to 65535"),
        ("http://localhost:0/callback", "no port from 1 to 65535"),
        ("http://127.0.0.1:84000/callback", "no port from 1 to 65535"),
        ("http://127.0.0.1:8400/call back", "it is no URL"),
    ] {
        let (is_good, all, report) = Login::begin(&server, &["--redirect-uri", uri]).end().await;
        assert!(!is_good && report.is_none() && all.contains(said), "{uri}: {all}");
        assert!(all.contains("http://127.0.0.1:8400/callback") || said == "it is no URL", "what to do: {all}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/callback", taken.local_addr().unwrap());
    let (is_good, all, report) = Login::begin(&server, &["--redirect-uri", &uri]).end().await;
    assert!(!is_good && report.unwrap()["error"].as_str().unwrap().contains("another program listens"), "{all}");
    assert_eq!(server.token_requests(), 0);
}

#[tokio::test]
async fn a_second_run_of_login_needs_no_browser() {
    let server = AuthorizationServer::builder().client("native", "").announce_issuer(true).start().await.unwrap();
    let directory = Directory::new("login");
    let path = directory.file("token");
    let store = ["--store", path.as_str(), "--subject", "ann"];

    let mut first = Login::begin(&server, &store);
    first.agree(&server).await;
    let (is_good, said, report) = first.end().await;
    assert!(is_good && report.unwrap()["ok"] == 2, "{said}");
    assert!(said.contains("Nothing is stored yet for ann"), "{said}");

    // With its access token, and when that is over with its refresh token.
    for _ in 0..2 {
        let (is_good, said, report) = Login::begin(&server, &store).end().await;
        assert!(is_good && report.unwrap()["ok"] == 2, "{said}");
        assert!(said.contains("no login is needed") && !said.contains("agree"), "{said}");
        server.revoke_all();
    }
    let code_exchanges = |server: &AuthorizationServer| {
        server.recorded().iter().filter(|sent| sent.field("grant_type") == Some("authorization_code")).count()
    };
    assert_eq!((code_exchanges(&server), server.reuse_detections()), (1, 0));

    // Another person's isn't taken.
    let (is_good, said, report) = Login::begin(&server, &["--store", &path, "--subject", "ben"]).end().await;
    assert!(!is_good && report.unwrap()["error"].as_str().unwrap().contains("what is stored belongs to"), "{said}");
    assert_eq!(code_exchanges(&server), 1);
}

#[tokio::test]
async fn a_login_takes_the_place_of_a_stored_grant_that_is_over() {
    let server = AuthorizationServer::builder().client("native", "").announce_issuer(true).start().await.unwrap();
    let directory = Directory::new("login-over");
    let path = directory.file("token");
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().public_client("native");
    let stored = Stored::in_store(RefreshToken::new(endpoint).subject("me"), FileStore::new(&path));
    // It is stored, and nobody knows yet that the server doesn't take it.
    server.fault(Fault::status(503));
    let mut stored = stored.holding(TokenSet::of_refresh_token("revoked-marked"));
    stored.fetch(FetchRequest::new(Duration::from_secs(10))).await.unwrap_err();
    drop(stored);

    let mut login = Login::begin(&server, &["--store", &path]);
    login.agree(&server).await;
    let (is_good, said, report) = login.end().await;
    assert!(is_good && report.unwrap()["ok"] == 2, "{said}");
    assert!(said.contains("What is stored is over: ") && said.contains("invalid_grant"), "{said}");
    assert!(!said.contains("marked"), "{said}");

    // The new one was stored, and it works.
    server.revoke_all();
    let (is_good, said, _) = Login::begin(&server, &["--store", &path]).end().await;
    assert!(is_good && said.contains("no login is needed"), "{said}");

    // Somebody wants another scope.
    let mut anew = Login::begin(&server, &["--store", &path, "--anew"]);
    anew.agree(&server).await;
    let (is_good, said, _) = anew.end().await;
    assert!(is_good && !said.contains("no login is needed"), "{said}");
    assert_eq!(server.reuse_detections(), 0);
}

/// The grant of a person who has just agreed is nowhere but in that process.
#[tokio::test]
async fn login_waits_for_a_store_that_comes_back() {
    let server = AuthorizationServer::builder().client("native", "").announce_issuer(true).start().await.unwrap();
    let directory = Directory::new("login-waits");
    let path = directory.file("token");
    let in_the_way = directory.0.join("token.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut login = Login::begin(&server, &["--store", &path]);
    login.agree(&server).await;
    login.line("Waiting for the store").await;
    std::fs::remove_dir(&in_the_way).unwrap();
    let (is_good, said, report) = login.end().await;
    assert!(is_good && report.unwrap()["ok"] == 2, "{said}");
    assert!(said.contains("token can't be written") && said.contains("begins without this token"), "{said}");
    let (is_good, said, _) = Login::begin(&server, &["--store", &path]).end().await;
    assert!(is_good && said.contains("no login is needed"), "{said}");
}

/// What it brings couldn't be kept, so nobody is asked to log in.
#[tokio::test]
async fn login_with_a_store_that_cannot_be_used_says_so_first() {
    let server = AuthorizationServer::builder().client("native", "").start().await.unwrap();
    let directory = Directory::new("login-nowhere");
    let (is_good, said, report) = Login::begin(&server, &["--store", &directory.file("nowhere/token")]).end().await;
    let error = report.unwrap()["error"].to_string();
    assert!(!is_good && error.contains("the token store can't be used") && !error.contains("credentials"), "{error}");
    assert!(!said.contains("agree here"), "{said}");
}
