//! What is around the program: an authorization server, an API, and clocks. They keep to the rules that real ones keep to.

pub mod api;
mod clock;
mod server;
mod store;

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

pub use clock::SimClock;
pub use store::{Shelf, SimStore};

use crate::{
    plan::{How, Plan, What},
    trace::{Happened, Trace},
};

/// A future that a service returns.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub plan: Arc<Plan>,
    pub trace: Trace,
    state: Arc<Mutex<State>>,
    /// The process that this is the world of.
    process: u64,
}

#[derive(Default)]
struct State {
    /// The process that runs: those before it are dead, and whatever they have left behind does nothing more.
    process: u64,
    /// All access tokens there ever were, by number.
    tokens: BTreeMap<u64, Token>,
    exchanges: u64,
    under_way: u64,
    /// Refresh tokens that were shown, and when for the first time.
    spent: BTreeMap<u64, Duration>,
    revoked: bool,
    outage: Option<(How, Duration)>,
    api_down_until: Duration,
    rng: fastrand::Rng,
}

/// As the server has it.
struct Token {
    known_from: Duration,
    ends: Duration,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let state = State { rng: fastrand::Rng::with_seed(plan.seed ^ 0x5eed), ..State::default() };
        Self { plan: Arc::new(plan), trace: Trace::begin(), state: Arc::new(state.into()), process: 0 }
    }

    /// Lets an event of the plan happen, but for those that are the program's own.
    pub fn happen(&self, what: What) {
        let now = self.trace.now();
        let mut state = self.lock();
        match what {
            What::Outage { lasts, how } => state.outage = Some((how, now + millis(lasts))),
            What::ApiDown { lasts } => state.api_down_until = now + millis(lasts),
            What::Revoke => state.tokens.values_mut().for_each(|token| token.ends = token.ends.min(now)),
            What::Refresh | What::Crash { .. } => return,
        }
        drop(state);
        self.trace.note(Happened::Event(format!("{what:?}")));
    }

    /// The world of the next process.
    pub fn of_next_process(&self) -> Self {
        let mut state = self.lock();
        state.process += 1;
        state.under_way = 0;
        Self { process: state.process, ..self.clone() }
    }

    /// Resolves if this is the world of the process that runs; never for one that is dead.
    pub async fn alive(&self) {
        if self.lock().process != self.process {
            pending().await
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
