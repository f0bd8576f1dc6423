//! The examples, run as programs against the loopback server. (`quickstart` is run by `scripts/test`: it takes its twelve seconds.)
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

#[path = "examples/login.rs"]
mod login;
#[cfg(feature = "metrics")]
#[path = "examples/operations.rs"]
mod operations;
mod support;

use std::{path::PathBuf, time::Duration};

use support::call::{run_call, run_call_with};
use tower_bearer::testing::{AuthorizationServer, Fault};

#[tokio::test]
async fn call_reports_what_it_did() {
    let server = AuthorizationServer::builder().client("my client", "s3cr%t").start().await.unwrap();
    for auth in ["basic", "basic-raw", "post"] {
        // In the middle the token is refused once, so that another takes its place.
        server.api_faults(3, Fault::delay(Duration::ZERO));
        server.api_fault(Fault::status(401));
        let (output, report) = run_call(&[
            "--token-url",
            &server.token_url(),
            "--client-id",
            "my client",
            "--client-secret",
            "s3cr%t",
            "--client-auth",
            auth,
            "--scope",
            "read",
            "--scope",
            "write",
            "--param",
            "audience=https://api.test",
            "-X",
            "POST",
            "-d",
            "body",
            "-H",
            "x-id: 1",
            "--count",
            "8",
            "--interval",
            "20",
            &server.api_url("/echo"),
        ])
        .await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{auth}: {stderr}");
        assert_eq!(stderr.lines().count(), 8, "{auth}: {stderr}");
        assert_eq!(
            (&report["requests"], &report["ok"], &report["failed"], &report["error"]),
            (&8.into(), &8.into(), &0.into(), &serde_json::Value::Null),
            "{report}"
        );
        assert_eq!(report["statuses"]["200"], 8);
        assert_eq!(report["generations"], 2, "{report}");
        assert!(report["p50_us"].as_u64() <= report["p99_us"].as_u64(), "{report}");
        assert!(report["p99_us"].as_u64() <= report["max_us"].as_u64(), "{report}");
        let sent = server.recorded().pop().unwrap();
        assert_eq!(sent.field("scope"), Some("read write"));
        assert_eq!(sent.field("audience"), Some("https://api.test"));
    }
}

