//! Makes a plan smaller as long as it breaks the same promise: fewer events, less traffic, shorter.

use crate::{plan::Plan, promises::Broken, run::run};

/// The smallest plan found that breaks this promise.
pub fn shrink(plan: &Plan, broken: &Broken) -> Plan {
    let mut smallest = plan.clone();
    loop {
        let smaller = candidates(&smallest)
            .into_iter()
            .find(|candidate| run(candidate).broken.is_some_and(|found| found.promise == broken.promise));
        match smaller {
            Some(smaller) => smallest = smaller,
            None => return smallest,
        }
    }
}

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
    change(&|plan| plan.programs = 1);
    change(&|plan| plan.programs = (plan.programs - 1).max(1));
    change(&|plan| plan.api.lag = 0);
    change(&|plan| plan.api.takes = 1);
    candidates
}
