//! Does every request get a valid token, whatever happens to the tokens and the token endpoint?
//!
//! `cargo run --example quickstart` starts an authorization server in this process. Its tokens live for two seconds. The example sends
//! requests to its API for twelve seconds. Meanwhile tokens rotate, one is revoked, and the token endpoint is down for a second. The exit
//! code is 0 only if every request succeeded.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, BoxError, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    testing::{AuthorizationServer, Fault},
};

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let server = AuthorizationServer::builder().lifetime(Some(Duration::from_secs(2))).start().await?;

    // All that a program needs.
    let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    let client = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(token.clone(), Origin::parse(&server.origin())?))
        .service(Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>());

    // Eight users, each with a request every ten milliseconds.
    let end = Instant::now() + Duration::from_secs(12);
    let mut users = tokio::task::JoinSet::new();
    for _ in 0..8 {
        users.spawn(user(client.clone(), server.api_url("/documents"), end));
    }
    for second in 1..=12 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let event = match second {
            4 => {
                server.revoke_all();
                "the token is revoked"
            }
            7 => {
                server.fault_for(Duration::from_secs(1), Fault::status(503));
                "the token endpoint is down for a second"
            }
            _ => "",
        };
        let (sent, status) = (server.api().total(), token.status());
        let left = status.time_left().unwrap_or_default().as_secs_f32();
        println!("{second:>2} s  {sent:>5} requests  token {} has {left:.1} s left  {event}", status.generation());
    }

    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(user) = users.join_next().await {
        let (took, errors) = user?;
        times.extend(took);
        failed += errors.len();
        errors.iter().take(3).for_each(|error| eprintln!("failed: {error}"));
    }
    times.sort_unstable();
    let share = |share: f64| times.get(((times.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
    println!("\n| requests that succeeded    | {:>8} |", times.len());
    println!("| requests that failed       | {failed:>8} |");
    println!("| 401 seen and recovered     | {:>8} |", server.api().unauthorized());
    println!("| different tokens           | {:>8} |", token.status().generation());
    println!("| token requests             | {:>8} |", server.token_requests());
    println!("| latency: half of them      | {:>5} µs |", share(0.50).as_micros());
    println!("| latency: 99 of 100         | {:>5} µs |", share(0.99).as_micros());
    println!("| latency: the slowest       | {:>5} ms |", share(1.00).as_millis());
    Ok(if failed == 0 && !times.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends requests until the end; returns how long each took, and what failed.
async fn user<S, B>(mut client: S, url: String, end: Instant) -> (Vec<Duration>, Vec<String>)
where
    S: Service<Request<Empty<Bytes>>, Response = http::Response<B>, Error: std::fmt::Display>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let start = Instant::now();
        let request = Request::get(&url).body(Empty::new()).expect("the URL is one");
        match async { client.ready().await?.call(request).await }.await {
            Ok(response) if response.status().is_success() => {
                response.into_body().collect().await.ok();
                times.push(start.elapsed());
            }
            Ok(response) => errors.push(response.status().to_string()),
            Err(error) => errors.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (times, errors)
}
