//! What is stored, and how it is written: format 1. See the module's documentation for the members.

use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Entry, Identity, StoreError, TokenSet, identity::hex};

/// An entry that was read, or is to be written.
#[derive(Clone, Default)]
pub(crate) struct Record {
    pub(crate) set: Option<TokenSet>,
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
    /// The lease it was written under.
    pub(crate) by: String,
}

/// Why the refresh token is not used any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dead {
    /// It was spent and the answer never came; otherwise the server refused it.
    pub(crate) lost: bool,
    pub(crate) text: String,
}

/// How the last fetch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How many there were in a row.
    pub(crate) count: u32,
    /// Nobody tries again before.
    pub(crate) until: SystemTime,
    /// The process it happened to.
    pub(crate) by: String,
    pub(crate) text: String,
}

impl Record {
    /// Reads an entry; none is an empty record.
    ///
    /// # Errors
    /// [`StoreError::unusable`] if it is none of ours.
    pub(crate) fn read(entry: Option<&Entry>, identity: &Identity) -> Result<Self, StoreError> {
        let Some(entry) = entry else { return Ok(Self::default()) };
        let data = entry.data();
        let damaged =
            |_| StoreError::unusable("what is stored is damaged, or another program's: look at it, then move it away");
        // A newer format may have members that this one doesn't know: the number is read first.
        let Head { format } = serde_json::from_slice(data).map_err(damaged)?;
        if format != FORMAT {
            let text = format!(
                "it was written by a newer version of this crate, in format {format}, and this one knows {FORMAT}: update"
            );
            return Err(StoreError::unusable(text));
        }
        let written: Written = serde_json::from_slice(data).map_err(damaged)?;
        if written.identity != identity.as_str() {
            return Err(StoreError::unusable(
                "what is stored belongs to another client, user or scope: choose another place, or move it away",
            ));
        }
        Ok(written.into())
    }

    /// As bytes for a store.
    pub(crate) fn write(&self, identity: &Identity) -> Zeroizing<Vec<u8>> {
        // Tokens are a few KiB at most: with this there is no copy left behind where it grew.
        let mut data = Zeroizing::new(Vec::with_capacity(16 * 1024));
        serde_json::to_writer(&mut *data, &Written::of(self, identity)).expect("strings and numbers can be written");
        data
    }

    /// How often fetches have failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failure| failure.count)
    }

    /// With this set in the place of the one there was: what stood in its way is over.
    pub(crate) fn with_set(self, set: TokenSet) -> Self {
        Self { set: Some(set), seeds: self.seeds, ..Self::default() }
    }

    /// Notes that a configuration began with this.
    pub(crate) fn note_seed(&mut self, seed: &str) {
        self.seeds.retain(|known| known != seed);
        self.seeds.push(seed.to_owned());
        let too_many = self.seeds.len().saturating_sub(MOST_SEEDS);
        self.seeds.drain(..too_many);
    }
}

/// Tells whether a configuration begins with the same set as last time.
pub(crate) fn seed(set: &TokenSet) -> String {
    let secret = set.refresh_token().or(set.access_token()).unwrap_or_default();
    hex(Sha256::digest(secret))
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Every change to this is a new format: one that is left out when an older version writes is lost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    identity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<WrittenSet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seeds: Vec<String>,
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
    until_ms: u64,
    by: String,
    text: String,
}

