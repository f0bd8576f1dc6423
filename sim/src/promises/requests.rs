//! What a request may count on, on its way.

use std::{collections::BTreeMap, time::Duration};

use super::{Found, Run};
use crate::{
    plan::{Route, What},
    program::PER_PROGRAM,
    trace::{Happened, Outcome},
    world::millis,
};

pub fn none_waits_beside_a_token(run: &Run) -> Found {
    let mut called = BTreeMap::new();
    run.trace.iter().find_map(|entry| match &entry.what {
        Happened::Called { request, had_token } => {
            called.insert(*request, (entry.at, *had_token));
            None
        }
        Happened::Sent { request, .. } => {
            let (at, had_token) = called.remove(request)?;
            (had_token && entry.at > at).then(|| (entry.at, format!("request {request} waited {:?}", entry.at - at)))
        }
        // Unsent, though there was one.
        Happened::Ended { request, result: Err(error) } => {
            let (_, had_token) = called.remove(request)?;
            let is_foreign = error.contains("origin");
            (had_token && !is_foreign).then(|| (entry.at, format!("request {request} fails unsent: {error}")))
        }
        _ => None,
    })
}

/// Whatever else goes wrong, and however often something is fetched: the process has it, and nobody has ended it.
pub fn none_fails_beside_one(run: &Run) -> Found {
    let (plan, requests) = (run.plan, run.requests());
    let may_have_to_wait = plan.api.lag > 0 || run.refuses_all();
    // A life counts from when a token is asked for, and that waits for a permit there.
    let is_shorter = plan.server.lies.is_some() || plan.program.stack.exchanges_share_it;
    // Whoever refreshes while a new token isn't known everywhere may replace it with one that is still younger.
    let is_hasty = plan.api.lag > 0 && plan.any(|what| *what == What::Refresh);
    if is_shorter || is_hasty || may_have_to_wait && !(run.is_patient() && run.has_room()) {
        return None;
    }
    let (mut asked, mut called, mut good) = (BTreeMap::new(), BTreeMap::new(), Vec::<Good>::new());
    // How much goes on that keeps a token from its process.
    let mut trouble = 0;
    run.trace.iter().find_map(|entry| {
        match &entry.what {
            Happened::Started { program } => good.retain(|token| token.program != *program),
            Happened::Event(What::Revoke | What::Withdraw { access_too: true }) | Happened::Reused { .. } => {
                good.clear();
                // Those on their way are as dead.
                asked.clear();
            }
            Happened::Event(what) if keeps_tokens(what) => {
                good.retain(|token| token.from <= entry.at);
                trouble += i32::from(!matches!(what, What::Suspend { .. }));
            }
            Happened::Over(what) if keeps_tokens(what) => trouble -= 1,
            Happened::Asked { program, exchange, .. } => drop(asked.insert(*exchange, (*program, entry.at))),
            Happened::Answered { exchange, outcome: Outcome::Issued { ends, .. } } if trouble == 0 => {
                let (program, asked) = *asked.get(exchange)?;
                let from = entry.at + millis(plan.api.lag) + run.fetch() + run.slack;
                good.push(Good { program, from, until: (asked + millis(plan.server.life)).min(*ends) - run.slack });
            }
            Happened::Called { request, .. } => drop(called.insert(*request, entry.at)),
            Happened::Ended { request, result } => {
                let (at, (route, body)) = (called.remove(request)?, requests[request]);
                let fails = match result {
                    Ok(status) => *status == 401 && matches!(route, Route::Open | Route::Forbidden | Route::Busy),
                    Err(error) => error.contains("no valid token"),
                };
                let program = (request / PER_PROGRAM) as usize;
                let is_good = |token: &&Good| token.program == program && token.from <= at && entry.at < token.until;
                let token = good.iter().find(is_good).filter(|_| fails && plan.sends_again(body))?;
                return Some((entry.at, format!("request {request}: {result:?}, with one until {:?}", token.until)));
            }
            _ => {}
        }
        None
    })
}

/// A token that the API takes in this time.
struct Good {
    program: usize,
    from: Duration,
    until: Duration,
}

fn keeps_tokens(what: &What) -> bool {
    matches!(what, What::StoreTrouble { .. } | What::Freeze { .. } | What::Suspend { .. })
}

