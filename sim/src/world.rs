//! What is around the program: an authorization server, an API, a store, and clocks. They keep to the rules that real ones keep to.

pub mod api;
mod authorization;
mod clock;
mod process;
mod server;
mod store;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use tokio::{sync::Semaphore, time::sleep};

use authorization::Authorizations;
pub use clock::SimClock;
use process::Processes;
pub use store::{Shelf, SimStore};

use crate::{
    plan::{How, Plan, StoreHow, What},
    trace::{Happened, Trace},
};

/// A future that a service returns.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub plan: Arc<Plan>,
    pub trace: Trace,
    pub shelf: Shelf,
    /// Bodies of requests hold what is in it: how many do, is how many are in memory.
    pub bodies: Arc<Arc<()>>,
    /// What limits requests, and perhaps exchanges.
    pub permits: Arc<Vec<Arc<Semaphore>>>,
    state: Arc<Mutex<State>>,
    /// Whose world it is: the number of a program, and which of its processes.
    pub program: usize,
    process: u64,
}

#[derive(Default)]
struct State {
    processes: Processes,
    /// All access tokens there ever were, by number.
    tokens: BTreeMap<u64, Token>,
    authorizations: Authorizations,
    exchanges: u64,
    /// When exchanges came, for the quota.
    came: Vec<Duration>,
    outage: Option<(How, Duration)>,
    store_trouble: Option<(StoreHow, Duration)>,
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
            processes: Processes::new(&plan),
            ..State::default()
        };
        let most = plan.program.stack.limit_below.unwrap_or(Semaphore::MAX_PERMITS);
        let permits = (0..plan.programs).map(|_| Arc::new(Semaphore::new(most))).collect();
        let world = Self {
            plan: Arc::new(plan),
            trace: Trace::begin(),
            shelf: Shelf::default(),
            bodies: Arc::default(),
            permits: Arc::new(permits),
            state: Arc::new(state.into()),
            program: 0,
            process: 0,
        };
        world.authorize();
        world
    }

    /// Lets an event of the plan happen to this program or to all, but for those that are the program's own.
    pub fn happen(&self, what: What) {
        let now = self.trace.now();
        self.trace.note(Happened::Event(what));
        let mut state = self.lock();
        let lasts = match what {
            What::Outage { lasts, how } => {
                state.outage = Some((how, now + millis(lasts)));
                lasts
            }
            What::ApiDown { lasts } => {
                state.api_down_until = now + millis(lasts);
                lasts
            }
            What::StoreTrouble { lasts, how } => {
                state.store_trouble = Some((how, now + millis(lasts)));
                lasts
            }
            What::Freeze { lasts } => {
                state.processes.freeze(self.program, millis(lasts));
                lasts
            }
            What::Revoke => return state.tokens.values_mut().for_each(|token| token.ends = token.ends.min(now)),
            What::Withdraw { access_too } => {
                state.authorizations.revoke();
                if access_too {
                    state.tokens.values_mut().for_each(|token| token.ends = token.ends.min(now));
                }
                return;
            }
            What::SetBack { by } => return state.authorizations.set_back(now.saturating_sub(millis(by))),
            What::WallStep { by } => return state.processes.step(self.program, by),
            What::Suspend { lasts } => return self.trace.sleep(lasts),
            What::StoreLoss => return self.shelf.lose(),
            What::StoreSetBack { by } => return self.shelf.set_back(now.saturating_sub(millis(by))),
            What::Crash { at_work, .. } => return state.processes.doom(at_work),
            What::Refresh | What::Restart { .. } => return,
        };
        drop(state);
        let trace = self.trace.clone();
        tokio::spawn(async move {
            sleep(millis(lasts)).await;
            trace.note(Happened::Over(what));
        });
    }

    /// By this program's clock.
    pub fn wall(&self) -> SystemTime {
        let (now, ahead) = (self.trace.now(), self.lock().processes.ahead(self.program));
        let true_time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + now;
        if ahead < 0 { true_time - millis(ahead.unsigned_abs()) } else { true_time + millis(ahead.unsigned_abs()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
