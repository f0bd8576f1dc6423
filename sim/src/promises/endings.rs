//! What everything comes to: where nothing goes wrong, and when it is over.

use std::{collections::BTreeMap, time::Duration};

use tower_bearer::State;

use super::{Found, Run, requests::BODY};
use crate::{
    plan::{Body, Grant, How, Plan, Route, Tells, What},
    program::PER_PROGRAM,
    trace::{Entry, Happened, Outcome},
    world::millis,
};

impl Run<'_> {
    /// How long a fetch takes at the most, with what is asked of the store.
    pub fn fetch(&self) -> Duration {
        let store = if self.plan.has_store() { 10 * self.plan.store.takes.unwrap_or(2) } else { 0 };
        millis(self.plan.server.takes.1 + store)
    }

    /// Whether there is a route that refuses everybody.
    pub fn refuses_all(&self) -> bool {
        self.plan.traffic.iter().any(|traffic| traffic.route == Route::Closed)
    }

    /// Whether a token that came too late, or that the API doesn't know for long, leaves room for another.
    pub fn has_room(&self) -> bool {
        let plan = self.plan;
        let quota =
            plan.server.quota.map_or(0, |quota| 2 * quota.window * (plan.programs as u64 + quota.most) / quota.most);
        let told = plan.server.life * plan.server.lies.unwrap_or(100) / 100;
        let life = plan.server.life.min(told);
        // Where one route has tokens fetched again and again, and none is known at once, a short life is over before any is.
        let is_hopeless = plan.api.lag > 0 && self.refuses_all() && life < 60_000;
        !is_hopeless && millis(life) > 2 * self.fetch() + 2 * millis(plan.api.lag + quota) + Duration::from_secs(2)
    }

    /// How long a queue below may be at the most, in milliseconds.
    fn queue(&self) -> u64 {
        let (plan, stack) = (self.plan, &self.plan.program.stack);
        let requests: u64 = plan.traffic.iter().map(|traffic| traffic.count * traffic.width).sum();
        requests * (plan.api.takes + BODY.as_millis() as u64) / stack.limit_below.unwrap_or(1) as u64
    }

    /// Exchanges that wait for permits behind requests may take any time, and tokens end in queues.
    fn is_crowded(&self) -> bool {
        let stack = &self.plan.program.stack;
        let waits_below = stack.exchanges_share_it || stack.buffer_below && self.queue() > self.plan.server.life / 4;
        stack.limit_below.is_some() && waits_below
    }

    /// Whether requests wait long enough for everything that may come.
    pub fn is_patient(&self) -> bool {
        // A new token that isn't known yet is tried again within four seconds.
        let waits_for_the_api = self.plan.program.stack.patience.is_none_or(|patience| patience >= 5_000);
        self.plan.program.max_wait >= 30_000 && (self.plan.api.lag == 0 || waits_for_the_api)
    }

    /// The first request that has another answer than its route gives, of those that could be sent again if they had to.
    fn failed(&self, entries: &[Entry], must_go_again: bool) -> Found {
        let (requests, stack) = (self.requests(), &self.plan.program.stack);
        let mut made = BTreeMap::new();
        entries.iter().find_map(|entry| match &entry.what {
            Happened::Made { request, .. } => {
                made.insert(*request, entry.at);
                None
            }
            Happened::Ended { request, result } => {
                let (route, body) = requests[request];
                let took = made.get(request).map_or(Duration::ZERO, |at| entry.at - *at);
                let is_given_up = stack.patience.is_some_and(|patience| took >= millis(patience));
                let is_excused = is_given_up || must_go_again && !self.plan.sends_again(body);
                (!is_excused && !is_right(route, result))
                    .then(|| (entry.at, format!("request {request} ({route:?}, {body:?}): {result:?}")))
            }
            _ => None,
        })
    }
}

fn is_right(route: Route, result: &Result<u16, String>) -> bool {
    match (route, result) {
        (Route::Open, Ok(200))
        | (Route::Forbidden, Ok(403))
        | (Route::Scope | Route::Closed, Ok(401))
        | (Route::Busy, Ok(200 | 429 | 503)) => true,
        (Route::Elsewhere, Err(error)) => error.contains("origin"),
        _ => false,
    }
}

