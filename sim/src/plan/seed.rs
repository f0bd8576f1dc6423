//! A plan from a seed: what a run may be like, and how likely.

use fastrand::Rng;

use super::{
    Api, Body, Ending, Event, Grant, How, Plan, Policy, Program, Quota, Route, Server, Stack, Store, StoreHow, Tells,
    Traffic, What,
};

impl Plan {
    /// The plan of this seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let longest = if one_in(rng, 40) { 30 * DAY } else { DAY };
        let life = log_uniform(rng, 1_000, longest);
        // Three to eight lives, half a minute at the least, and long ones once.
        let length = (life * rng.u64(3..=8)).clamp(30_000, (3 * DAY).max(life + DAY));
        let programs = if one_in(rng, 3) { [2, 2, 3, 4, 8][rng.usize(..5)] } else { 1 };
        let server = Server::some(rng, life, length);
        let lag = if one_in(rng, 3) { log_uniform(rng, 50, 3_000).min(life / 4) } else { 0 };
        let api = Api { takes: log_uniform(rng, 1, 500), lag, reads_first: rng.bool() };
        let program = Program::some(rng, &api);
        let store = Store {
            takes: one_in(rng, 2).then(|| log_uniform(rng, 1, 300)),
            tells: [Tells::Nothing, Tells::AtOnce, Tells::Every((length / 5_000).max(250))][rng.usize(..3)],
            for_all: one_in(rng, 3),
        };
        // Clocks of a fleet agree within a second.
        let skew = if one_in(rng, 3) { rng.u64(..=1_000 / programs as u64) } else { 0 };
        let traffic = (0..rng.usize(1..=3)).map(|_| Traffic::some(rng, length)).collect();
        let mut plan = Self { seed, length, server, api, program, programs, skew, store, traffic, events: Vec::new() };
        plan.events = (0..rng.usize(..=4)).map(|_| Event::some(rng, &plan)).collect();
        plan.events.sort_by_key(|event| event.at);
        plan.events.iter_mut().enumerate().for_each(|(number, event)| event.whose = number % programs);
        plan.traffic.iter_mut().enumerate().for_each(|(number, traffic)| traffic.whose = number % programs);
        if one_in(rng, 64) {
            plan.always_renews(rng);
        }
        if one_in(rng, 5) {
            plan.program.rests = Some(if rng.bool() { 0 } else { log_uniform(rng, 1_000, 3 * plan.server.life) });
        }
        plan
    }

    /// A fleet whose tokens live for little longer than two exchanges: somebody is always at work. By chance it is rare.
    fn always_renews(&mut self, rng: &mut Rng) {
        (self.length, self.programs) = (60_000, [3, 4, 8][rng.usize(..3)]);
        let life = rng.u64(5_000..=20_000);
        let slowest = (life - 2_200) / 2 * rng.u64(80..=100) / 100;
        let takes = (slowest * rng.u64(50..=100) / 100, slowest);
        let grant = Grant::Rotating { grace: 0 };
        self.server = Server { life, takes, grant, says_life: true, lies: None, ends: None, quota: None };
        self.api.lag = 0;
        self.store.takes = None;
        self.skew = 0;
        let some = |whose| Traffic { whose, ..Traffic::some(rng, self.length) };
        self.traffic = (0..3).map(some).collect();
        if rng.bool() {
            // Requests wait for the first token, which another one of the fleet may fetch.
            self.traffic.iter_mut().for_each(|traffic| traffic.from = 0);
            self.store.tells = Tells::AtOnce;
            self.program = Program {
                policy: Policy::Auto,
                max_wait: 30_000,
                stack: Stack::default(),
                user_returns: None,
                rests: None,
            };
        }
        self.events.clear();
    }
}

impl Server {
    fn some(rng: &mut Rng, life: u64, length: u64) -> Self {
        let slowest = (life * 45 / 100).min(25_000);
        let takes = log_uniform(rng, 1, slowest.max(2));
        let grant = match rng.u8(..4) {
            0 | 1 => Grant::ClientCredentials,
            2 => Grant::Rotating { grace: if rng.bool() { 0 } else { 60_000 } },
            _ => Grant::Staying,
        };
        // One that ends within seconds and doesn't say so can't be told from one that isn't known everywhere yet.
        let says_life = !one_in(rng, 5) || life < 15_000;
        let ends = (grant != Grant::ClientCredentials && one_in(rng, 4)).then(|| Ending {
            after: log_uniform(rng, life + 60_000, 2 * length + 120_000),
            slides: rng.bool(),
            told: rng.bool(),
        });
        let quota = one_in(rng, 10).then(|| Quota {
            window: log_uniform(rng, 1_000, 60_000),
            most: rng.u64(1..=3),
            told: rng.bool(),
        });
        Self {
            life,
            says_life,
            lies: (says_life && life >= 15_000 && one_in(rng, 8)).then(|| [50, 90, 150, 1_000][rng.usize(..4)]),
            takes: (takes * rng.u64(50..=100) / 100, takes),
            grant,
            ends,
            quota,
        }
    }
}

