//! One run: a plan is played on a paused clock, and what happened is looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    plan::{Grant, Plan, What},
    program::Program,
    promises::{self, Broken},
    trace::{Entry, Happened, Trace},
    world::{Shelf, World, millis},
};

/// What a run has shown.
pub struct Outcome {
    pub trace: Vec<Entry>,
    pub broken: Option<Broken>,
}

/// Plays a plan.
pub fn run(plan: &Plan) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let (world, played) = runtime.block_on(async {
        let world = World::new(plan.clone());
        let played = tokio::spawn(play(world.clone())).await;
        (world, played.map_err(|_| ()))
    });
    // What is left of the tasks goes here, and may still read the clock.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    let trace = world.trace.take();
    let broken =
        promises::broken(plan, &trace).or_else(|| played.is_err().then(|| Broken::of("the simulator itself works")));
    Outcome { trace, broken }
}

/// The same, and some are played twice: what a seed gives must not depend on anything else. (Where there is a
/// store, it does on the names that the crate draws for its owners.)
pub fn check(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let again = (plan.server.grant == Grant::ClientCredentials && plan.seed.is_multiple_of(16)).then(|| run(plan));
    if outcome.broken.is_none() && again.is_some_and(|again| again.trace != outcome.trace) {
        return Outcome { broken: Some(Broken::of("the same plan gives the same trace")), ..outcome };
    }
    outcome
}

/// What is to be done, when.
enum Act {
    Send(usize, u64),
    Happen(usize, What),
    Start(usize),
}

async fn play(world: World) {
    let start = Instant::now();
    let plan = world.plan.clone();
    let mut acts = Vec::new();
    for (number, traffic) in plan.traffic.iter().enumerate() {
        let at = |number: u64| traffic.from + number * traffic.every;
        let send = || Act::Send(number % plan.programs, traffic.width);
        acts.extend((0..traffic.count).map(|number| (at(number), send())));
    }
    for (number, event) in plan.events.iter().enumerate() {
        let program = number % plan.programs;
        acts.push((event.at, Act::Happen(program, event.what)));
        if let What::Crash { down } = event.what {
            acts.push((event.at + down, Act::Start(program)));
        }
    }
    acts.sort_by_key(|(at, _)| *at);

    let shelf = Shelf::default();
    let mut programs: Vec<_> = (0..plan.programs).map(|number| Program::new(&world, number, &shelf)).collect();
    programs.iter_mut().for_each(Program::start);
    for (at, act) in acts {
        sleep_until(start + millis(at)).await;
        match act {
            Act::Send(program, width) => programs[program].send(width),
            Act::Start(program) => programs[program].start(),
            Act::Happen(program, What::Crash { .. }) => programs[program].crash(),
            Act::Happen(program, What::Refresh) => programs[program].refresh(),
            Act::Happen(_, what) => world.happen(what),
        }
    }
    for program in &mut programs {
        program.start();
        program.rest().await;
    }
    // Everything is well again, for longer than the longest pause and the longest exchange.
    sleep_until(start + millis(plan.last_trouble())).await;
    sleep(millis(WELL)).await;
    world.trace.note(Happened::Event(promises::WELL_FOR_LONG.into()));
    for program in &mut programs {
        program.send(1);
        program.rest().await;
    }
}

/// A minute between two attempts, half a minute for each.
const WELL: u64 = 100_000;

impl Trace {
    /// A run's trace as text, a line for each entry.
    pub fn story(trace: &[Entry]) -> String {
        trace.iter().map(|entry| format!("{entry}\n")).collect()
    }
}
