//! What is stored, and how it is written: format 2. See the module's documentation for the members.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Account, Entry, StoreError, TokenSet,
    account::{Owner, hex},
};

mod written;

use written::Written;

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
    /// The lease it was written under.
    pub(crate) by: String,
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
    /// The server has asked for that.
    pub(crate) asked: bool,
    /// A mark of the configuration it happened with.
    pub(crate) of: String,
    /// The process it happened to.
    pub(crate) by: String,
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
    /// Reads an entry; none is an empty record.
    ///
    /// # Errors
    /// [`Unreadable`] if it is none of ours.
    pub(crate) fn read(entry: Option<&Entry>, account: &Account) -> Result<Self, Unreadable> {
        let Some(entry) = entry else { return Ok(Self { asks: account.asks().to_owned(), ..Self::default() }) };
        let data = entry.data();
        let damaged = |_| {
            Unreadable::Damaged("what is stored is damaged, or another program's: look at it, then move it away".into())
        };
        // A newer format may have members that this one doesn't know: the number is read first.
        let Head { format } = serde_json::from_slice(data).map_err(damaged)?;
        if format > FORMAT {
            let text = format!(
                "it was written by a newer version of this crate, in format {format}, and this one knows {FORMAT}: update"
            );
            return Err(Unreadable::Damaged(text));
        }
        if format < FORMAT {
            let text = format!(
                "it was written before the first release of this crate, in format {format}: move it away and authorize again"
            );
            return Err(Unreadable::Damaged(text));
        }
        let written: Written = serde_json::from_slice(data).map_err(damaged)?;
        if written.account != *account.owner() {
            let Written { account: owner, generation, seeds, .. } = written;
            return Err(Unreadable::Foreign { owner, generation, seeds });
        }
        Ok(written.into())
    }

    /// As bytes for a store.
    pub(crate) fn write(&self, account: &Account) -> Zeroizing<Vec<u8>> {
        // Tokens are a few KiB at most: with this there is no copy left behind where it grew.
        let mut data = Zeroizing::new(Vec::with_capacity(16 * 1024));
        serde_json::to_writer(&mut *data, &Written::of(self, account)).expect("strings and numbers can be written");
        data
    }

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

#[derive(Deserialize)]
struct Head {
    format: u32,
}

pub(super) fn to_ms(time: SystemTime) -> u64 {
    whole_ms(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn from_ms(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LATEST))
}

pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(LATEST)
}

pub(super) const FORMAT: u32 = 2;

/// More configurations than take turns in one rollout.
const MOST_SEEDS: usize = 16;

