//! How often token endpoints are asked, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Found, Run};
use crate::{
    plan::{Grant, How, Route, Tells, What},
    program::PER_PROGRAM,
    trace::{Happened, Outcome},
    world::millis,
};

pub fn one_at_a_time(run: &Run) -> Found {
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Asked { exchange, at_once, .. } if at_once > 1 => {
            Some((entry.at, format!("exchange {exchange} is one of {at_once}")))
        }
        _ => None,
    })
}

/// Only the first use of a token is noticed, and it counts until the next is due: a life after the last use, and the limit.
pub fn none_for_nobody(run: &Run) -> Found {
    let plan = run.plan;
    // What a store takes late is looked at once more.
    let wakes = |what: &What| {
        matches!(what, What::Refresh | What::Suspend { .. } | What::Freeze { .. } | What::StoreTrouble { .. })
    };
    let limit = millis(plan.program.rests?);
    // A token of unknown lifetime that was used once counts as used.
    if plan.any(wakes) || plan.program.user_returns.is_some() || !plan.server.says_life {
        return None;
    }
    let life = millis(plan.server.life * plan.server.lies.unwrap_or(100) / 100);
    // At the least: a second, below which a token that can't be had is asked for again.
    let most = life + limit.max(Duration::from_secs(1)) + 2 * run.fetch() + Duration::from_secs(2);
    let (mut used, mut open) = (BTreeMap::new(), BTreeMap::<usize, BTreeSet<u64>>::new());
    run.trace.iter().find_map(|entry| {
        match &entry.what {
            Happened::Started { program } | Happened::Crashed { program } => {
                open.remove(program);
                used.insert(*program, entry.at);
            }
            Happened::Called { request, .. } => {
                let program = (request / PER_PROGRAM) as usize;
                open.entry(program).or_default().insert(*request);
            }
            Happened::Ended { request, .. } => {
                let program = (request / PER_PROGRAM) as usize;
                open.entry(program).or_default().remove(request);
                used.insert(program, entry.at);
            }
            Happened::Authorized => used.values_mut().for_each(|at| *at = entry.at),
            Happened::Asked { program, exchange, .. } => {
                let is_used = open.get(program).is_some_and(|open| !open.is_empty());
                let at = used.get(program).filter(|_| !is_used)?;
                return (entry.at > *at + most)
                    .then(|| (entry.at, format!("exchange {exchange}, and the last use was at {at:?}")));
            }
            _ => {}
        }
        None
    })
}

/// With a store that works, and processes that are driven: whoever stands still for longer than a lease has lost it.
pub fn one_at_a_time_for_a_fleet(run: &Run) -> Found {
    let breaks_leases = |what: &What| {
        matches!(what, What::StoreTrouble { .. } | What::StoreLoss | What::StoreSetBack { .. } | What::Freeze { .. })
    };
    if !run.plan.has_store() || run.plan.any(breaks_leases) {
        return None;
    }
    let lease = Duration::from_secs(1);
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Asked { exchange, in_all, .. } if in_all > 1 => {
            let sleeps = |what: &What| matches!(what, What::Suspend { .. });
            let has_slept = run.happens(entry.at.saturating_sub(run.fetch() + 2 * lease), entry.at, sleeps);
            (!has_slept).then(|| (entry.at, format!("exchange {exchange} is one of {in_all}")))
        }
        _ => None,
    })
}

/// Once its lease has ended, and that of a member whose lease is lost: somebody who has no token asks.
pub fn go_on_without_the_dead(run: &Run) -> Found {
    let plan = run.plan;
    let others = |what: &What| !matches!(what, What::Crash { .. } | What::Restart { .. } | What::Refresh);
    let is_undisturbed = !plan.any(others) && plan.server.quota.is_none() && !plan.program.stack.exchanges_share_it;
    if !plan.has_store() || !is_undisturbed {
        return None;
    }
    let lease = Duration::from_secs(1);
    let most = 2 * lease + millis(20 * plan.store.takes.unwrap_or(2) + plan.skew * plan.programs as u64) + SOON;
    // What is under way, and since when it is that of a dead; who waits with no token, and since when.
    let (mut under_way, mut died, mut waiting) = (BTreeMap::new(), None::<Duration>, BTreeMap::new());
    run.trace.iter().find_map(|entry| {
        if let (Some(died), Some(since)) = (died, waiting.values().min()) {
            let waits = entry.at.saturating_sub(died.max(*since));
            if waits > most {
                return Some((entry.at, format!("nobody has asked for {waits:?} since a member died")));
            }
        }
        match entry.what {
            Happened::Asked { program, exchange, .. } => {
                under_way.insert(exchange, program);
                died = None;
            }
            Happened::Answered { exchange, .. } => drop(under_way.remove(&exchange)),
            Happened::Crashed { program } => {
                if under_way.values().any(|whose| *whose == program) {
                    died = Some(entry.at);
                }
                under_way.retain(|_, whose| *whose != program);
                waiting.retain(|request, _| request / PER_PROGRAM != program as u64);
            }
            Happened::Stopped { program } => waiting.retain(|request, _| request / PER_PROGRAM != program as u64),
            Happened::Called { request, had_token: false } => drop(waiting.insert(request, entry.at)),
            Happened::Sent { request, .. } | Happened::Ended { request, .. } => drop(waiting.remove(&request)),
            _ => {}
        }
        None
    })
}

