//! The clock that the crate reads: the wall goes with the world's time, but for steps. Whoever reads it again and again while no time passes is
//! spinning, and on a paused clock would do so for ever.

use std::{
    panic::panic_any,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use tower_bearer::clock::Clock;

use super::World;
use crate::trace::Happened;

pub struct SimClock {
    world: World,
    /// When it was read last, and how often since.
    reads: Mutex<(Duration, u64)>,
}

impl SimClock {
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), reads: Mutex::new((Duration::ZERO, 0)) }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> SystemTime {
        self.world.wall()
    }

    fn suspended(&self) -> Duration {
        let now = self.world.trace.now();
        let mut reads = self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *reads = if reads.0 == now { (now, reads.1 + 1) } else { (now, 1) };
        if reads.1 > MOST_READS {
            self.world.trace.note(Happened::Spins);
            // Nothing else ends it.
            panic_any("somebody spins");
        }
        self.world.trace.slept()
    }
}

/// Far more than a request and a fetch need in one moment, of a few hundred requests.
const MOST_READS: u64 = 100_000;
