//! What a keeper remembers from one fetch to the next.

use std::time::{Duration, SystemTime};

use fastrand::Rng;
use secrecy::SecretString;

use super::stops::Stops;
use crate::{
    clock::Moment,
    oauth2::TokenSet,
    store::record::{Dead, Record, Suspicion},
};

/// What a keeper remembers from one fetch to the next.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) rng: Rng,
    /// The access token that was handed on last.
    pub(super) handed_on: Option<SecretString>,
    /// The version of the entry that was read or written last.
    pub(super) known_version: u64,
    /// The newest entry that was seen.
    pub(super) newest: Newest,
    /// The set that is in use and not stored.
    pub(super) unsaved: Option<Unsaved>,
    /// A task is at work that saves it.
    pub(super) is_saving: bool,
    /// The lease under which that was tried last, unless it was released.
    pub(super) saving_lease: Option<String>,
    /// How long the machine and the store have stood still.
    pub(super) stops: Stops,
    /// How many leases this keeper has asked for.
    pub(super) lease_count: u64,
    /// The last of these under which a refresh token may have been sent. After an intent under a later one, nothing was sent.
    pub(super) last_spending_lease: u64,
    /// A fetch has ended, with a token or without.
    pub(super) has_fetched: bool,
    /// The last fetch went on without the store.
    pub(super) went_without_store: bool,
    /// The last read of the store failed.
    pub(super) read_failed: bool,
    /// The store failed or was set back since this keeper stored a set.
    pub(super) store_was_unreliable: bool,
    /// This keeper has stored a set.
    pub(super) has_stored: bool,
    /// What the server's responses seem to mean, and since when, if no fetch has worked since.
    pub(super) suspected: Option<(Suspicion, Moment)>,
    /// Another keeper's intent, under a lease that nobody holds.
    pub(super) abandoned: Option<Abandoned>,
    /// The time in the entry when somebody restored it last, and when this was seen first.
    pub(super) restored: Option<(SystemTime, Moment)>,
    /// The configurations of the last fetches, as marks, and when each of them was used last.
    pub(super) fetched_with: Vec<(String, Moment)>,
    /// There is a reason to fetch now.
    pub(super) wants_fetch: bool,
    /// A version that the store reported as changed and that wasn't, and how often in a row.
    pub(super) false_report: (u64, u32),
    /// When to find out whether the refresh token still works, although the access token does: an intent or an end is in the entry.
    pub(super) check_refresh_token_at: Option<Moment>,
    /// That time has come.
    pub(super) check_refresh_token: bool,
    /// The server asked for no requests before this moment.
    pub(super) server_wait_until: Option<Moment>,
    /// When to look in the store for a new authorization. Set while the last failure is final, or its wait is long.
    pub(super) look_for_authorization_at: Option<Moment>,
    /// The authorization of the last fetch, by the time when it began. A later one is new.
    pub(super) last_authorization: Option<SystemTime>,
}

impl Memo {
    /// Notes when a restored entry was seen first. Its own time is by another machine's clock.
    pub(super) fn note_restored(&mut self, record: &Record, now: Moment) {
        if self.restored.map(|(at, _)| at) != record.restored_at {
            self.restored = record.restored_at.map(|at| (at, now));
        }
    }

    /// Notes that a fetch with this configuration begins.
    pub(super) fn note_fetch_with(&mut self, configuration: String, now: Moment) {
        self.fetched_with.retain(|(known, at)| *known != configuration && now.since(*at) < CHANGED_AGAIN);
        self.fetched_with.push((configuration, now));
    }

    /// Whether this configuration is none that fetches have begun with lately.
    pub(super) fn is_another(&self, configuration: &str, now: Moment) -> bool {
        !self.fetched_with.iter().any(|(known, at)| known == configuration && now.since(*at) < CHANGED_AGAIN)
    }
}

/// A set that is not stored.
#[derive(Clone)]
pub(super) struct Unsaved {
    pub(super) set: TokenSet,
    pub(super) replaces: Replaces,
    /// When its authorization began. A later authorization, or a removal, is newer than this set.
    pub(super) authorized_at: Option<SystemTime>,
}

/// Which stored set an unsaved one may replace.
#[derive(Clone)]
pub(super) enum Replaces {
    /// Any: a user has authorized again, at this time.
    Any(SystemTime),
    /// The set whose refresh token was spent for it. Any other is newer.
    Spent(Option<TokenSet>),
    /// The set that was stored before the fetch, an expired one, or none. Any other one does as well: this one can be fetched again.
    Fetched(Option<TokenSet>),
}

