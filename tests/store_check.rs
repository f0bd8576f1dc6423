//! The check of stores passes sound ones, and says of each flaw which promise it breaks.
#![cfg(all(feature = "oauth2", feature = "testing"))]

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep},
};
use tower_bearer::{
    store::{Entry, FileStore, Lease, Memory, StoreError, Swap, TokenStore},
    testing::{StoreCheck, StoreReport},
};

/// What is wrong with a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    OneEntryForAll,
    FirstVersionIsZero,
    SwapsWithoutComparing,
    SwapsInTwoSteps,
    TornByACancelledSwap,
    CutsLongData,
    LeaseIsNeverFree,
    LeaseEndsAtOnce,
    LeaseForEverybody,
    AnybodyReleases,
    SwapEndsTheLease,
    HolderIsRefused,
    CancelledLeaseStays,
    LoadsNothingWithALease,
    SwapsWhateverIsThere,
    KeepsTheLease,
    ProlongsNothing,
    LeasesForAMomentWithALoad,
    ReleasesWhateverTheVersion,
    SwapsAndReleasesInTwoSteps,
    TornByACancelledSwapAndRelease,
    ReturnsAtOnce,
    NeverTells,
    Hangs,
    HidesAnOutage,
    OutageIsUnusable,
    LosesWhatItConfirmed,
}

/// A database in memory that many stores share.
#[derive(Clone)]
struct Database {
    rows: Arc<Mutex<HashMap<String, Row>>>,
    changed: Arc<Notify>,
    is_down: Arc<AtomicBool>,
    flaw: Flaw,
    /// How long each query takes.
    distance: Duration,
    /// Its leases last for whole seconds.
    is_coarse: bool,
    /// How many calls fail when it is back: so many connections of its pool have died.
    dead_connections: Arc<AtomicUsize>,
    has_a_pool: bool,
}

#[derive(Clone, Default)]
struct Row {
    version: u64,
    data: Vec<u8>,
    lease: Option<(String, Instant)>,
}

struct Table {
    database: Database,
    name: String,
}

impl Database {
    fn new(flaw: Flaw) -> Self {
        let (rows, changed, is_down, dead_connections) = Default::default();
        Self {
            rows,
            changed,
            is_down,
            flaw,
            distance: Duration::ZERO,
            is_coarse: false,
            dead_connections,
            has_a_pool: false,
        }
    }

    /// Far away, and sound.
    fn far(distance: Duration, is_coarse: bool) -> Self {
        Self { distance, is_coarse, ..Self::new(Flaw::None) }
    }

    fn table(&self, name: &str) -> Table {
        let name = if self.flaw == Flaw::OneEntryForAll { "all" } else { name };
        Table { database: self.clone(), name: name.to_owned() }
    }

    async fn check(self) -> StoreReport {
        let (begin, end, open) = (self.clone(), self.clone(), self);
        let check = StoreCheck::new(move |name| open.table(name));
        let begin = move || begin.is_down.store(true, Ordering::Relaxed);
        let end = move || {
            end.is_down.store(false, Ordering::Relaxed);
            if end.has_a_pool {
                end.dead_connections.store(5, Ordering::Relaxed);
            }
            if end.flaw == Flaw::LosesWhatItConfirmed {
                end.rows.lock().unwrap().clear();
            }
        };
        check
            .outage(
                move || {
                    begin();
                    async {}
                },
                move || {
                    end();
                    async {}
                },
            )
            .run()
            .await
    }
}

impl Table {
    fn has(&self, flaw: Flaw) -> bool {
        self.database.flaw == flaw
    }

    /// As long as a query takes.
    async fn rows(&self) -> Result<MutexGuard<'_, HashMap<String, Row>>, StoreError> {
        yield_now().await;
        if !self.database.distance.is_zero() {
            sleep(self.database.distance).await;
        }
        if self.has(Flaw::Hangs) {
            pending::<()>().await;
        }
        // Each second one is alive.
        let dead = &self.database.dead_connections;
        if dead.load(Ordering::Relaxed) > 0 && dead.fetch_sub(1, Ordering::Relaxed).is_multiple_of(2) {
            return Err(StoreError::unreachable("closed"));
        }
        match self.database.is_down.load(Ordering::Relaxed) && !self.has(Flaw::HidesAnOutage) {
            true if self.has(Flaw::OutageIsUnusable) => Err(StoreError::unusable("down")),
            true => Err(StoreError::unreachable("down")),
            false => Ok(self.database.rows.lock().unwrap()),
        }
    }
}

