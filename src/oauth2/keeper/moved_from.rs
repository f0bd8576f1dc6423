//! From one name or place to another.

use super::{Grant, Keeper};
use crate::store::{
    StoreError, Swap, TokenStore,
    record::{Record, Unreadable},
};

/// Moves what is stored from one owner's place to another's.
///
/// # Errors
/// [`StoreError`] if one of the stores fails or holds something else, and if client or server are other ones.
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
            // In one place, and there already.
            (Err(Unreadable::Foreign { owner, .. }), _) if owner == *to => return Ok(()),
            (Err(unreadable), _) => return Err(unreadable.into_error(&old.account)),
        };
        if record.set.is_none() {
            return Ok(());
        }
        let (there, version) = match new.read().await? {
            (Ok(there), version) => (there, version),
            // In one place.
            (Err(Unreadable::Foreign { owner, .. }), version) if owner == *from => (Record::default(), version),
            (Err(unreadable), _) => return Err(unreadable.into_error(&new.account)),
        };
        let left = record.authorized_at;
        let arrived = arriving(record, there);
        // Written in any case: if the old place shows it then, both are one.
        if new.swap(version, &arrived).await? == Swap::Lost {
            continue;
        }
        match old.read().await? {
            // Under one name, both may be one place.
            (Ok(found), _) if from == to && found.generation == arrived.generation + 1 && found.set.is_some() => {
                return Ok(());
            }
            (Ok(found), version) if version == old_version => {
                // Whoever still uses the old name finds that it was taken away. That is no later authorization: it may come back.
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

/// What is in the new place from now on: what comes from the old one, unless the user has authorized again there.
fn arriving(record: Record, there: Record) -> Record {
    // What a configuration began with, and what is dead, is no later authorization. Unless it went on from what is still in the old place,
    // because a move was interrupted: that is newer.
    let begins_again = there.from_seed.as_ref().is_some_and(|seed| record.seeds.contains(seed));
    let goes_on = there.authorized_at == record.authorized_at || there.renewals > record.renewals;
    let is_newer = match &there.set {
        _ if (there.dead.is_some() || begins_again) && !goes_on => true,
        Some(_) => (record.authorized_at, record.renewals) > (there.authorized_at, there.renewals),
        // Nothing was there, or it has gone the other way. Whoever was logged out here later stays so.
        None => record.authorized_at >= there.authorized_at,
    };
    let generation = record.generation.max(there.generation);
    if !is_newer {
        return Record { generation, ..there };
    }
    // Later than what it replaces, for everybody who has seen that.
    let authorized_at = record.authorized_at.max(there.authorized_at);
    let renewals = if there.set.is_none() { record.renewals.max(there.renewals) } else { record.renewals };
    let mut seeds: Vec<_> = record.seeds.iter().filter(|seed| !there.seeds.contains(seed)).cloned().collect();
    seeds.extend(there.seeds);
    Record { generation, authorized_at, renewals, seeds, ..record }
}