/// A request that waits for a token goes on when another program has brought one, unless that dies before it is stored.
pub fn all_have_what_one_has(run: &Run) -> Found {
    let plan = run.plan;
    let others = |what: &What| !matches!(what, What::Crash { .. } | What::Restart { .. } | What::Refresh);
    let is_undisturbed = !plan.any(others) && plan.store.tells == Tells::AtOnce && plan.server.lies.is_none();
    // There a request with a token waits for others.
    let has_queue = plan.program.stack.limit_below.is_some() || plan.program.stack.buffer_below;
    if !plan.has_store() || plan.programs == 1 || !is_undisturbed || plan.server.life < 10_000 || has_queue {
        return None;
    }
    let most = millis(20 * plan.store.takes.unwrap_or(2) + plan.skew * plan.programs as u64) + SOON;
    // Who asked, and who has brought one lately: when.
    let (mut whose, mut brought, mut waiting) = (BTreeMap::new(), None::<(usize, Duration)>, BTreeMap::new());
    run.trace.iter().find_map(|entry| {
        if let Some((_, at)) = brought
            && entry.at > at + most
        {
            let late = waiting.iter().find(|(_, since)| **since < at).map(|(request, _)| *request);
            brought = None;
            if let Some(request) = late {
                return Some((entry.at, format!("request {request} still waits, and there is a token since {at:?}")));
            }
        }
        let of = |program: usize, request: u64| request / PER_PROGRAM == program as u64;
        match entry.what {
            Happened::Asked { program, exchange, .. } => drop(whose.insert(exchange, program)),
            Happened::Answered { exchange, outcome: Outcome::Issued { .. } } => {
                brought = whose.get(&exchange).map(|program| (*program, entry.at));
            }
            Happened::Crashed { program } | Happened::Stopped { program } => {
                waiting.retain(|request, _| !of(program, *request));
                // Perhaps before it was stored.
                brought = brought.filter(|(whose, _)| *whose != program);
            }
            Happened::Called { request, had_token: false } => drop(waiting.insert(request, entry.at)),
            Happened::Sent { request, .. } | Happened::Ended { request, .. } => drop(waiting.remove(&request)),
            _ => {}
        }
        None
    })
}

/// What timers and others add that look at the same time.
const SOON: Duration = Duration::from_millis(500);

pub fn keep_distance(run: &Run) -> Found {
    let (plan, server) = (run.plan, &run.plan.server);
    // A store is asked first, a permit is waited for, and what stands still is late: fetches begin earlier than they arrive.
    let arrives_late = plan.has_store() || plan.program.stack.exchanges_share_it;
    if arrives_late || plan.any(|what| matches!(what, What::Freeze { .. })) {
        return None;
    }
    let told = Duration::from_millis(server.life * server.lies.unwrap_or(100) / 100);
    let life = if server.says_life { told } else { Duration::MAX };
    let distance = (life / 2).min(Duration::from_secs(1)).saturating_sub(run.slack);
    closer_than(run, distance)
}

/// Where nothing goes wrong, nobody asks for one, no route refuses a good token, and exchanges are quick enough.
pub fn rest_for_half_a_life(run: &Run) -> Found {
    let (plan, server) = (run.plan, &run.plan.server);
    let is_undisturbed = plan.is_calm()
        && !plan.any(|what| *what == What::Refresh)
        && plan.traffic.iter().all(|traffic| traffic.route != Route::Closed)
        && plan.api.lag == 0
        && !plan.program.stack.exchanges_share_it;
    let (life, fetch) = (Duration::from_millis(server.life), run.fetch());
    if !is_undisturbed || !server.says_life || life < Duration::from_secs(10) || fetch > life / 5 {
        return None;
    }
    let least = life / 2 - fetch - Duration::from_millis(plan.skew * plan.programs as u64) - run.slack;
    closer_than(run, least)
}

/// Two fetches of one program, or of a fleet with a store, that begin closer to each other though the first has worked.
fn closer_than(run: &Run, distance: Duration) -> Found {
    let plan = run.plan;
    // When the last one began, and its number; and which have worked.
    let (mut last, mut worked) = (BTreeMap::new(), BTreeSet::new());
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Started { program } if !plan.has_store() => {
            last.remove(&program);
            None
        }
        Happened::Answered { exchange, outcome: Outcome::Issued { .. } } => {
            worked.insert(exchange);
            None
        }
        Happened::Asked { program, exchange, .. } => {
            let whose = if plan.has_store() { 0 } else { program };
            let (before, number) = last.insert(whose, (entry.at, exchange))?;
            let since = worked.contains(&number).then(|| entry.at - before)?;
            (since < distance).then(|| (entry.at, format!("exchange {exchange} comes {since:?} after another")))
        }
        _ => None,
    })
}

