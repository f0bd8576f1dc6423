//! What is played, made from a seed. Times are in milliseconds. What happens in between is up to the machine: a seed gives the same plan, and not
//! the same run.

use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub seed: u64,
    /// How long access tokens live.
    pub life: u64,
    pub grant: Grant,
    /// How long the token endpoint and the API take for an answer, at most.
    pub takes: (u64, u64),
    /// Whether they speak HTTP/2.
    pub http2: (bool, bool),
    pub policy: Policy,
    pub max_wait: u64,
    /// How much time lies between two requests.
    pub every: u64,
    pub faults: Vec<Fault>,
    /// When all access tokens end at the API.
    pub revocations: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Grant {
    /// Nothing is spent.
    ClientCredentials,
    /// Each exchange spends the refresh token. Who shows it again later than this is a thief, and everything is revoked.
    Rotating { grace: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Policy {
    Auto,
    Cloned,
    Never,
}

/// What a proxy does for a while.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fault {
    /// On which way.
    pub on: Side,
    pub at: u64,
    pub lasts: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Side {
    TokenEndpoint,
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum What {
    /// Connections are reset: those that there are, and new ones when something is sent on them.
    Reset,
    /// The same, closed in order.
    Close,
    /// The client is told that nothing more will come, while what it sends still arrives.
    HalfClose,
    /// Of an answer so many bytes come. Then the connection is reset, or closed in order.
    Truncate { bytes: usize, reset: bool },
    /// Nothing moves.
    Stall,
    /// Everything comes later.
    Delay { by: u64 },
    /// Whoever was answered 401 finds the connection closed with the next request. (HTTP/1.)
    CloseAfter401,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let grant = match rng.u8(..4) {
            0 | 1 => Grant::ClientCredentials,
            2 => Grant::Rotating { grace: 0 },
            _ => Grant::Rotating { grace: 60_000 },
        };
        let longest = if grant == Grant::ClientCredentials { 10_000 } else { 4_000 };
        let mut plan = Self {
            seed,
            life: rng.u64(1_000..=longest),
            grant,
            takes: (rng.u64(1..=120), rng.u64(1..=60)),
            http2: (rng.bool(), rng.bool()),
            policy: [Policy::Auto, Policy::Auto, Policy::Cloned, Policy::Never][rng.usize(..4)],
            max_wait: [300, 1_500, 4_000, 10_000][rng.usize(..4)],
            every: rng.u64(40..=200),
            faults: Vec::new(),
            revocations: Vec::new(),
        };
        // Now and then from the very beginning, when there is no token yet.
        let from = if rng.u8(..3) == 0 { 0 } else { 800 };
        let to = from + TROUBLE;
        let revokes = rng.bool();
        let sides: &[Side] = match rng.u8(..8) {
            0..3 => &[Side::TokenEndpoint],
            3 | 4 => &[Side::Api],
            _ => &[Side::TokenEndpoint, Side::Api],
        };
        for side in sides {
            let mut at = if from == 0 { 0 } else { from + rng.u64(..1_000) };
            while at < to - 100 {
                let lasts = (100.0 * 30_f64.powf(rng.f64())) as u64;
                let lasts = lasts.min(to - at);
                plan.faults.push(Fault {
                    on: *side,
                    at,
                    lasts,
                    what: What::some(&mut rng, *side, plan.http2.1, revokes),
                });
                at += lasts + rng.u64(200..1_500);
            }
        }
        plan.faults.sort_by_key(|fault| fault.at);
        if revokes {
            // Rather so that what is sent again then meets a fault.
            let on_api: Vec<_> =
                plan.faults.iter().filter(|fault| fault.on == Side::Api).map(|fault| fault.at).collect();
            let at = |rng: &mut Rng| match on_api.as_slice() {
                [] => rng.u64(from..to),
                faults => faults[rng.usize(..faults.len())].saturating_sub(rng.u64(..800)),
            };
            plan.revocations = (0..rng.usize(1..=2)).map(|_| at(&mut rng)).collect();
            plan.revocations.sort_unstable();
        }
        plan
    }

    /// How much lies between the beginnings of two exchanges of which the first has worked: a second, or half of a life that is shorter.
    pub fn distance(&self) -> Duration {
        Duration::from_millis(self.life / 2).min(Duration::from_secs(1))
    }

    /// When the last thing is over that goes wrong.
    pub fn last_trouble(&self) -> u64 {
        let faults = self.faults.iter().map(|fault| fault.at + fault.lasts);
        faults.chain(self.revocations.iter().copied()).max().unwrap_or_default()
    }

    /// When everything works again. Pauses between attempts double, so that the last of them is at most twice as long as the token endpoint has
    /// been in trouble, and a second more.
    pub fn is_well_from(&self) -> u64 {
        let at_server = || self.faults.iter().filter(|fault| fault.on == Side::TokenEndpoint);
        let (from, to) =
            (at_server().map(|fault| fault.at).min(), at_server().map(|fault| fault.at + fault.lasts).max());
        let backoff = from.zip(to).map_or(0, |(from, to)| 2 * (to - from) + 1_000);
        // After a 401 no other causes a fetch for one, two, four seconds.
        let refusals = if self.revocations.is_empty() { 0 } else { 4_000 };
        // A refresh token that may be spent is shown again when the token in use is over.
        let doubt = if self.grant == Grant::ClientCredentials { 0 } else { self.life };
        self.last_trouble() + backoff.max(refusals) + doubt + FETCH_TIMEOUT + 500
    }
}

impl What {
    fn some(rng: &mut Rng, on: Side, http2: bool, revokes: bool) -> Self {
        match rng.u8(..10) {
            0 | 1 => Self::Reset,
            2 => Self::Close,
            3 => Self::HalfClose,
            4 | 5 => {
                let bytes = if rng.bool() { 0 } else { rng.usize(1..300) };
                Self::Truncate { bytes, reset: rng.bool() }
            }
            6 => Self::Stall,
            7 => Self::Delay { by: rng.u64(20..800) },
            _ if on == Side::Api && !http2 && revokes => Self::CloseAfter401,
            8 => Self::Stall,
            _ => Self::Reset,
        }
    }

    /// Whether an answer may be lost to it, or a connection.
    pub fn breaks(self) -> bool {
        !matches!(self, Self::Stall | Self::Delay { .. })
    }
}

/// For so long something may go wrong.
const TROUBLE: u64 = 3_500;

/// How long an exchange with the token endpoint may take.
pub const FETCH_TIMEOUT: u64 = 2_000;

/// How long the program gives the API for an answer.
pub const ANSWER_TIMEOUT: u64 = 1_500;
