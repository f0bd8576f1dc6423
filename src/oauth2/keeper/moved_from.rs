//! Moving a set from one keeper's entry to another's, when its name or its store changes.

use super::{Grant, Keeper};
use crate::store::{
    StoreError, Swap, TokenStore,
    record::{Record, Unreadable},
};

/// Moves the set of the old keeper to the new one.
///
/// # Errors
/// [`StoreError`] if one of the stores fails or holds something else, or if client or server differ.
pub(crate) async fn move_set<G: Grant, S: TokenStore, H: Grant, T: TokenStore>(
    old: &Keeper<H, T>,
    new: &Keeper<G, S>,
) -> Result<(), StoreError> {
    let (from, to) = (old.account.owner(), new.account.owner());
    if (&from.server, &from.client) != (&to.server, &to.client) {
        return Err(StoreError::unusable(format!(
            "what belongs to {from} can't be used by {to}: let the user authorize again and adopt that"
        )));
    }
    loop {
        let (record, old_version) = match old.read().await? {
            (Ok(record), version) => (record, version),
            // Both share an entry, and it was moved already.
            (Err(Unreadable::Foreign { owner, .. }), _) if owner == *to => return Ok(()),
            (Err(unreadable), _) => return Err(unreadable.into_error(&old.account)),
        };
        if record.set.is_none() {
            return Ok(());
        }
        let (there, version) = match new.read().await? {
            (Ok(there), version) => (there, version),
            // Both share an entry.
            (Err(Unreadable::Foreign { owner, .. }), version) if owner == *from => (Record::default(), version),
            (Err(unreadable), _) => return Err(unreadable.into_error(&new.account)),
        };
        let left = record.authorized_at;
        let arrived = arriving(record, there);
        // Written even if it doesn't change: when the old keeper finds it, both share an entry.
        if new.swap(version, &arrived).await? == Swap::Lost {
            continue;
        }
        match old.read().await? {
            // The same account: both may share an entry.
            (Ok(found), _) if from == to && found.generation == arrived.generation + 1 && found.set.is_some() => {
                return Ok(());
            }
            (Ok(found), version) if version == old_version => {
                // A process that still uses the old name finds that the set is gone. The authorization's time stays, so that the
                // set may be moved back.
                let gone = Record {
                    authorized_at: left,
                    renewals: found.renewals.saturating_add(1),
                    seeds: found.seeds,
                    ..Record::default()
                };
                if old.swap(version, &gone).await? == Swap::Done {
                    return Ok(());
                }
            }
            (Err(Unreadable::Foreign { owner, .. }), _) if owner == *to => return Ok(()),
            _ => {}
        }
    }
}

/// The record for the new entry: the old one, unless the user has authorized again under the new name.
fn arriving(record: Record, there: Record) -> Record {
    // An initial set of the old configuration is no later authorization, and a dead one neither. Unless it was renewed in the new entry,
    // after an interrupted move: then it is newer.
    let begins_again = there.from_seed.as_ref().is_some_and(|seed| record.seeds.contains(seed));
    let goes_on = there.authorized_at == record.authorized_at || there.renewals > record.renewals;
    let is_newer = match &there.set {
        _ if (there.dead.is_some() || begins_again) && !goes_on => true,
        Some(_) => (record.authorized_at, record.renewals) > (there.authorized_at, there.renewals),
        // Nothing was there, or it was moved the other way. A later logout under the new name stays.
        None => record.authorized_at >= there.authorized_at,
    };
    let generation = record.generation.max(there.generation);
    if !is_newer {
        return Record { generation, ..there };
    }
    // Not earlier than what it replaces, or a keeper that has seen that would take this for older.
    let authorized_at = record.authorized_at.max(there.authorized_at);
    let renewals = if there.set.is_none() { record.renewals.max(there.renewals) } else { record.renewals };
    let mut seeds: Vec<_> = record.seeds.iter().filter(|seed| !there.seeds.contains(seed)).cloned().collect();
    seeds.extend(there.seeds);
    Record { generation, authorized_at, renewals, seeds, ..record }
}