/// After 1, 2, 4 … 60 s, sooner for short lives: so often that the pauses grow to a minute, and then every half minute at the most.
pub fn back_off(run: &Run) -> Found {
    let plan = run.plan;
    let [event] = plan.events.as_slice() else { return None };
    let What::Outage { lasts, how } = event.what else { return None };
    let tells_nothing = !matches!(how, How::ActsAndBreaks | How::ActsAndCuts);
    if !tells_nothing || plan.server.quota.is_some() || plan.program.user_returns.is_some() {
        return None;
    }
    // With a store one attempt stands for all; each may have begun before it knew of it.
    let pause = if let How::RetryAfter(seconds) = how { (seconds * 1_000).min(29_000) } else { 29_000 };
    let most = GROWING + lasts / pause + if plan.has_store() { 2 * plan.programs as u64 } else { 0 };
    let mut counts = BTreeMap::new();
    let mut until = None;
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Event(What::Outage { .. }) => {
            until = Some(entry.at + Duration::from_millis(lasts));
            None
        }
        Happened::Asked { program, .. } if until.is_some_and(|until| entry.at < until) => {
            let whose = if plan.has_store() { 0 } else { program };
            let count = counts.entry(whose).or_insert(0);
            *count += 1;
            (*count > most).then(|| (entry.at, format!("{count} exchanges in an outage of {lasts} ms")))
        }
        _ => None,
    })
}

/// From 50 ms to a minute is doubled eleven times; and one was under way, and one is due when the token ends.
const GROWING: u64 = 14;

/// Up to an hour, by the fleet that shares what it was told.
pub fn come_when_told(run: &Run) -> Found {
    let plan = run.plan;
    let forgets =
        |what: &What| !matches!(what, What::Outage { .. } | What::Revoke | What::ApiDown { .. } | What::Suspend { .. });
    let may_be_earlier = matches!(plan.server.grant, Grant::Rotating { grace } if grace > 0)
        || plan.any(forgets)
        || plan.program.user_returns.is_some();
    if may_be_earlier {
        return None;
    }
    let slack = run.slack + Duration::from_millis(plan.skew * plan.programs as u64);
    let (mut whose, mut until) = (BTreeMap::new(), BTreeMap::new());
    run.trace.iter().find_map(|entry| match entry.what {
        // Then somebody authorizes again.
        Happened::Well { .. } => until.insert(usize::MAX, Duration::MAX).and(None),
        Happened::Asked { program, exchange, .. } => {
            let program = if plan.has_store() { 0 } else { program };
            whose.insert(exchange, program);
            let until = until.get(&program).filter(|_| !until.contains_key(&usize::MAX))?;
            (entry.at + slack < *until)
                .then(|| (entry.at, format!("exchange {exchange} comes, and the server has said {until:?}")))
        }
        Happened::Answered { exchange, outcome: Outcome::Refused { retry_after: Some(wait), .. } } => {
            let wait = wait.min(Duration::from_secs(3_600));
            until.insert(*whose.get(&exchange)?, entry.at + wait);
            None
        }
        _ => None,
    })
}

/// The pauses grow from one second to a minute, anew with each token that nobody refuses for a whole life; and as long as nobody was
/// seen to take what others refuse, with each one that somebody takes, because a fetch seems to have helped.
pub fn are_few_where_all_are_refused(run: &Run) -> Found {
    let (plan, server) = (run.plan, &run.plan.server);
    let is_undisturbed = plan.is_calm() && !plan.any(|what| matches!(what, What::Refresh | What::Restart { .. }));
    if !is_undisturbed || server.life < 900_000 {
        return None;
    }
    let mut counts = BTreeMap::new();
    let (mut refused, mut taken, mut is_contradicted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Arrived { request, token: Some(token), status } => {
            let program = (request / PER_PROGRAM) as usize;
            if status == 401 {
                refused.insert(token);
            } else if refused.contains(&token) {
                is_contradicted.insert(program);
            } else if !is_contradicted.contains(&program) {
                taken.insert((program, token));
            }
            None
        }
        Happened::Asked { program, .. } => {
            let count = counts.entry(program).or_insert(0);
            *count += 1;
            let helped = taken.iter().filter(|(whose, _)| *whose == program).count() as u64;
            let (minutes, lives) = (entry.at.as_millis() as u64 / 55_000, entry.at.as_millis() as u64 / server.life);
            let most = PAUSES * (1 + helped) + minutes + 2 * PAUSES * lives;
            (*count > most).then(|| (entry.at, format!("{count} exchanges of program {program}, {most} at most")))
        }
        _ => None,
    })
}

/// 1, 2, 4, 8, 16 and 32 s, and one to begin with.
const PAUSES: u64 = 8;