pub fn all_end(run: &Run) -> Found {
    run.trace.iter().find(|entry| entry.what == Happened::Stuck).map(|entry| (entry.at, String::new()))
}

pub fn none_goes_without_a_token(run: &Run) -> Found {
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Sent { request, token: None } => Some((entry.at, format!("request {request} carries none"))),
        _ => None,
    })
}

pub fn no_token_is_sent_after_its_end(run: &Run) -> Found {
    let plan = run.plan;
    // By a wall clock that was set, a token from the store is younger than it is.
    let is_misjudged = plan.has_store() && plan.any(|what| matches!(what, What::WallStep { .. }));
    if !plan.server.says_life || is_misjudged {
        return None;
    }
    let skew = Duration::from_millis(plan.skew * plan.programs as u64);
    let mut ends = BTreeMap::new();
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Answered { outcome: Outcome::Issued { token, ends: end, .. }, .. } => {
            ends.insert(token, end + skew);
            None
        }
        Happened::Sent { request, token: Some(token), .. } => {
            let end = *ends.get(&token)?;
            // A machine that has slept looks at its clocks within half a minute.
            let has_just_slept =
                run.happens(entry.at.saturating_sub(AWAKE), entry.at, |what| matches!(what, What::Suspend { .. }));
            (entry.at >= end && !has_just_slept)
                .then(|| (entry.at, format!("request {request} carries token {token}, over since {end:?}")))
        }
        _ => None,
    })
}

/// Half a minute, and what the wheel of timers adds.
const AWAKE: Duration = Duration::from_secs(31);

pub fn none_strays(run: &Run) -> Found {
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Strayed { request } => Some((entry.at, format!("request {request}"))),
        _ => None,
    })
}

/// Before it is sent for the first time or fails unsent, and after 401s in all.
pub fn none_waits_longer_than_allowed(run: &Run) -> Found {
    let stack = &run.plan.program.stack;
    // There a request waits for others, too.
    if stack.limit_below.is_some() || stack.buffer_below {
        return None;
    }
    let limit = Duration::from_millis(run.plan.program.max_wait) + run.slack;
    let (mut called, mut waited) = (BTreeMap::new(), BTreeMap::new());
    run.trace.iter().find_map(|entry| match &entry.what {
        Happened::Called { request, .. } => {
            called.insert(*request, entry.at);
            waited.remove(request);
            None
        }
        Happened::Crashed { program } => {
            // Its requests have died with it.
            called.retain(|request, _| *request / PER_PROGRAM != *program as u64);
            None
        }
        // From now on it may wait once more, when the answer is there.
        Happened::Arrived { request, status: 401, .. } => {
            called.insert(*request, entry.at + millis(run.plan.api.takes) + BODY);
            waited.entry(*request).or_insert(Duration::ZERO);
            None
        }
        Happened::Sent { request, .. } | Happened::Ended { request, .. } => {
            let at = called.remove(request)?;
            let stands_still = |what: &What| matches!(what, What::Suspend { .. } | What::Freeze { .. });
            let waits = entry.at.saturating_sub(at);
            let in_all = waited.get_mut(request).map_or(waits, |before| {
                *before += waits;
                *before
            });
            (in_all > limit
                && !run.happens(
                    at.saturating_sub(millis(run.plan.api.takes) + BODY + 2 * limit),
                    entry.at,
                    stands_still,
                ))
            .then(|| (entry.at, format!("request {request} waited {in_all:?}")))
        }
        _ => None,
    })
}

/// What the longest stream takes.
pub const BODY: Duration = Duration::from_millis(500);

/// Whoever has made the client below ready sends at once, or gives it back.
pub fn nothing_is_kept(run: &Run) -> Found {
    run.trace.iter().find_map(|entry| match &entry.what {
        Happened::Blocked { since, program } => {
            let stands_still = |what: &What| matches!(what, What::Suspend { .. } | What::Freeze { .. });
            let dies = run.trace.iter().any(|other| {
                other.what == Happened::Crashed { program: *program } && *since <= other.at && other.at <= entry.at
            });
            (entry.at > *since && !dies && !run.happens(*since, entry.at, stands_still))
                .then(|| (entry.at, format!("{:?} long, by program {program}", entry.at - *since)))
        }
        _ => None,
    })
}

pub fn all_are_whole(run: &Run) -> Found {
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Mangled { request } => Some((entry.at, format!("request {request}"))),
        _ => None,
    })
}
