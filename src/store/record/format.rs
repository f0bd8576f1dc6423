//! How a record is written and read: JSON, format 2.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Dead, Failure, Guess, Intent, Record, Suspicion, Unreadable,
    milliseconds::{from_ms, to_ms, whole_ms},
};
use crate::store::{Account, Entry, TokenSet, account::Owner};

impl Record {
    /// Reads an entry. Without an entry the record is empty.
    ///
    /// # Errors
    /// [`Unreadable`] if the entry belongs to another account, is damaged, or has another format.
    pub(crate) fn read(entry: Option<&Entry>, account: &Account) -> Result<Self, Unreadable> {
        let Some(entry) = entry else { return Ok(Self { asks: account.asks().to_owned(), ..Self::default() }) };
        let data = entry.data();
        let damaged = || {
            Unreadable::Damaged("what is stored is damaged, or another program's: look at it, then move it away".into())
        };
        // The format's number is read first, because a newer format may have unknown members.
        let Head { format, sealed } = serde_json::from_slice(data).map_err(|_| damaged())?;
        if sealed.is_some() {
            let text = "what is stored is encrypted: wrap this store in `Sealed`, with the key, as in the process that stored it";
            return Err(Unreadable::Damaged(text.into()));
        }
        let format = format.ok_or_else(damaged)?;
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
        let written: Written = serde_json::from_slice(data).map_err(|_| damaged())?;
        if written.account != *account.owner() {
            let Written { account: owner, generation, seeds, .. } = written;
            return Err(Unreadable::Foreign { owner, generation, seeds });
        }
        Ok(written.into())
    }

    /// The record as bytes for a store.
    pub(crate) fn write(&self, account: &Account) -> Zeroizing<Vec<u8>> {
        // Larger than any token set, so that the buffer doesn't grow and leave a copy behind.
        let mut data = Zeroizing::new(Vec::with_capacity(16 * 1024));
        serde_json::to_writer(&mut *data, &Written::of(self, account)).expect("strings and numbers can be written");
        data
    }
}

#[derive(Deserialize)]
struct Head {
    format: Option<u32>,
    /// That of an entry of `Sealed`.
    sealed: Option<u32>,
}

/// The format. Every change to it needs a new format number, because an older version would drop an unknown member.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    generation: u64,
    account: Owner,
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
    at_ms: u64,
    until_ms: u64,
    asked: bool,
    by: String,
    of: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    guess: Option<WrittenGuess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGuess {
    verdict: Suspicion,
    since_ms: u64,
    seen: u32,
}

impl Written {
    fn of(record: &Record, account: &Account) -> Self {
        let intent = |intent: &Intent| WrittenIntent { at_ms: to_ms(intent.at), by: intent.lease.clone() };
        let guess =
            |guess: &Guess| WrittenGuess { verdict: guess.verdict, since_ms: to_ms(guess.since), seen: guess.seen };
        let failure = |failure: &Failure| WrittenFailure {
            count: failure.count,
            at_ms: to_ms(failure.at),
            until_ms: to_ms(failure.until),
            asked: failure.server_asked,
            by: failure.keeper.clone(),
            of: failure.configuration.clone(),
            text: failure.text.clone(),
            guess: failure.guess.as_ref().map(guess),
            refused: failure.refused.clone(),
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
            intent: written.intent.map(|intent| Intent { at: from_ms(intent.at_ms), lease: intent.by }),
            dead: written.dead,
            failure: written.failure.map(|failure| Failure {
                count: failure.count,
                at: from_ms(failure.at_ms),
                until: from_ms(failure.until_ms),
                server_asked: failure.asked,
                keeper: failure.by,
                configuration: failure.of,
                text: failure.text,
                guess: failure.guess.map(guess),
                refused: failure.refused,
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

const FORMAT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{End, milliseconds::LATEST};

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
        let (refused_with, salt) = (vec!["0abcd".into()], "s".into());
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
            intent: Some(Intent { at, lease: "me".into() }),
            dead: Some(Dead { end: End::Refused, text: "revoked".into(), refused_with, salt }),
            failure: Some(Failure {
                count: 2,
                at,
                until: at,
                server_asked: true,
                keeper: "you".into(),
                configuration: "0abcd".into(),
                text: "503".into(),
                guess,
                refused: Some("a1".into()),
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
            r#"{"format":2,"generation":7,"account":{"server":"https://id.test","client":"app","subject":{"user":"anna"}},"authorized_at_ms":1700000000123,"renewals":5,"restored_at_ms":1700000000123,"set":{"access_token":"a\"\n","refresh_token":"ü","scope":"x y","lifetime_ms":1500,"requested_at_ms":1700000000123,"refresh_lifetime_ms":86400000,"refresh_requested_at_ms":1700000000123},"asks":"a1","rotates":true,"from_seed":"seed","seeds":["seed"],"intent":{"at_ms":1700000000123,"by":"me"},"dead":{"end":"refused","text":"revoked","refused_with":["0abcd"],"salt":"s"},"failure":{"count":2,"at_ms":1700000000123,"until_ms":1700000000123,"asked":true,"by":"you","of":"0abcd","text":"503","guess":{"verdict":"user","since_ms":1700000000123,"seen":2},"refused":"a1"}}"#
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = full().write(&account());
        let as_format = |format: &str| String::from_utf8(good.to_vec()).unwrap().replacen(":2,", format, 1);
        for (data, expected) in [
            (&b""[..], "damaged"),
            (b"{}", "damaged"),
            (br#"{"sealed":1,"key":"k","account":"x","nonce":"","data":""}"#, "wrap this store in `Sealed`"),
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
