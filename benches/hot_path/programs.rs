//! Times the programs of `benches/programs`: each candidate is one of its own, as it is in users' programs.
//!
//! All run at the same time and take turns, so that whatever else the machine does hits all alike. Where code and data lie moves what a
//! request costs by a tenth: functions are aligned, and each start puts the data elsewhere, so that no candidate has luck.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub(crate) use super::harness::Ratio;
use super::harness::median;

/// What each candidate costs, in the terms of `main`.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) off: Ratio,
    pub(crate) never: Ratio,
    pub(crate) default: Ratio,
    pub(crate) head_copied: Ratio,
    pub(crate) default_beyond_head: Ratio,
    pub(crate) cloned: Ratio,
    pub(crate) floor_ns: f64,
    pub(crate) cloned_floor_ns: f64,
}

impl Costs {
    /// Builds the programs and runs them: takes a minute the first time, and ten seconds from then on.
    pub(crate) fn measure() -> Self {
        let programs = build();
        eprintln!("runs the programs, {STARTS} times");
        let starts: Vec<_> = (0..STARTS).map(|start| take_turns(&programs, start)).collect();
        let ns = |of: &dyn Fn(&Took) -> f64| median(starts.iter().map(of).collect());
        let ratio = |of: &dyn Fn(&Took) -> f64| Ratio::of(starts.iter().map(of).collect());
        let floor = |took: &Took| took.beyond("bare", "tower_http");
        let cloned_floor = |took: &Took| took.beyond("bare_cloned", "tower_http_cloned");
        Self {
            off: ratio(&|took| took.beyond("bare", "off") / floor(took)),
            never: ratio(&|took| took.beyond("bare", "never") / floor(took)),
            default: ratio(&|took| took.beyond("bare", "default") / floor(took)),
            head_copied: ratio(&|took| took.beyond("bare", "head_copied") / floor(took)),
            default_beyond_head: ratio(&|took| 1.0 + took.beyond("head_copied", "default") / floor(took)),
            cloned: ratio(&|took| took.beyond("bare_cloned", "off_cloned") / cloned_floor(took)),
            floor_ns: ns(&floor),
            cloned_floor_ns: ns(&cloned_floor),
        }
    }
}

/// Nanoseconds a request, by program and turn.
struct Took(BTreeMap<&'static str, Vec<f64>>);

impl Took {
    /// What this program costs beyond that one: the median of what it is in each turn.
    fn beyond(&self, that: &str, this: &str) -> f64 {
        median(self.0[this].iter().zip(&self.0[that]).map(|(this, that)| this - that).collect())
    }
}

/// The folder that they are in.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--bins", "--manifest-path", "benches/programs/Cargo.toml"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Of 64 bytes, what processors fetch at once: otherwise one function's length decides how fast the next is.
        .env("RUSTFLAGS", "-C llvm-args=-align-all-functions=6")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the programs of benches/programs can't be built");
    target.join("release")
}

/// Starts all programs, and asks each in turn.
fn take_turns(programs: &Path, start: usize) -> Took {
    // Somewhere within a page, where no two starts of the same number of programs are alike.
    let displaced = start * 4096 / STARTS / 16 * 16;
    let mut running: Vec<_> = PROGRAMS.iter().map(|name| Program::start(&programs.join(name), displaced)).collect();
    let mut took = Took(PROGRAMS.iter().map(|&name| (name, Vec::new())).collect());
    for turn in 0..TURNS {
        for place in 0..PROGRAMS.len() {
            // Forwards, then backwards.
            let at = if turn % 2 == 0 { place } else { PROGRAMS.len() - 1 - place };
            let nanoseconds = running[at].ask();
            took.0.get_mut(PROGRAMS[at]).expect("all are in it").push(nanoseconds);
        }
    }
    took
}

struct Program {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(path: &Path, displaced: usize) -> Self {
        let mut child = Command::new(path)
            .args(["timed", &displaced.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program that was just built");
        let requests = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, requests, answers }
    }

    /// The nanoseconds that a request takes now.
    fn ask(&mut self) -> f64 {
        writeln!(self.requests, "{BATCHES}").expect("it reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().expect("a number")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It would end by itself when nobody asks any more; so it has ended when this returns.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PROGRAMS: [&str; 9] =
    ["bare", "tower_http", "off", "never", "default", "head_copied", "bare_cloned", "tower_http_cloned", "off_cloned"];

/// How often the programs are started; a start is one sample.
pub(crate) const STARTS: usize = 32;

/// Turns of each program in a start, and batches of requests in a turn.
const TURNS: usize = 20;
const BATCHES: usize = 100;
