//! How a record is written: format 2.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

use super::{Dead, FORMAT, Failure, Guess, Intent, Record, Suspicion, from_ms, to_ms, whole_ms};
use crate::store::{Account, TokenSet, account::Owner};

/// Every change to this is a new format: one that is left out when an older version writes is lost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) format: u32,
    pub(super) generation: u64,
    pub(super) account: Owner,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized_at_ms: Option<u64>,
    renewals: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<WrittenSet>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    asks: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotates: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_seed: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seeds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<WrittenIntent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<Dead>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<WrittenFailure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSet {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
    requested_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_lifetime_ms: Option<u64>,
    refresh_requested_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIntent {
    at_ms: u64,
    by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFailure {
    count: u32,
    at_ms: u64,
    until_ms: u64,
    asked: bool,
    by: String,
    of: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    guess: Option<WrittenGuess>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGuess {
    verdict: Suspicion,
    since_ms: u64,
    seen: u32,
}

impl Written {
    pub(super) fn of(record: &Record, account: &Account) -> Self {
        let intent = |intent: &Intent| WrittenIntent { at_ms: to_ms(intent.at), by: intent.by.clone() };
        let guess =
            |guess: &Guess| WrittenGuess { verdict: guess.verdict, since_ms: to_ms(guess.since), seen: guess.seen };
        let failure = |failure: &Failure| WrittenFailure {
            count: failure.count,
            at_ms: to_ms(failure.at),
            until_ms: to_ms(failure.until),
            asked: failure.asked,
            by: failure.by.clone(),
            of: failure.of.clone(),
            text: failure.text.clone(),
            guess: failure.guess.as_ref().map(guess),
        };
        Self {
            format: FORMAT,
            generation: record.generation,
            account: account.owner().clone(),
            authorized_at_ms: record.authorized_at.map(to_ms),
            renewals: record.renewals,
            restored_at_ms: record.restored_at.map(to_ms),
            asks: record.asks.clone(),
            rotates: record.rotates,
            from_seed: record.from_seed.clone(),
            set: record.set.as_ref().map(WrittenSet::of),
            seeds: record.seeds.clone(),
            intent: record.intent.as_ref().map(intent),
            dead: record.dead.clone(),
            failure: record.failure.as_ref().map(failure),
        }
    }
}

impl WrittenSet {
    fn of(set: &TokenSet) -> Self {
        let secret = |secret: &SecretString| Zeroizing::new(secret.expose_secret().to_owned());
        Self {
            access_token: set.access_token.as_ref().map(secret),
            refresh_token: set.refresh_token.as_ref().map(secret),
            scope: set.scope.clone(),
            lifetime_ms: set.lifetime.map(whole_ms),
            requested_at_ms: to_ms(set.requested_at),
            refresh_lifetime_ms: set.refresh_lifetime.map(whole_ms),
            refresh_requested_at_ms: to_ms(set.refresh_requested_at),
        }
    }
}

impl From<Written> for Record {
    fn from(written: Written) -> Self {
        let guess =
            |guess: WrittenGuess| Guess { verdict: guess.verdict, since: from_ms(guess.since_ms), seen: guess.seen };
        Self {
            generation: written.generation,
            authorized_at: written.authorized_at_ms.map(from_ms),
            renewals: written.renewals,
            restored_at: written.restored_at_ms.map(from_ms),
            set: written.set.map(Into::into),
            asks: written.asks,
            rotates: written.rotates,
            from_seed: written.from_seed,
            seeds: written.seeds,
            intent: written.intent.map(|intent| Intent { at: from_ms(intent.at_ms), by: intent.by }),
            dead: written.dead,
            failure: written.failure.map(|failure| Failure {
                count: failure.count,
                at: from_ms(failure.at_ms),
                until: from_ms(failure.until_ms),
                asked: failure.asked,
                by: failure.by,
                of: failure.of,
                text: failure.text,
                guess: failure.guess.map(guess),
            }),
        }
    }
}

impl From<WrittenSet> for TokenSet {
    fn from(written: WrittenSet) -> Self {
        let secret = |secret: Zeroizing<String>| SecretString::from(secret.as_str());
        Self {
            access_token: written.access_token.map(secret),
            refresh_token: written.refresh_token.map(secret),
            scope: written.scope,
            lifetime: written.lifetime_ms.map(Duration::from_millis),
            refresh_lifetime: written.refresh_lifetime_ms.map(Duration::from_millis),
            requested_at: from_ms(written.requested_at_ms),
            refresh_requested_at: from_ms(written.refresh_requested_at_ms),
            flaw: None,
            worked: false,
        }
    }
}
