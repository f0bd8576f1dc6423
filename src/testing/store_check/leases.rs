//! Leases. They need not be exact, so only what is far off is a fault.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Entry, Found, Handle, hold};
use crate::store::{Lease, Swap, TokenStore};

pub(super) const ONE: &str =
    "a lease has one holder: others are told how long it lasts, and only the holder prolongs or releases it";
pub(super) const MANY: &str = "of many that ask for a lease at once, one has it";
pub(super) const END: &str = "a lease that nobody prolongs ends by itself, and not before its time";

pub(super) async fn one_holder<S: TokenStore>(entry: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), entry.open());
    hold!(one.lease("a-1", LONG).await? == Lease::Granted, "nobody has the lease, and it isn't granted");
    is_held(&other, "b-1", LONG).await?;
    hold!(one.lease("a-1", LONG).await? == Lease::Granted, "the holder asks again, and isn't granted it");
    other.release("b-1").await?;
    is_held(&other, "b-1", LONG).await.map_err(|text| format!("{text}; it was released by another than its holder"))?;
    // The lease guards nothing by itself, and no swap ends it.
    hold!(
        other.swap(0, b"without a lease").await? == Swap::Done,
        "a swap needs the lease: the version alone must decide"
    );
    is_held(&other, "b-1", LONG).await.map_err(|text| format!("{text}; a swap came before"))?;
    one.release("a-1").await?;
    hold!(
        other.lease("b-2", LONG).await? == Lease::Granted,
        "the holder released the lease, and another isn't granted it"
    );
    is_held(&one, "a-2", LONG).await?;
    other.release("b-2").await?;
    let (version, _) = one.load_some().await?;
    hold!(version == 1, "leases changed the version of the entry: it is {version} after one swap");
    Ok(())
}

pub(super) async fn is_held<S: TokenStore>(one: &Handle<S>, holder: &str, time: Duration) -> Found {
    match one.lease(holder, time).await? {
        Lease::Granted => Err(format!("{holder:?} was granted a lease that another holder has")),
        Lease::Held(left) if left > time + time / 2 => Err(format!("Held({left:?}) for a lease of {time:?}")),
        Lease::Held(left) if left < time / 2 => {
            Err(format!("Held({left:?}) for a lease of {time:?} that has just begun"))
        }
        Lease::Held(_) => Ok(()),
    }
}

pub(super) async fn one_of_many_is_granted<S: TokenStore>(entry: &Entry<S>) -> Found {
    let mut asking = JoinSet::new();
    for number in 0..8 {
        let one = entry.open();
        asking.spawn(async move { one.lease(&format!("many-{number}"), LONG).await });
    }
    let mut granted = 0;
    while let Some(ended) = asking.join_next().await {
        granted += u32::from(ended.map_err(|error| format!("a call panicked: {error}"))?? == Lease::Granted);
    }
    hold!(granted == 1, "{granted} of 8 were granted it");
    Ok(())
}

pub(super) async fn end<S: TokenStore>(entry: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), entry.open());
    hold!(one.lease("a-1", SHORT).await? == Lease::Granted, "nobody has the lease, and it isn't granted");
    let began = Instant::now();
    // So late that a lease that isn't prolonged ends much too early.
    sleep(SHORT / 4 * 3).await;
    hold!(one.lease("a-1", SHORT).await? == Lease::Granted, "the holder asks again, and isn't granted it");
    let prolonged = Instant::now();
    loop {
        let asked = other.lease("b-1", LONG).await?;
        let (old, age) = (began.elapsed(), prolonged.elapsed());
        match asked {
            // The holder's own clock starts before the call and after it, so half is far off.
            Lease::Granted if age < SHORT / 2 => {
                return Err(format!(
                    "a lease of {SHORT:?}, prolonged {age:?} ago, was granted to another, {old:?} after it began"
                ));
            }
            Lease::Granted => break,
            Lease::Held(_) => hold!(age < SHORT + PATIENCE, "a lease of {SHORT:?} still holds after {age:?}"),
        }
        sleep(SHORT / 20).await;
    }
    // Who was paused beyond the lease has lost it.
    is_held(&one, "a-1", LONG).await.map_err(|text| format!("{text}; its own had ended before"))?;
    one.release("a-1").await?;
    is_held(&one, "a-2", LONG).await.map_err(|text| format!("{text}; who had lost it before released it"))
}

/// Longer than any of these checks.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);
/// For a busy machine, and a database that looks for ended leases now and then.
const PATIENCE: Duration = Duration::from_secs(5);