impl Written {
    fn of(record: &Record, identity: &Identity) -> Self {
        let intent = |intent: &Intent| WrittenIntent { at_ms: to_ms(intent.at), by: intent.by.clone() };
        let failure = |failure: &Failure| WrittenFailure {
            count: failure.count,
            until_ms: to_ms(failure.until),
            by: failure.by.clone(),
            text: failure.text.clone(),
        };
        Self {
            format: FORMAT,
            identity: identity.as_str().to_owned(),
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
        Self {
            set: written.set.map(Into::into),
            seeds: written.seeds,
            intent: written.intent.map(|intent| Intent { at: from_ms(intent.at_ms), by: intent.by }),
            dead: written.dead,
            failure: written.failure.map(|failure| Failure {
                count: failure.count,
                until: from_ms(failure.until_ms),
                by: failure.by,
                text: failure.text,
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
        }
    }
}

fn to_ms(time: SystemTime) -> u64 {
    whole_ms(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn from_ms(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LATEST))
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(LATEST)
}

const FORMAT: u32 = 1;

/// More configurations than take turns in one rollout.
const MOST_SEEDS: usize = 16;

/// The year 10 000 or so: what stands there must not take the arithmetic of times beyond what they can be.
const LATEST: u64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::of("test")
    }

    fn full() -> Record {
        let at = from_ms(1_700_000_000_123);
        let mut set =
            TokenSet::of_access_token("a\"\n").expires_in(Duration::from_millis(1500)).with_refresh_token("ü");
        set = set.refresh_expires_in(Duration::from_secs(86_400));
        (set.scope, set.requested_at, set.refresh_requested_at) = (Some("x y".into()), at, at);
        Record {
            set: Some(set),
            seeds: vec!["seed".into()],
            intent: Some(Intent { at, by: "me".into() }),
            dead: Some(Dead { lost: false, text: "revoked".into() }),
            failure: Some(Failure { count: 2, until: at, by: "you".into(), text: "503".into() }),
        }
    }

    fn read(data: &[u8]) -> Result<Record, String> {
        Record::read(Some(&Entry::new(1, data.to_vec())), &identity()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = full();
        let again = read(&record.write(&identity())).ok().unwrap();
        let (set, set_again) = (record.set.unwrap(), again.set.unwrap());
        assert_eq!((set.access_token(), set.refresh_token()), (set_again.access_token(), set_again.refresh_token()));
        assert_eq!(
            (set.scope, set.lifetime, set.requested_at),
            (set_again.scope, set_again.lifetime, set_again.requested_at)
        );
        assert_eq!(set.refresh_lifetime, set_again.refresh_lifetime);
        assert_eq!(set.refresh_requested_at, set_again.refresh_requested_at);
        assert_eq!((record.seeds, record.intent), (again.seeds, again.intent));
        assert_eq!((record.dead, record.failure), (again.dead, again.failure));
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let written = String::from_utf8(full().write(&identity()).to_vec()).unwrap();
        assert_eq!(
            written,
            format!(
                r#"{{"format":1,"identity":"{}","set":{{"access_token":"a\"\n","refresh_token":"ü","scope":"x y","lifetime_ms":1500,"requested_at_ms":1700000000123,"refresh_lifetime_ms":86400000,"refresh_requested_at_ms":1700000000123}},"seeds":["seed"],"intent":{{"at_ms":1700000000123,"by":"me"}},"dead":{{"lost":false,"text":"revoked"}},"failure":{{"count":2,"until_ms":1700000000123,"by":"you","text":"503"}}}}"#,
                identity().as_str()
            )
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = full().write(&identity());
        let as_format = |format: &str| String::from_utf8(good.to_vec()).unwrap().replacen(":1,", format, 1);
        for (data, expected) in [
            (&b""[..], "damaged"),
            (b"{}", "damaged"),
            (b"[1]", "damaged"),
            (&good[..good.len() - 1], "damaged"),
            (b"\0\0\0\0\0\0\0\0", "damaged"),
            (br#"{"format":1,"identity":"x"}"#, "another client"),
            (br#"{"format":1,"identity":"x","more":1}"#, "damaged"),
            (br#"{"format":-1,"identity":"x"}"#, "damaged"),
            (br#"{"format":99,"tokens":{}}"#, "format 99"),
            (as_format(":2,").as_bytes(), "format 2"),
        ] {
            let error = read(data).err().unwrap();
            assert!(error.contains(expected), "{error} for {}", String::from_utf8_lossy(data));
            assert!(!error.contains("access_token"), "{error}");
        }
    }

    #[test]
    fn absurd_times_are_no_panic() {
        let data = br#"{"format":1,"identity":"ID","set":{"requested_at_ms":18446744073709551615,"lifetime_ms":18446744073709551615,"refresh_requested_at_ms":0},"intent":{"at_ms":18446744073709551615,"by":""}}"#;
        let data = String::from_utf8(data.to_vec()).unwrap().replace("ID", identity().as_str());
        let record = read(data.as_bytes()).ok().unwrap();
        assert_eq!(record.intent.unwrap().at, from_ms(LATEST));
        let record = Record::default().with_set(record.set.unwrap());
        assert!(read(&record.write(&identity())).is_ok(), "and can be written again");
    }
}
