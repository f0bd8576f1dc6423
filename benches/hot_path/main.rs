//! What does the layer cost a request that has its token? As a ratio to the least that a user can have today, a static header
//! put in by tower-http's `AddAuthorizationLayer`; both beyond the bare inner service, both used the same way.

mod programs;

use std::process::ExitCode;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use programs::{Costs, Ratio};
use tower::{Layer, Service};
use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
use tower_http::auth::AddAuthorizationLayer;

#[path = "../harness/mod.rs"]
mod harness;

use harness::{GetRequest, Static, send};

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let secret = "t".repeat(1024);
    let token = LiveToken::spawn(AccessToken::new(&secret).expect("a token"));
    token.ready().await.expect("a fixed token is always there");
    let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com").expect("an origin"));
    let mut floor = AddAuthorizationLayer::bearer(&secret).as_sensitive(true).layer(Static);
    let mut off = layer.without_recovery().layer(Static);

    let future_bytes = size_of_future(&off) - size_of_future(&Static);
    let extra_allocations =
        extra_allocations(&mut |request| send(&mut floor, request), &mut |request| send(&mut off, request));
    println!("the future is {future_bytes} bytes larger than the inner service's");
    println!("allocations beyond tower-http's, most of 0, 5, 6 and 12 headers: {extra_allocations}");
    let Some(costs) = bench.then(Costs::measure) else {
        println!("the programs that are timed are built and run by `cargo bench` alone");
        return ExitCode::SUCCESS;
    };

    println!("\ncost beyond the bare service, as a ratio to tower-http's static header");
    println!("1 KiB token, five other headers; median of {} starts of each program (quartiles)\n", programs::STARTS);
    let row = |name: &str, Ratio { median, quartiles: (low, high) }: Ratio| {
        println!("| {name:<48} | {median:>5.2} ({low:.2} to {high:.2}) |");
    };
    let floor = |name: &str, ns: f64| println!("| {name:<48} | {:>5.2} = {ns:.1} ns |", 1.0);
    floor("tower-http AddAuthorizationLayer", costs.floor_ns);
    row("recovery off", costs.off);
    row("401 renews the token, nothing is sent again", costs.never);
    row("default: a bodiless request can be sent again", costs.default);
    row("tower-http and a copy of the head, for comparison", costs.head_copied);
    floor("tower-http, cloned for every request", costs.cloned_floor_ns);
    row("recovery off, cloned for every request", costs.cloned);
    println!(
        "\nRESULT {}",
        serde_json::json!({
            "one_thread": costs.off.median,
            "renews": costs.never.median,
            "default": costs.default.median,
            "head_copy": costs.head_copied.median,
            "default_beyond_head": costs.default_beyond_head.median,
            "cloned_one_thread": costs.cloned.median,
            "extra_allocations": extra_allocations,
            "future_bytes": future_bytes,
            "floor_ns": costs.floor_ns,
        })
    );
    // A machine that runs something else may make a run meaningless, so only this bench says.
    let good = costs.off.median <= 1.1
        && costs.cloned.median <= 1.2
        && costs.default_beyond_head.median <= 2.5
        && extra_allocations == 0
        && future_bytes <= 64;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the layer allocates beyond the floor, where it is most: maps of headers grow at some sizes.
fn extra_allocations(floor: &mut dyn FnMut(GetRequest), service: &mut dyn FnMut(GetRequest)) -> u64 {
    let sizes = [0, 5, 6, 12].into_iter().map(|headers| {
        let count = |send: &mut dyn FnMut(GetRequest)| {
            let mut request = Request::get("https://api.example.com/v1/documents?page=2");
            for number in 0..headers {
                request = request.header(format!("x-custom-{number}"), "value");
            }
            let request = request.body(Empty::<Bytes>::new()).expect("a request");
            allocation_counter::measure(|| send(request)).count_total
        };
        // What only the first requests pay for: a header keeps its count elsewhere from its first clone on, and a service its header
        // from the second request on.
        for _ in 0..2 {
            count(floor);
            count(service);
        }
        let floor = count(floor);
        count(service).saturating_sub(floor)
    });
    sizes.max().unwrap_or_default()
}

fn size_of_future<S: Service<GetRequest>>(_: &S) -> usize {
    size_of::<S::Future>()
}
