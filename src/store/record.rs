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

/// An entry that was read, or is to be written.
#[derive(Clone, Default)]
pub(crate) struct Record {
    /// Counts every change, and goes on from the highest that anybody has seen: a store that was set back has a lower one.
    pub(crate) generation: u64,
    /// When the authorization began that the set goes on with, or was taken away: a later one is newer, whatever its generation.
    pub(crate) authorized_at: Option<SystemTime>,
    /// How many sets came in this authorization: what is older, whoever has written it last.
    pub(crate) renewals: u64,
    /// When somebody put back what the store had lost.
    pub(crate) restored_at: Option<SystemTime>,
    pub(crate) set: Option<TokenSet>,
    /// What the access token was asked for.
    pub(crate) asks: String,
    /// Whether renewals bring another refresh token. `None` before the first one.
    pub(crate) rotates: Option<bool>,
    /// The configuration's set that the authorization began with; none if it was adopted.
    pub(crate) from_seed: Option<String>,
    /// What configurations began with, the last one last.
    pub(crate) seeds: Vec<String>,
    pub(crate) intent: Option<Intent>,
    pub(crate) dead: Option<Dead>,
    pub(crate) failure: Option<Failure>,
}

/// A refresh token was about to be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) at: SystemTime,
    /// The lease under which it was written.
    pub(crate) lease: String,
}

/// Why what is stored is not used to ask for more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dead {
    pub(crate) end: End,
    pub(crate) text: String,
    /// What the clients proved themselves with that were told so, marked with `salt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused_with: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) salt: String,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// The refresh token may be spent, and is not to be shown again.
    Lost,
    /// The server refused the refresh token.
    Refused,
    /// The server refused the password.
    Password,
}

/// How the last fetch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How many there were in a row.
    pub(crate) count: u32,
    pub(crate) at: SystemTime,
    /// Nobody tries again before.
    pub(crate) until: SystemTime,
    /// The server asked for that wait.
    pub(crate) server_asked: bool,
    /// A mark of the configuration that failed.
    pub(crate) configuration: String,
    /// The keeper that failed.
    pub(crate) keeper: String,
    pub(crate) text: String,
    pub(crate) guess: Option<Guess>,
}

/// What the server seems to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) verdict: Suspicion,
    pub(crate) since: SystemTime,
    pub(crate) seen: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Suspicion {
    Client,
    Password,
    User,
}

impl Record {
    /// How often fetches have failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failure| failure.count)
    }

    /// With this set in the place of the one there was: what stood in its way is over.
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

    /// With a set that the user has just authorized, or none.
    pub(crate) fn authorized(self, set: Option<TokenSet>, asks: &str, now: SystemTime) -> Self {
        // Later than the one before, whatever the clock says.
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

    /// Notes that a configuration began with this.
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
    /// What somebody has to look at.
    Damaged(String),
}

impl Unreadable {
    /// For who wants to read it.
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

/// Tells whether a configuration begins with the same set as last time.
pub(crate) fn seed(set: &TokenSet) -> String {
    let secret = set.refresh_token().or(set.access_token()).unwrap_or_default();
    hex(Sha256::digest(secret))
}

/// More configurations than take turns in one rollout.
const MOST_SEEDS: usize = 16;
