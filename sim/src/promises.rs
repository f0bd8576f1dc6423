//! What the crate promises, each as a function that looks through a trace; its sentence is the documentation's.
//!
//! In the order of the list: `requests` on their way, `fetches`, and what everything comes to in the end (`endings`, `warnings`).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    plan::{Body, Plan, Route, What},
    trace::{Entry, Happened},
};

mod endings;
mod fetches;
mod requests;
mod warnings;

/// What is looked at.
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub trace: &'a [Entry],
    /// How exact times are.
    pub slack: Duration,
    /// The events in the trace, and their ends.
    events: Vec<&'a Entry>,
}

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

/// The first promise that is broken, of all or this one only.
pub fn broken(run: &Run, only: Option<&str>) -> Option<Broken> {
    let promises = PROMISES.iter().filter(|(promise, _)| only.is_none_or(|only| only == *promise));
    promises.into_iter().find_map(|(promise, look)| {
        let (at, why) = look(run)?;
        Some(Broken { promise, at, why })
    })
}

type Found = Option<(Duration, String)>;
type Look = fn(&Run) -> Found;

/// All of them.
pub const PROMISES: [(&str, Look); 32] = [
    ("nothing spins", nothing_spins),
    ("nothing panics", nothing_panics),
    ("every request ends", requests::all_end),
    ("while there is a valid token, no request waits", requests::none_waits_beside_a_token),
    (
        "as long as the API takes a token that was fetched, no request fails for want of one",
        requests::none_fails_beside_one,
    ),
    ("no request is sent without a token", requests::none_goes_without_a_token),
    ("no token is sent after its end", requests::no_token_is_sent_after_its_end),
    ("no token goes to another origin", requests::none_strays),
    ("no request waits longer than `max_wait`", requests::none_waits_longer_than_allowed),
    ("nothing is kept from others while a request waits", requests::nothing_is_kept),
    ("each attempt has the whole body", requests::all_are_whole),
    ("one fetch at a time", fetches::one_at_a_time),
    ("one fetch at a time for a fleet", fetches::one_at_a_time_for_a_fleet),
    ("after a fetch that worked there is none for a second, or half of a life that is shorter", fetches::keep_distance),
    ("two leases after a member has died at work, the fleet goes on", fetches::go_on_without_the_dead),
    ("what one of a fleet has fetched, all have as soon as the store tells of it", fetches::all_have_what_one_has),
    ("half of a life without a fetch, for a whole fleet with a store", fetches::rest_for_half_a_life),
    ("a token that nobody uses is not renewed", fetches::none_for_nobody),
    ("an outage is met by ever fewer fetches", fetches::back_off),
    ("`Retry-After` is obeyed", fetches::come_when_told),
    ("a route that refuses everybody costs a fetch a minute in the end", fetches::are_few_where_all_are_refused),
    ("where nothing goes wrong, no request fails", endings::calm_runs_fail_no_request),
    ("where nothing goes wrong, nobody shows that a fetch has failed", endings::calm_runs_show_no_failure),
    ("where nothing goes wrong, nobody is without a token for longer than a life", endings::calm_runs_have_tokens),
    ("where nothing goes wrong, whoever uses a token is never without one", endings::calm_runs_keep_what_is_used),
    ("once everything is well, everything works again", endings::everything_works_again),
    ("only the server's word ends an authorization", endings::only_the_server_ends_it),
    ("a spent refresh token is shown again only where an answer may be lost", endings::reuse_has_a_reason),
    ("a refresh token that has arrived is stored in the end", endings::what_arrives_is_stored),
    ("a new authorization revives the live token", endings::a_new_authorization_revives),
    ("users are warned in time", warnings::come_in_time),
    ("nothing is left in memory", endings::nothing_is_left),
];

/// What is said where playing or judging panics.
pub const UNFIT: &str = "the simulator itself works";

impl<'a> Run<'a> {
    pub fn new(plan: &'a Plan, trace: &'a [Entry]) -> Self {
        let is_event = |entry: &&Entry| matches!(entry.what, Happened::Event(_) | Happened::Over(_));
        Self { plan, trace, slack: TIMER, events: trace.iter().filter(is_event).collect() }
    }

    /// What requests are, by number.
    fn requests(&self) -> BTreeMap<u64, (Route, Body)> {
        let made = self.trace.iter().filter_map(|entry| match entry.what {
            Happened::Made { request, route, body } => Some((request, (route, body))),
            _ => None,
        });
        made.collect()
    }

    /// Whether anything like this happens in between.
    fn happens(&self, from: Duration, to: Duration, is_it: impl Fn(&What) -> bool) -> bool {
        self.events.iter().any(|entry| match &entry.what {
            // Whoever sleeps notes it before.
            Happened::Event(what) => {
                let lasts = if let What::Suspend { lasts } = what { *lasts } else { 0 };
                from <= entry.at + Duration::from_millis(lasts) && entry.at <= to && is_it(what)
            }
            // What lasts may have begun before.
            Happened::Over(what) => from <= entry.at && is_it(what) && began(what, entry.at) <= to,
            _ => false,
        })
    }
}

/// When that began which is over at this moment, if the machine hasn't slept.
fn began(what: &What, over: Duration) -> Duration {
    match what {
        What::Outage { lasts, .. }
        | What::ApiDown { lasts }
        | What::Freeze { lasts }
        | What::StoreTrouble { lasts, .. } => over.saturating_sub(Duration::from_millis(*lasts)),
        _ => over,
    }
}

/// How exact tokio's timers are, and what it takes to ask the store before an exchange arrives.
const TIMER: Duration = Duration::from_millis(10);

fn nothing_panics(run: &Run) -> Found {
    let is_stopped = run.trace.iter().any(|entry| entry.what == Happened::Spins);
    let panics = run.trace.iter().find(|entry| entry.what == Happened::Panicked).filter(|_| !is_stopped);
    panics.map(|entry| (entry.at, String::new()))
}

fn nothing_spins(run: &Run) -> Found {
    run.trace.iter().find(|entry| entry.what == Happened::Spins).map(|entry| (entry.at, String::new()))
}
