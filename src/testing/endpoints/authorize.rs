//! The authorization endpoint.

pub(crate) mod consent;
pub(crate) mod page;
mod redirect_target;
