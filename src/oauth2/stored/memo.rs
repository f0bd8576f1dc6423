//! What an owner remembers.

use secrecy::SecretString;

use super::saving::Unsaved;
use crate::clock::Moment;

/// What an owner remembers from one fetch to the next.
#[derive(Default)]
pub(super) struct Memo {
    /// The access token that was handed on last.
    pub(super) handed: Option<SecretString>,
    /// The version of the entry that was seen last.
    pub(super) known: u64,
    /// What is in use and not in the store.
    pub(super) unsaved: Option<Unsaved>,
    pub(super) is_saving: bool,
    /// How many leases were asked for, and the last of them under which something may have been spent: the intents of later ones
    /// were followed by nothing.
    pub(super) leases: u64,
    pub(super) spent: u64,
    pub(super) unreachable: bool,
    /// The store could not be read when it was last tried.
    pub(super) gone: bool,
    /// There is something worth a fetch.
    pub(super) news: bool,
    /// The version that the store said was changed, and how often it said so in vain.
    pub(super) told: (u64, u32),
    /// When somebody must look what became of an intent of another process, or say that the refresh token is dead.
    pub(super) resolve_at: Option<Moment>,
    /// That is now.
    pub(super) resolve: bool,
}
