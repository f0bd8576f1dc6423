//! `examples/call.rs` with Redis. With a file: `tests/examples.rs`.

use tower_bearer::testing::AuthorizationServer;

use crate::redis_server::RedisServer;

#[path = "../support/call.rs"]
#[allow(unreachable_pub, reason = "other tests use it, too")]
mod call;

pub(crate) async fn called_twice() {
    let redis = RedisServer::start().await;
    let server = AuthorizationServer::start().await.unwrap();
    for run in 1..=2 {
        let (token_url, api_url) = (server.token_url(), server.api_url("/documents"));
        let client = ["--token-url", &token_url, "--client-id", "client", "--client-secret", "secret"];
        let (output, report) = call::run_call(&[&client[..], &["--store", &redis.url(), &api_url]].concat()).await;
        assert!(output.status.success(), "run {run}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(report["ok"], 1, "{report}");
        assert_eq!(server.token_requests(), 1, "run {run}");
    }
}
