//! The same as `hot_path` on two threads at once that share one token, where reference counts are what costs.

mod harness;

use std::{
    hint::spin_loop,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use harness::{GetRequest, Ratio, Span, Static, compare, send, take_turns, time};
use tower::Layer;
use tower_bearer::{AccessToken, BearerAuth, BearerAuthLayer, LiveToken, Origin, replay};
use tower_http::auth::{AddAuthorization, AddAuthorizationLayer};

/// Requests in a batch, and batches. So many in one that beginning a microsecond apart doesn't matter.
const REQUESTS: usize = 500;
const SAMPLES: usize = 1500;

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs.
    let samples = if std::env::args().any(|arg| arg == "--bench") { SAMPLES } else { 20 };
    let secret = "t".repeat(1024);
    let token = LiveToken::spawn(AccessToken::new(&secret).expect("a token"));
    token.ready().await.expect("a fixed token is always there");
    let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com").expect("an origin"));
    let services = Services {
        floor: AddAuthorizationLayer::bearer(&secret).as_sensitive(true).layer(Static),
        off: layer.clone().without_recovery().layer(Static),
        never: layer.replay(replay::Never).layer(Static),
    };

    println!("cost beyond the bare service, as a ratio to tower-http's static header, two threads at once");
    println!("1 KiB token, five other headers; median of {samples} pairs (quartiles)\n");
    let (kept, floor_ns) = on_two_threads(samples, &services, run_kept);
    let (cloned, cloned_floor_ns) = on_two_threads(samples, &services, run_cloned);

    let row = |name: &str, ratio: Ratio| {
        println!("| {name:<48} | {:>5.2} ({:.2} to {:.2}) |", ratio.median, ratio.quartiles.0, ratio.quartiles.1);
    };
    println!("| {:<48} | {:>5.2} = {floor_ns:.1} ns       |", "tower-http AddAuthorizationLayer", 1.0);
    row("recovery off", kept[0]);
    row("401 renews the token, nothing is sent again", kept[1]);
    println!("| {:<48} | {:>5.2} = {cloned_floor_ns:.1} ns       |", "tower-http, cloned for every request", 1.0);
    row("recovery off, cloned for every request", cloned[0]);
    row("401 renews the token, cloned for every request", cloned[1]);

    let (two_threads, cloned_two_threads) = (kept[0].median, cloned[0].median);
    println!(
        "\nRESULT {}",
        serde_json::json!({
            "two_threads": two_threads,
            "renews": kept[1].median,
            "cloned_two_threads": cloned_two_threads,
            "floor_ns": floor_ns,
            "cloned_floor_ns": cloned_floor_ns,
        })
    );
    // A machine that runs something else may make a run meaningless, so only this bench says.
    if two_threads <= 0.5 && cloned_two_threads <= 0.8 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone)]
struct Services {
    floor: AddAuthorization<Static>,
    off: BearerAuth<Static, replay::Off>,
    never: BearerAuth<Static, replay::Never>,
}

/// Each thread has services of its own, as the workers of a server do.
fn run_kept(samples: usize, services: &Services, start: &dyn Fn()) -> Vec<Vec<Span>> {
    let Services { mut floor, mut off, mut never } = services.clone();
    take_turns(
        samples,
        &mut [
            &mut || batch(start, |request| send(&mut Static, request)),
            &mut || batch(start, |request| send(&mut floor, request)),
            &mut || batch(start, |request| send(&mut off, request)),
            &mut || batch(start, |request| send(&mut never, request)),
        ],
    )
}

/// Both threads clone the same services for every request.
fn run_cloned(samples: usize, services: &Services, start: &dyn Fn()) -> Vec<Vec<Span>> {
    take_turns(
        samples,
        &mut [
            &mut || batch(start, |request| send(&mut Static.clone(), request)),
            &mut || batch(start, |request| send(&mut services.floor.clone(), request)),
            &mut || batch(start, |request| send(&mut services.off.clone(), request)),
            &mut || batch(start, |request| send(&mut services.never.clone(), request)),
        ],
    )
}

fn batch(start: &dyn Fn(), mut send: impl FnMut(GetRequest)) -> Span {
    let mut started = false;
    time(REQUESTS, |request| {
        if !started {
            started = true;
            start();
        }
        send(request);
    })
}

type Run = fn(usize, &Services, &dyn Fn()) -> Vec<Vec<Span>>;

fn on_two_threads(samples: usize, services: &Services, run: Run) -> (Vec<Ratio>, f64) {
    let barrier = Barrier::default();
    let start = || barrier.meet();
    let (ours, other) = thread::scope(|scope| {
        let ours = scope.spawn(|| run(samples, services, &start));
        let other = scope.spawn(|| run(samples, services, &start));
        (ours.join().expect("no panic"), other.join().expect("no panic"))
    });
    compare(&at_the_same_time(&ours, &other), REQUESTS)
}

/// Where a machine has something else to do, two threads aren't always at work at the same time, and then they share nothing: such
/// samples are left out.
fn at_the_same_time(ours: &[Vec<Span>], other: &[Vec<Span>]) -> Vec<Vec<Span>> {
    let together = |sample: usize| {
        ours.iter().zip(other).all(|(ours, other)| {
            let ((begin, end), (other_begin, other_end)) = (ours[sample], other[sample]);
            let overlap = end.min(other_end).saturating_duration_since(begin.max(other_begin));
            overlap * 5 >= (end - begin) * 4
        })
    };
    let kept: Vec<_> = (0..ours[0].len()).filter(|&sample| together(sample)).collect();
    println!("{} of {} samples had both threads at work all the time", kept.len(), ours[0].len());
    ours.iter().map(|spans| kept.iter().map(|&sample| spans[sample]).collect()).collect()
}

/// Two threads meet here.
#[derive(Default)]
struct Barrier(AtomicU64);

impl Barrier {
    fn meet(&self) {
        let turn = self.0.fetch_add(1, Ordering::AcqRel) / 2;
        let mut tries = 0_u64;
        while self.0.load(Ordering::Acquire) / 2 <= turn {
            tries += 1;
            // The other may have been put aside: then this one mustn't keep it from coming back.
            if tries.is_multiple_of(20_000) {
                thread::yield_now();
            }
            spin_loop();
        }
    }
}
