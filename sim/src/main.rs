//! Plays many seeds, tells what breaks a promise, and ends with `RESULT {json}`.

use std::{
    io::{IsTerminal, stderr},
    panic::catch_unwind,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use tower_bearer_sim::{
    plan::Plan,
    promises::{Broken, PROMISES, UNFIT},
    run::{check, note_panics, run},
    shrink::shrink,
    trace::Trace,
};

/// Looks for promises that are broken.
#[derive(Parser)]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays a plan from a file instead, and tells its whole story
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How many broken promises to tell before giving up
    #[arg(long, default_value_t = 3)]
    stop_after: usize,
    /// Looks at this promise only
    #[arg(long)]
    promise: Option<String>,
    /// Lists the promises
    #[arg(long)]
    promises: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.promises {
        PROMISES.iter().for_each(|(promise, _)| println!("{promise}"));
        return ExitCode::SUCCESS;
    }
    // Who spins is stopped by one, too.
    note_panics();
    let plans: Box<dyn Fn(u64) -> Plan + Sync> = match &args.replay {
        Some(path) => {
            let text = std::fs::read_to_string(path).expect("the file can be read");
            let plan: Plan = serde_json::from_str(&text).expect("a plan");
            // Judging it may panic; that is told below.
            if let Ok(outcome) = catch_unwind(|| run(&plan, None)) {
                println!("{}", Trace::story(&outcome.trace));
            }
            Box::new(move |_| plan.clone())
        }
        None => Box::new(Plan::of),
    };
    let seeds = if args.replay.is_some() { 1 } else { args.seeds };
    let (seeds, broken) = play(&args, seeds, &plans);
    for (plan, found) in &broken {
        tell(plan, found);
    }
    println!("RESULT {}", serde_json::json!({ "seeds": seeds, "broken": broken.len() }));
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many were played, and those that break a promise, by seed.
fn play(args: &Args, seeds: u64, plans: &(dyn Fn(u64) -> Plan + Sync)) -> (u64, Vec<(Plan, Broken)>) {
    let (next, played, broken) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds || broken.lock().expect("nobody panics with it").len() >= args.stop_after {
                        return;
                    }
                    if number.is_multiple_of(100) && stderr().is_terminal() {
                        eprint!("\r{number} of {seeds} ");
                    }
                    let plan = plans(args.from + number);
                    // A promise that panics over a trace must not end the run without a word.
                    let checked = catch_unwind(|| check(&plan, args.promise.as_deref()).broken);
                    played.fetch_add(1, Ordering::Relaxed);
                    if let Some(found) = checked.unwrap_or_else(|_| Some(Broken::of(UNFIT))) {
                        broken.lock().expect("nobody panics with it").push((plan, found));
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().expect("nobody panics with it");
    broken.sort_by_key(|(plan, _)| plan.seed);
    (played.into_inner(), broken)
}

/// A short story, and the plan to play again.
fn tell(plan: &Plan, found: &Broken) {
    if found.promise == UNFIT {
        return println!("seed {}: broken: {UNFIT}\nplan: {}\n", plan.seed, serde_json::json!(plan));
    }
    let smallest = shrink(plan, found);
    let outcome = run(&smallest, Some(found.promise));
    let (at, why) = outcome.broken.map_or((found.at, found.why.clone()), |found| (found.at, found.why));
    println!("seed {}: broken: {}", plan.seed, found.promise);
    println!("at {:.3} s: {why}", at.as_secs_f64());
    // What leads to it.
    let until = outcome.trace.iter().position(|entry| entry.at > at).unwrap_or(outcome.trace.len());
    print!("{}", Trace::story(&outcome.trace[until.saturating_sub(40)..until]));
    println!("plan: {}\n", serde_json::to_string(&smallest).expect("a plan can be written"));
}
