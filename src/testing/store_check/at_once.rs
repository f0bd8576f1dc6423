//! What a store may do at once: a lease and a load, a swap and a release.

use std::time::Duration;

use super::{Entry, Found, Handle, hold, leases::is_held};
use crate::store::{Lease, Swap, TokenStore};

pub(super) const LEASE: &str = "`lease_and_load` grants what `lease` would, and loads the entry with it";
pub(super) const SWAP: &str = "`swap_and_release` swaps only the version and the data that it expects, and then ends the lease of its holder and no other";

pub(super) async fn leases_and_loads<S: TokenStore>(entry: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), entry.open());
    let (lease, found) = one.lease_and_load("a-1", LONG).await?;
    hold!(lease == Lease::Granted, "nobody has the lease, and it isn't granted");
    hold!(found.is_none(), "it loads an entry where none was stored");
    is_held(&other, "b-1", LONG).await?;
    for version in 1..=2 {
        other.put(b"stored").await?;
        let (lease, found) = one.lease_and_load("a-1", LONG).await?;
        hold!(lease == Lease::Granted, "the holder asks again, and isn't granted it");
        let found = found.map(|entry| (entry.version(), entry.data().to_vec()));
        hold!(
            found == Some((version, b"stored".to_vec())),
            "it was granted, and the entry of version {version} isn't loaded"
        );
    }
    let (lease, found) = other.lease_and_load("b-2", LONG).await?;
    hold!(matches!(lease, Lease::Held(_)), "it was granted a lease that another holder has");
    hold!(found.is_none(), "it loads an entry without a lease");
    one.release("a-1").await?;
    let (lease, _) = other.lease_and_load("b-2", LONG).await?;
    hold!(lease == Lease::Granted, "the holder released the lease, and another isn't granted it");
    Ok(())
}

pub(super) async fn swaps_and_releases<S: TokenStore>(entry: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), entry.open());
    is_done(&one, 0, None, b"first").await?;
    is_free(&other, "b-1").await?;
    let lost: [(u64, Option<&[u8]>); 7] = [
        (1, Some(b"another")),
        (1, Some(b"")),
        (1, Some(b"firs")),
        (2, Some(b"first")),
        (0, Some(b"first")),
        (2, None),
        (0, None),
    ];
    for (expected, before) in lost {
        hold!(one.lease("a-1", LONG).await? == Lease::Granted, "nobody has the lease, and it isn't granted");
        let swapped = one.swap_and_release(expected, before, b"wrong", "a-1").await?;
        let is_kept = swapped == Swap::Lost && one.load_some().await? == (1, b"first".to_vec());
        hold!(
            is_kept || before.is_none(),
            "it replaced version 1 with other data than it expected (version {expected})"
        );
        hold!(is_kept, "it replaced version 1 though it expected version {expected}");
        hold!(
            matches!(other.lease("b-2", LONG).await?, Lease::Held(_)),
            "it was Lost, and released the lease all the same"
        );
        one.release("a-1").await?;
    }
    let all_bytes: Vec<u8> = (0..=255).collect();
    is_done(&one, 1, Some(b"first"), &all_bytes).await?;
    is_free(&other, "b-3").await?;
    is_done(&one, 2, Some(&all_bytes), b"third").await?;
    is_free(&other, "b-4").await?;

    // Who has lost the lease ends no other's.
    hold!(other.lease("b-5", LONG).await? == Lease::Granted, "nobody has the lease, and it isn't granted");
    is_done(&one, 3, None, b"fourth").await?;
    hold!(matches!(one.lease("a-3", LONG).await?, Lease::Held(_)), "it released the lease of another holder");
    Ok(())
}

async fn is_done<S: TokenStore>(one: &Handle<S>, expected: u64, before: Option<&[u8]>, data: &[u8]) -> Found {
    // It may be another's.
    one.lease("a-2", LONG).await?;
    let swapped = one.swap_and_release(expected, before, data, "a-2").await?;
    hold!(swapped == Swap::Done, "it was Lost, though version {expected} has the data that it expects");
    hold!(one.load_some().await? == (expected + 1, data.to_vec()), "it was Done, and the entry isn't loaded");
    Ok(())
}

async fn is_free<S: TokenStore>(one: &Handle<S>, holder: &str) -> Found {
    hold!(one.lease(holder, LONG).await? == Lease::Granted, "it was Done, and didn't end the lease of its holder");
    one.release(holder).await
}

const LONG: Duration = Duration::from_secs(60);
