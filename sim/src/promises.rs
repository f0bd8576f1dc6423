//! What the crate promises, each as a function that looks through a trace; its sentence is the documentation's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    plan::{Grant, How, Plan, Policy, What},
    trace::{Entry, Happened, Outcome},
    world::millis,
};

/// A promise that a trace breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    pub promise: &'static str,
    /// Where it shows.
    pub at: Duration,
    pub why: String,
}

impl Broken {
    pub fn of(promise: &'static str) -> Self {
        Self { promise, at: Duration::ZERO, why: String::new() }
    }
}

/// The first promise that is broken.
pub fn broken(plan: &Plan, trace: &[Entry]) -> Option<Broken> {
    PROMISES.iter().find_map(|(promise, look)| {
        let (at, why) = look(plan, trace)?;
        Some(Broken { promise, at, why })
    })
}

type Found = Option<(Duration, String)>;
type Look = fn(&Plan, &[Entry]) -> Found;

/// All of them.
pub const PROMISES: [(&str, Look); 8] = [
    ("nothing spins", nothing_spins),
    ("while there is a valid token, no request waits", no_request_waits_beside_a_token),
    ("no token is sent after its end", no_token_is_sent_after_its_end),
    ("no request waits longer than `max_wait`", no_wait_is_longer_than_allowed),
    ("one fetch at a time", one_fetch_at_a_time),
    (
        "after a fetch that worked there is none for a second, or half of a life that is shorter",
        fetches_keep_their_distance,
    ),
    ("where nothing goes wrong, no request fails", calm_runs_fail_no_request),
    ("once everything is well, everything works again", everything_works_again),
];

/// An event that everybody knows.
pub const WELL_FOR_LONG: &str = "everything has been well for 100 s";

fn nothing_spins(_: &Plan, trace: &[Entry]) -> Found {
    trace.iter().find(|entry| entry.what == Happened::Spins).map(|entry| (entry.at, String::new()))
}

fn no_request_waits_beside_a_token(_: &Plan, trace: &[Entry]) -> Found {
    let mut made = BTreeMap::new();
    trace.iter().find_map(|entry| match entry.what {
        Happened::Made { request, had_token } => {
            made.insert(request, (entry.at, had_token));
            None
        }
        Happened::Arrived { request, .. } => {
            let (at, had_token) = made.remove(&request)?;
            (had_token && entry.at > at).then(|| (entry.at, format!("request {request} waited {:?}", entry.at - at)))
        }
        _ => None,
    })
}

fn no_token_is_sent_after_its_end(plan: &Plan, trace: &[Entry]) -> Found {
    if !plan.server.says_life {
        return None;
    }
    let mut ends = BTreeMap::new();
    trace.iter().find_map(|entry| match entry.what {
        Happened::Answered { outcome: Outcome::Issued { token, ends: end }, .. } => {
            ends.insert(token, end);
            None
        }
        Happened::Arrived { request, token: Some(token), .. } => {
            let end = *ends.get(&token)?;
            (entry.at >= end)
                .then(|| (entry.at, format!("request {request} carries token {token}, over since {end:?}")))
        }
        Happened::Arrived { request, token: None, .. } => {
            Some((entry.at, format!("request {request} carries none at all")))
        }
        _ => None,
    })
}

/// Of a request that is sent for the first time, or fails unsent.
fn no_wait_is_longer_than_allowed(plan: &Plan, trace: &[Entry]) -> Found {
    let limit = millis(plan.program.max_wait) + TIMER;
    let mut made = BTreeMap::new();
    trace.iter().find_map(|entry| match &entry.what {
        Happened::Made { request, .. } => {
            made.insert(*request, entry.at);
            None
        }
        Happened::Crashed { program } => {
            // Its requests have died with it.
            made.retain(|request, _| *request / 1_000_000 != *program as u64);
            None
        }
        Happened::Arrived { request, .. } | Happened::Ended { request, .. } => {
            let waited = entry.at - made.remove(request)?;
            (waited > limit).then(|| (entry.at, format!("request {request} waited {waited:?}")))
        }
        _ => None,
    })
}

