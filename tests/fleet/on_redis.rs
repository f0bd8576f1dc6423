//! Stores on Redis, and what fails there.

pub(crate) mod announcements;
pub(crate) mod cluster;
pub(crate) mod durability;
pub(crate) mod failover;
pub(crate) mod family;
pub(crate) mod many_failovers;
pub(crate) mod owners;
pub(crate) mod sentinel;
pub(crate) mod settings;
pub(crate) mod tls;