impl TokenStore for Table {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        let rows = self.rows().await?;
        let row = rows.get(&self.name).filter(|row| row.version > 0);
        let too_low = u64::from(self.has(Flaw::FirstVersionIsZero));
        Ok(row.map(|row| Entry::new(row.version - too_low, row.data.clone())))
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        if self.has(Flaw::SwapsInTwoSteps) {
            let version = self.rows().await?.get(&self.name).map_or(0, |row| row.version);
            if version != expected {
                return Ok(Swap::Lost);
            }
            yield_now().await;
        }
        if self.has(Flaw::TornByACancelledSwap) {
            let half = data[..data.len() / 2].to_vec();
            self.rows().await?.entry(self.name.clone()).or_default().data = half;
            yield_now().await;
        }
        let mut rows = self.rows().await?;
        let row = rows.entry(self.name.clone()).or_default();
        let compares = !self.has(Flaw::SwapsWithoutComparing) && !self.has(Flaw::SwapsInTwoSteps);
        if compares && row.version != expected {
            return Ok(Swap::Lost);
        }
        let longest = if self.has(Flaw::CutsLongData) { 4096 } else { usize::MAX };
        row.version = expected + 1;
        row.data = data[..data.len().min(longest)].to_vec();
        if self.has(Flaw::SwapEndsTheLease) {
            row.lease = None;
        }
        self.database.changed.notify_waiters();
        Ok(Swap::Done)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut rows = self.rows().await?;
        let row = rows.entry(self.name.clone()).or_default();
        let now = Instant::now();
        let time = if self.has(Flaw::LeaseEndsAtOnce) && time < Duration::from_secs(10) { time / 10 } else { time };
        let holder = if self.has(Flaw::CancelledLeaseStays) { holder.trim_start_matches("dropped-") } else { holder };
        let is_anothers = |by: &str| by != holder || self.has(Flaw::HolderIsRefused);
        match &row.lease {
            _ if self.has(Flaw::LeaseForEverybody) => {}
            Some((by, until)) if *until > now && is_anothers(by) => return Ok(Lease::Held(*until - now)),
            Some((by, _)) if self.has(Flaw::LeaseIsNeverFree) && by != holder => {
                return Ok(Lease::Held(Duration::from_millis(1)));
            }
            _ => {}
        }
        if self.has(Flaw::ProlongsNothing)
            && let Some((by, until)) = &row.lease
            && by == holder
            && *until > now
        {
            return Ok(Lease::Granted);
        }
        let time =
            if self.database.is_coarse { Duration::from_secs(time.as_millis().div_ceil(1000) as u64) } else { time };
        let forever = self.has(Flaw::CancelledLeaseStays) && time < Duration::from_secs(1);
        let time = if forever { Duration::from_secs(1000) } else { time };
        row.lease = Some((holder.to_owned(), now + time));
        Ok(Lease::Granted)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        // Dropped here, it has done nothing.
        yield_now().await;
        let mut rows = self.rows().await?;
        let row = rows.entry(self.name.clone()).or_default();
        if row.lease.as_ref().is_some_and(|(by, _)| by == holder || self.has(Flaw::AnybodyReleases)) {
            row.lease = None;
        }
        Ok(())
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        let time = if self.has(Flaw::LeasesForAMomentWithALoad) { time / 100 } else { time };
        let lease = self.lease(holder, time).await?;
        let loads = lease == Lease::Granted && !self.has(Flaw::LoadsNothingWithALease);
        Ok((lease, if loads { self.load().await? } else { None }))
    }

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        if let Some(before) = before.filter(|_| !self.has(Flaw::SwapsWhateverIsThere))
            && self.load().await?.is_none_or(|entry| entry.data() != before)
        {
            return Ok(Swap::Lost);
        }
        let expected = match before {
            None if self.has(Flaw::ReleasesWhateverTheVersion) => self.load().await?.map_or(0, |entry| entry.version()),
            _ => expected,
        };
        if self.has(Flaw::SwapsAndReleasesInTwoSteps) {
            if self.load().await?.map_or(0, |entry| entry.version()) != expected {
                return Ok(Swap::Lost);
            }
            yield_now().await;
            let mut rows = self.rows().await?;
            let row = rows.entry(self.name.clone()).or_default();
            (row.version, row.data) = (expected + 1, data.to_vec());
            row.lease.take_if(|(by, _)| by == holder);
            return Ok(Swap::Done);
        }
        if self.has(Flaw::TornByACancelledSwapAndRelease) {
            {
                let mut rows = self.rows().await?;
                let row = rows.entry(self.name.clone()).or_default();
                if row.version != expected {
                    return Ok(Swap::Lost);
                }
                row.data = data[..data.len() / 2].to_vec();
            }
            yield_now().await;
        }
        let swapped = self.swap(expected, data).await?;
        if swapped == Swap::Done && !self.has(Flaw::KeepsTheLease) {
            self.release(holder).await?;
        }
        Ok(swapped)
    }

    async fn changed(&self, known: u64) {
        if self.has(Flaw::ReturnsAtOnce) {
            return;
        }
        loop {
            let notified = self.database.changed.notified();
            if self.has(Flaw::NeverTells) {
                pending::<()>().await;
            }
            let version = self.rows().await.map_or(0, |rows| rows.get(&self.name).map_or(0, |row| row.version));
            if version != known {
                return;
            }
            notified.await;
        }
    }
}