/// And a refresh token that was rotated on the way is found again.
#[tokio::test]
async fn a_second_run_of_call_goes_on_with_the_token_in_the_file() {
    let server = AuthorizationServer::start().await.unwrap();
    let (token_url, api_url) = (server.token_url(), server.api_url("/documents"));
    let client = ["--token-url", &token_url, "--client-id", "client", "--client-secret", "secret"];
    let held = server.issue_refresh_token("client", None);
    let directory = std::env::temp_dir().join(format!("tower-bearer-call-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    let user = ["--grant", "refresh_token", "--refresh-token", &held];
    for (grant, store, requests) in [(&[][..], path("client"), 1), (&user[..], path("user"), 2)] {
        for run in 1..=2 {
            let (output, report) = run_call(&[&client[..], grant, &["--store", &store, &api_url]].concat()).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!((&report["ok"], server.token_requests()), (&1.into(), requests), "{store}, run {run}");
        }
    }
    let other = ["--subject", "ben", "--store", &path("user"), &api_url];
    let (_, report) = run_call(&[&client[..], &user, &other].concat()).await;
    assert!(report["error"].as_str().unwrap().contains("what is stored belongs to client"), "{report}");
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!((server.token_requests(), server.reuse_detections()), (2, 0));
}

#[cfg(not(feature = "redis"))]
#[tokio::test]
async fn call_says_what_redis_needs() {
    let (output, report) = run_call(&["--token-url", "http://127.0.0.1:9", "--store", "redis://h", "http://h"]).await;
    assert!(!output.status.success());
    assert!(report["error"].as_str().unwrap().contains("--features redis"), "{report}");
}

#[tokio::test]
async fn call_fails_with_the_reason() {
    let server = AuthorizationServer::start().await.unwrap();
    let token_url = server.token_url();
    let (documents, forbidden) = (server.api_url("/documents"), server.api_url("/forbidden"));
    let args = |secret, url| ["--token-url", &token_url, "--client-id", "client", "--client-secret", secret, url];

    let (output, report) = run_call(&args("wrong-marked", &documents)).await;
    assert!(!output.status.success());
    assert_eq!((&report["ok"], &report["failed"]), (&0.into(), &1.into()));
    assert!(report["error"].as_str().unwrap().contains("invalid_client"), "{report}");
    let everything = format!("{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!everything.contains("marked"), "{everything}");

    let (output, report) = run_call(&args("secret", &forbidden)).await;
    assert!(!output.status.success());
    assert_eq!(report["statuses"]["403"], 1);
    assert_eq!(report["failed"], 1);
}

#[tokio::test]
async fn call_takes_a_password_and_a_refresh_token() {
    let server = AuthorizationServer::builder().user("alice", "pa55 w&rd").start().await.unwrap();
    let (token_url, api_url) = (server.token_url(), server.api_url("/documents"));
    let client = ["--token-url", &token_url, "--client-id", "client", "--client-secret", "secret"];

    let user = ["--grant", "password", "--username", "alice", "--password", "pa55 w&rd", &api_url];
    let (output, report) = run_call(&[&client[..], &user].concat()).await;
    assert!(output.status.success(), "{report}");

    let refresh_token = server.issue_refresh_token("client", None);
    let held = ["--grant", "refresh_token", "--refresh-token", &refresh_token, &api_url];
    let (output, report) = run_call(&[&client[..], &held].concat()).await;
    assert!(output.status.success(), "{report}");

    let value = ["--token-url", &token_url, "--client-auth", "basic-value", "--basic-value", "Y2xpZW50OnNlY3JldA=="];
    let (output, report) = run_call(&[&value[..], &[&api_url]].concat()).await;
    assert!(output.status.success(), "{report}");
}

/// Secrets are random: one in 64 begins with a hyphen.
#[tokio::test]
async fn call_takes_values_that_begin_with_a_hyphen() {
    let server =
        AuthorizationServer::builder().client("-client", "-s3cret").user("-ann", "--pa55").start().await.unwrap();
    let (token_url, echo) = (server.token_url(), server.api_url("/echo"));
    let client = ["--token-url", &token_url, "--client-id", "-client", "--client-secret", "-s3cret"];
    let user = ["--grant", "password", "--username", "-ann", "--password", "--pa55", "--scope", "-read"];
    let request = ["--param", "-note=-x", "--param", "audience=-y", "-X", "POST", "-d", "-body", "-H", "-x: -1", &echo];
    let (output, report) = run_call(&[&client[..], &user, &request].concat()).await;
    assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
    let sent = server.recorded().pop().unwrap();
    for (name, value) in [("username", "-ann"), ("password", "--pa55"), ("scope", "-read"), ("-note", "-x")] {
        assert_eq!(sent.field(name), Some(value), "{name}");
    }

    let environment = [("CLIENT_SECRET", "-s3cret"), ("PASSWORD", "--pa55"), ("REFRESH_TOKEN", "-held")];
    let args = [&client[..4], &["--grant", "password", "--username=-ann", &echo]].concat();
    let (output, report) = run_call_with(&environment, &args).await;
    assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
    for held in [&["--refresh-token", "-held"][..], &[]] {
        // The server doesn't know it. It was sent as it is.
        run_call_with(&environment, &[&client[..4], &["--grant", "refresh_token", &echo], held].concat()).await;
        assert_eq!(server.recorded().pop().unwrap().field("refresh_token"), Some("-held"));
    }
    let value = ["--token-url", &token_url, "--client-auth", "basic-value", "--basic-value", "-value", &echo];
    run_call(&value).await;
    let sent = server.recorded().pop().unwrap();
    assert_eq!(sent.headers()["authorization"], "Basic -value");
}

/// Removes itself at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-bearer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The run goes well, and the next one would have nothing.
#[tokio::test]
async fn call_says_when_its_token_is_not_kept() {
    let server = AuthorizationServer::start().await.unwrap();
    let (token_url, api_url) = (server.token_url(), server.api_url("/documents"));
    let client = ["--token-url", &token_url, "--client-id", "client", "--client-secret", "secret", "--count", "3"];
    let directory = Directory::new("not-kept");
    // Root may write anywhere, but not over a directory.
    std::fs::create_dir(directory.0.join("unwritable.new")).unwrap();
    std::fs::write(directory.0.join("foreign"), "something else\n").unwrap();
    for (store, said) in [("nowhere/token", "can't be reached"), ("unwritable", "can't be written"), ("foreign", "")] {
        let path = directory.file(store);
        let (output, report) = run_call(&[&client[..], &["--store", &path, &api_url]].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && report["ok"] == 3, "{store}: {stderr}");
        let lines: Vec<_> = stderr.lines().filter(|line| line.contains("store")).collect();
        let [reason, advice] = lines[..] else { panic!("{store}: said once: {stderr}") };
        assert!(reason.contains("the token store can't be used") && reason.contains(said), "{reason}");
        assert!(reason.contains(&path), "{reason}");
        assert!(advice.contains("the next run begins without this token"), "{advice}");
    }
    // Where the run can't go on, it says so once.
    let held = ["--grant", "refresh_token", "--refresh-token", "held", "--store", &directory.file("unwritable")];
    let (output, report) = run_call(&[&client[..6], &held, &[&api_url]].concat()).await;
    let error = report["error"].as_str().unwrap();
    assert!(!output.status.success() && error.contains("the token store can't be used"), "{report}");
    assert!(!error.contains("credentials"), "{report}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    let sound = directory.file("sound");
    let (output, _) = run_call(&[&client[..], &["--store", &sound, &api_url]].concat()).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("store"), "{stderr}");
}
