//! What a check found.

use std::{fmt, time::Duration};

use super::Found;

/// What [`StoreCheck`](super::StoreCheck) found: a line for each promise that a store makes. `Display` shows all of them.
///
/// ```
/// use tower_bearer::{store::Memory, testing::StoreCheck};
///
/// # #[tokio::main]
/// # async fn main() {
/// let report = StoreCheck::new(|_| Memory::default()).run().await;
/// assert!(report.is_sound(), "{report}");
/// assert_eq!(report.news(), None, "nobody else changes what is in memory");
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct StoreReport {
    lines: Vec<(&'static str, Found)>,
    news: Option<Duration>,
    has_looked_for_news: bool,
}

impl StoreReport {
    pub(super) fn note(&mut self, promise: &'static str, found: Found) {
        self.lines.push((promise, found));
    }

    pub(super) fn note_news(&mut self, found: Found<Option<Duration>>) {
        self.has_looked_for_news = true;
        match found {
            Ok(news) => self.news = news,
            Err(text) => self.note(super::news::OF_A_SWAP, Err(text)),
        }
    }

    /// Whether the store keeps all promises. [`StoreReport`] has an example.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lines.iter().all(|(_, found)| found.is_ok())
    }

    /// What failed, each in a sentence or two.
    ///
    /// ```
    /// # use tower_bearer::testing::StoreReport;
    /// # let report = StoreReport::default();
    /// for fault in report.faults() {
    ///     eprintln!("{fault}");
    /// }
    /// ```
    pub fn faults(&self) -> impl Iterator<Item = String> + '_ {
        self.lines.iter().filter_map(|(promise, found)| Some(format!("{promise}: {}", found.as_ref().err()?)))
    }

    /// How long it took until another process heard of a swap. `None`: it didn't within ten seconds, or the store isn't shared. That is
    /// no fault: such a process learns of it when it reads the entry before it fetches.
    ///
    /// [`StoreReport`] has an example.
    #[must_use]
    pub fn news(&self) -> Option<Duration> {
        self.news
    }

    /// Panics with the whole report unless the store keeps all promises.
    ///
    /// # Panics
    /// If the report [isn't sound](Self::is_sound).
    ///
    /// [`StoreCheck`](super::StoreCheck) has an example.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.is_sound(), "{self}");
    }
}

impl fmt::Display for StoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.faults().count();
        writeln!(f, "this store keeps {} of {} promises", self.lines.len() - failed, self.lines.len())?;
        for (promise, found) in &self.lines {
            match found {
                Ok(()) => writeln!(f, "ok      {promise}")?,
                Err(text) => writeln!(f, "FAILED  {promise}\n        {text}")?,
            }
        }
        match self.news {
            Some(time) => writeln!(f, "news    another process hears of a swap after {time:.1?}"),
            None if self.has_looked_for_news => writeln!(f, "news    no other process hears of a swap within 10 s"),
            None => Ok(()),
        }
    }
}
