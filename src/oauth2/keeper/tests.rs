//! One keeper, or several with one store, at a server that rotates refresh tokens. Time is tokio's paused clock, and the wall clock follows
//! it.

mod adopting;
mod asking;
mod asleep;
mod attacks;
mod careless;
mod configurations;
mod emptied;
mod fleet;
mod lease_time;
mod lost;
mod moving;
mod races;
mod responses;
mod scene;
mod secrets;
mod set_back;
mod trouble;
mod verdicts;
