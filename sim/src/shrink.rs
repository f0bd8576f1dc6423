//! Makes a plan smaller as long as it breaks the same promise: fewer events, less traffic, shorter.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::{
    plan::{Plan, Stack, What},
    promises::Broken,
    run::run,
};

/// The smallest plan found that breaks this promise.
pub fn shrink(plan: &Plan, broken: &Broken) -> Plan {
    let (mut smallest, began) = (plan.clone(), Instant::now());
    let breaks = |candidate: &Plan| {
        // Judging a candidate may panic: then it isn't this promise that it breaks.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(candidate, Some(broken.promise)).broken));
        outcome.is_ok_and(|found| found.is_some_and(|found| found.promise == broken.promise))
    };
    loop {
        let mut candidates = candidates(&smallest).into_iter().take_while(|_| began.elapsed() < PATIENCE);
        match candidates.find(|candidate| breaks(candidate)) {
            Some(smaller) => smallest = smaller,
            None => return smallest,
        }
    }
}

/// A counterexample that is still large is better than none.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plans that are a little smaller, the smallest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut candidates = Vec::new();
    let mut change = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if candidate != *plan {
            candidates.push(candidate);
        }
    };
    for number in 0..plan.events.len() {
        change(&|plan| {
            plan.events.remove(number);
        });
    }
    for number in 0..plan.traffic.len() {
        change(&|plan| {
            plan.traffic.remove(number);
        });
        change(&|plan| plan.traffic[number].count = (plan.traffic[number].count / 2).max(1));
        change(&|plan| plan.traffic[number].count = (plan.traffic[number].count - 1).max(1));
        change(&|plan| plan.traffic[number].width = 1);
    }
    for number in 0..plan.events.len() {
        change(&|plan| plan.events[number].what.shorten());
        change(&|plan| plan.events[number].whose = 0);
    }
    // Less time.
    change(&|plan| {
        plan.length /= 2;
        plan.events.iter_mut().for_each(|event| event.at /= 2);
        plan.traffic.iter_mut().for_each(|traffic| traffic.from /= 2);
    });
    for number in 0..plan.events.len() {
        change(&|plan| plan.events[number].at = plan.events[number].at * 3 / 4);
    }
    for number in 0..plan.traffic.len() {
        change(&|plan| plan.traffic[number].from = plan.traffic[number].from * 3 / 4);
        change(&|plan| plan.traffic[number].whose = 0);
    }
    change(&|plan| plan.programs = 1);
    change(&|plan| plan.programs = (plan.programs - 1).max(1));
    change(&|plan| plan.skew = 0);
    change(&|plan| plan.program.stack = Stack::default());
    change(&|plan| plan.program.user_returns = None);
    change(&|plan| plan.server.quota = None);
    change(&|plan| plan.server.ends = None);
    change(&|plan| plan.server.lies = None);
    change(&|plan| plan.store.takes = None);
    change(&|plan| plan.api.lag = 0);
    change(&|plan| plan.api.takes = 1);
    candidates
}

impl What {
    /// Half as long, where it lasts.
    fn shorten(&mut self) {
        match self {
            Self::Outage { lasts, .. }
            | Self::ApiDown { lasts }
            | Self::Suspend { lasts }
            | Self::Freeze { lasts }
            | Self::StoreTrouble { lasts, .. }
            | Self::Crash { down: lasts, .. }
            | Self::Restart { down: lasts }
            | Self::SetBack { by: lasts }
            | Self::StoreSetBack { by: lasts } => *lasts = (*lasts / 2).max(1),
            Self::WallStep { by } => *by /= 2,
            _ => {}
        }
    }
}
