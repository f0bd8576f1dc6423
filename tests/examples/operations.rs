//! `examples/operations.rs`: a service that is scraped while its token endpoint goes down and comes back.

use std::{
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use tower_bearer::testing::{AuthorizationServer, Fault};

use super::support::call::example;

/// A service that is scraped, and asked whether it is ready, while its token endpoint goes down and comes back.
#[tokio::test]
async fn operations_warns_before_it_is_not_ready() {
    let watched = tokio::time::timeout(Duration::from_secs(120), watch_operations());
    watched.await.expect("what is waited for comes within seconds");
}

async fn watch_operations() {
    let server = AuthorizationServer::builder().client("ops", "marked").start().await.unwrap();
    let mut program = Command::new(example("operations"))
        .envs([("LISTEN", "127.0.0.1:0"), ("CLIENT_ID", "ops"), ("CLIENT_SECRET", "marked")])
        .envs([("TOKEN_URL", server.token_url()), ("API_URL", server.api_url("/documents"))])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let address = lines.next_line().await.unwrap().expect("it prints where it listens").replace("/metrics", "");
    let get = async |path: &str| {
        let response = reqwest::get(format!("{address}{path}")).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let scrape = async |series: &str| {
        let (status, text) = get("/metrics").await;
        assert!(status == 200 && !text.contains("marked"), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|number| number.parse::<f64>().unwrap())
    };
    const HEADROOM: &str = r#"tower_bearer_headroom_seconds{token="documents"}"#;
    while get("/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get("/documents").await.0, 200);

    // Down, and the token is refused: it can't be renewed. The headroom falls, while the service is ready.
    server.fault_always(Fault::status(503));
    server.api_fault(Fault::status(401));
    assert_eq!(get("/documents").await.0, 401);
    let (status, text) = get("/readyz").await;
    assert!(status == 200 && text.starts_with("Failing") && text.contains("503"), "{status} {text}");
    let mut headroom = scrape(HEADROOM).await.unwrap();
    assert!(headroom > 3000.0 && headroom < 3600.0, "{headroom}");
    for _ in 0..2 {
        let before = headroom;
        while headroom == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
            headroom = scrape(HEADROOM).await.unwrap();
        }
        assert!(headroom < before, "{headroom} after {before}");
    }
    assert_eq!(get("/readyz").await.0, 200);

    // Its next attempt is answered, with a token of a second; then there is no other, and at last none.
    server.set_lifetime(Some(Duration::from_secs(1)));
    server.fault(Fault::delay(Duration::ZERO));
    let text = loop {
        match get("/readyz").await {
            (503, text) if text.contains("503") => break text,
            // Over before it could be asked for another, and before that fails.
            (200 | 503, _) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("{other:?}"),
        }
    };
    assert!(text.starts_with("Expired, headroom 0.0"), "{text}");
    assert_eq!(scrape(HEADROOM).await, Some(0.0));
    assert_eq!(scrape(r#"tower_bearer_state{token="documents",state="expired"}"#).await, Some(1.0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let ended = scrape(r#"tower_bearer_expiration_timestamp_seconds{token="documents"}"#).await.unwrap();
    assert!(ended < now && ended > now - 60.0, "{ended}, now {now}");
    assert!(scrape(r#"tower_bearer_fetches_total{token="documents",outcome="try_again"}"#).await.unwrap() >= 2.0);

    server.set_lifetime(Some(Duration::from_secs(3600)));
    server.clear_faults();
    while get("/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while scrape(HEADROOM).await.unwrap() < 2.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
