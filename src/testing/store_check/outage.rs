//! A store that is down for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Entry, Found, Handle, Outage, handle::CALL, hold};
use crate::store::{StoreError, StoreErrorKind, Swap, TokenStore};

pub(super) const PASSES: &str =
    "while the database is down calls fail within 5 s, and when it is back the store works with what it had confirmed";

pub(super) async fn passes<S: TokenStore>(entry: &Entry<S>, outage: &Outage) -> Found {
    let one = entry.open();
    let version = one.put(b"confirmed").await?;
    (outage.begin)().await;
    let found = during(&one, version).await;
    (outage.end)().await;
    found?;
    // The swap that failed may have been stored.
    let after = (version + 1, b"unconfirmed".to_vec());
    let began = Instant::now();
    let now = loop {
        match timeout(CALL, one.store().load()).await {
            Ok(Ok(Some(entry))) => break (entry.version(), entry.data().to_vec()),
            Ok(Ok(None)) => return Err("the entry is gone, though its swap had returned Done".into()),
            other => hold!(
                began.elapsed() < PATIENCE,
                "{:?} after the database was back, load() returned {other:?}",
                began.elapsed()
            ),
        }
        sleep(Duration::from_millis(100)).await;
    };
    hold!(now == (version, b"confirmed".to_vec()) || now == after, "version {} has other data than was stored", now.0);
    // Each connection of a pool may be found dead by a call of its own.
    let next = loop {
        match one.put(b"works again").await {
            Ok(next) => break next,
            Err(_) if began.elapsed() < PATIENCE => sleep(Duration::from_millis(100)).await,
            Err(text) => return Err(format!("{:?} after the database was back, {text}", began.elapsed())),
        }
    };
    hold!(
        entry.open().load_some().await? == (next, b"works again".to_vec()),
        "what is stored after the outage isn't loaded"
    );
    Ok(())
}

async fn during<S: TokenStore>(one: &Handle<S>, version: u64) -> Found {
    is_unreachable("load()", timeout(CALL, one.store().load()).await.map(drop_value))?;
    let swapped = timeout(CALL, one.store().swap(version, b"unconfirmed")).await;
    hold!(
        !matches!(swapped, Ok(Ok(Swap::Done))),
        "swap returned Done while the database was down: nothing of it is durable"
    );
    hold!(!matches!(swapped, Ok(Ok(Swap::Lost))), "swap returned Lost while the database was down, and not an error");
    is_unreachable("swap", swapped.map(drop_value))?;
    is_unreachable("lease", timeout(CALL, one.store().lease("down-1", CALL)).await.map(drop_value))
}

fn drop_value<T>(result: Result<T, StoreError>) -> Result<(), StoreError> {
    result.map(drop)
}

/// A call that ended in time, if it did.
fn is_unreachable<E>(what: &str, ended: Result<Result<(), StoreError>, E>) -> Found {
    match ended {
        Err(_) => Err(format!("{what} took longer than {CALL:?} while the database was down")),
        Ok(Ok(())) => Err(format!("{what} worked while the database was down: is it a cache?")),
        Ok(Err(error)) if error.kind() != StoreErrorKind::Unreachable => Err(format!(
            "{what} failed with an error that somebody must mend, while the database was only down: use StoreError::unreachable ({error})"
        )),
        Ok(Err(_)) => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
