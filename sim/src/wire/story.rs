//! A trace put in order: the life of each request, exchange and token.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use serde::Serialize;
use tower_bearer::ErrorKind;

use super::{
    plan::{Plan, Side, What},
    trace::{Answer, End, Entry, Happened, Port},
};

#[derive(Default)]
pub struct Story {
    pub requests: BTreeMap<u64, Request>,
    pub exchanges: BTreeMap<u64, Exchange>,
    /// Those that the client has, in the order in which it got them.
    pub tokens: Vec<Token>,
    pub touches: Vec<Touch>,
    pub reused: Option<Duration>,
    pub revoked: Vec<Duration>,
    pub well: Option<Duration>,
    pub over: Option<Duration>,
    /// How long the machine stood still at the most.
    pub late: Duration,
}

pub struct Request {
    pub made: Duration,
    pub method: Method,
    /// Before the layer took it, and after.
    pub had_token: (bool, bool),
    /// Whether it was sent while the layer took it.
    pub was_sent_at_once: bool,
    pub attempts: Vec<Attempt>,
    pub end: Option<(Duration, End)>,
}

pub struct Attempt {
    pub at: Duration,
    pub token: Option<u64>,
    pub is_home: bool,
    /// What the API said to it, if it arrived.
    pub arrived: Option<u16>,
    pub answered: Option<(Duration, Option<Port>, Answer)>,
}

pub struct Exchange {
    pub at: Duration,
    pub at_once: u64,
    pub shown: Option<u64>,
    pub issued: Option<u64>,
    pub brought: Option<(Duration, Option<Port>, Answer)>,
}

impl Exchange {
    /// When the whole answer was there, with a token.
    pub fn worked(&self) -> Option<Duration> {
        self.brought.as_ref().filter(|(_, _, answer)| *answer == Answer::Whole(200)).map(|(at, ..)| *at)
    }

    /// When it failed.
    pub fn failed(&self) -> Option<Duration> {
        self.brought.as_ref().filter(|(_, _, answer)| *answer != Answer::Whole(200)).map(|(at, ..)| *at)
    }
}

/// As the client sees it: it counts a life from when it asked.
pub struct Token {
    pub number: u64,
    pub since: Duration,
    pub ends: Duration,
}

pub struct Touch {
    pub at: Duration,
    pub on: Side,
    pub port: Port,
    pub what: What,
    pub until: Option<Duration>,
}

/// Numbers of requests, of exchanges, and of what proxies did.
#[derive(Clone, Default, Serialize)]
pub struct Counts {
    pub requests: u64,
    /// For a token, before they were sent.
    pub waited: u64,
    pub sent_again: u64,
    /// With their connections.
    pub lost_when_sent_again: u64,
    pub lost: u64,
    pub without_a_token: u64,
    pub refused: u64,
    pub exchanges: u64,
    pub lost_exchanges: u64,
    pub touched_connections: u64,
    pub ended_authorizations: u64,
    pub runs_without_good_times: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.waited += other.waited;
        self.sent_again += other.sent_again;
        self.lost_when_sent_again += other.lost_when_sent_again;
        self.lost += other.lost;
        self.without_a_token += other.without_a_token;
        self.refused += other.refused;
        self.exchanges += other.exchanges;
        self.lost_exchanges += other.lost_exchanges;
        self.touched_connections += other.touched_connections;
        self.ended_authorizations += other.ended_authorizations;
        self.runs_without_good_times += other.runs_without_good_times;
    }
}

impl Story {
    pub fn of(plan: &Plan, trace: &[Entry]) -> Self {
        let mut story = Self::default();
        for entry in trace {
            story.add(entry.at, &entry.what);
        }
        let life = Duration::from_millis(plan.life);
        let token = |exchange: &Exchange| {
            Some(Token { number: exchange.issued?, since: exchange.worked()?, ends: exchange.at + life })
        };
        story.tokens = story.exchanges.values().filter_map(token).collect();
        story
    }