#[tokio::test]
async fn sound_stores_keep_all_promises() {
    let report = Database::new(Flaw::None).check().await;
    report.assert_sound();
    assert!(report.news().is_some_and(|time| time < Duration::from_secs(1)), "{report}");

    let report = StoreCheck::new(|_| Memory::default()).run().await;
    report.assert_sound();
    assert_eq!(report.news(), None);

    let directory = std::env::temp_dir().join(format!("tower-bearer-store-check-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let place = directory.clone();
    let report = StoreCheck::new(move |name| FileStore::new(place.join(name))).run().await;
    std::fs::remove_dir_all(&directory).unwrap();
    report.assert_sound();
    assert!(report.news().is_some_and(|time| time < Duration::from_secs(5)), "{report}");
}

/// Nobody waits for it: the clock is paused.
#[tokio::test(start_paused = true)]
async fn a_sound_store_may_be_far_away() {
    for (milliseconds, is_coarse) in [(20, true), (50, false), (50, true), (300, false), (300, true)] {
        let report = Database::far(Duration::from_millis(milliseconds), is_coarse).check().await;
        assert!(report.is_sound(), "{milliseconds} ms, leases of whole seconds: {is_coarse}\n{report}");
    }
}

/// Some of its connections have died in the outage, and it learns that one by one.
#[tokio::test(start_paused = true)]
async fn a_sound_store_may_have_a_pool_of_connections() {
    let mut database = Database::new(Flaw::None);
    database.has_a_pool = true;
    database.check().await.assert_sound();
}

#[tokio::test]
async fn a_store_need_not_tell_of_changes() {
    let report = Database::new(Flaw::NeverTells).check().await;
    report.assert_sound();
    assert_eq!(report.news(), None);
    assert!(report.to_string().contains("no other process hears of a swap"), "{report}");
}

/// Each flaw, and words of what is said of it.
const FLAWS: [(Flaw, &str); 26] = [
    (Flaw::OneEntryForAll, "is loaded as"),
    (Flaw::FirstVersionIsZero, "the first entry has version 0 instead of 1"),
    (Flaw::SwapsWithoutComparing, "was Done at version 3"),
    (Flaw::SwapsInTwoSteps, "both returned Done"),
    (Flaw::TornByACancelledSwap, "with other data"),
    (Flaw::CutsLongData, "65536 bytes were stored, and 4096 other ones are loaded"),
    (Flaw::LeaseIsNeverFree, "still holds after"),
    (Flaw::LeaseEndsAtOnce, "was granted to another"),
    (Flaw::LeaseForEverybody, "was granted a lease that another holder has"),
    (Flaw::AnybodyReleases, "released by another than its holder"),
    (Flaw::SwapEndsTheLease, "a swap came before"),
    (Flaw::HolderIsRefused, "the holder asks again, and isn't granted it"),
    (Flaw::CancelledLeaseStays, "that was dropped after"),
    (Flaw::LoadsNothingWithALease, "it was granted, and the entry of version 1 isn't loaded"),
    (Flaw::SwapsWhateverIsThere, "it replaced version 1 with other data than it expected"),
    (Flaw::KeepsTheLease, "and didn't end the lease of its holder"),
    (Flaw::ProlongsNothing, "prolonged"),
    (Flaw::LeasesForAMomentWithALoad, "for a lease of 60s that has just begun"),
    (Flaw::ReleasesWhateverTheVersion, "it replaced version 1 though it expected version 2"),
    (Flaw::SwapsAndReleasesInTwoSteps, "both returned Done"),
    (Flaw::TornByACancelledSwapAndRelease, "with other data"),
    (Flaw::ReturnsAtOnce, "a store that can't tell should sleep for a second"),
    (Flaw::Hangs, "the store can be used: it is reachable, and nothing is missing: load() took longer than 5s"),
    (Flaw::HidesAnOutage, "worked while the database was down"),
    (Flaw::OutageIsUnusable, "use StoreError::unreachable"),
    (Flaw::LosesWhatItConfirmed, "the entry is gone"),
];

#[tokio::test]
async fn each_flaw_is_told_in_words() {
    let mut checks = tokio::task::JoinSet::new();
    for (flaw, words) in FLAWS {
        checks.spawn(async move { (flaw, words, Database::new(flaw).check().await) });
    }
    let mut wrong = String::new();
    while let Some(ended) = checks.join_next().await {
        let (flaw, words, report) = ended.unwrap();
        if !report.faults().any(|fault| fault.contains(words)) {
            wrong += &format!("{flaw:?} should be told as {words:?}:\n{report}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
#[should_panic(expected = "FAILED  two entries have nothing to do with each other")]
async fn a_test_fails_with_the_report() {
    let report = Database::new(Flaw::OneEntryForAll).check().await;
    report.assert_sound();
}

/// Every call is ready at once, and so is `changed`.
struct AtOnce(Rows, String);

type Rows = Arc<Mutex<HashMap<String, (u64, Vec<u8>, Option<(String, Instant)>)>>>;

impl TokenStore for AtOnce {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        let rows = self.0.lock().unwrap();
        Ok(rows.get(&self.1).filter(|row| row.0 > 0).map(|row| Entry::new(row.0, row.1.clone())))
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut rows = self.0.lock().unwrap();
        let row = rows.entry(self.1.clone()).or_default();
        if row.0 != expected {
            return Ok(Swap::Lost);
        }
        (row.0, row.1) = (expected + 1, data.to_vec());
        Ok(Swap::Done)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        let (mut rows, now) = (self.0.lock().unwrap(), Instant::now());
        let row = rows.entry(self.1.clone()).or_default();
        match &row.2 {
            Some((by, end)) if by != holder && *end > now => Ok(Lease::Held(*end - now)),
            _ => {
                row.2 = Some((holder.to_owned(), now + time));
                Ok(Lease::Granted)
            }
        }
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let mut rows = self.0.lock().unwrap();
        let row = rows.entry(self.1.clone()).or_default();
        row.2.take_if(|(by, _)| by == holder);
        Ok(())
    }

    async fn changed(&self, _: u64) {}
}

#[test]
fn a_store_that_is_always_ready_keeps_no_thread() {
    let rows = Rows::default();
    let check = StoreCheck::new(move |name| AtOnce(rows.clone(), name.to_owned()));
    let (done, report) = std::sync::mpsc::channel();
    // It would never end.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        done.send(runtime.block_on(check.run()).to_string())
    });
    let report = report.recv_timeout(Duration::from_secs(60)).expect("it ends");
    assert!(report.contains("a store that can't tell should sleep for a second"), "{report}");
    assert_eq!(report.matches("FAILED").count(), 1, "{report}");
}
