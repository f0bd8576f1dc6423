//! What does the layer cost a request that has its token? As a ratio to the least that a user can have today, a static header
//! put in by tower-http's `AddAuthorizationLayer`; both beyond the bare inner service, both used the same way.

mod harness;

use std::process::ExitCode;

use bytes::Bytes;
use harness::{Ratio, Static, compare, send, take_turns, time};
use http::Request;
use http_body_util::Empty;
use tower::{Layer, Service};
use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay};
use tower_http::auth::AddAuthorizationLayer;

type GetRequest = Request<Empty<Bytes>>;

/// Requests in a batch, and batches.
const REQUESTS: usize = 10;
const SAMPLES: usize = 40_000;

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs.
    let samples = if std::env::args().any(|arg| arg == "--bench") { SAMPLES } else { 20 };
    let secret = "t".repeat(1024);
    let token = LiveToken::spawn(AccessToken::new(&secret).expect("a token"));
    token.ready().await.expect("a fixed token is always there");
    let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com").expect("an origin"));

    let mut bare = Static;
    let mut floor = AddAuthorizationLayer::bearer(&secret).as_sensitive(true).layer(Static);
    let mut off = layer.clone().without_recovery().layer(Static);
    let mut never = layer.clone().replay(replay::Never).layer(Static);
    let mut auto = layer.layer(Static);
    let future_bytes = size_of_future(&off) - size_of_future(&bare);

    println!("cost beyond the bare service, as a ratio to tower-http's static header");
    println!("1 KiB token, five other headers; median of {samples} pairs (quartiles)\n");
    let again = |service: &mut dyn FnMut(GetRequest)| time(REQUESTS, service);
    let (kept, floor_ns) = compare(
        &take_turns(
            samples,
            &mut [
                &mut || again(&mut |request| send(&mut bare, request)),
                &mut || again(&mut |request| send(&mut floor, request)),
                &mut || again(&mut |request| send(&mut off, request)),
                &mut || again(&mut |request| send(&mut never, request)),
                &mut || again(&mut |request| send(&mut auto, request)),
            ],
        ),
        REQUESTS,
    );
    let (cloned, cloned_floor_ns) = compare(
        &take_turns(
            samples,
            &mut [
                &mut || again(&mut |request| send(&mut bare.clone(), request)),
                &mut || again(&mut |request| send(&mut floor.clone(), request)),
                &mut || again(&mut |request| send(&mut off.clone(), request)),
            ],
        ),
        REQUESTS,
    );
    let mut with_head = floor.clone();
    // What `auto` pays for: a copy of the head, kept in a box.
    let (head, _) = compare(
        &take_turns(
            samples,
            &mut [
                &mut || again(&mut |request| send(&mut bare, request)),
                &mut || again(&mut |request| send(&mut floor, request)),
                &mut || {
                    again(&mut |mut request| {
                        let spare = replay::ReplayPolicy::keep(&replay::Auto, &mut request);
                        send(&mut with_head, request);
                        drop(std::hint::black_box(Box::new(spare)));
                    })
                },
            ],
        ),
        REQUESTS,
    );

    let row = |name: &str, ratio: Ratio| {
        println!("| {name:<48} | {:>5.2} ({:.2} to {:.2}) |", ratio.median, ratio.quartiles.0, ratio.quartiles.1);
    };
    println!("| {:<48} | {:>5.2} = {floor_ns:.1} ns       |", "tower-http AddAuthorizationLayer", 1.0);
    row("recovery off", kept[0]);
    row("401 renews the token, nothing is sent again", kept[1]);
    row("default: a bodiless request can be sent again", kept[2]);
    row("tower-http and a copy of the head, for comparison", head[0]);
    println!("| {:<48} | {:>5.2} = {cloned_floor_ns:.1} ns       |", "tower-http, cloned for every request", 1.0);
    row("recovery off, cloned for every request", cloned[0]);

    let one_thread = kept[0].median;
    println!(
        "\nRESULT {}",
        serde_json::json!({
            "one_thread": one_thread,
            "renews": kept[1].median,
            "default": kept[2].median,
            "head_copy": head[0].median,
            "cloned_one_thread": cloned[0].median,
            "future_bytes": future_bytes,
            "floor_ns": floor_ns,
        })
    );
    // What this crate promises for now; a machine that runs something else may make a run meaningless, so only this bench says.
    if one_thread <= 1.5 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn size_of_future<S: Service<GetRequest>>(_: &S) -> usize {
    size_of::<S::Future>()
}
