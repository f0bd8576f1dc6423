//! What is stored. The documentation of `store` has the members, `format` writes them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Account, StoreError, TokenSet,
    account::{Owner, hex},
};

mod format;
mod milliseconds;

use milliseconds::{from_ms, to_ms};

/// The contents of an entry.
#[derive(Clone, Default)]
pub(crate) struct Record {
    /// Counts every change, from the highest that was ever seen. A store that was set back has a lower one.
    pub(crate) generation: u64,
    /// When the authorization of this set began, or was removed. A later one is newer, whatever its generation.
    pub(crate) authorized_at: Option<SystemTime>,
    /// How many sets this authorization has brought. A set with fewer is older.
    pub(crate) renewals: u64,
    /// When a keeper restored an entry that the store had lost, or found the store empty.
    pub(crate) restored_at: Option<SystemTime>,
    pub(crate) set: Option<TokenSet>,
    /// What the access token was asked for, hashed.
    pub(crate) asks: String,
    /// Whether renewals bring new refresh tokens. `None` before the first renewal.
    pub(crate) rotates: Option<bool>,
    /// A hash of the initial set that the authorization began with. `None` if its set was adopted.
    pub(crate) from_seed: Option<String>,
    /// Hashes of the initial sets of all configurations, the newest last.
    pub(crate) seeds: Vec<String>,
    pub(crate) intent: Option<Intent>,
    pub(crate) dead: Option<Dead>,
    pub(crate) failure: Option<Failure>,
}

/// A refresh token is about to be spent. If this stays, the response was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) at: SystemTime,
    /// The lease under which it was written.
    pub(crate) lease: String,
}

/// Why the stored refresh token, or the password, is no longer used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dead {
    pub(crate) end: End,
    pub(crate) text: String,
    /// Marks of the credentials that were refused, made with `salt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused_with: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) salt: String,
}

/// Why the refresh token, or the password, is no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// The refresh token may be spent, and must not be sent again.
    Lost,
    /// The server refused the refresh token.
    Refused,
    /// The server refused the password.
    Password,
}

/// How the last fetch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How many failures there were in a row.
    pub(crate) count: u32,
    pub(crate) at: SystemTime,
    /// Nobody tries again before this time.
    pub(crate) until: SystemTime,
    /// The server asked for that wait.
    pub(crate) server_asked: bool,
    /// A mark of the configuration that failed.
    pub(crate) configuration: String,
    /// The keeper that failed.
    pub(crate) keeper: String,
    pub(crate) text: String,
    pub(crate) guess: Option<Guess>,
    /// The server refused the client, which asked for this, hashed.
    pub(crate) refused: Option<String>,
}

/// What failures seem to mean, before that is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) verdict: Suspicion,
    pub(crate) since: SystemTime,
    pub(crate) seen: u32,
}

/// What the server seems to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Suspicion {
    Client,
    Password,
    User,
}

impl Record {
    /// How many fetches have failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failure| failure.count)
    }

    /// The record after a renewal, with this set. Intents, ends and failures are removed.
    pub(crate) fn with_set(self, set: TokenSet, asks: &str) -> Self {
        Self {
            generation: self.generation,
            authorized_at: self.authorized_at,
            renewals: self.renewals.saturating_add(1),
            set: Some(set),
            asks: asks.to_owned(),
            rotates: self.rotates,
            from_seed: self.from_seed,
            seeds: self.seeds,
            ..Self::default()
        }
    }

    /// The record of a new authorization, with this set. `None` removes the set.
    pub(crate) fn authorized(self, set: Option<TokenSet>, asks: &str, now: SystemTime) -> Self {
        // Later than the one before, even if the clock was set back.
        let next = self.authorized_at.map(|before| before + Duration::from_millis(1));
        let now = from_ms(to_ms(now));
        let rotates = self.rotates.filter(|rotates| *rotates);
        Self {
            generation: self.generation,
            authorized_at: Some(next.map_or(now, |next| next.max(now))),
            set,
            asks: asks.to_owned(),
            rotates,
            seeds: self.seeds,
            ..Self::default()
        }
    }

    /// Notes the hash of a configuration's initial set.
    pub(crate) fn note_seed(&mut self, seed: &str) {
        self.seeds.retain(|known| known != seed);
        self.seeds.push(seed.to_owned());
        let too_many = self.seeds.len().saturating_sub(MOST_SEEDS);
        self.seeds.drain(..too_many);
    }
}

/// Why an entry can't be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It is another account's.
    Foreign { owner: Owner, generation: u64, seeds: Vec<String> },
    /// Somebody has to look at it: why.
    Damaged(String),
}

impl Unreadable {
    /// The error for the account that wants to read it.
    pub(crate) fn into_error(self, account: &Account) -> StoreError {
        match self {
            Self::Damaged(text) => StoreError::unusable(text),
            Self::Foreign { owner, .. } if owner.may_be(account.owner()) => StoreError::unusable(format!(
                "what is stored belongs to {owner}, and this is {}: let the user authorize again and adopt that, or choose another \
                 place",
                account.owner()
            )),
            Self::Foreign { owner, .. } => StoreError::unusable(format!(
                "what is stored belongs to {owner}, and this is {}: choose another place, a file or a name for each account; if it is \
                 the same user under another name, see `Stored::moved_from`",
                account.owner()
            )),
        }
    }
}

/// A hash of an initial set, to tell whether a configuration begins with the same one as last time.
pub(crate) fn initial_set_hash(set: &TokenSet) -> String {
    let secret = set.refresh_token().or(set.access_token()).unwrap_or_default();
    hex(Sha256::digest(secret))
}

/// A rollout has fewer configurations side by side.
const MOST_SEEDS: usize = 16;