impl Unsaved {
    /// Whether it would be lost for good: it can't be fetched again.
    pub(super) fn is_irreplaceable(&self) -> bool {
        !matches!(self.replaces, Replaces::Fetched(_))
    }

    /// The set that was stored before it.
    pub(super) fn before(&self) -> Option<&TokenSet> {
        match &self.replaces {
            Replaces::Any(_) => None,
            Replaces::Spent(before) | Replaces::Fetched(before) => before.as_ref(),
        }
    }
}

/// Another keeper's intent, on which nobody seems to work.
pub(super) struct Abandoned {
    /// The lease under which it was written.
    pub(super) lease: String,
    pub(super) since: Moment,
    /// Since when every look found the lease held by somebody.
    pub(super) held_since: Option<Moment>,
}

/// The newest entry that this keeper has seen. A store that was set back has an older one.
#[derive(Default)]
pub(super) struct Newest {
    record: Record,
}

impl Newest {
    /// Whether the record is older: it belongs to an earlier authorization, has fewer renewals, or an earlier generation.
    pub(super) fn is_newer_than(&self, record: &Record) -> bool {
        let order = |record: &Record| (record.authorized_at, record.renewals, record.generation);
        // A process with an old configuration found the store empty, and began again with its initial set. That is no new authorization,
        // unless the entry also lists the set that was configured last: then somebody went back to the old configuration on purpose.
        let begins_again = record.authorized_at > self.record.authorized_at
            && record.from_seed.as_ref().is_some_and(|seed| {
                let last = self.record.seeds.last();
                self.record.seeds.contains(seed)
                    && !last.is_some_and(|last| last != seed && record.seeds.contains(last))
            });
        order(record) < order(&self.record) || begins_again
    }

    /// When the newest authorization began.
    pub(super) fn authorized_at(&self) -> Option<SystemTime> {
        self.record.authorized_at
    }

    /// The lifetime of the newest access token.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.record.set.as_ref()?.lifetime
    }

    /// Why the stored refresh token isn't used any more.
    pub(super) fn dead(&self) -> Option<&Dead> {
        self.record.dead.as_ref()
    }

    /// Whether the record has another set.
    pub(super) fn replaces_set_of(&self, record: &Record) -> bool {
        (record.authorized_at, record.renewals) != (self.record.authorized_at, self.record.renewals)
    }

    /// Remembers a record that was seen in the store and isn't older.
    pub(super) fn remember(&mut self, record: &Record) {
        self.record = record.clone();
    }

    /// The newest record, to replace an older one that others may have changed.
    pub(super) fn replacing(&self, record: &Record) -> Record {
        let (generation, before) = (self.record.generation.max(record.generation), self.record.authorized_at);
        // Not earlier than what it replaces, or a keeper that has seen that would take this for older.
        let authorized_at = before.max(record.authorized_at);
        Record { generation, authorized_at, ..self.record.clone() }
    }

    /// The next generation: higher than any seen, even if the store was set back.
    pub(super) fn next_generation(&self, record: &Record) -> u64 {
        self.record.generation.max(record.generation).saturating_add(1)
    }
}

/// How long a configuration is known after a fetch, so that several that take turns keep to a backoff. After this time a fetch with it
/// begins again, in case that one was too early for it.
const CHANGED_AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(authorized: u64, renewals: u64, generation: u64) -> Record {
        let authorized_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(authorized));
        Record { authorized_at, renewals, generation, ..Record::default() }
    }

    #[test]
    fn what_is_older_is_known_by_the_authorization_the_set_and_the_generation() {
        let mut newest = Newest::default();
        newest.remember(&record(7, 2, 5));
        for (seen, is_older) in [
            (record(7, 2, 5), false),
            (record(7, 3, 6), false),
            (record(7, 2, 4), true),
            // A keeper that knew less stored it and went on from there.
            (record(7, 1, 9), true),
            (Record::default(), true),
            (record(8, 0, 1), false),
            (record(6, 9, 9), true),
        ] {
            let what = (seen.authorized_at, seen.renewals, seen.generation);
            assert_eq!(newest.is_newer_than(&seen), is_older, "{what:?}");
        }
        assert_eq!(newest.next_generation(&record(7, 1, 9)), 10);
        assert_eq!(newest.next_generation(&record(7, 1, 1)), 6);
    }
}