fn one_fetch_at_a_time(_: &Plan, trace: &[Entry]) -> Found {
    trace.iter().find_map(|entry| match entry.what {
        Happened::Asked { exchange, at_once, .. } if at_once > 1 => {
            Some((entry.at, format!("exchange {exchange} is one of {at_once}")))
        }
        _ => None,
    })
}

fn fetches_keep_their_distance(plan: &Plan, trace: &[Entry]) -> Found {
    // A store is asked first, and a refresh token that must be spent once only waits for others before: fetches begin earlier than they arrive.
    if plan.server.grant != Grant::ClientCredentials {
        return None;
    }
    let life = if plan.server.says_life { millis(plan.server.life) } else { Duration::MAX };
    let distance = (life / 2).min(Duration::from_secs(1)) - TIMER;
    // Of each program: when the last one began, and its number; and which have worked.
    let (mut last, mut worked) = (BTreeMap::new(), BTreeSet::new());
    trace.iter().find_map(|entry| match entry.what {
        Happened::Started { program } => {
            last.remove(&program);
            None
        }
        Happened::Answered { exchange, outcome: Outcome::Issued { .. } } => {
            worked.insert(exchange);
            None
        }
        Happened::Asked { program, exchange, .. } => {
            let (before, number) = last.insert(program, (entry.at, exchange))?;
            let since = worked.contains(&number).then(|| entry.at - before)?;
            (since < distance).then(|| (entry.at, format!("exchange {exchange} comes {since:?} after another")))
        }
        _ => None,
    })
}

fn calm_runs_fail_no_request(plan: &Plan, trace: &[Entry]) -> Found {
    // An end that isn't told is found out by a 401, which only those get over that are sent again.
    let resends = plan.program.policy != Policy::Never && plan.program.max_wait >= 30_000;
    // A token that the API doesn't know for most of its life helps nobody.
    let (_, slowest) = plan.server.takes;
    let has_room = plan.server.life > 2 * slowest + 2 * plan.api.lag + 2_000;
    if !plan.is_calm() || !resends || !has_room {
        return None;
    }
    failed(trace)
}

fn failed(trace: &[Entry]) -> Found {
    trace.iter().find_map(|entry| match &entry.what {
        Happened::Ended { result: Ok(200), .. } => None,
        Happened::Ended { request, result } => Some((entry.at, format!("request {request}: {result:?}"))),
        _ => None,
    })
}

fn everything_works_again(plan: &Plan, trace: &[Entry]) -> Found {
    let reused = trace.iter().any(|entry| entry.what == Happened::Reused);
    if reused {
        return reuse_has_a_reason(plan, trace);
    }
    let (_, slowest) = plan.server.takes;
    let has_room = plan.server.life > 2 * slowest + 2 * plan.api.lag + 2_000;
    let is_sent_again = plan.program.policy != Policy::Never && plan.program.max_wait >= 30_000;
    // A refresh token that may be spent is shown again when the token in use is over, not when the API refuses that.
    let is_in_doubt = matches!(plan.server.grant, Grant::Rotating { .. }) && may_lose_an_answer(plan);
    if !has_room || !is_sent_again || is_in_doubt {
        return None;
    }
    let from = trace.iter().position(|entry| entry.what == Happened::Event(WELL_FOR_LONG.into()))?;
    failed(&trace[from..])
}

/// A refresh token is shown again only where somebody can't know that it was spent: an answer was lost, or the process died over it.
fn reuse_has_a_reason(plan: &Plan, trace: &[Entry]) -> Found {
    let loses = may_lose_an_answer(plan);
    let rotates = matches!(plan.server.grant, Grant::Rotating { .. });
    let reused = trace.iter().find(|entry| entry.what == Happened::Reused)?;
    (!loses || !rotates).then(|| (reused.at, "a spent refresh token was shown, and no answer was lost".into()))
}

fn may_lose_an_answer(plan: &Plan) -> bool {
    plan.events.iter().any(|event| match event.what {
        What::Outage { how, .. } => matches!(how, How::Hangs | How::ActsAndBreaks | How::Status(_)),
        What::Crash { .. } => true,
        _ => false,
    })
}

/// How exact tokio's timers are, and what it takes to ask the store before an exchange arrives.
const TIMER: Duration = Duration::from_millis(10);
