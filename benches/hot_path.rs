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
    // One place for each that is measured twice: with two, the compiler would put nothing inline.
    let (cloned_floor, cloned_off) = (floor.clone(), off.clone());
    let mut with_head = floor.clone();
    let mut send_floor = |request| send(&mut floor, request);
    let mut send_off = |request| send(&mut off, request);
    let (kept, floor_ns) = compare(
        &take_turns(
            samples,
            &mut [
                &mut || again(&mut |request| send(&mut bare, request)),
                &mut || again(&mut send_floor),
                &mut || again(&mut send_off),
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
                &mut || again(&mut |request| send(&mut cloned_floor.clone(), request)),
                &mut || again(&mut |request| send(&mut cloned_off.clone(), request)),
            ],
        ),
        REQUESTS,
    );
    // What `auto` pays for: a copy of the head, kept in a box.
    let (head, _) = compare(
        &take_turns(
            samples,
            &mut [&mut || again(&mut |request| send(&mut bare, request)), &mut || again(&mut send_floor), &mut || {
                again(&mut |mut request| {
                    let spare = replay::ReplayPolicy::keep(&replay::Auto, &mut request);
                    send(&mut with_head, request);
                    drop(std::hint::black_box(Box::new(spare)));
                })
            }],
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
    let default_beyond_head = kept[2].median - head[0].median + 1.0;
    let extra_allocations = extra_allocations(&mut send_floor, &mut send_off);
    println!("\nallocations beyond tower-http's, most of 0, 5, 6 and 12 headers: {extra_allocations}");
    println!(
        "\nRESULT {}",
        serde_json::json!({
            "one_thread": one_thread,
            "renews": kept[1].median,
            "default": kept[2].median,
            "head_copy": head[0].median,
            "default_beyond_head": default_beyond_head,
            "cloned_one_thread": cloned[0].median,
            "extra_allocations": extra_allocations,
            "future_bytes": future_bytes,
            "floor_ns": floor_ns,
        })
    );
    // What holds today (the aim is 1.1 for the first); a machine that runs something else may make a run meaningless, so only this
    // bench says.
    let good = one_thread <= 1.5 && default_beyond_head <= 2.5 && extra_allocations == 0 && future_bytes <= 64;
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
            let request = request.body(Empty::new()).expect("a request");
            allocation_counter::measure(|| send(request)).count_total
        };
        let floor = count(floor);
        count(service).saturating_sub(floor)
    });
    sizes.max().unwrap_or_default()
}

fn size_of_future<S: Service<GetRequest>>(_: &S) -> usize {
    size_of::<S::Future>()
}