pub fn calm_runs_fail_no_request(run: &Run) -> Found {
    let plan = run.plan;
    if !plan.is_calm() || !run.is_patient() || !run.has_room() || run.is_crowded() {
        return None;
    }
    let refuses_all = run.refuses_all();
    if refuses_all && !plan.server.says_life {
        // An end that isn't told can't be told from such a route, for a minute at the most.
        return None;
    }
    // An end that isn't told is found out by a 401, which only those get over that are sent again.
    run.failed(run.trace, !plan.server.says_life || plan.api.lag > 0 || refuses_all)
}

/// A fleet of which one member fetches is as well as that.
pub fn calm_runs_show_no_failure(run: &Run) -> Found {
    // Whoever has never fetched doesn't know how slow the server is, and allows half of what is left of a token.
    let is_slow = run.fetch() > millis(run.plan.server.life / 10);
    if !run.plan.is_calm() || !run.has_room() || run.is_crowded() || is_slow {
        return None;
    }
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Shows { state: State::Asleep, .. } if run.plan.program.rests.is_some() => None,
        Happened::Shows { program, state, .. } if !matches!(state, State::Starting | State::Live | State::Expired) => {
            Some((entry.at, format!("program {program} shows {state:?}")))
        }
        _ => None,
    })
}

/// A fleet that is always renewing keeps nobody out.
pub fn calm_runs_have_tokens(run: &Run) -> Found {
    let plan = run.plan;
    let may_be_late = !plan.server.says_life || plan.any(|what| *what == What::Refresh);
    let may_be_late = may_be_late || plan.program.rests.is_some();
    if !plan.is_calm() || !run.has_room() || run.is_crowded() || run.refuses_all() || may_be_late {
        return None;
    }
    let most = millis(plan.server.life) + 2 * run.fetch() + Duration::from_secs(4);
    let mut without: BTreeMap<usize, Duration> = BTreeMap::new();
    run.trace.iter().find_map(|entry| {
        match entry.what {
            Happened::Started { program } | Happened::Shows { program, usable: false, .. } => {
                without.entry(program).or_insert(entry.at);
            }
            Happened::Shows { program, usable: true, .. } | Happened::Stopped { program } => {
                without.remove(&program);
            }
            // Long after all have ended.
            Happened::Left { .. } => return None,
            _ => {}
        }
        let (program, since) = without.iter().find(|(_, since)| entry.at > **since + most)?;
        Some((entry.at, format!("program {program} has been without a token since {since:?}")))
    })
}

/// Programs that fetch for themselves alone, so that the trace shows which token each has.
pub fn calm_runs_keep_what_is_used(run: &Run) -> Found {
    let plan = run.plan;
    let is_shared = plan.programs > 1 && plan.has_store();
    let may_be_late = !plan.server.says_life || plan.any(|_| true) || plan.api.lag > 0;
    if !plan.is_calm() || !run.has_room() || run.is_crowded() || run.refuses_all() || may_be_late || is_shared {
        return None;
    }
    // Whoever uses it in time for a fetch, of which the first may be given up.
    let in_time = 3 * run.fetch() + Duration::from_secs(2);
    let (mut whose, mut ends) = (BTreeMap::new(), BTreeMap::new());
    // The newest token of each program, and whether it was used in time.
    let mut newest: BTreeMap<usize, (u64, bool)> = BTreeMap::new();
    run.trace.iter().find_map(|entry| {
        match entry.what {
            Happened::Asked { program, exchange, .. } => drop(whose.insert(exchange, program)),
            Happened::Answered { exchange, outcome: Outcome::Issued { token, ends: end, .. } } => {
                newest.insert(*whose.get(&exchange)?, (token, false));
                ends.insert(token, end);
            }
            Happened::Sent { request, token: Some(token) } => {
                let newest = newest.get_mut(&((request / PER_PROGRAM) as usize)).filter(|newest| newest.0 == token)?;
                newest.1 |= entry.at + in_time < ends[&token];
            }
            Happened::Called { request, had_token: false } => {
                let (token, was_used) = *newest.get(&((request / PER_PROGRAM) as usize))?;
                return (was_used && entry.at >= ends[&token])
                    .then(|| (entry.at, format!("request {request} finds none, though token {token} was used")));
            }
            _ => {}
        }
        None
    })
}

