//! One owner, or several that share a store, against a server that rotates refresh tokens. Time is tokio's paused clock, and the wall
//! clock goes with it.

mod adopting;
mod answers;
mod attacks;
mod emptied;
mod fleet;
mod lost;
mod moving;
mod races;
mod scene;
mod set_back;
mod trouble;
