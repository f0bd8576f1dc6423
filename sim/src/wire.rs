//! The same promises over real sockets, in real time: real HTTP clients and servers, with proxies between them that break connections.
//!
//! A `plan` is made from a seed. A `run` plays it: `client` sends through the layer, `proxy` breaks what it is told to break, `server` is the
//! authorization server and the API. All of them write into a `trace`, which `story` puts in order; `promises` look at that, and `excuses`
//! say which failures the proxies are the reason for.

pub mod client;
pub mod excuses;
pub mod plan;
pub mod promises;
pub mod proxy;
pub mod run;
pub mod server;
pub mod story;
pub mod trace;
