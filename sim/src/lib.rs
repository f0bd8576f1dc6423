//! Lives of programs with live tokens, as many as one likes: the real crate in a world that is modelled, on a paused clock, from seeds.
//!
//! A `plan` is made from a seed, a `run` plays it with the `program` in its `world`, and `promises` look through the `trace` of it. What breaks
//! one is `shrink`ed, and told as a story.

#![warn(clippy::mod_module_files)]

pub mod plan;
pub mod program;
pub mod promises;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod wire;
pub mod world;
