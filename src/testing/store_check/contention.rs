//! Compare and swap by many processes at once.

use std::{collections::HashMap, sync::Arc};

use tokio::task::JoinSet;

use super::{Found, Handle, hold};
use crate::store::{Entry, Swap, TokenStore};

pub(super) const ONE: &str = "of many swaps at once that expect one version, with a release or without, exactly one is Done, and a version never has two contents";

/// What one process has seen and done.
#[derive(Default)]
struct Seen {
    stored: Vec<(u64, Vec<u8>)>,
    loaded: Vec<(u64, Vec<u8>)>,
}

pub(super) async fn one_of_many_wins<S: TokenStore>(entry: &super::Entry<S>) -> Found {
    let mut processes = JoinSet::new();
    for number in 0..PROCESSES {
        processes.spawn(swap_and_load(Arc::new(entry.open()), number));
    }
    let mut seen = Vec::new();
    while let Some(ended) = processes.join_next().await {
        seen.push(ended.map_err(|error| format!("a call panicked: {error}"))??);
    }

    let mut contents = HashMap::new();
    for (version, data) in seen.iter().flat_map(|seen| &seen.stored) {
        let twice = contents.insert(*version, data).is_some();
        hold!(!twice, "two swaps made version {version}, and both returned Done");
    }
    let done = contents.len() as u64;
    let (last, _) = entry.open().load_some().await?;
    hold!(
        last == done,
        "{done} swaps returned Done, and the entry has version {last}: a swap was counted twice or not at all"
    );
    for seen in &seen {
        hold!(
            seen.loaded.is_sorted_by_key(|(version, _)| version),
            "one process loaded a version, and later an older one"
        );
        for (version, data) in &seen.loaded {
            let sound = contents.get(version) == Some(&data);
            hold!(sound, "version {version} was loaded with other data than the swap stored that was Done");
        }
    }
    Ok(())
}

async fn swap_and_load<S: TokenStore>(one: Arc<Handle<S>>, number: usize) -> Found<Seen> {
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let found = one.load().await?;
        let version = found.as_ref().map_or(0, |entry| entry.version());
        let data = format!("process {number}, round {round}").into_bytes();
        let before = found.as_ref().map(Entry::data);
        let swapped = match round % 2 {
            0 => one.swap(version, &data).await?,
            _ => one.swap_and_release(version, before, &data, &format!("many-{number}")).await?,
        };
        seen.loaded.extend(found.map(|entry| (version, entry.data().to_vec())));
        if swapped == Swap::Done {
            seen.stored.push((version + 1, data));
        }
    }
    Ok(seen)
}

const PROCESSES: usize = 8;
const ROUNDS: usize = 12;
