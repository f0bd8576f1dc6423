//! What is played: everything that a run does is written here, so that the same plan gives the same trace. Made from a seed (`seed`), kept as
//! JSON, and made smaller when it breaks a promise. Times are in milliseconds.

use serde::{Deserialize, Serialize};

mod seed;

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
    /// How far each program's wall clock is ahead of the one before.
    #[serde(default)]
    pub skew: u64,
    #[serde(default)]
    pub store: Store,
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
    /// What it says instead, in percent of the truth.
    #[serde(default)]
    pub lies: Option<u64>,
    /// What an exchange takes: from, to.
    pub takes: (u64, u64),
    pub grant: Grant,
    /// When the user must authorize again.
    #[serde(default)]
    pub ends: Option<Ending>,
    /// How many exchanges it allows in a window.
    #[serde(default)]
    pub quota: Option<Quota>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Grant {
    /// Nothing is spent.
    ClientCredentials,
    /// Each exchange spends the refresh token. Who shows it again later than this is a thief, and all refresh tokens are revoked.
    Rotating { grace: u64 },
    /// The refresh token stays.
    Staying,
}

/// An authorization's end: so long after it began, or after the last exchange if it slides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub after: u64,
    pub slides: bool,
    pub told: bool,
}

/// More than `most` exchanges in a window are answered 429.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub window: u64,
    pub most: u64,
    /// Whether `Retry-After` says when the window is over.
    pub told: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Api {
    pub takes: u64,
    /// How long it takes until a new token is known there.
    pub lag: u64,
    /// Whether it reads a body before it refuses the token.
    #[serde(default)]
    pub reads_first: bool,
}

/// The program under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub policy: Policy,
    pub max_wait: u64,
    #[serde(default)]
    pub stack: Stack,
    /// How long the user takes to authorize again; without it, only at the end of the run.
    #[serde(default)]
    pub user_returns: Option<u64>,
    /// After so long without use a token isn't renewed.
    #[serde(default)]
    pub rests: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Policy {
    Auto,
    Cloned,
    Buffered,
    WhenEmpty,
    Never,
}

/// What is around the layer, outside and inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// So many requests at once, above.
    pub limit_above: Option<usize>,
    pub buffer_above: bool,
    /// Whoever sends gives up after this time.
    pub patience: Option<u64>,
    /// How often a request that was answered 429 or 503 is sent again, from above and from below.
    pub retries_above: u8,
    pub retries_below: u8,
    /// So many requests at once, below; and whether exchanges need one of these permits, too.
    pub limit_below: Option<usize>,
    pub exchanges_share_it: bool,
    pub buffer_below: bool,
    pub timeout_below: Option<u64>,
}

/// Where token sets are kept, for the grants that have some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// What a call takes.
    #[serde(default)]
    pub takes: Option<u64>,
    #[serde(default)]
    pub tells: Tells,
    /// Client credentials are kept, too.
    #[serde(default)]
    pub for_all: bool,
}

/// How others hear of what was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Tells {
    /// They don't.
    #[default]
    Nothing,
    /// At once.
    AtOnce,
    /// They look so often.
    Every(u64),
}

/// Requests that are sent one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub from: u64,
    pub every: u64,
    pub count: u64,
    /// How many at once.
    pub width: u64,
    #[serde(default)]
    pub route: Route,
    #[serde(default)]
    pub body: Body,
    /// The number of the program that sends them.
    #[serde(default)]
    pub whose: usize,
}

/// What is at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Whoever has a token may come in.
    #[default]
    Open,
    /// 403 for everybody.
    Forbidden,
    /// 401 for everybody, because of the scope.
    Scope,
    /// 401 for everybody, as if the token were wrong.
    Closed,
    /// 429 or 503 for half of those who come.
    Busy,
    /// Not the API's origin.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    #[default]
    Empty,
    /// So many bytes, in memory.
    Whole(u64),
    /// So many pieces of 100 bytes, ten milliseconds between two.
    Stream(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: u64,
    pub what: What,
    /// The number of the program that it happens to, if it is one that happens to a program.
    #[serde(default)]
    pub whose: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// The token endpoint fails like this for so long.
    Outage { lasts: u64, how: How },
    /// All access tokens end at the API; the authorization stays.
    Revoke,
    /// The user takes back what was allowed: refresh tokens end, and access tokens with them or not.
    Withdraw { access_too: bool },
    /// The authorization server loses what it did in this time.
    SetBack { by: u64 },
    /// Somebody calls `refresh`.
    Refresh,
    /// The process dies, and starts again after this time. `at_work`: whoever has the next exchange under way within this time dies
    /// over it.
    Crash {
        down: u64,
        #[serde(default)]
        at_work: bool,
    },
    /// The process ends as it should, and another one starts after this time.
    Restart { down: u64 },
    /// The API answers 503 for so long.
    ApiDown { lasts: u64 },
    /// The machine sleeps: what monotonic clocks leave out.
    Suspend { lasts: u64 },
    /// The runtime isn't driven: nothing of this program runs.
    Freeze { lasts: u64 },
    /// The wall clock is set, forward or back.
    WallStep { by: i64 },
    /// The store fails like this for so long.
    StoreTrouble { lasts: u64, how: StoreHow },
    /// The store is empty.
    StoreLoss,
    /// The store has what it had so long ago.
    StoreSetBack { by: u64 },
}

/// How an outage looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum How {
    Status(u16),
    /// 503, and `Retry-After` in seconds.
    RetryAfter(u64),
    /// 401 `invalid_client`.
    Rejects,
    /// 200, and a page.
    Page,
    /// No answer.
    Hangs,
    /// There is nobody at its address.
    Gone,
    /// The connection breaks, once the server has done what it was asked to.
    ActsAndBreaks,
    /// The answer breaks off.
    ActsAndCuts,
    /// It never answers.
    ActsAndHangs,
    /// A proxy in between says so.
    ActsAndFails(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum StoreHow {
    Fails,
    /// It does what it is asked to, and says that it failed.
    ActsAndFails,
    Hangs,
    Slow(u64),
    /// One call in four does nothing and panics, as a user's own store may.
    Panics,
}

impl Plan {
    /// Nothing goes wrong in it.
    pub fn is_calm(&self) -> bool {
        let is_harmless = |event: &Event| matches!(event.what, What::Refresh | What::Restart { .. });
        self.events.iter().all(is_harmless)
            && self.server.lies.is_none()
            && self.server.quota.is_none()
            && self.server.ends.is_none_or(|ending| self.server.says_life && ending.after > 2 * self.length + 600_000)
    }

    /// When the last thing is over that goes wrong.
    pub fn last_trouble(&self) -> u64 {
        let end = |event: &Event| {
            event.at
                + match event.what {
                    What::Outage { lasts, .. }
                    | What::ApiDown { lasts }
                    | What::Freeze { lasts }
                    | What::StoreTrouble { lasts, .. } => lasts,
                    What::Crash { down, .. } | What::Restart { down } => down,
                    _ => 0,
                }
        };
        self.events.iter().map(end).max().unwrap_or_default()
    }

    /// Whether anything is kept in a store that programs share and that outlives them.
    pub fn has_store(&self) -> bool {
        self.server.grant != Grant::ClientCredentials || self.store.for_all
    }

    pub fn any(&self, is_it: impl Fn(&What) -> bool) -> bool {
        self.events.iter().any(|event| is_it(&event.what))
    }
}
