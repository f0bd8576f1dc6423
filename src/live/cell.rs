//! The lock-free read: how a request gets its header.
//!
//! What keeps it cheap, each measured on two cores as a ratio to a header that never changes (`benches/hot_path`, `benches/contention.rs`,
//! `benches/programs`):
//! - A service keeps the header that it used last, and compares one number, the version. If the version is the same, the header is current.
//!   Loading an `ArcSwap` for each request would cost 1.4 times the instructions.
//! - A count that several threads write costs more than all the rest, and the clones of a header value share one count. So a token is
//!   published as several headers, each with memory of its own, and threads are spread over them (two threads: 0.3; with one shared header:
//!   1.1 to 1.3).
//! - Services that are cloned for each request share more: the `Arc` of the layer, and the header, because a new clone has none. Both exist
//!   once for each shard, in [`Sharded`] and [`CellView`] (one thread: 1.1, two threads: 0.3; with one `Arc` and a load from the `ArcSwap`
//!   instead: 1.7 and 0.9).
//! - The end of a token is published as one more version, so that a request needs no clock. Reading the clock takes a third as long as the
//!   header. Each request reads it only if the task may not have run for a while, because its runtime stands still between two calls of
//!   `block_on`.
//! - The header is inserted here, not in generic code: two thirds of what a request pays are `HeaderMap::insert`. Here it is compiled once,
//!   as a part of [`Reader::authorize`]. In a program that inserts headers elsewhere too it would be a call, with a hash that is computed
//!   instead of known (1.25 instead of 1.10 times the instructions).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use try_lock::TryLock;

use super::{
    demand::Demands,
    shard::{shard_of_thread, shards},
};
use crate::{
    AccessToken,
    clock::{Moment, Timeline},
};

/// The number of a token within a live token: 1 for the first, one more for each different one. 0: no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    pub(crate) const NONE: Self = Self(0);
}

/// Holds the header that requests carry now. One task writes it, and all requests read it. It has a cache line of its own, so that no
/// reader waits for data that is written more often.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cell {
    version: AtomicU64,
    published: ArcSwapOption<Published>,
    /// Whether the task may stand still while requests are sent.
    careful: AtomicBool,
    /// The generation whose acceptance by the API must be reported.
    doubted: AtomicU64,
    /// [`UNUSED`], [`USED`] or [`ASLEEP`].
    usage: AtomicU8,
    /// Woken by the first use of a token that is asleep.
    demands: Arc<Demands>,
    time: Arc<Timeline>,
}

#[derive(Debug)]
struct Published {
    generation: Generation,
    expires_at: Option<Moment>,
    /// One for each shard, and at least one.
    headers: Box<[HeaderValue]>,
}

impl Cell {
    pub(crate) fn empty(time: Arc<Timeline>, demands: Arc<Demands>) -> Self {
        Self {
            version: AtomicU64::new(VERSION_NONE),
            published: ArcSwapOption::empty(),
            careful: AtomicBool::new(false),
            doubted: AtomicU64::new(VERSION_NONE),
            usage: AtomicU8::new(USED),
            demands,
            time,
        }
    }

    /// From now on, a token that expires is used only after a look at the clock.
    pub(crate) fn be_careful(&self) {
        self.careful.store(true, Ordering::Relaxed);
    }

    /// From now on, the acceptance of a request with this generation must be reported; with [`Generation::NONE`], of none.
    pub(crate) fn doubt(&self, generation: Generation) {
        if self.doubted.load(Ordering::Relaxed) != generation.0 {
            self.doubted.store(generation.0, Ordering::Relaxed);
        }
    }

