//! What does a request notice of its token's life? Nothing of a renewal ([`expiry`]), and of the first token no more than it takes
//! to wake so many ([`cold_start`]).

mod cold_start;
mod expiry;
#[path = "../harness/mod.rs"]
mod harness;

use std::{process::ExitCode, time::Duration};

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs, and holds it to no time.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let (pairs, length, requests, starts) = match bench {
        true => (16, Duration::from_secs(1), 10_000, 15),
        false => (1, Duration::from_secs(1), 100, 1),
    };
    let expiry = expiry::measure(pairs, length).await;
    let cold_start = cold_start::measure(requests, starts).await;
    println!(
        "RESULT {}",
        serde_json::json!({
            "p99_ratio": expiry.p99_ratio,
            "p999_extra_us": expiry.p999_extra_us,
            "waited": expiry.waited,
            "failed": expiry.failed + cold_start.failed,
            "expired_sent": expiry.expired_sent,
            "fetch_ratio": expiry.fetch_ratio,
            "requests": expiry.requests,
            "repeated": expiry.repeated,
            "cold_start_fetches": cold_start.fetches,
            "cold_start_spread_ratio": cold_start.spread_ratio,
            "cold_start_over_bare_watch": cold_start.over_bare_watch,
        })
    );
    let counts = expiry.failed == 0 && cold_start.failed == 0 && cold_start.fetches == 1;
    let promised = expiry.p99_ratio <= 1.5
        && expiry.p999_extra_us <= 1_000.0
        && expiry.waited == 0
        && expiry.expired_sent == 0
        && expiry.fetch_ratio <= 1.5
        && cold_start.spread_ratio <= 2.0;
    if counts && (promised || !bench) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