/// The year 10 000 or so: what stands there must not take the arithmetic of times beyond what they can be.
const LATEST: u64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account::new("https://id.test", "app").subject("anna").asking("x")
    }

    fn full() -> Record {
        let at = from_ms(1_700_000_000_123);
        let mut set =
            TokenSet::of_access_token("a\"\n").expires_in(Duration::from_millis(1500)).with_refresh_token("ü");
        set = set.refresh_expires_in(Duration::from_secs(86_400));
        (set.scope, set.requested_at, set.refresh_requested_at) = (Some("x y".into()), at, at);
        let guess = Some(Guess { verdict: Suspicion::User, since: at, seen: 2 });
        let (told, salt) = (vec!["0abcd".into()], "s".into());
        Record {
            generation: 7,
            authorized_at: Some(at),
            renewals: 5,
            restored_at: Some(at),
            set: Some(set),
            asks: "a1".into(),
            rotates: Some(true),
            from_seed: Some("seed".into()),
            seeds: vec!["seed".into()],
            intent: Some(Intent { at, by: "me".into() }),
            dead: Some(Dead { end: End::Refused, text: "revoked".into(), refused_with: told, salt }),
            failure: Some(Failure {
                count: 2,
                at,
                until: at,
                asked: true,
                by: "you".into(),
                of: "0abcd".into(),
                text: "503".into(),
                guess,
            }),
        }
    }

    fn read(data: &[u8]) -> Result<Record, String> {
        Record::read(Some(&Entry::new(1, data.to_vec())), &account())
            .map_err(|error| error.into_error(&account()).to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = full();
        let again = read(&record.write(&account())).ok().unwrap();
        let (set, set_again) = (record.set.unwrap(), again.set.unwrap());
        assert_eq!((set.access_token(), set.refresh_token()), (set_again.access_token(), set_again.refresh_token()));
        assert_eq!(
            (set.scope, set.lifetime, set.requested_at),
            (set_again.scope, set_again.lifetime, set_again.requested_at)
        );
        assert_eq!(set.refresh_lifetime, set_again.refresh_lifetime);
        assert_eq!(set.refresh_requested_at, set_again.refresh_requested_at);
        assert_eq!((record.generation, record.asks, record.rotates), (again.generation, again.asks, again.rotates));
        assert_eq!((record.seeds, record.intent), (again.seeds, again.intent));
        assert_eq!((record.dead, record.failure), (again.dead, again.failure));
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let written = String::from_utf8(full().write(&account()).to_vec()).unwrap();
        assert_eq!(
            written,
            r#"{"format":2,"generation":7,"account":{"server":"https://id.test","client":"app","subject":{"user":"anna"}},"authorized_at_ms":1700000000123,"renewals":5,"restored_at_ms":1700000000123,"set":{"access_token":"a\"\n","refresh_token":"ü","scope":"x y","lifetime_ms":1500,"requested_at_ms":1700000000123,"refresh_lifetime_ms":86400000,"refresh_requested_at_ms":1700000000123},"asks":"a1","rotates":true,"from_seed":"seed","seeds":["seed"],"intent":{"at_ms":1700000000123,"by":"me"},"dead":{"end":"refused","text":"revoked","refused_with":["0abcd"],"salt":"s"},"failure":{"count":2,"at_ms":1700000000123,"until_ms":1700000000123,"asked":true,"by":"you","of":"0abcd","text":"503","guess":{"verdict":"user","since_ms":1700000000123,"seen":2}}}"#
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = full().write(&account());
        let as_format = |format: &str| String::from_utf8(good.to_vec()).unwrap().replacen(":2,", format, 1);
        for (data, expected) in [
            (&b""[..], "damaged"),
            (b"{}", "damaged"),
            (b"[2]", "damaged"),
            (&good[..good.len() - 1], "damaged"),
            (b"\0\0\0\0\0\0\0\0", "damaged"),
            (br#"{"format":2,"generation":1,"account":{"server":"https://id.test","client":"app","subject":{"user":"ben"}},"renewals":0}"#, "for `ben`"),
            (br#"{"format":2,"generation":1,"account":{"server":"https://id.test","client":"old","subject":{"user":"anna"}},"renewals":0}"#, "authorize again"),
            (br#"{"format":2,"generation":1,"account":{"server":"x","client":"x","subject":"client"},"more":1}"#, "damaged"),
            (br#"{"format":-1,"account":"x"}"#, "damaged"),
            (br#"{"format":99,"tokens":{}}"#, "format 99"),
            (as_format(":1,").as_bytes(), "format 1"),
            (as_format(":3,").as_bytes(), "format 3"),
        ] {
            let error = read(data).err().unwrap();
            assert!(error.contains(expected), "{error} for {}", String::from_utf8_lossy(data));
            assert!(!error.contains("access_token"), "{error}");
        }
    }

    #[test]
    fn absurd_times_are_no_panic() {
        let data = br#"{"format":2,"generation":18446744073709551615,"account":{"server":"https://id.test","client":"app","subject":{"user":"anna"}},"renewals":18446744073709551615,"set":{"requested_at_ms":18446744073709551615,"lifetime_ms":18446744073709551615,"refresh_requested_at_ms":0},"intent":{"at_ms":18446744073709551615,"by":""}}"#;
        let record = read(data).ok().unwrap();
        assert_eq!(record.intent.unwrap().at, from_ms(LATEST));
        let record = Record::default().with_set(record.set.unwrap(), "");
        assert!(read(&record.write(&account())).is_ok(), "and can be written again");
    }
}