    /// Whether the acceptance of a request with this generation must be reported.
    #[inline]
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.doubted.load(Ordering::Relaxed) == generation.0
    }

    /// From now on the next use is noticed. For a token with a version that no reader has kept.
    pub(crate) fn notice_use(&self) {
        self.usage.store(UNUSED, Ordering::Relaxed);
    }

    /// Whether the token was used, or its use isn't noticed.
    pub(crate) fn was_used(&self) -> bool {
        self.usage.load(Ordering::Relaxed) == USED
    }

    /// From now on the next use wakes the task. `false` if the token was used.
    pub(crate) fn sleep(&self) -> bool {
        self.usage.compare_exchange(UNUSED, ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The task is awake, though nobody has used the token.
    pub(crate) fn rouse(&self) {
        let _ = self.usage.compare_exchange(ASLEEP, UNUSED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The task is awake.
    pub(crate) fn wake(&self) {
        self.usage.store(USED, Ordering::Relaxed);
    }

    /// Somebody uses the token.
    #[cold]
    fn used(&self) {
        if self.usage.swap(USED, Ordering::Relaxed) == ASLEEP {
            self.demands.want();
        }
    }

    /// From now on requests carry this token.
    pub(crate) fn publish(&self, token: &AccessToken, generation: Generation, expires_at: Option<Moment>) {
        let headers = (0..shards()).map(|_| token.authorization()).collect();
        let published = Arc::new(Published { generation, expires_at, headers });
        self.begin_change();
        let before = self.published.swap(Some(published));
        // After the swap: a reader that sees the version sees the headers.
        self.version.store(generation.0, Ordering::Release);
        // Dropped only now: overwriting the old headers takes a while, in which readers would find no version.
        drop(before);
    }

    /// From now on requests find no token.
    pub(crate) fn clear(&self) {
        self.begin_change();
        let before = self.published.swap(None);
        self.version.store(VERSION_NONE, Ordering::Release);
        drop(before);
    }

    /// Until the next version, all readers look up what is published. Otherwise a service that kept the old header could send it after
    /// another service on the same thread has sent the new one. (The swap that follows releases this store: a reader that sees the new
    /// token sees it.)
    fn begin_change(&self) {
        self.version.store(VERSION_CHANGES, Ordering::Relaxed);
    }

    /// The generation that requests carry now; [`Generation::NONE`] if there is no token.
    pub(crate) fn generation(&self) -> Generation {
        match self.version.load(Ordering::Acquire) {
            VERSION_CHANGES => {
                self.published.load().as_ref().map_or(Generation::NONE, |published| published.generation)
            }
            version => Generation(version),
        }
    }

    /// The header to send now and its generation, without a [`Reader`], for where the cost doesn't matter. Reads the clock, because the
    /// task may not have run since the token expired.
    pub(crate) fn load(&self) -> Option<(HeaderValue, Generation)> {
        self.find().map(|(header, generation, _)| (header, generation))
    }

    /// The same, and whether the header may be kept.
    fn find(&self) -> Option<(HeaderValue, Generation, bool)> {
        let published = self.published.load();
        let published = published.as_ref()?;
        if published.expires_at.is_some_and(|end| end <= self.time.now()) {
            return None;
        }
        if self.usage.load(Ordering::Relaxed) != USED {
            self.used();
        }
        // Never out of range, whatever the thread's number is.
        let header = &published.headers[shard_of_thread() % published.headers.len()];
        let may_be_kept = published.expires_at.is_none() || !self.careful.load(Ordering::Relaxed);
        Some((header.clone(), published.generation, may_be_kept))
    }
}

/// A service's own view of a [`Cell`].
#[derive(Debug)]
pub(crate) struct Reader {
    kept: Kept,
    /// Whether it was used before.
    is_used: bool,
}

/// A header, and the version for which it is current.
#[derive(Debug)]
struct Kept {
    version: u64,
    header: HeaderValue,
}

impl Kept {
    /// Matches no version.
    const NOTHING: Self = Self { version: u64::MAX, header: HeaderValue::from_static("") };
}

impl Reader {
    pub(crate) const fn new() -> Self {
        Self { kept: Kept::NOTHING, is_used: false }
    }

    /// Puts the current header into a request. Returns its generation; [`Generation::NONE`] if there is no token.
    pub(crate) fn authorize(&mut self, view: &CellView, headers: &mut HeaderMap) -> Generation {
        let mut version = view.cell.version.load(Ordering::Acquire);
        let header = 'found: {
            if version == self.kept.version {
                break 'found self.kept.header.clone();
            }
            if !self.is_used
                && let Some(kept) = view.kept.0.try_lock()
                && kept.version == version
            {
                self.is_used = true;
                break 'found kept.header.clone();
            }
            let Some((header, generation)) = self.look_up(view) else { return Generation::NONE };
            // Perhaps a newer one, whose version isn't stored yet.
            version = generation.0;
            header
        };
        // The name by value: `insert` is compiled for each type of name, and all others in this crate pass a reference, so this one needn't
        // be a call. (By reference, copying the name stalls the processor, which is a quarter of the time spent here.)
        headers.insert(AUTHORIZATION, header);
        Generation(version)
    }

    /// Looks up the header to send now, and keeps it. A service that was used before will be used again, so it keeps the header itself. A
    /// service that is used for the first time may be cloned for each request, so it leaves the header in the view, for the next one.
    #[cold]
    fn look_up(&mut self, view: &CellView) -> Option<(HeaderValue, Generation)> {
        // The kept header is outdated, and it is a secret: drop it, whether there is another one or not.
        self.kept = Kept::NOTHING;
        let found = view.cell.find();
        let kept = match &found {
            Some((header, generation, true)) => Kept { version: generation.0, header: header.clone() },
            _ => Kept::NOTHING,
        };
        match view.kept.0.try_lock() {
            Some(mut shared) if !self.is_used || found.is_none() => {
                self.is_used |= found.is_some();
                *shared = kept;
            }
            // Don't wait for the lock.
            _ => self.kept = kept,
        }
        found.map(|(header, generation, _)| (header, generation))
    }
}

/// A [`Cell`] as the services of one shard see it, with a header for the services that have none yet. A clone begins without that header.
pub(crate) struct CellView {
    cell: Arc<Cell>,
    /// Never contended, unless several threads share a shard. This lock costs one write; the guard of an `ArcSwap` costs two.
    kept: Apart<TryLock<Kept>>,
}

impl CellView {
    pub(crate) fn of(cell: Arc<Cell>) -> Self {
        Self { cell, kept: Apart(TryLock::new(Kept::NOTHING)) }
    }

    /// Whether the acceptance of a request with this generation must be reported.
    #[inline]
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.cell.is_doubted(generation)
    }
}

impl Clone for CellView {
    fn clone(&self) -> Self {
        Self::of(self.cell.clone())
    }
}

impl fmt::Debug for CellView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellView").finish_non_exhaustive()
    }
}

