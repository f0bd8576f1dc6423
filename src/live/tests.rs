//! What a live token promises, held against a scripted source under a paused clock: no test waits, and each gives the same
//! result every time.

mod scene;

mod clocks;
mod ending;
mod faults;
mod idle;
mod mixed;
mod outage;
mod refusal;
mod renewal;
mod trace;
mod view;
mod waiting;
