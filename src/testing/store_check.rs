//! [`StoreCheck`]: what every store must do, as one call that says in words what failed.
//!
//! | module | which promises |
//! |---|---|
//! | `versions` | compare and swap by one caller after the other |
//! | `contention` | the same by many at once |
//! | `leases` | leases: one holder at a time, and they end |
//! | `at_once` | a lease and a load, a swap and a release as one call |
//! | `cancellation` | calls that are dropped half way |
//! | `news` | [`TokenStore::changed`] |
//! | `outage` | a store that is down, and comes back |
//! | `handle` | a store whose errors and delays are told in words |
//! | `report` | what was found |

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::store::TokenStore;

mod at_once;
mod cancellation;
mod contention;
mod handle;
mod leases;
mod news;
mod outage;
mod report;
mod versions;

use handle::Handle;
pub use report::StoreReport;

/// Checks that a [`TokenStore`] does what [`Stored`](crate::oauth2::Stored) relies on.
///
/// It opens entries with names of its own and leaves them behind, so give it a database for tests. It takes about five seconds, most of which
/// it waits for leases to end, and up to fifteen where news never comes. It uses real time, so tokio's clock must not be paused.
///
/// ```
/// use tower_bearer::{store::FileStore, testing::StoreCheck};
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("tower-bearer-check-{}", std::process::id()));
/// std::fs::create_dir_all(&directory)?;
/// # let place = directory.clone();
/// let report = StoreCheck::new(move |name| FileStore::new(directory.join(name))).run().await;
/// report.assert_sound();
/// # std::fs::remove_dir_all(place)
/// # }
/// ```
pub struct StoreCheck<S> {
    open: Arc<dyn Fn(&str) -> S + Send + Sync>,
    outage: Option<Outage>,
}

/// How a test stops its database, and starts it again.
struct Outage {
    begin: Box<dyn Fn() -> Order + Send + Sync>,
    end: Box<dyn Fn() -> Order + Send + Sync>,
}

type Order = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S: TokenStore> StoreCheck<S> {
    /// `open` opens the entry with a name. It is called several times with the same name: each call stands for another process. Names
    /// have lower case letters, digits and hyphens.
    ///
    /// [`StoreCheck`] has an example.
    pub fn new(open: impl Fn(&str) -> S + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), outage: None }
    }

    /// Also checks what the store does while its database is down: `begin` stops the database, and `end` starts it again with its data.
    /// Default: this isn't checked.
    ///
    /// ```no_run
    /// # use tower_bearer::{store::FileStore, testing::StoreCheck};
    /// # async fn stop() {}
    /// # async fn start() {}
    /// # async fn check(check: StoreCheck<FileStore>) {
    /// check.outage(|| stop(), || start()).run().await.assert_sound();
    /// # }
    /// ```
    #[must_use]
    pub fn outage<B, E>(
        mut self,
        begin: impl Fn() -> B + Send + Sync + 'static,
        end: impl Fn() -> E + Send + Sync + 'static,
    ) -> Self
    where
        B: Future<Output = ()> + Send + 'static,
        E: Future<Output = ()> + Send + 'static,
    {
        self.outage =
            Some(Outage { begin: Box::new(move || Box::pin(begin())), end: Box::new(move || Box::pin(end())) });
        self
    }

    /// Runs all checks. [`StoreCheck`] has an example.
    ///
    /// A store that [isn't shared](TokenStore::is_shared) is opened once for each check, and its leases and news aren't checked.
    ///
    /// # Cancel safety
    /// If the future is dropped, the check ends, and a database that it has stopped stays so.
    pub async fn run(self) -> StoreReport {
        let run = fastrand::u32(..);
        let open = |check: &str| Entry { name: format!("check-{run:08x}-{check}"), open: self.open.clone() };
        let mut report = StoreReport::default();
        let first = open("works").open();
        let works = first.load().await.map(drop);
        let (is_shared, is_usable) = (first.store().is_shared(), works.is_ok());
        report.note(WORKS, works);
        if !is_usable {
            return report;
        }

        report.note(versions::FIRST, within(versions::begins_with_none(&open("first"))).await);
        report.note(versions::DATA, within(versions::keeps_the_data(&open("data"))).await);
        report.note(versions::EXPECTED, within(versions::changes_the_expected_version(&open("expected"))).await);
        report.note(versions::APART, within(versions::keeps_entries_apart(&open("one"), &open("other"))).await);
        report.note(cancellation::SWAP, within(cancellation::of_swaps(&open("dropped"), false)).await);
        let dropped = within(cancellation::of_swaps(&open("dropped-release"), true)).await;
        report.note(cancellation::SWAP_AND_RELEASE, dropped);
        if is_shared {
            report.note(contention::ONE, within(contention::one_of_many_wins(&open("many"))).await);
            report.note(leases::ONE, within(leases::one_holder(&open("lease"))).await);
            report.note(leases::MANY, within(leases::one_of_many_is_granted(&open("leases"))).await);
            report.note(leases::END, within(leases::end(&open("ends"))).await);
            report.note(at_once::LEASE, within(at_once::leases_and_loads(&open("lease-and-load"))).await);
            report.note(at_once::SWAP, within(at_once::swaps_and_releases(&open("swap-and-release"))).await);
            report.note(cancellation::LEASE, within(cancellation::of_leases(&open("dropped-lease"))).await);
            report.note(news::QUIET, within(news::no_news_is_no_busy_loop(&open("quiet"))).await);
            report.note(news::CALLED_AGAIN, within(news::calls_may_be_dropped(&open("news-dropped"))).await);
            report.note_news(within(news::of_a_swap(&open("news"))).await);
        }
        if let Some(outage) = self.outage {
            report.note(outage::PASSES, within(outage::passes(&open("outage"), &outage)).await);
        }
        report
    }
}

impl<S> std::fmt::Debug for StoreCheck<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreCheck").field("outage", &self.outage.is_some()).finish_non_exhaustive()
    }
}

/// An entry of the store under test, which any number of processes may open.
struct Entry<S> {
    name: String,
    open: Arc<dyn Fn(&str) -> S + Send + Sync>,
}

impl<S: TokenStore> Entry<S> {
    /// As another process would.
    fn open(&self) -> Handle<S> {
        Handle::new((self.open)(&self.name))
    }
}

/// Without that, nothing else is tried.
const WORKS: &str = "the store can be used: it is reachable, and nothing is missing";

/// What a check found wrong, or what it measured.
type Found<T = ()> = Result<T, String>;

/// Ends a check that never ends by itself.
async fn within<T>(check: impl Future<Output = Found<T>>) -> Found<T> {
    let text = || format!("it hangs: this check didn't end within {LONGEST:?}");
    timeout(LONGEST, check).await.unwrap_or_else(|_| Err(text()))
}

/// `hold!(condition, "what is wrong")`: the check ends here if the condition doesn't hold.
macro_rules! hold {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
use hold;

/// Several times what the slowest check takes with a database far away.
const LONGEST: Duration = Duration::from_secs(60);