/// A value on cache lines of its own (processors fetch them in pairs). It is written with each request, and the services of other threads
/// read what lies beside it (two threads: 0.9 instead of 0.3).
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// No token. Generations begin at 1, so a version is a generation, this or [`VERSION_CHANGES`].
const VERSION_NONE: u64 = 0;

/// A change is being published. Matches no kept header, not even [`Kept::NOTHING`].
const VERSION_CHANGES: u64 = u64::MAX - 1;

/// The current token was not used yet.
const UNUSED: u8 = 0;

/// It was used, or it doesn't matter.
const USED: u8 = 1;

/// Its next use wakes the task.
const ASLEEP: u8 = 2;

#[cfg(test)]
mod threads;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use allocation_counter::measure;

    use super::*;
    use crate::live::shard::on_another_shard;

    fn token(number: u64) -> AccessToken {
        AccessToken::new(format!("t{number}")).unwrap()
    }

    fn time() -> Arc<Timeline> {
        Arc::new(Timeline::new(Arc::new(crate::clock::SystemClock)))
    }

    /// A cell, and a view of it.
    fn viewed() -> (Arc<Cell>, CellView) {
        let cell = Arc::new(Cell::empty(time(), Arc::default()));
        (cell.clone(), CellView::of(cell))
    }

    /// The header that this reader puts on a request.
    fn header(reader: &mut Reader, view: &CellView) -> Option<(HeaderValue, Generation)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("is replaced"));
        let generation = reader.authorize(view, &mut headers);
        assert_eq!(headers.len(), 1);
        let header = headers.remove(AUTHORIZATION).unwrap();
        assert_eq!(generation == Generation::NONE, header == "is replaced", "{generation:?} {header:?}");
        (generation != Generation::NONE).then_some((header, generation))
    }

    #[test]
    fn readers_follow_every_change() {
        let (cell, view) = viewed();
        let mut reader = Reader::new();
        assert!(header(&mut reader, &view).is_none());
        for generation in 1..=3 {
            cell.publish(&token(generation), Generation(generation), None);
            for _ in 0..3 {
                for reader in [&mut reader, &mut Reader::new()] {
                    let (found, seen) = header(reader, &view).unwrap();
                    assert_eq!(found, format!("Bearer t{generation}"));
                    assert_eq!(seen, Generation(generation));
                }
            }
        }
        cell.clear();
        assert!(header(&mut reader, &view).is_none());
        assert!(header(&mut Reader::new(), &view).is_none());
        assert_eq!(cell.generation(), Generation::NONE);

        // The same token again (its source gave it more lifetime) is usable again, with its old number.
        cell.publish(&token(3), Generation(3), None);
        assert_eq!(header(&mut reader, &view).unwrap().1, Generation(3));
    }

    #[test]
    fn acceptance_is_news_for_the_doubted_generation_alone() {
        let (cell, view) = viewed();
        for (doubted, expected) in [(1, [true, false]), (2, [false, true]), (2, [false, true]), (0, [false, false])] {
            cell.doubt(Generation(doubted));
            assert_eq!([1, 2].map(|generation| cell.is_doubted(Generation(generation))), expected, "{doubted}");
            assert_eq!([1, 2].map(|generation| view.is_doubted(Generation(generation))), expected, "{doubted}");
        }
    }

    #[test]
    fn a_secret_goes_when_it_is_not_sent_any_more() {
        let (cell, view) = viewed();
        let mut reader = Reader::new();
        let kept = |reader: &Reader| (reader.kept.header.clone(), view.kept.0.try_lock().unwrap().header.clone());
        cell.publish(&token(1), Generation(1), None);
        header(&mut reader, &view);
        header(&mut reader, &view);
        assert!(kept(&reader).0 == "Bearer t1" && kept(&reader).1 == "Bearer t1");
        cell.publish(&token(2), Generation(2), None);
        header(&mut reader, &view);
        assert_eq!(kept(&reader).0, "Bearer t2");
        header(&mut Reader::new(), &view);
        assert_eq!(kept(&reader).1, "Bearer t2");
        cell.clear();
        header(&mut reader, &view);
        assert!(kept(&reader).0.is_empty() && kept(&reader).1.is_empty());
    }

    #[test]
    fn what_ended_while_nobody_marked_it_is_not_sent() {
        for careful in [true, false] {
            let time = time();
            let cell = Arc::new(Cell::empty(time.clone(), Arc::default()));
            let view = CellView::of(cell.clone());
            if careful {
                cell.be_careful();
            }
            let end = time.now() + std::time::Duration::from_millis(30);
            cell.publish(&token(1), Generation(1), Some(end));
            let mut reader = Reader::new();
            assert!(header(&mut reader, &view).is_some() && header(&mut reader, &view).is_some());
            thread::sleep(std::time::Duration::from_millis(40));
            assert!(cell.load().is_none(), "whoever looks at the clock anyway");
            assert_eq!(header(&mut reader, &view).is_none(), careful);
            assert_eq!(header(&mut Reader::new(), &view).is_none(), careful);
        }
    }

    #[test]
    fn readers_take_what_is_there_while_the_publisher_is_between_its_stores() {
        let (cell, view) = viewed();
        cell.publish(&token(1), Generation(1), None);
        let mut reader = Reader::new();
        header(&mut reader, &view).unwrap();
        // Before the swap, and before the last store.
        for generation in [1, 2] {
            cell.publish(&token(generation), Generation(generation), None);
            cell.begin_change();
            for _ in 0..2 {
                for reader in [&mut Reader::new(), &mut reader] {
                    let (found, seen) = header(reader, &view).unwrap();
                    assert_eq!(found, format!("Bearer t{generation}"));
                    assert_eq!((seen, cell.generation()), (Generation(generation), Generation(generation)));
                }
            }
        }
        cell.clear();
        cell.begin_change();
        assert!(header(&mut reader, &view).is_none() && header(&mut Reader::new(), &view).is_none());
        assert_eq!(cell.generation(), Generation::NONE);
    }

    #[test]
    fn a_lock_that_somebody_holds_is_not_waited_for() {
        let (cell, view) = viewed();
        cell.publish(&token(1), Generation(1), None);
        let _held = view.kept.0.try_lock().unwrap();
        let mut reader = Reader::new();
        for _ in 0..3 {
            assert_eq!(header(&mut reader, &view).unwrap().1, Generation(1));
        }
        cell.clear();
        assert!(header(&mut reader, &view).is_none());
    }

    #[test]
    fn readers_never_see_a_header_of_another_generation() {
        // One view for all threads, as if there were more threads than shards.
        let (cell, view) = viewed();
        let done = AtomicBool::new(false);
        cell.publish(&token(1), Generation(1), None);
        let read = |clones: bool| {
            let mut reader = Reader::new();
            let mut last = Generation::NONE;
            while !done.load(Ordering::Relaxed) {
                if clones {
                    reader = Reader::new();
                }
                let (found, generation) = header(&mut reader, &view).unwrap();
                assert_eq!(found, format!("Bearer t{}", generation.0));
                assert!(generation >= last, "went back from {last:?} to {generation:?}");
                last = generation;
            }
        };
        thread::scope(|scope| {
            for clones in [false, true, true] {
                scope.spawn(move || read(clones));
            }
            for generation in 2..2000 {
                cell.publish(&token(generation), Generation(generation), None);
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    /// At most eight headers and the list of them are published. That is far from twenty times the cost of one.
    #[test]
    fn publishing_costs_at_most_twenty_headers() {
        let token = AccessToken::new("t".repeat(1024)).unwrap();
        let cell = Cell::empty(time(), Arc::default());
        let one = measure(|| drop(token.authorization()));
        let all = measure(|| cell.publish(&token, Generation(1), None));
        assert!(one.count_total > 0, "the allocator counts");
        assert!(all.count_total <= 20 * one.count_total, "{all:?} for {one:?}");
        assert!(all.bytes_total <= 20 * one.bytes_total, "{all:?} for {one:?}");
    }

    #[test]
    fn each_thread_has_a_header_of_its_own() {
        let cell = Cell::empty(time(), Arc::default());
        cell.publish(&token(1), Generation(1), None);
        let address = || cell.load().unwrap().0.as_bytes().as_ptr().addr();
        assert_eq!(address(), address());
        assert_ne!(address(), on_another_shard(address));
    }

    #[test]
    fn views_of_a_cell_keep_a_header_each() {
        let (cell, view) = viewed();
        cell.publish(&token(1), Generation(1), None);
        let other = view.clone();
        header(&mut Reader::new(), &view).unwrap();
        assert!(Arc::ptr_eq(&view.cell, &other.cell));
        let kept = |view: &CellView| view.kept.0.try_lock().unwrap().header.clone();
        assert!(kept(&view) == "Bearer t1" && kept(&other).is_empty());
        assert!(!format!("{view:?}").contains("t1"));
    }
}
