//! Plays seeds over real sockets, many at the same time, and ends with `RESULT {json}`.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::task::JoinSet;
use tower_bearer_sim::wire::{
    plan::Plan,
    run::{Outcome, run},
    story::Counts,
};

/// Looks for promises that are broken.
#[derive(Parser)]
struct Args {
    /// For how long new runs begin; each takes up to about twenty seconds
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many runs there are at a time
    #[arg(long, default_value_t = 60)]
    at_once: usize,
    /// The first seed; without it they begin anywhere
    #[arg(long)]
    from: Option<u64>,
    /// Plays this one seed so often instead, and tells the last run
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// How many broken promises to tell before giving up
    #[arg(long, default_value_t = 3)]
    stop_after: u64,
}

#[derive(Default)]
struct Sums {
    runs: u64,
    counts: Counts,
    faults: u64,
    broken: u64,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.counts.add(&outcome.counts);
        self.faults += (outcome.plan.faults.len() + outcome.plan.revocations.len()) as u64;
        if let Some(broken) = &outcome.broken {
            self.broken += 1;
            // What leads to it, and a little of what follows.
            let (from, to) = (broken.at.saturating_sub(Duration::from_secs(6)), broken.at + Duration::from_millis(500));
            println!("{}", outcome.text(from..=to));
            println!("seed {}: broken: {}", outcome.plan.seed, broken.promise);
            println!("at {:.3} s: {}\n", broken.at.as_secs_f64(), broken.why);
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut sums = Sums::default();
    if let Some(seed) = args.seed {
        let mut runs: JoinSet<_> = (0..args.times).map(|_| run(Plan::of(seed))).collect();
        while let Some(outcome) = runs.join_next().await {
            let outcome = outcome.expect("a run ends");
            sums.add(&outcome);
            if runs.is_empty() {
                println!("{}", outcome.text(Duration::ZERO..=Duration::MAX));
            }
        }
    } else {
        play(&args, &mut sums).await;
    }
    let Sums { runs, counts, faults, broken } = sums;
    let mut result = serde_json::json!({ "runs": runs, "faults": faults, "broken": broken });
    let without_good_times = counts.runs_without_good_times;
    let counts = serde_json::to_value(&counts).expect("numbers can be written");
    if let (Some(result), serde_json::Value::Object(counts)) = (result.as_object_mut(), counts) {
        result.extend(counts);
    }
    // A machine that does too much else can't be told from a crate that is too late.
    let is_judged = 2 * without_good_times <= runs;
    if !is_judged {
        println!("NOT JUDGED: the machine stood still too often, in {without_good_times} of {runs} runs");
    }
    println!("RESULT {result}");
    if broken == 0 && is_judged { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play(args: &Args, sums: &mut Sums) {
    let first = args.from.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let (start, length) = (Instant::now(), Duration::from_secs_f64(60.0 * args.minutes));
    let (mut runs, mut seed, mut told) = (JoinSet::new(), first, Instant::now());
    loop {
        let begins = start.elapsed() < length && sums.broken < args.stop_after;
        if begins && runs.len() < args.at_once {
            runs.spawn(run(Plan::of(seed)));
            seed += 1;
            // Not all of them do the same at the same time.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Some(outcome) = runs.join_next().await else { return };
        sums.add(&outcome.expect("a run ends"));
        let pause = if stderr().is_terminal() { 1 } else { 30 };
        if told.elapsed() > Duration::from_secs(pause) {
            told = Instant::now();
            eprintln!(
                "{:>4} s: {} runs, {} requests, {} broken",
                start.elapsed().as_secs(),
                sums.runs,
                sums.counts.requests,
                sums.broken
            );
        }
    }
}
