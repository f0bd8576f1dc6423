//! What is promised, looked for in a story. Real time has slack: what timers take, and as long as the machine stood still.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    plan::{Grant, Plan, Policy, Side},
    story::{MOST_ATTEMPTS, Request, Story},
    trace::{Answer, End},
};

/// A promise that a run breaks.
#[derive(Clone, Debug)]
pub struct Broken {
    pub promise: &'static str,
    pub at: Duration,
    pub why: String,
}

type Found = Option<(Duration, String)>;
type Look = fn(&Plan, &Story) -> Found;

/// The first promise that is broken. Where the machine stood still for too long, times say nothing, and only the others are looked at.
pub fn broken(plan: &Plan, story: &Story) -> Option<Broken> {
    let looked_at = PROMISES.iter().filter(|(needs, ..)| *needs == Needs::Nothing || story.has_good_times());
    looked_at.into_iter().find_map(|(_, promise, look)| {
        let (at, why) = look(plan, story)?;
        Some(Broken { promise, at, why })
    })
}

/// What it takes to say that a promise is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Needs {
    Times,
    Nothing,
}

/// All of them.
pub const PROMISES: [(Needs, &str, Look); 11] = [
    (Needs::Nothing, "while there is a valid token, no request waits", no_request_waits_beside_a_token),
    (Needs::Times, "no token is sent after its end, and nothing without one", no_token_is_sent_after_its_end),
    (Needs::Nothing, "no token is sent to a foreign origin", no_token_is_sent_elsewhere),
    (Needs::Times, "no request waits longer than `max_wait`", no_wait_is_longer_than_allowed),
    (Needs::Nothing, "one fetch at a time", one_fetch_at_a_time),
    (Needs::Times, "fetches keep their distance", fetches_keep_their_distance),
    (
        Needs::Times,
        "a request whose connection breaks off after a 401 is sent once more, if it may be",
        what_broke_off_is_sent_again,
    ),
    (Needs::Nothing, "what may not be repeated isn't", what_may_not_be_repeated_is_not),
    (Needs::Nothing, "a refresh token is spent twice only where an answer was lost", no_refresh_token_is_spent_twice),
    (Needs::Times, "nothing fails without a reason", nothing_fails_without_a_reason),
    (Needs::Times, "once everything is well, everything works again", everything_works_again),
];

fn find<T>(story: &Story, look: impl Fn(&Request) -> Option<T>, found: impl Fn(u64, T) -> (Duration, String)) -> Found {
    story.requests.iter().find_map(|(number, request)| Some(found(*number, look(request)?)))
}

/// Not a question of time: with a token before and after the layer took it, it was sent meanwhile.
fn no_request_waits_beside_a_token(_: &Plan, story: &Story) -> Found {
    let is_foreign =
        |request: &Request| matches!(request.end, Some((_, End::Failed(tower_bearer::ErrorKind::ForeignOrigin, _))));
    let waits = |request: &Request| {
        (request.had_token == (true, true) && !request.was_sent_at_once && !is_foreign(request)).then_some(request.made)
    };
    find(story, waits, |number, made| (made, format!("request {number} waits")))
}

fn no_token_is_sent_after_its_end(_: &Plan, story: &Story) -> Found {
    let ends: BTreeMap<_, _> = story.tokens.iter().map(|token| (token.number, token.ends)).collect();
    let sent = |request: &Request| {
        request.attempts.iter().find_map(|attempt| match attempt.token.map(|token| (token, ends.get(&token))) {
            None => Some((attempt.at, "no token".to_owned())),
            Some((token, None)) => Some((attempt.at, format!("token {token}, which nobody has"))),
            Some((token, Some(end))) => (attempt.at > *end + story.slack())
                .then(|| (attempt.at, format!("token {token}, over since {:.3} s", end.as_secs_f64()))),
        })
    };
    find(story, sent, |number, (at, what)| (at, format!("request {number} is sent with {what}")))
}

fn no_token_is_sent_elsewhere(_: &Plan, story: &Story) -> Found {
    let sent = |request: &Request| request.attempts.iter().find(|attempt| !attempt.is_home).map(|attempt| attempt.at);
    find(story, sent, |number, at| (at, format!("request {number} goes elsewhere")))
}

/// Before it is sent, and in all after 401s.
fn no_wait_is_longer_than_allowed(plan: &Plan, story: &Story) -> Found {
    let limit = Duration::from_millis(plan.max_wait) + story.slack();
    let waits = |request: &Request| {
        let (ended, _) = request.end.as_ref()?;
        let first = request.attempts.first().map_or(*ended, |attempt| attempt.at);
        if first - request.made > limit {
            return Some((first, first - request.made));
        }
        let next = request.attempts.iter().skip(1).map(|attempt| attempt.at).chain([*ended]);
        let answered =
            |attempt: &super::story::Attempt| Some((attempt.answered.as_ref()?.0, attempt.arrived == Some(401)));
        let pauses = request.attempts.iter().zip(next).filter_map(|(attempt, next)| {
            let (answered, was_refused) = answered(attempt)?;
            was_refused.then(|| next.saturating_sub(answered))
        });
        let waited: Duration = pauses.sum();
        (waited > limit).then_some((*ended, waited))
    };
    find(story, waits, |number, (at, waited)| (at, format!("request {number} waited {waited:?}")))
}