/// Once the server can be asked: requests are served, and the state says so.
pub fn everything_works_again(run: &Run) -> Found {
    let plan = run.plan;
    // Where all find out at the same time that their token has ended, a quota may be too small for all.
    let is_found_out = !plan.server.says_life
        || plan.server.lies.is_some()
        || plan.any(|what| matches!(what, What::Revoke | What::Withdraw { .. }));
    let is_crowded = plan.server.quota.is_some() && is_found_out;
    if !run.has_room() || is_crowded {
        return None;
    }
    // The API has refused a token, and nobody knows whether the refresh token is spent: that is tried when it was refused for a minute.
    let is_in_doubt = matches!(plan.server.grant, Grant::Rotating { .. }) && loses_answers(plan) && is_found_out;
    // That needs a second 401 a minute after the first, and the next attempt may be a minute away by then: nobody is left to see it.
    if is_in_doubt && !plan.server.says_life {
        return None;
    }
    let begin = if is_in_doubt { Happened::Later { lives: true } } else { Happened::Well { lives: true } };
    let from = run.trace.iter().position(|entry| entry.what == begin)?;
    let is_dead = |entry: &Entry| {
        matches!(
            entry.what,
            Happened::Authorized
                | Happened::Later { lives: false }
                | Happened::Shows { state: State::ReauthorizationRequired, lives: false, .. }
        )
    };
    if run.trace[from..].iter().any(is_dead) {
        return None;
    }
    // What ends without notice is found out by a 401.
    let is_served = run.is_patient() && plan.sends_again(Body::Empty);
    let failed = if is_served { run.failed(&run.trace[from..], false) } else { None };
    // A fleet whose store tells of nothing may learn of a new token when the old one has just ended.
    let is_told = plan.programs == 1 || plan.store.tells != Tells::Nothing || plan.server.life >= 60_000;
    // Programs that share nothing may meet at a quota at any time.
    let meet = plan.server.quota.is_some() && plan.programs > 1 && !plan.has_store();
    let later = run.trace.iter().position(|entry| matches!(entry.what, Happened::Later { .. }))?;
    let wrong = || (0..plan.programs).find_map(|program| is_live(&run.trace[..later], program, plan));
    failed.or_else(|| if is_told && !meet { wrong() } else { None })
}

/// Unless the process has died with it, or the store has lost it.
pub fn what_arrives_is_stored(run: &Run) -> Found {
    let plan = run.plan;
    let dies = |what: &What| matches!(what, What::Crash { .. } | What::Freeze { .. } | What::Suspend { .. });
    let keeps = |what: &What| {
        matches!(what, What::StoreTrouble { .. } | What::StoreLoss | What::StoreSetBack { .. } | What::SetBack { .. })
    };
    let loses = |what: &What| matches!(what, What::StoreLoss | What::StoreSetBack { .. });
    if plan.store.tells == Tells::Nothing && plan.any(loses) {
        // That is noticed when the next token is fetched.
        return None;
    }
    if plan.program.rests.is_some() && plan.any(loses) {
        // Whoever is asleep finds out when it is used.
        return None;
    }
    let mut lives = false;
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Later { lives: still } => {
            lives = still;
            None
        }
        Happened::Kept { stored, heard, at } => {
            let to_store = run.fetch() + TO_STORE;
            let is_lost = run.happens(at.saturating_sub(run.fetch()), at + to_store, dies)
                || plan.any(keeps) && plan.any(|what| dies(what) || matches!(what, What::Restart { .. }));
            let is_due = lives && entry.at > at + to_store;
            (is_due && !is_lost && stored != Some(heard))
                .then(|| (at, format!("{heard} came, and {stored:?} is stored")))
        }
        _ => None,
    })
}

pub fn a_new_authorization_revives(run: &Run) -> Found {
    let plan = run.plan;
    if !run.has_room() || !run.is_patient() || !plan.sends_again(Body::Empty) {
        return None;
    }
    let from = run.trace.iter().position(|entry| entry.what == Happened::Authorized)?;
    run.failed(&run.trace[from..], false)
}

