//! News: how other processes hear of a change.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Entry, Found, hold};
use crate::store::TokenStore;

pub(super) const QUIET: &str = "`changed` doesn't return at once, again and again, while nothing changes";
pub(super) const CALLED_AGAIN: &str =
    "`changed` may be dropped and called again at any time, and other calls work beside it";
pub(super) const OF_A_SWAP: &str = "another process may hear of a swap";

pub(super) async fn no_news_is_no_busy_loop<S: TokenStore>(entry: &Entry<S>) -> Found {
    let one = entry.open();
    let version = one.put(b"quiet").await?;
    let mut returned = 0;
    let counting = async {
        loop {
            one.changed(version).await;
            returned += 1;
            // A future that is always ready would keep the thread.
            tokio::task::yield_now().await;
            if returned > MOST_RETURNS {
                return;
            }
        }
    };
    let _ = timeout(QUIET_TIME, counting).await;
    hold!(
        returned <= MOST_RETURNS,
        "it returned more than {MOST_RETURNS} times in {QUIET_TIME:?}: a store that can't tell should sleep for a second"
    );
    Ok(())
}

pub(super) async fn calls_may_be_dropped<S: TokenStore>(entry: &Entry<S>) -> Found {
    let (one, other) = (entry.open(), entry.open());
    let mut version = one.put(b"first").await?;
    for round in 0..20_u64 {
        let waiting = timeout(Duration::from_millis(round % 5), other.changed(version));
        let (_, stored) = tokio::join!(waiting, one.put(b"next"));
        version = stored?;
        let (now, _) = other.load_some().await?;
        hold!(now == version, "a process that waits for news loads version {now} while {version} is stored");
    }
    Ok(())
}

/// How long it takes. `None` if it takes too long.
pub(super) async fn of_a_swap<S: TokenStore>(entry: &Entry<S>) -> Found<Option<Duration>> {
    let (one, other) = (entry.open(), entry.open());
    let known = one.put(b"known").await?;
    other.load_some().await?;
    let heard = async {
        // It may return for nothing.
        while other.load_some().await?.0 == known {
            other.changed(known).await;
            // Neither of them need wait for anything.
            tokio::task::yield_now().await;
        }
        Ok::<_, String>(Instant::now())
    };
    let stored = async {
        // Some subscribe with the first call.
        sleep(Duration::from_millis(300)).await;
        one.put(b"news").await?;
        Ok::<_, String>(Instant::now())
    };
    let (heard, stored) = tokio::join!(timeout(LONGEST, heard), stored);
    let stored = stored?;
    Ok(heard.ok().transpose()?.map(|heard| heard.saturating_duration_since(stored)))
}

const QUIET_TIME: Duration = Duration::from_secs(1);
const MOST_RETURNS: u32 = 50;
const LONGEST: Duration = Duration::from_secs(10);
