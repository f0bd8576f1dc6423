//! One run: a plan is played on a paused clock, and what happened is looked at.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    plan::{How, Plan, Traffic, What},
    program::Program,
    promises::{self, Broken, Run},
    trace::{Entry, Happened},
    world::{World, millis},
};

/// What a run has shown.
pub struct Outcome {
    pub trace: Vec<Entry>,
    pub broken: Option<Broken>,
}

/// Plays a plan, and looks whether this promise is kept; or all.
pub fn run(plan: &Plan, promise: Option<&str>) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    PANICKED.set(false);
    let (world, played) = runtime.block_on(async {
        let world = World::new(plan.clone());
        let played = tokio::spawn(play(world.clone())).await;
        (world, played.map_err(|_| ()))
    });
    // What is left of the tasks goes here, and may still read the clock.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    if PANICKED.get() {
        world.trace.note(Happened::Panicked);
    }
    let trace = world.trace.take();
    let broken = promises::broken(&Run::new(plan, &trace), promise)
        .or_else(|| played.is_err().then(|| Broken::of(promises::UNFIT)));
    Outcome { trace, broken }
}

/// From now on panics are noted, wherever they are caught, instead of told.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|_| PANICKED.set(true)));
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// The same, and some are played twice: what a seed gives must not depend on anything else.
pub fn check(plan: &Plan, promise: Option<&str>) -> Outcome {
    let outcome = run(plan, promise);
    if outcome.broken.is_some() || !plan.seed.is_multiple_of(16) {
        return outcome;
    }
    let again = run(plan, promise).trace;
    let broken = (again != outcome.trace).then(|| {
        let same = again.iter().zip(&outcome.trace).take_while(|(one, other)| one == other).count();
        let [one, other] = [&outcome.trace, &again].map(|trace| trace.get(same));
        let at = one.or(other).map_or(Duration::ZERO, |entry| entry.at);
        Broken { promise: "the same plan gives the same trace", at, why: format!("{one:?} or {other:?}") }
    });
    Outcome { broken, ..outcome }
}

/// What is to be done, when.
enum Act {
    Send(usize, Traffic),
    Happen(usize, What),
    Start(usize),
    /// Whoever was to die at work lives on.
    Spare,
}

fn acts(plan: &Plan) -> Vec<(u64, Act)> {
    let mut acts = Vec::new();
    for traffic in &plan.traffic {
        let send = || Act::Send(traffic.whose % plan.programs, traffic.clone());
        acts.extend((0..traffic.count).map(|count| (traffic.from + count * traffic.every, send())));
    }
    for event in &plan.events {
        let program = event.whose % plan.programs;
        acts.push((event.at, Act::Happen(program, event.what)));
        match event.what {
            What::Crash { down, at_work: true } => {
                acts.push((event.at + down, Act::Spare));
                acts.extend((0..plan.programs).map(|program| (event.at + down, Act::Start(program))));
            }
            What::Crash { down, .. } | What::Restart { down } => acts.push((event.at + down, Act::Start(program))),
            _ => {}
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

async fn play(world: World) {
    let (start, plan) = (Instant::now(), world.plan.clone());
    let mut programs: Vec<_> = (0..plan.programs).map(|number| Program::new(&world, number)).collect();
    programs.iter_mut().for_each(Program::start);
    for (at, act) in acts(&plan) {
        loop {
            tokio::select! {
                biased;
                victim = world.victim() => {
                    world.trace.note(Happened::Event(What::Crash { down: 0, at_work: false }));
                    programs[victim].crash();
                }
                () = sleep_until(start + millis(at)) => break,
            }
        }
        match act {
            Act::Spare => world.happen(What::Crash { down: 0, at_work: false }),
            Act::Send(program, traffic) => programs[program].send(&traffic),
            Act::Start(program) => programs[program].start(),
            Act::Happen(program, what) => {
                let program = &mut programs[program];
                program.world.happen(what);
                match what {
                    What::Crash { at_work: false, .. } => program.crash(),
                    What::Restart { .. } => program.stop().await,
                    What::Refresh => program.refresh(),
                    _ => {}
                }
            }
        }
    }
    for program in &mut programs {
        program.start();
        program.rest().await;
    }
    sleep_until(start + millis(plan.last_trouble())).await;
    sleep(millis(plan.until_well())).await;
    world.trace.note(Happened::Well { lives: world.authorization_has_lived() });
    ask(&mut programs).await;
    sleep(millis(plan.until_well())).await;
    world.trace.note(Happened::Later { lives: world.authorization_has_lived() });
    world.look_into_the_store();
    ask(&mut programs).await;
    // What the store has lost, and nobody knows any more, is as dead.
    let forgets = plan.any(|what| matches!(what, What::StoreLoss | What::StoreSetBack { .. }));
    if !world.authorization_lives() || forgets && programs.iter().any(Program::is_dead) {
        programs[0].authorize().await;
        sleep(millis(plan.until_well())).await;
        // The new one may have ended meanwhile, too.
        if world.authorization_lives() {
            world.trace.note(Happened::Authorized);
            ask(&mut programs).await;
        }
    }
    for program in &mut programs {
        program.leave().await;
    }
    drop(programs);
    // Longer than anything that is given up may take.
    sleep(millis(120_000)).await;
    let tasks = Handle::current().metrics().num_alive_tasks() - 1;
    let bodies = Arc::strong_count(&*world.bodies) - 1;
    world.trace.note(Happened::Left { tasks, bodies });
}

/// Everybody sends a request.
async fn ask(programs: &mut [Program]) {
    for program in programs {
        program.ask();
        program.rest().await;
    }
}

impl Plan {
    /// How long it takes until everything works again: a minute between two attempts, half a minute for each; as long as the server
    /// has asked for, or five minutes after it has rejected the credentials.
    fn until_well(&self) -> u64 {
        let after = |what: &What| match what {
            What::Outage { how: How::RetryAfter(seconds), .. } => seconds * 1_000 + 40_000,
            What::Outage { how: How::Rejects, .. } => 340_000,
            _ => 100_000,
        };
        let quota = self.server.quota.map_or(0, |quota| quota.window + 100_000);
        self.events.iter().map(|event| after(&event.what)).max().unwrap_or_default().max(100_000).max(quota)
    }
}