/// Whether the state that a program shows after all that is the true one.
fn is_live(trace: &[Entry], program: usize, plan: &Plan) -> Found {
    let (at, state) = trace.iter().rev().find_map(|entry| match entry.what {
        Happened::Shows { program: shows, state, .. } if shows == program => Some((entry.at, state)),
        _ => None,
    })?;
    // With a refresh token that may be spent, the token in use serves to its end.
    let is_rotating = matches!(plan.server.grant, Grant::Rotating { .. });
    let waits = state == State::Failing && is_rotating && loses_answers(plan);
    let rests = state == State::Asleep && plan.program.rests.is_some();
    (state != State::Live && !waits && !rests).then(|| (at, format!("program {program} still shows {state:?}")))
}

pub fn only_the_server_ends_it(run: &Run) -> Found {
    // Where the store has lost what nobody else knows, nobody knows it.
    let forgets = |what: &What| matches!(what, What::StoreLoss | What::StoreSetBack { .. });
    let nobody_knows = |what: &What| {
        matches!(what, What::Crash { .. } | What::Restart { .. } | What::Freeze { .. } | What::StoreTrouble { .. })
    };
    // What a user has allowed again, and the store didn't take or has lost, others don't know of.
    let comes_not = |what: &What| forgets(what) || matches!(what, What::StoreTrouble { .. });
    let is_kept_from_others = run.plan.program.user_returns.is_some() && run.plan.any(comes_not);
    if run.plan.any(forgets) && run.plan.any(nobody_knows) || is_kept_from_others {
        return None;
    }
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Shows { program, state: State::ReauthorizationRequired, lives: true, .. } => {
            Some((entry.at, format!("program {program} gives up an authorization that lives")))
        }
        _ => None,
    })
}

/// Its answer was lost, or the process died or stood still before it could store that, or the store has lost it.
pub fn reuse_has_a_reason(run: &Run) -> Found {
    // What a process can't store it still knows. Others don't.
    let forgets = |what: &What| {
        matches!(what, What::Crash { .. } | What::Restart { .. } | What::Freeze { .. } | What::Suspend { .. })
    };
    let is_known = run.plan.programs == 1 && !run.plan.any(forgets);
    let loses = |what: &What| match what {
        What::StoreTrouble { .. } => !is_known,
        What::StoreLoss | What::StoreSetBack { .. } | What::SetBack { .. } => true,
        _ => false,
    };
    let ends = |what: &What| matches!(what, What::Crash { .. } | What::Freeze { .. } | What::Suspend { .. });
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Reused { heard: Some(heard) } => {
            let was_cut_short = run.happens(heard.saturating_sub(run.fetch()), heard + run.fetch() + TO_STORE, ends);
            (!was_cut_short && !run.happens(Duration::ZERO, entry.at, loses))
                .then(|| (entry.at, format!("though the answer to it was there at {heard:?}")))
        }
        _ => None,
    })
}

/// What it takes to store an answer, with a lease that must be asked for again.
const TO_STORE: Duration = Duration::from_secs(2);

/// Whether somebody can't know whether a refresh token was spent.
fn loses_answers(plan: &Plan) -> bool {
    plan.any(|what| match what {
        What::Outage { how, .. } => !matches!(how, How::Gone | How::RetryAfter(_) | How::Rejects),
        What::Crash { down, .. } => !is_replayed_in_time(plan, *down),
        What::Freeze { .. }
        | What::Suspend { .. }
        | What::WallStep { .. }
        | What::StoreTrouble { .. }
        | What::StoreLoss
        | What::StoreSetBack { .. }
        | What::SetBack { .. } => true,
        _ => false,
    })
}

/// A process that died over an exchange asks again within the grace when it is back.
fn is_replayed_in_time(plan: &Plan, down: u64) -> bool {
    matches!(plan.server.grant, Grant::Rotating { grace } if grace > down + 30_000)
}

pub fn nothing_is_left(run: &Run) -> Found {
    let kills = |what: &What| matches!(what, What::Crash { .. } | What::Restart { .. });
    run.trace.iter().find_map(|entry| match entry.what {
        Happened::Left { tasks, bodies } => {
            let too_much = bodies > 0 || tasks > 0 && !run.plan.any(kills);
            too_much.then(|| (entry.at, format!("{tasks} tasks, {bodies} bodies")))
        }
        _ => None,
    })
}
