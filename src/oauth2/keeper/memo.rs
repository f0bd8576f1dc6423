//! What an owner remembers.

use std::time::SystemTime;

use fastrand::Rng;
use secrecy::SecretString;

use crate::{
    clock::Moment,
    oauth2::TokenSet,
    store::record::{Dead, Record, Suspicion},
};

/// What an owner remembers from one fetch to the next.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) rng: Rng,
    /// The access token that was handed on last.
    pub(super) handed: Option<SecretString>,
    /// An access token that the API has refused, and when it did so first.
    pub(super) refused: Option<(SecretString, Moment)>,
    /// The version of the entry that was seen last.
    pub(super) known: u64,
    /// The newest that was seen of the entry.
    pub(super) newest: Newest,
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
    /// The store has failed or was set back since this owner stored a set, or it has never stored one.
    pub(super) store_was_unreliable: bool,
    pub(super) has_stored: bool,
    /// What the server seems to say, and since when.
    pub(super) guessing: Option<(Suspicion, Moment)>,
    /// Somebody else's intent beside which no lease was found.
    pub(super) abandoned: Option<Abandoned>,
    /// When something was put back last, as the entry says, and when that was seen first.
    pub(super) restored: Option<(SystemTime, Moment)>,
    /// There is something worth a fetch.
    pub(super) news: bool,
    /// The version that the store said was changed, and how often it said so in vain.
    pub(super) told: (u64, u32),
    /// When somebody must look what became of an intent of another process, or say that the refresh token is dead.
    pub(super) resolve_at: Option<Moment>,
    /// That is now.
    pub(super) resolve: bool,
    /// The server has said that nobody should ask before then.
    pub(super) told_to_wait_until: Option<Moment>,
    /// When to look in the store for a new authorization, while the last failure is final or waited out for long.
    pub(super) look_for_user_at: Option<Moment>,
    /// When the authorization that ended had begun.
    pub(super) given_up: Option<SystemTime>,
}

impl Memo {
    /// Notes when it was seen first that something was put back: other machines' clocks are others.
    pub(super) fn note_restored(&mut self, record: &Record, now: Moment) {
        if self.restored.map(|(at, _)| at) != record.restored_at {
            self.restored = record.restored_at.map(|at| (at, now));
        }
    }
}

/// A set that is not in the store.
#[derive(Clone)]
pub(super) struct Unsaved {
    pub(super) set: TokenSet,
    pub(super) place: Place,
    /// When the authorization began that it goes on with: a later one, or a removal, is newer.
    pub(super) authorized_at: Option<SystemTime>,
}

/// In the place of what it is stored.
#[derive(Clone)]
pub(super) enum Place {
    /// Whatever is there: a user has authorized again, at this time.
    Any(SystemTime),
    /// Of the set whose refresh token was spent for it, and of no other: that would be newer.
    Of(Option<TokenSet>),
    /// Of the one that was there when it was fetched, one that has expired, or none: it can be fetched again, and another that is
    /// good will do for all.
    Free(Option<TokenSet>),
}

impl Unsaved {
    /// Whether it can't be had again.
    pub(super) fn is_spent(&self) -> bool {
        !matches!(self.place, Place::Free(_))
    }

    /// In the place of what it was fetched.
    pub(super) fn before(&self) -> Option<&TokenSet> {
        match &self.place {
            Place::Any(_) => None,
            Place::Of(before) | Place::Free(before) => before.as_ref(),
        }
    }
}

/// An intent that nobody seems to be at work on.
pub(super) struct Abandoned {
    /// The lease that it was written under.
    pub(super) by: String,
    pub(super) since: Moment,
    /// Somebody has had the lease at every look since.
    pub(super) held_since: Option<Moment>,
}

/// The newest state of the entry that an owner has seen: a store that was set back has an older one.
#[derive(Default)]
pub(super) struct Newest {
    record: Record,
}

impl Newest {
    /// Whether this is older than what was seen: of an earlier authorization, with a set that was replaced since, or of an earlier state.
    pub(super) fn is_newer_than(&self, record: &Record) -> bool {
        let order = |record: &Record| (record.authorized_at, record.renewals, record.generation);
        // A configuration whose beginning was left behind long ago is no new one: somebody has found the store empty. Unless the entry
        // knows what was configured since: then it was taken back on purpose.
        let begins_again = record.authorized_at > self.record.authorized_at
            && record.from_seed.as_ref().is_some_and(|seed| {
                let last = self.record.seeds.last();
                self.record.seeds.contains(seed)
                    && !last.is_some_and(|last| last != seed && record.seeds.contains(last))
            });
        order(record) < order(&self.record) || begins_again
    }

    /// When the authorization began.
    pub(super) fn authorized_at(&self) -> Option<SystemTime> {
        self.record.authorized_at
    }

    /// Why what is stored is not used to ask for more.
    pub(super) fn dead(&self) -> Option<&Dead> {
        self.record.dead.as_ref()
    }

    /// Whether this brings another set.
    pub(super) fn replaces_set_of(&self, record: &Record) -> bool {
        (record.authorized_at, record.renewals) != (self.record.authorized_at, self.record.renewals)
    }

    /// This was seen in the store, and isn't older.
    pub(super) fn remember(&mut self, record: &Record) {
        self.record = record.clone();
    }

    /// It in the place of an older one, which others may have changed meanwhile.
    pub(super) fn replacing(&self, record: &Record) -> Record {
        let (generation, before) = (self.record.generation.max(record.generation), self.record.authorized_at);
        // Later than what it replaces, for everybody who has seen that.
        let authorized_at = before.max(record.authorized_at);
        Record { generation, authorized_at, ..self.record.clone() }
    }

    /// The next generation, whatever the store says.
    pub(super) fn next_generation(&self, record: &Record) -> u64 {
        self.record.generation.max(record.generation).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            // Somebody who knew less has put it there, and gone on.
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
