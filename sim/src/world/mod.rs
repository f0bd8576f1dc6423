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
    /// Whose world it is: the number of a program, and which of its processes.
    pub program: usize,
    process: u64,
}

#[derive(Default)]
struct State {
    /// The process of each program that runs: those before it are dead, and whatever they have left behind does nothing more.
    processes: Vec<u64>,
    /// How many exchanges of each are under way.
    under_way: Vec<u64>,
    /// All access tokens there ever were, by number.
    tokens: BTreeMap<u64, Token>,
    exchanges: u64,
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
        let state = State {
            rng: fastrand::Rng::with_seed(plan.seed ^ 0x5eed),
            processes: vec![0; plan.programs],
            under_way: vec![0; plan.programs],
            ..State::default()
        };
        Self { plan: Arc::new(plan), trace: Trace::begin(), state: Arc::new(state.into()), program: 0, process: 0 }
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

    /// The world of this program.
    pub fn of_program(&self, program: usize) -> Self {
        Self { program, ..self.clone() }
    }

    /// The world of a program's next process.
    pub fn of_next_process(&self, program: usize) -> Self {
        let mut state = self.lock();
        state.processes[program] += 1;
        state.under_way[program] = 0;
        Self { program, process: state.processes[program], ..self.clone() }
    }

    fn is_alive(&self, state: &State) -> bool {
        state.processes[self.program] == self.process
    }

    /// Resolves if this is the world of the process that runs; never for one that is dead.
    pub async fn alive(&self) {
        let is_alive = self.is_alive(&self.lock());
        if !is_alive {
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
