//! What is played: everything that a run does is written here, so that the same plan gives the same trace. Made from a seed, kept as JSON,
//! and made smaller when it breaks a promise. Times are in milliseconds.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// One run, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where it comes from, and what the crate draws its random numbers from.
    pub seed: u64,
    pub length: u64,
    pub server: Server,
    pub api: Api,
    pub program: Program,
    /// How many of them there are, with one store.
    #[serde(default = "one")]
    pub programs: usize,
    pub traffic: Vec<Traffic>,
    pub events: Vec<Event>,
}

fn one() -> usize {
    1
}

/// The authorization server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// How long access tokens live.
    pub life: u64,
    /// Whether it says so.
    pub says_life: bool,
    /// What an exchange takes: from, to.
    pub takes: (u64, u64),
    pub grant: Grant,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Grant {
    /// Nothing is spent.
    ClientCredentials,
    /// Each exchange spends the refresh token. Who shows it again later than this is a thief, and all tokens are revoked.
    Rotating { grace: u64 },
    /// The refresh token stays.
    Staying,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Api {
    pub takes: u64,
    /// How long it takes until a new token is known there.
    pub lag: u64,
}

/// The program under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub policy: Policy,
    pub max_wait: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Policy {
    Auto,
    Cloned,
    Never,
}

/// Requests that are sent one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub from: u64,
    pub every: u64,
    pub count: u64,
    /// How many at once.
    pub width: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// The token endpoint fails like this for so long.
    Outage { lasts: u64, how: How },
    /// All access tokens end at the API; the authorization stays.
    Revoke,
    /// Somebody calls `refresh`.
    Refresh,
    /// The process dies, and starts again after this time.
    Crash { down: u64 },
    /// The API answers 503 for so long.
    ApiDown { lasts: u64 },
}

/// How an outage looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum How {
    Status(u16),
    /// No answer.
    Hangs,
    /// There is nobody at its address.
    Gone,
    /// The connection breaks, once the server has done what it was asked to.
    ActsAndBreaks,
}

impl Plan {
    /// The plan of this seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let life = log_uniform(&mut rng, 1_000, 24 * 3_600_000);
        // Three to eight lives, and half a minute at the least.
        let length = (life * rng.u64(3..=8)).clamp(30_000, 3 * 24 * 3_600_000);
        let slowest = (life * 45 / 100).min(25_000);
        let takes = log_uniform(&mut rng, 1, slowest.max(2));
        let programs = if rng.u8(..3) == 0 { rng.usize(2..=4) } else { 1 };
        let server = Server {
            life,
            // One that ends within seconds and doesn't say so can't be told from one that isn't known everywhere yet.
            says_life: rng.u8(..5) > 0 || life < 15_000,
            takes: (takes * rng.u64(50..=100) / 100, takes),
            grant: match rng.u8(..4) {
                0 | 1 => Grant::ClientCredentials,
                2 => Grant::Rotating { grace: if rng.bool() { 0 } else { 60_000 } },
                _ => Grant::Staying,
            },
        };
        let lag = if rng.u8(..3) == 0 { log_uniform(&mut rng, 50, 3_000).min(life / 4) } else { 0 };
        let api = Api { takes: log_uniform(&mut rng, 1, 500), lag };
        let policy = [Policy::Auto, Policy::Auto, Policy::Cloned, Policy::Never][rng.usize(..4)];
        let program = Program { policy, max_wait: [0, 1_000, 10_000, 30_000][rng.usize(..4)] };
        let traffic = (0..rng.usize(1..=3)).map(|_| Traffic::some(&mut rng, length)).collect();
        let mut events: Vec<_> = (0..rng.usize(..=4)).map(|_| Event::some(&mut rng, length, life)).collect();
        events.sort_by_key(|event| event.at);
        Self { seed, length, server, api, program, programs, traffic, events }
    }

    /// Nothing goes wrong in it.
    pub fn is_calm(&self) -> bool {
        self.events.iter().all(|event| event.what == What::Refresh)
    }
}

impl Traffic {
    fn some(rng: &mut Rng, length: u64) -> Self {
        let every = log_uniform(rng, 20, length / 4);
        let from = rng.u64(..length / 2);
        let count = ((length - from) / every).clamp(1, 300);
        Self { from, every, count, width: if rng.u8(..4) == 0 { rng.u64(2..=20) } else { 1 } }
    }
}

impl Event {
    fn some(rng: &mut Rng, length: u64, life: u64) -> Self {
        let lasts = log_uniform(rng, 100, life.max(120_000) * 2).min(length / 2);
        let what = match rng.u8(..10) {
            0..=3 => {
                let how = match rng.u8(..6) {
                    0 => How::Status(500),
                    1 => How::Status(503),
                    2 => How::Status(429),
                    3 => How::Hangs,
                    4 => How::Gone,
                    _ => How::ActsAndBreaks,
                };
                What::Outage { lasts, how }
            }
            4 | 5 => What::Revoke,
            6 => What::Refresh,
            7 | 8 => What::Crash { down: log_uniform(rng, 1, 60_000) },
            _ => What::ApiDown { lasts },
        };
        Self { at: rng.u64(..length * 3 / 4), what }
    }
}

/// Each order of magnitude is as likely as any other.
fn log_uniform(rng: &mut Rng, least: u64, most: u64) -> u64 {
    let (least, most) = (least as f64, most.max(least + 1) as f64);
    (least * (most / least).powf(rng.f64())) as u64
}

impl Plan {
    /// When the last thing is over that goes wrong.
    pub fn last_trouble(&self) -> u64 {
        let end = |event: &Event| {
            event.at
                + match event.what {
                    What::Outage { lasts, .. } | What::ApiDown { lasts } => lasts,
                    What::Crash { down } => down,
                    What::Revoke | What::Refresh => 0,
                }
        };
        self.events.iter().map(end).max().unwrap_or_default()
    }
}