    fn add(&mut self, at: Duration, what: &Happened) {
        match what.clone() {
            Happened::Made { request, method, has_token } => {
                let request_made = Request {
                    made: at,
                    method,
                    had_token: (has_token, false),
                    was_sent_at_once: false,
                    attempts: Vec::new(),
                    end: None,
                };
                self.requests.insert(request, request_made);
            }
            Happened::Taken { request, has_token } => self.request(request, |request| {
                request.had_token.1 = has_token;
                request.was_sent_at_once = !request.attempts.is_empty();
            }),
            Happened::Sent { request, token, is_home, .. } => self.request(request, |request| {
                request.attempts.push(Attempt { at, token, is_home, arrived: None, answered: None });
            }),
            Happened::Arrived { request, attempt, status } => {
                self.attempt(request, attempt, |attempt| attempt.arrived = Some(status));
            }
            Happened::Answered { request, attempt, port, answer } => {
                self.attempt(request, attempt, |attempt| attempt.answered = Some((at, port, answer)));
            }
            Happened::Ended { request, end } => self.request(request, |request| request.end = Some((at, end))),
            Happened::Asked { exchange, at_once } => {
                let asked = Exchange { at, at_once, shown: None, issued: None, brought: None };
                self.exchanges.insert(exchange, asked);
            }
            Happened::Acted { exchange, shown, issued } => {
                if let Some(exchange) = self.exchanges.get_mut(&exchange) {
                    (exchange.shown, exchange.issued) = (shown, issued);
                }
            }
            Happened::Brought { exchange, port, answer } => {
                if let Some(exchange) = self.exchanges.get_mut(&exchange) {
                    exchange.brought = Some((at, port, answer));
                }
            }
            Happened::Touched { on, port, what, until } => self.touches.push(Touch { at, on, port, what, until }),
            Happened::Reused => self.reused = Some(at),
            Happened::Revoked => self.revoked.push(at),
            Happened::Well => self.well = Some(at),
            Happened::Over => self.over = Some(at),
            Happened::Late(by) => self.late = self.late.max(by),
        }
    }

    fn request(&mut self, number: u64, change: impl FnOnce(&mut Request)) {
        if let Some(request) = self.requests.get_mut(&number) {
            change(request);
        }
    }

    fn attempt(&mut self, request: u64, number: usize, change: impl FnOnce(&mut Attempt)) {
        self.request(request, |request| {
            if let Some(attempt) = request.attempts.get_mut(number - 1) {
                change(attempt);
            }
        });
    }

    /// What was looked at, besides requests that are simply answered.
    pub fn counts(&self) -> Counts {
        let end = |request: &Request| request.end.as_ref().map(|(_, end)| end.clone());
        let is = |what: fn(&Answer) -> bool| {
            move |attempt: &Attempt| attempt.answered.as_ref().is_some_and(|(_, _, answer)| what(answer))
        };
        let lost = is(|answer| matches!(answer, Answer::Failed(_)));
        let count =
            |what: &dyn Fn(&Request) -> bool| self.requests.values().filter(|request| what(request)).count() as u64;
        Counts {
            requests: self.requests.len() as u64,
            waited: count(&|request| !request.was_sent_at_once),
            sent_again: count(&|request| request.attempts.len() > 1),
            lost_when_sent_again: count(&|request| request.attempts.iter().skip(1).any(lost)),
            lost: count(&|request| matches!(end(request), Some(End::Cut(_) | End::Failed(ErrorKind::Inner, _)))),
            without_a_token: count(&|request| {
                matches!(end(request), Some(End::Failed(ErrorKind::Timeout | ErrorKind::Unavailable, _)))
            }),
            refused: count(&|request| end(request) == Some(End::Status(401))),
            exchanges: self.exchanges.len() as u64,
            lost_exchanges: self.exchanges.values().filter(|exchange| exchange.failed().is_some()).count() as u64,
            touched_connections: self.touches.len() as u64,
            ended_authorizations: self.reused.is_some().into(),
            runs_without_good_times: (!self.has_good_times()).into(),
        }
    }

    /// How late what should happen at a moment may be seen.
    pub fn slack(&self) -> Duration {
        // What does something and what looks may both be late.
        TIMER + 2 * self.late
    }

    /// Whether the machine was there all the time, more or less.
    pub fn has_good_times(&self) -> bool {
        self.late <= MOST_LATE
    }
}

/// A stop that is longer makes a run's times useless: what is promised is a matter of seconds.
const MOST_LATE: Duration = Duration::from_millis(250);

/// How often a request is sent at the most: the first time and five more.
pub const MOST_ATTEMPTS: usize = 6;

/// What timers and the way through two runtime threads take on a machine that does other things.
const TIMER: Duration = Duration::from_millis(40);
