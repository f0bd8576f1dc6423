//! The same work through `tower-bearer` and through what else puts live tokens on requests, side by side in one run.
//!
//! | | |
//! |---|---|
//! | `candidate` | what is asked of each: authorize a request and hand it to an inner service |
//! | `inner` | the inner services: one that does nothing, and one that looks at the token |
//! | `peers/` | each way, a file each, used as its documentation says |
//! | `endpoint` | the token endpoint, the same for all |
//! | `hot_path`, `refresh`, `cold_start` | what is measured |
//! | `roster` | who takes part |
//! | `stops` | whether the machine stood still meanwhile; the benches of the crate have it too |
//! | `report/` | what was measured, as a document and plots |

pub mod candidate;
pub mod cold_start;
pub mod endpoint;
pub mod hot_path;
pub mod inner;
pub mod peers;
pub mod refresh;
pub mod report;
pub mod roster;
#[path = "../../harness/stops.rs"]
mod stops;