impl Program {
    fn some(rng: &mut Rng, api: &Api) -> Self {
        let policies = [Policy::Auto, Policy::Auto, Policy::Cloned, Policy::Buffered, Policy::WhenEmpty, Policy::Never];
        let mut stack = Stack::default();
        if one_in(rng, 2) {
            let mut some = |count: u8| rng.u8(..count) == 0;
            (stack.buffer_above, stack.buffer_below) = (some(4), some(4));
            (stack.retries_above, stack.retries_below) = (u8::from(some(4)) * 2, u8::from(some(4)) * 2);
            stack.limit_above = some(4).then_some(2);
            stack.limit_below = some(2).then_some(1 + usize::from(some(2)) * 3);
            // Whose worker may hold a permit for a request that was given up (tower 0.5).
            stack.exchanges_share_it = some(2) && !stack.buffer_below && !stack.buffer_above;
            // Twice what any answer takes, a stream's body included.
            stack.timeout_below = some(4).then_some(2 * (api.takes + 1_000));
            stack.patience = some(4).then(|| log_uniform(rng, 10, 60_000));
        }
        Self {
            policy: policies[rng.usize(..policies.len())],
            max_wait: [0, 1_000, 10_000, 30_000][rng.usize(..4)],
            stack,
            user_returns: one_in(rng, 2).then(|| log_uniform(rng, 1_000, 3_600_000)),
            rests: None,
        }
    }
}

impl Traffic {
    fn some(rng: &mut Rng, length: u64) -> Self {
        let every = log_uniform(rng, 20, length / 4);
        let from = rng.u64(..length / 2);
        let count = ((length - from) / every).clamp(1, 100);
        let route = match rng.u8(..12) {
            0 => Route::Forbidden,
            1 => Route::Scope,
            2 => Route::Closed,
            3 => Route::Busy,
            4 => Route::Elsewhere,
            _ => Route::Open,
        };
        let body = match rng.u8(..4) {
            0 => Body::Whole(log_uniform(rng, 1, 5_000)),
            1 => Body::Stream(log_uniform(rng, 1, 40)),
            _ => Body::Empty,
        };
        Self { from, every, count, width: if one_in(rng, 4) { rng.u64(2..=10) } else { 1 }, route, body, whose: 0 }
    }
}

impl Event {
    fn some(rng: &mut Rng, plan: &Plan) -> Self {
        let (length, life) = (plan.length, plan.server.life);
        let lasts = log_uniform(rng, 100, life.max(120_000) * 2).min(length / 2);
        let what = match rng.u8(..20) {
            0..=4 => What::Outage { lasts, how: How::some(rng) },
            5 | 6 => What::Revoke,
            7 => What::Refresh,
            8 => What::Crash { down: log_uniform(rng, 1, 60_000), at_work: false },
            9 => What::Crash { down: log_uniform(rng, 1_000, life.max(60_000)).min(length / 4), at_work: true },
            10 => What::Restart { down: log_uniform(rng, 1, 60_000) },
            11 => What::ApiDown { lasts },
            12 => What::Suspend { lasts: log_uniform(rng, 100, 12 * 3_600_000) },
            13 | 14 => What::Freeze { lasts: log_uniform(rng, 10, life * 2).min(length / 2) },
            15 if plan.programs == 1 => {
                let by = log_uniform(rng, 100, 7_200_000).cast_signed();
                What::WallStep { by: if rng.bool() { by } else { -by } }
            }
            16 => match rng.u8(..3) {
                0 => What::SetBack { by: log_uniform(rng, 100, length) },
                _ => What::Withdraw { access_too: rng.bool() },
            },
            17 => What::StoreLoss,
            18 => What::StoreSetBack { by: log_uniform(rng, 100, length) },
            _ => What::StoreTrouble { lasts, how: StoreHow::some(rng) },
        };
        Self { at: rng.u64(..length * 3 / 4), what, whose: 0 }
    }
}

impl How {
    fn some(rng: &mut Rng) -> Self {
        match rng.u8(..13) {
            0 => Self::Status(500),
            1 => Self::Status(503),
            2 => Self::Status(429),
            3 => Self::RetryAfter(rng.u64(1..=120)),
            4 => Self::Rejects,
            5 => Self::Page,
            6 | 7 => Self::Hangs,
            8 => Self::Gone,
            9 => Self::ActsAndBreaks,
            10 => Self::ActsAndHangs,
            11 => Self::ActsAndFails(502),
            _ => Self::ActsAndCuts,
        }
    }
}

impl StoreHow {
    fn some(rng: &mut Rng) -> Self {
        match rng.u8(..5) {
            0 => Self::Fails,
            1 => Self::ActsAndFails,
            2 => Self::Hangs,
            3 => Self::Panics,
            _ => Self::Slow(log_uniform(rng, 10, 4_000)),
        }
    }
}

fn one_in(rng: &mut Rng, count: u8) -> bool {
    rng.u8(..count) == 0
}

/// Each order of magnitude is as likely as any other.
fn log_uniform(rng: &mut Rng, least: u64, most: u64) -> u64 {
    let (least, most) = (least as f64, most.max(least + 1) as f64);
    (least * (most / least).powf(rng.f64())) as u64
}

const DAY: u64 = 24 * 3_600_000;
