//! Calls that are dropped half way, at each await.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{Entry, Found, Handle, handle::CALL, hold};
use crate::store::{Lease, Swap, TokenStore};

pub(super) const SWAP: &str = "a swap that is dropped at any await is done or not, and nothing between";
pub(super) const SWAP_AND_RELEASE: &str =
    "a `swap_and_release` that is dropped at any await is done or not, and nothing between";
pub(super) const LEASE: &str =
    "a lease or a release that is dropped at any await leaves at most a lease that ends by itself";

/// `releases`: also the lease.
pub(super) async fn of_swaps<S: TokenStore>(entry: &Entry<S>, releases: bool) -> Found {
    let one = entry.open();
    let what = if releases { "swap_and_release" } else { "swap" };
    let mut held = (one.put(b"before").await?, b"before".to_vec());
    let mut is_whole = 0;
    for polls in 0.. {
        let data =
            format!("dropped after {polls} polls, and as long as a token set: {}", "x".repeat(2000)).into_bytes();
        let ended = match releases {
            true => drop_after(polls, one.store().swap_and_release(held.0, Some(&held.1), &data, "dropped-swap")).await,
            false => drop_after(polls, one.store().swap(held.0, &data)).await,
        };
        let next = (held.0 + 1, data);
        held = settled(&one, &held, &next, polls).await?;
        match ended {
            Some(Ok(swap)) => {
                let sound = swap == Swap::Done && held == next;
                hold!(
                    sound,
                    "a {what} of the version that is stored returned {swap:?}, and version {} is stored",
                    held.0
                );
                is_whole += 1;
            }
            Some(Err(error)) => return Err(format!("{what} failed after {polls} others were dropped: {error}")),
            None => {}
        }
        // A few times, because not each call has as many awaits.
        if is_whole == 3 || polls == MOST_POLLS {
            break;
        }
    }
    let another = if one.store().is_shared() { entry.open() } else { one };
    let stored = another.put(b"after").await?;
    hold!(another.load_some().await? == (stored, b"after".to_vec()), "after dropped swaps a whole one isn't loaded");
    Ok(())
}

/// What is stored after a dropped swap. The swap may still be under way, so what isn't stored is tried, until one of both is certain.
async fn settled<S: TokenStore>(
    one: &Handle<S>,
    before: &(u64, Vec<u8>),
    after: &(u64, Vec<u8>),
    polls: u32,
) -> Found<(u64, Vec<u8>)> {
    let now = one.load_some().await?;
    let expected = now == *before || now == *after;
    hold!(
        expected,
        "after a swap of version {} was dropped after {polls} polls, there is version {} with other data",
        before.0,
        now.0
    );
    if now == *after {
        return Ok(now);
    }
    let own = (before.0 + 1, format!("settles what was dropped after {polls} polls").into_bytes());
    let swapped = one.swap(before.0, &own.1).await?;
    let now = one.load_some().await?;
    let expected = if swapped == Swap::Done { &own } else { after };
    hold!(
        now == *expected,
        "after a swap of version {} was dropped, another one was {swapped:?}, and version {} has other data",
        before.0,
        now.0
    );
    Ok(now)
}

pub(super) async fn of_leases<S: TokenStore>(entry: &Entry<S>) -> Found {
    let one = entry.open();
    for polls in 0..MOST_POLLS {
        let holder = format!("dropped-{polls}");
        let leased = drop_after(polls, one.store().lease(&holder, LEASE_TIME)).await;
        let released = drop_after(polls, one.store().release(&holder)).await;
        let began = Instant::now();
        let other = format!("next-{polls}");
        while one.lease(&other, LEASE_TIME).await? != Lease::Granted {
            hold!(
                began.elapsed() < PATIENCE,
                "a lease of {LEASE_TIME:?} that was dropped after {polls} polls still holds"
            );
            sleep(LEASE_TIME / 10).await;
        }
        one.release(&other).await?;
        if leased.is_some() && released.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// Polls a future so many times and drops it then, if it hasn't ended. It is polled when it can go on: with a database far away it would be
/// polled in vain a hundred times for each await.
async fn drop_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let woken = Arc::new(Woken(Notify::new()));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    for poll in 0..polls {
        if poll > 0 && timeout(CALL, woken.0.notified()).await.is_err() {
            return None;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        // So that what it waits for can happen.
        sleep(BETWEEN_POLLS).await;
    }
    None
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

const BETWEEN_POLLS: Duration = Duration::from_millis(1);
/// More awaits than a call has that is not stuck; the time between them makes 0.2 s.
const MOST_POLLS: u32 = 200;
const LEASE_TIME: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
