//! Which processes run, and when they are driven. Those that are dead do nothing more, whatever they have left behind.

use std::{
    future::{Future, pending},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

use super::{State, World};
use crate::plan::Plan;

#[derive(Default)]
pub struct Processes {
    programs: Vec<Program>,
    /// Whoever has the next exchange under way dies over it.
    is_doomed: bool,
    /// This one has.
    victim: Option<usize>,
    fell: Arc<Notify>,
}

#[derive(Default)]
struct Program {
    /// The number of the process that runs.
    process: u64,
    /// How many exchanges of it are under way.
    under_way: u64,
    frozen_until: Option<Instant>,
    /// Its wall clock, in milliseconds.
    ahead: i64,
}

impl Processes {
    pub fn new(plan: &Plan) -> Self {
        let ahead = |number: usize| (number as u64 * plan.skew).cast_signed();
        let programs =
            (0..plan.programs).map(|number| Program { ahead: ahead(number), ..Program::default() }).collect();
        Self { programs, ..Self::default() }
    }

    pub fn freeze(&mut self, program: usize, time: Duration) {
        self.programs[program].frozen_until = Some(Instant::now() + time);
    }

    pub fn step(&mut self, program: usize, by: i64) {
        self.programs[program].ahead += by;
    }

    pub fn ahead(&self, program: usize) -> i64 {
        self.programs[program].ahead
    }

    pub fn doom(&mut self, is_doomed: bool) {
        self.is_doomed = is_doomed;
    }

    /// One more exchange, or one less: how many of this program are under way now, and of all.
    pub fn under_way(&mut self, program: usize, by: i64) -> (u64, u64) {
        if by > 0 && mem::take(&mut self.is_doomed) {
            self.victim = Some(program);
            self.fell.notify_one();
        }
        let count = &mut self.programs[program].under_way;
        *count = count.saturating_add_signed(by);
        (*count, self.programs.iter().map(|program| program.under_way).sum())
    }
}

impl World {
    /// Resolves when a process dies over an exchange, as the plan says: to the number of its program.
    pub async fn victim(&self) -> usize {
        let fell = self.lock().processes.fell.clone();
        loop {
            let victim = self.lock().processes.victim.take();
            if let Some(program) = victim {
                return program;
            }
            fell.notified().await;
        }
    }

    /// The world of this program.
    pub fn of_program(&self, program: usize) -> Self {
        Self { program, ..self.clone() }
    }

    /// The world of a program's next process.
    pub fn of_next_process(&self) -> Self {
        self.end_process();
        let process = self.lock().processes.programs[self.program].process;
        Self { process, ..self.clone() }
    }

    /// Ends this process: nothing that it has left behind does anything any more.
    pub fn end_process(&self) {
        let program = &mut self.lock().processes.programs[self.program];
        program.process += 1;
        program.under_way = 0;
        program.frozen_until = None;
    }

    /// Of what is random in this process.
    pub fn seed(&self) -> u64 {
        self.plan.seed.wrapping_mul(1_000_003) + self.program as u64 * 1_000 + self.process
    }

    pub(super) fn is_alive(&self, state: &State) -> bool {
        state.processes.programs[self.program].process == self.process
    }

    /// Resolves when this is the world of the process that runs, and is driven; never for one that is dead.
    pub async fn alive(&self) {
        let frozen_until = self.frozen_until();
        if let Some(until) = frozen_until {
            sleep_until(until).await;
        }
        let is_alive = self.is_alive(&self.lock());
        if !is_alive {
            pending().await
        }
    }

    fn frozen_until(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().processes.programs[self.program].frozen_until.filter(|until| now < *until)
    }

    /// Drives this as the program's runtime is driven: not at all while it is frozen.
    pub fn drive<F: Future>(&self, future: F) -> Driven<F> {
        Driven { world: self.clone(), thaw: None, inner: Box::pin(future) }
    }
}

pub struct Driven<F> {
    world: World,
    thaw: Option<Pin<Box<Sleep>>>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Driven<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        while let Some(until) = self.world.frozen_until() {
            let thaw = self.thaw.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if thaw.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.thaw = None;
        }
        self.thaw = None;
        self.inner.as_mut().poll(context)
    }
}