fn one_fetch_at_a_time(_: &Plan, story: &Story) -> Found {
    let (number, exchange) = story.exchanges.iter().find(|(_, exchange)| exchange.at_once > 1)?;
    Some((exchange.at, format!("exchange {number} is one of {}", exchange.at_once)))
}

/// A second after one that worked, or half of a life that is shorter. After one that failed half of the shortest pause, which is a twentieth of a
/// life that is shorter than twenty seconds.
fn fetches_keep_their_distance(plan: &Plan, story: &Story) -> Found {
    let life = Duration::from_millis(plan.life);
    let exchanges = story.exchanges.iter().zip(story.exchanges.values().skip(1));
    exchanges.into_iter().find_map(|((number, one), next)| {
        let (from, distance) = match (one.worked(), one.failed()) {
            (Some(_), _) => (one.at, plan.distance()),
            // What is stored may be in doubt, and then there is a rule of its own.
            (_, Some(failed)) if plan.grant == Grant::ClientCredentials => {
                (failed, (life / 20).min(Duration::from_secs(1)) / 2)
            }
            _ => return None,
        };
        let since = next.at.saturating_sub(from);
        (since + story.slack() < distance)
            .then(|| (next.at, format!("an exchange comes {since:?} after exchange {number}")))
    })
}

/// RFC 9110 §9.2.2. A first attempt is the HTTP client's affair.
fn what_broke_off_is_sent_again(plan: &Plan, story: &Story) -> Found {
    if plan.policy == Policy::Never {
        return None;
    }
    let lost = |request: &Request| {
        let is_lost = |number: &usize| {
            let attempt = &request.attempts[*number];
            matches!(attempt.answered, Some((.., Answer::Failed(_))))
        };
        let first = (1..request.attempts.len()).find(is_lost)?;
        let (at, port, answer) = request.attempts[first].answered.as_ref()?;
        // Which one it was is what the proxy knows.
        let was_cut = |touch: &super::story::Touch| {
            touch.on == Side::Api && touch.what.breaks() && Some(touch.port) == *port && touch.at <= *at
        };
        let is_last = first + 1 == request.attempts.len();
        let may_be = request.method.is_idempotent() && first + 1 < MOST_ATTEMPTS;
        (is_last && may_be && story.touches.iter().any(was_cut)).then(|| (*at, answer.clone()))
    };
    find(story, lost, |number, (at, answer)| (at, format!("request {number} is not sent once more: {answer}")))
}

/// What failed and has arrived was processed, for all that the client knows.
fn what_may_not_be_repeated_is_not(_: &Plan, story: &Story) -> Found {
    let repeated = |request: &Request| {
        let before = request.attempts.iter().zip(request.attempts.iter().skip(1));
        before.into_iter().enumerate().find_map(|(number, (one, next))| {
            let failed = !matches!(one.answered, Some((.., Answer::Whole(_))));
            // A first attempt that fails is never repeated, whatever it is.
            let may_be = request.method.is_idempotent() && number > 0;
            (failed && !may_be && (number == 0 || one.arrived.is_some())).then_some(next.at)
        })
    };
    find(story, repeated, |number, at| (at, format!("request {number} is sent again after it failed")))
}

fn no_refresh_token_is_spent_twice(_: &Plan, story: &Story) -> Found {
    let mut spent = BTreeSet::new();
    story.exchanges.iter().find_map(|(number, exchange)| {
        let shown = exchange.shown?;
        let again = spent.contains(&shown);
        if exchange.worked().is_some() {
            spent.insert(shown);
        }
        again.then(|| (exchange.at, format!("exchange {number} shows refresh token {shown}, whose answer had come")))
    })
}

fn nothing_fails_without_a_reason(plan: &Plan, story: &Story) -> Found {
    let failed = story.exchanges.iter().find_map(|(number, exchange)| {
        let (at, port, answer) = exchange.brought.as_ref()?;
        let why = story.excuse_exchange(exchange.at, *at, *port, answer).err()?;
        Some((*at, format!("exchange {number}: {answer}, and {why}")))
    });
    failed.or_else(|| {
        let end = |request: &Request| Some((request.end.as_ref()?.0, story.excuse(plan, request).err()?));
        find(story, end, |number, (at, why)| (at, format!("request {number}: {why}")))
    })
}

/// Unless the authorization is over, which has a reason, or it would have been found above.
fn everything_works_again(_: &Plan, story: &Story) -> Found {
    let well = story.well.filter(|_| story.reused.is_none())?;
    let fails = |request: &Request| {
        let (at, end) = request.end.as_ref().filter(|_| request.made > well)?;
        (*end != End::Status(200)).then(|| (*at, format!("{end:?}")))
    };
    let failed = find(story, fails, |number, (at, end)| (at, format!("request {number}: {end}")));
    // And it is looked at.
    let count = story.requests.values().filter(|request| request.made > well).count();
    failed.or_else(|| (count < 10).then(|| (well, format!("only {count} requests"))))
}
