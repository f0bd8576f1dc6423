//! One run: a plan is played on a paused clock, and what happened is looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    plan::{Plan, What},
    program::Program,
    promises::{self, Broken},
    trace::{Entry, Happened, Trace},
    world::{World, millis},
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

/// What is to be done, when.
enum Act {
    Send(u64),
    Happen(What),
    Start,
}

async fn play(world: World) {
    let start = Instant::now();
    let plan = world.plan.clone();
    let mut acts = Vec::new();
    for traffic in &plan.traffic {
        acts.extend((0..traffic.count).map(|number| (traffic.from + number * traffic.every, Act::Send(traffic.width))));
    }
    for event in &plan.events {
        acts.push((event.at, Act::Happen(event.what)));
        if let What::Crash { down } = event.what {
            acts.push((event.at + down, Act::Start));
        }
    }
    acts.sort_by_key(|(at, _)| *at);

    let mut program = Program::new(world.clone());
    program.start();
    for (at, act) in acts {
        sleep_until(start + millis(at)).await;
        match act {
            Act::Send(width) => program.send(width),
            Act::Start => program.start(),
            Act::Happen(What::Crash { .. }) => program.crash(),
            Act::Happen(What::Refresh) => program.refresh(),
            Act::Happen(what) => world.happen(what),
        }
    }
    program.start();
    program.rest().await;
    // Everything is well again, for longer than the longest pause and the longest exchange.
    sleep_until(start + millis(plan.last_trouble())).await;
    sleep(millis(WELL)).await;
    world.trace.note(Happened::Event(promises::WELL_FOR_LONG.into()));
    program.send(1);
    program.rest().await;
}

/// A minute between two attempts, half a minute for each.
const WELL: u64 = 100_000;

impl Trace {
    /// A run's trace as text, a line for each entry.
    pub fn story(trace: &[Entry]) -> String {
        trace.iter().map(|entry| format!("{entry}\n")).collect()
    }
}
