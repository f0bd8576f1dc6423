//! Makes a plan smaller as long as it breaks the same promise: fewer events, less traffic, shorter.

use std::time::{Duration, Instant};

use crate::{
    plan::{Plan, Stack, What},
    promises::Broken,
    run::run,
};

/// The smallest plan found that breaks this promise.
pub fn shrink(plan: &Plan, broken: &Broken) -> Plan {
    let (mut smallest, began) = (plan.clone(), Instant::now());
    while began.elapsed() < PATIENCE {
        let smaller =
            candidates(&smallest).into_iter().find(|candidate| run(candidate, Some(broken.promise)).broken.is_some());
        match smaller {
            Some(smaller) => smallest = smaller,
            None => break,
        }
    }
    smallest
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
            | Self::Crash { down: lasts }
            | Self::Restart { down: lasts } => *lasts = (*lasts / 2).max(1),
            _ => {}
        }
    }
}
