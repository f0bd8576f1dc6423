//! Compare and swap, by one caller after the other.

use super::{Entry, Found, hold};
use crate::store::{Swap, TokenStore};

pub(super) const FIRST: &str = "an entry that nobody has stored is none, and only a swap that expects none makes one";
pub(super) const DATA: &str = "what a swap has stored is loaded byte for byte, by other processes as well";
pub(super) const EXPECTED: &str = "a swap that expects another version changes nothing";
pub(super) const APART: &str = "two entries have nothing to do with each other";

pub(super) async fn begins_with_none<S: TokenStore>(entry: &Entry<S>) -> Found {
    let one = entry.open();
    hold!(one.load().await?.is_none(), "load() found an entry with a new name: two names have one entry");
    for expected in [1, 2, u64::MAX - 1] {
        hold!(
            one.swap(expected, b"never").await? == Swap::Lost,
            "swap({expected}, …) was Done where there is no entry"
        );
        hold!(one.load().await?.is_none(), "swap({expected}, …) returned Lost, and made an entry all the same");
    }
    hold!(one.swap(0, b"first").await? == Swap::Done, "swap(0, …) was Lost where there is no entry");
    let (version, _) = one.load_some().await?;
    hold!(version == 1, "the first entry has version {version} instead of 1");
    hold!(one.swap(0, b"second").await? == Swap::Lost, "swap(0, …) replaced an entry: it may only make the first");
    Ok(())
}

pub(super) async fn keeps_the_data<S: TokenStore>(entry: &Entry<S>) -> Found {
    let one = entry.open();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = (0..LONG).map(|at| (at % 251) as u8).collect();
    let data: [&[u8]; 7] = [b"{\"format\":2}", b"x", &all_bytes, b"\0", &long, b"", b"short again"];
    for (version, data) in data.into_iter().enumerate() {
        let version = version as u64;
        let what = format!("{} bytes", data.len());
        hold!(one.swap(version, data).await? == Swap::Done, "swap({version}, …) with {what} was Lost");
        let again = if one.store().is_shared() { entry.open().load_some().await? } else { one.load_some().await? };
        hold!(
            again.0 == version + 1,
            "after swap({version}, …) the entry has version {} instead of {}",
            again.0,
            version + 1
        );
        hold!(again.1 == data, "{what} were stored, and {} other ones are loaded", again.1.len());
    }
    Ok(())
}

pub(super) async fn changes_the_expected_version<S: TokenStore>(entry: &Entry<S>) -> Found {
    let one = entry.open();
    for version in 0..3 {
        hold!(one.swap(version, b"kept").await? == Swap::Done, "swap({version}, …) was Lost at version {version}");
    }
    for expected in [0, 1, 2, 4, 5, u64::MAX - 1] {
        let swapped = one.swap(expected, b"wrong").await?;
        hold!(swapped == Swap::Lost, "swap({expected}, …) was Done at version 3");
        let now = one.load_some().await?;
        hold!(now == (3, b"kept".to_vec()), "swap({expected}, …) returned Lost, and changed the entry of version 3");
    }
    Ok(())
}

pub(super) async fn keeps_entries_apart<S: TokenStore>(entry: &Entry<S>, another: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), another.open());
    one.put(b"one").await?;
    hold!(other.load().await?.is_none(), "what was stored as {} is loaded as {}", entry.name, another.name);
    other.put(b"other").await?;
    hold!(one.load_some().await? == (1, b"one".to_vec()), "a swap of {} changed {}", another.name, entry.name);
    Ok(())
}

/// More than any token set: tokens of a few KiB, and the marks beside them.
const LONG: usize = 64 * 1024;
