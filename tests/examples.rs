//! The examples, run as programs against the loopback server. (`quickstart` is run by `scripts/test`: it takes its twelve seconds.)
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "testing"))]

mod support;

use std::time::Duration;

use support::call::run_call;
use tower_bearer::testing::AuthorizationServer;

#[tokio::test]
async fn call_reports_what_it_did() {
    let server = AuthorizationServer::builder()
        .lifetime(Some(Duration::from_millis(500)))
        .client("my client", "s3cr%t")
        .start()
        .await
        .unwrap();
    for auth in ["basic", "basic-raw", "post"] {
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
            "5",
            "--interval",
            "200",
            &server.api_url("/echo"),
        ])
        .await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{auth}: {stderr}");
        assert_eq!(stderr.lines().count(), 5, "{auth}: {stderr}");
        assert_eq!(
            (&report["requests"], &report["ok"], &report["failed"], &report["error"]),
            (&5.into(), &5.into(), &0.into(), &serde_json::Value::Null),
            "{report}"
        );
        assert_eq!(report["statuses"]["200"], 5);
        assert!(report["generations"].as_u64().unwrap() >= 2, "{report}");
        assert!(report["p50_us"].as_u64() <= report["p99_us"].as_u64(), "{report}");
        assert!(report["p99_us"].as_u64() <= report["max_us"].as_u64(), "{report}");
        let sent = server.recorded().pop().unwrap();
        assert_eq!(sent.field("scope"), Some("read write"));
        assert_eq!(sent.field("audience"), Some("https://api.test"));
    }
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
