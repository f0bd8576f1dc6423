//! The lock-free read: how a request gets its header.
//!
//! What keeps it cheap, each measured on two cores as a ratio to a header that never changes (`benches/hot_path`,
//! `benches/contention.rs`, `benches/programs`):
//! - A service keeps the header it used last and compares one number, the version; equal means "still right". Loading an `ArcSwap`
//!   for every request costs 1.4 times the instructions.
//! - Counts that several threads write cost more than all the rest, and clones of a header value share one. So a token is published
//!   as several headers, each on memory of its own, and threads spread over them (two threads: 0.3; with one shared header: 1.1 to
//!   1.3).
//! - Services that are cloned for every request share more: the layer's `Arc`, and the header, which a new clone has none of. Both are
//!   there once for each thread, [`PerThread`] and [`Seat`] (one thread: 1.1, two threads: 0.3; with one `Arc` and a load from the
//!   `ArcSwap` instead: 1.7 and 0.9).
//! - "Expired" is published as one more version. The request path needs no clock, which takes as long as a third of the header; only where
//!   the task may not have run for a while, because its runtime stands still between two `block_on`, every request looks at it.
//! - The header is put into the request here, not in generic code: two thirds of what a request pays are `HeaderMap::insert`. Here it
//!   is compiled once, as a part of [`Reader::authorize`]; in a program that inserts headers elsewhere too it would be a call, with
//!   a hash that is computed instead of known (1.25 instead of 1.10 times the instructions).

use std::{
    cell::Cell as ThreadCell,
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use try_lock::TryLock;

use crate::{
    AccessToken,
    clock::{Moment, Timeline},
};

/// Which token a request carried: tokens are numbered from 1 as they are published, 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    pub(crate) const NONE: Self = Self(0);
}

/// Holds what requests may use now. One task writes, everybody reads; on a cache line of its own, so that nobody waits for what is
/// written more often.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cell {
    version: AtomicU64,
    published: ArcSwapOption<Published>,
    /// Whether the task may stand still while requests are made.
    careful: AtomicBool,
    /// The generation whose acceptance by a request is news.
    doubted: AtomicU64,
    time: Arc<Timeline>,
}

#[derive(Debug)]
struct Published {
    generation: Generation,
    expires_at: Option<Moment>,
    /// One for each slot, and one at least.
    headers: Box<[HeaderValue]>,
}

impl Cell {
    pub(crate) fn empty(time: Arc<Timeline>) -> Self {
        Self {
            version: AtomicU64::new(VERSION_NONE),
            published: ArcSwapOption::empty(),
            careful: AtomicBool::new(false),
            doubted: AtomicU64::new(VERSION_NONE),
            time,
        }
    }

    /// What ends is used only after a look at the clock.
    pub(crate) fn be_careful(&self) {
        self.careful.store(true, Ordering::Relaxed);
    }

    /// From now on it is news that a request with this generation was accepted; with none, nothing is.
    pub(crate) fn doubt(&self, generation: Generation) {
        if self.doubted.load(Ordering::Relaxed) != generation.0 {
            self.doubted.store(generation.0, Ordering::Relaxed);
        }
    }

    /// Whether it is news that a request with this generation was accepted.
    #[inline]
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.doubted.load(Ordering::Relaxed) == generation.0
    }

    /// From now on requests carry this token.
    pub(crate) fn publish(&self, token: &AccessToken, generation: Generation, expires_at: Option<Moment>) {
        let headers = (0..slots()).map(|_| token.authorization()).collect();
        let published = Arc::new(Published { generation, expires_at, headers });
        self.begin_change();
        let before = self.published.swap(Some(published));
        // After the swap: whoever sees the version sees the headers.
        self.version.store(generation.0, Ordering::Release);
        // To overwrite the old headers takes a while, in which readers would find no version.
        drop(before);
    }

    /// From now on requests find no token.
    pub(crate) fn clear(&self) {
        self.begin_change();
        let before = self.published.swap(None);
        self.version.store(VERSION_NONE, Ordering::Release);
        drop(before);
    }

    /// Until the next version all readers look at what is published. Otherwise a service that kept the old token would send it after another
    /// one, on the same thread, has sent the new one. (The swap that follows releases this store: whoever sees the new token sees it.)
    fn begin_change(&self) {
        self.version.store(VERSION_CHANGES, Ordering::Relaxed);
    }

    /// The generation that requests carry now, [`Generation::NONE`] if they find none.
    pub(crate) fn generation(&self) -> Generation {
        match self.version.load(Ordering::Acquire) {
            VERSION_CHANGES => {
                self.published.load().as_ref().map_or(Generation::NONE, |published| published.generation)
            }
            version => Generation(version),
        }
    }

    /// The header to send now and its generation, without a [`Reader`]: where it doesn't matter what it costs. Looks at the clock: the task
    /// may not have run since the token ended.
    pub(crate) fn load(&self) -> Option<(HeaderValue, Generation)> {
        self.find().map(|(header, generation, _)| (header, generation))
    }

    /// The same, and whether it may be kept.
    fn find(&self) -> Option<(HeaderValue, Generation, bool)> {
        let published = self.published.load();
        let published = published.as_ref()?;
        if published.expires_at.is_some_and(|end| end <= self.time.now()) {
            return None;
        }
        // Never out of range, whatever number this thread has.
        let header = &published.headers[slot() % published.headers.len()];
        let may_be_kept = published.expires_at.is_none() || !self.careful.load(Ordering::Relaxed);
        Some((header.clone(), published.generation, may_be_kept))
    }
}

/// A service's own view of a [`Cell`].
#[derive(Debug)]
pub(crate) struct Reader {
    kept: Kept,
    /// Whether it was asked before.
    is_used: bool,
}

/// A header, and the version that it is right for.
#[derive(Debug)]
struct Kept {
    version: u64,
    header: HeaderValue,
}

impl Kept {
    /// Right for no version.
    const NOTHING: Self = Self { version: u64::MAX, header: HeaderValue::from_static("") };
}

impl Reader {
    pub(crate) const fn new() -> Self {
        Self { kept: Kept::NOTHING, is_used: false }
    }

    /// Puts the header to send now into a request. Returns its generation, [`Generation::NONE`] if there is none.
    pub(crate) fn authorize(&mut self, seat: &Seat, headers: &mut HeaderMap) -> Generation {
        let mut version = seat.cell.version.load(Ordering::Acquire);
        let header = 'found: {
            if version == self.kept.version {
                break 'found self.kept.header.clone();
            }
            if !self.is_used
                && let Some(kept) = seat.kept.0.try_lock()
                && kept.version == version
            {
                self.is_used = true;
                break 'found kept.header.clone();
            }
            let Some((header, generation)) = self.look_up(seat) else { return Generation::NONE };
            // Perhaps a newer one, whose version isn't there yet.
            version = generation.0;
            header
        };
        // The name by value: `insert` is compiled for each type of name. All others in this crate pass a reference, so this one needn't
        // be a call. (By reference, copying the name stalls the processor: a quarter of the time spent here.)
        headers.insert(AUTHORIZATION, header);
        Generation(version)
    }

    /// The header to send now, if there is one; it is kept. Where: a service that was used before will be used again; one that is used for
    /// the first time may be one that is cloned for every request, and leaves the header to the next.
    #[cold]
    fn look_up(&mut self, seat: &Seat) -> Option<(HeaderValue, Generation)> {
        // What was kept isn't right any more, and a secret: it goes, whether there is another or not.
        self.kept = Kept::NOTHING;
        let found = seat.cell.find();
        let kept = match &found {
            Some((header, generation, true)) => Kept { version: generation.0, header: header.clone() },
            _ => Kept::NOTHING,
        };
        match seat.kept.0.try_lock() {
            Some(mut shared) if !self.is_used || found.is_none() => {
                self.is_used |= found.is_some();
                *shared = kept;
            }
            // Nobody waits for the lock.
            _ => self.kept = kept,
        }
        found.map(|(header, generation, _)| (header, generation))
    }
}

/// What the services of one thread share: the header for those that have none yet.
#[derive(Debug)]
pub(crate) struct Seat {
    cell: Arc<Cell>,
    slot: usize,
    /// Free whenever it is asked for, unless several threads have one slot. A lock of one write instead of the two of an `ArcSwap`'s
    /// guard.
    kept: Apart<TryLock<Kept>>,
}

impl Seat {
    /// Whether it is news that a request with this generation was accepted.
    #[inline]
    pub(crate) fn is_doubted(&self, generation: Generation) -> bool {
        self.cell.is_doubted(generation)
    }

    fn here(cell: Arc<Cell>) -> Self {
        Self { cell, slot: slot(), kept: Apart(TryLock::new(Kept::NOTHING)) }
    }
}

/// On cache lines of its own (processors fetch them in pairs): it is written with every request, and what lies beside it is read by
/// other threads' (two threads: 0.9 instead of 0.3).
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// An `Arc` that is cloned with every request, so each thread has one: a clone goes to the [`Seat`] of the thread that asks for it.
///
/// The others are copies of the value, made when the first request comes from there, at most one for each slot. They belong to the first
/// one and know nothing of it: clones that outlive it work on, and share what they have.
pub(crate) struct PerThread<T>(Arc<Place<T>>);

struct Place<T> {
    value: T,
    seat: Seat,
    /// Nothing in the copies.
    elsewhere: Option<OnceLock<Copies<T>>>,
}

/// By slot.
type Copies<T> = Box<[OnceLock<PerThread<T>>]>;

impl<T: Clone> PerThread<T> {
    /// Services that share this read that cell.
    pub(crate) fn new(value: T, cell: Arc<Cell>) -> Self {
        Self(Arc::new(Place { value, seat: Seat::here(cell), elsewhere: Some(OnceLock::new()) }))
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.0.seat
    }

    #[cold]
    fn clone_elsewhere(&self, slot: usize) -> Self {
        let Some(elsewhere) = &self.0.elsewhere else { return Self(self.0.clone()) };
        let copies = elsewhere.get_or_init(|| (0..slots()).map(|_| OnceLock::new()).collect());
        let there = copies[slot % copies.len()].get_or_init(|| {
            let (value, seat) = (self.0.value.clone(), Seat::here(self.0.seat.cell.clone()));
            Self(Arc::new(Place { value, seat, elsewhere: None }))
        });
        Self(there.0.clone())
    }
}

impl<T: Clone> Clone for PerThread<T> {
    #[inline]
    fn clone(&self) -> Self {
        let slot = slot();
        if slot == self.0.seat.slot { Self(self.0.clone()) } else { self.clone_elsewhere(slot) }
    }
}

impl<T> Deref for PerThread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for PerThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

/// No token. Generations start at 1, so a version is a generation or this.
const VERSION_NONE: u64 = 0;

/// What is published is about to be another. Right for no header that is kept, and not what [`Kept::NOTHING`] has.
const VERSION_CHANGES: u64 = u64::MAX - 1;

/// Twice as many headers as threads that run at the same time: threads take them in turn, and with just as many, two workers would
/// share one where another thread had asked in between (two threads: 1.2 to 1.7 instead of 0.4). More than eight bring nothing to a
/// client and cost their memory.
fn slots() -> usize {
    // What the first thread finds counts for all: another one may be bound to fewer processors.
    static SLOTS: OnceLock<usize> = OnceLock::new();
    *SLOTS.get_or_init(|| thread::available_parallelism().map_or(1, |threads| 2 * threads.get()).min(8))
}

/// Which of the slots this thread uses. They are given out in the order in which threads ask.
#[inline]
fn slot() -> usize {
    thread_local! {
        static SLOT: ThreadCell<usize> = const { ThreadCell::new(usize::MAX) };
    }
    SLOT.with(|slot| match slot.get() {
        usize::MAX => {
            slot.set(next_slot());
            slot.get()
        }
        slot => slot,
    })
}

#[cold]
fn next_slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % slots()
}

#[cfg(test)]
mod threads;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::atomic::AtomicBool};

    use allocation_counter::measure;

    use super::*;

    fn token(number: u64) -> AccessToken {
        AccessToken::new(format!("t{number}")).unwrap()
    }

    fn time() -> Arc<Timeline> {
        Arc::new(Timeline::new(Arc::new(crate::clock::SystemClock)))
    }

    /// A cell, and a seat at it.
    fn seat() -> (Arc<Cell>, Seat) {
        let cell = Arc::new(Cell::empty(time()));
        (cell.clone(), Seat::here(cell))
    }

    /// What a request carries that this reader authorizes.
    fn header(reader: &mut Reader, seat: &Seat) -> Option<(HeaderValue, Generation)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("is replaced"));
        let generation = reader.authorize(seat, &mut headers);
        assert_eq!(headers.len(), 1);
        let header = headers.remove(AUTHORIZATION).unwrap();
        assert_eq!(generation == Generation::NONE, header == "is replaced", "{generation:?} {header:?}");
        (generation != Generation::NONE).then_some((header, generation))
    }

    #[test]
    fn readers_follow_every_change() {
        let (cell, seat) = seat();
        let mut reader = Reader::new();
        assert!(header(&mut reader, &seat).is_none());
        for generation in 1..=3 {
            cell.publish(&token(generation), Generation(generation), None);
            for _ in 0..3 {
                for reader in [&mut reader, &mut Reader::new()] {
                    let (found, seen) = header(reader, &seat).unwrap();
                    assert_eq!(found, format!("Bearer t{generation}"));
                    assert_eq!(seen, Generation(generation));
                }
            }
        }
        cell.clear();
        assert!(header(&mut reader, &seat).is_none());
        assert!(header(&mut Reader::new(), &seat).is_none());
        assert_eq!(cell.generation(), Generation::NONE);

        // The same token again (a source gave it more life) is usable again, under its old number.
        cell.publish(&token(3), Generation(3), None);
        assert_eq!(header(&mut reader, &seat).unwrap().1, Generation(3));
    }

    #[test]
    fn acceptance_is_news_for_the_doubted_generation_alone() {
        let (cell, seat) = seat();
        for (doubted, expected) in [(1, [true, false]), (2, [false, true]), (2, [false, true]), (0, [false, false])] {
            cell.doubt(Generation(doubted));
            assert_eq!([1, 2].map(|generation| cell.is_doubted(Generation(generation))), expected, "{doubted}");
            assert_eq!([1, 2].map(|generation| seat.is_doubted(Generation(generation))), expected, "{doubted}");
        }
    }

    #[test]
    fn a_secret_goes_when_it_is_not_sent_any_more() {
        let (cell, seat) = seat();
        let mut reader = Reader::new();
        let kept = |reader: &Reader| (reader.kept.header.clone(), seat.kept.0.try_lock().unwrap().header.clone());
        cell.publish(&token(1), Generation(1), None);
        header(&mut reader, &seat);
        header(&mut reader, &seat);
        assert!(kept(&reader).0 == "Bearer t1" && kept(&reader).1 == "Bearer t1");
        cell.publish(&token(2), Generation(2), None);
        header(&mut reader, &seat);
        assert_eq!(kept(&reader).0, "Bearer t2");
        header(&mut Reader::new(), &seat);
        assert_eq!(kept(&reader).1, "Bearer t2");
        cell.clear();
        header(&mut reader, &seat);
        assert!(kept(&reader).0.is_empty() && kept(&reader).1.is_empty());
    }

    #[test]
    fn what_ended_while_nobody_marked_it_is_not_sent() {
        for careful in [true, false] {
            let time = time();
            let cell = Arc::new(Cell::empty(time.clone()));
            let seat = Seat::here(cell.clone());
            if careful {
                cell.be_careful();
            }
            let end = time.now() + std::time::Duration::from_millis(30);
            cell.publish(&token(1), Generation(1), Some(end));
            let mut reader = Reader::new();
            assert!(header(&mut reader, &seat).is_some() && header(&mut reader, &seat).is_some());
            thread::sleep(std::time::Duration::from_millis(40));
            assert!(cell.load().is_none(), "whoever looks at the clock anyway");
            assert_eq!(header(&mut reader, &seat).is_none(), careful);
            assert_eq!(header(&mut Reader::new(), &seat).is_none(), careful);
        }
    }

    #[test]
    fn readers_take_what_is_there_while_the_publisher_is_between_its_stores() {
        let (cell, seat) = seat();
        cell.publish(&token(1), Generation(1), None);
        let mut reader = Reader::new();
        header(&mut reader, &seat).unwrap();
        // Before the swap, and before the last store.
        for generation in [1, 2] {
            cell.publish(&token(generation), Generation(generation), None);
            cell.begin_change();
            for _ in 0..2 {
                for reader in [&mut Reader::new(), &mut reader] {
                    let (found, seen) = header(reader, &seat).unwrap();
                    assert_eq!(found, format!("Bearer t{generation}"));
                    assert_eq!((seen, cell.generation()), (Generation(generation), Generation(generation)));
                }
            }
        }
        cell.clear();
        cell.begin_change();
        assert!(header(&mut reader, &seat).is_none() && header(&mut Reader::new(), &seat).is_none());
        assert_eq!(cell.generation(), Generation::NONE);
    }

    #[test]
    fn a_lock_that_somebody_holds_is_not_waited_for() {
        let (cell, seat) = seat();
        cell.publish(&token(1), Generation(1), None);
        let _held = seat.kept.0.try_lock().unwrap();
        let mut reader = Reader::new();
        for _ in 0..3 {
            assert_eq!(header(&mut reader, &seat).unwrap().1, Generation(1));
        }
        cell.clear();
        assert!(header(&mut reader, &seat).is_none());
    }

    #[test]
    fn readers_never_see_a_header_of_another_generation() {
        // One seat for all: what happens where there are more threads than slots.
        let (cell, seat) = seat();
        let done = AtomicBool::new(false);
        cell.publish(&token(1), Generation(1), None);
        let read = |clones: bool| {
            let mut reader = Reader::new();
            let mut last = Generation::NONE;
            while !done.load(Ordering::Relaxed) {
                if clones {
                    reader = Reader::new();
                }
                let (found, generation) = header(&mut reader, &seat).unwrap();
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

    /// What is published is at most eight headers and the list of them: far from twenty times what one takes.
    #[test]
    fn publishing_costs_at_most_twenty_headers() {
        let token = AccessToken::new("t".repeat(1024)).unwrap();
        let cell = Cell::empty(time());
        let one = measure(|| drop(token.authorization()));
        let all = measure(|| cell.publish(&token, Generation(1), None));
        assert!(one.count_total > 0, "the allocator counts");
        assert!(all.count_total <= 20 * one.count_total, "{all:?} for {one:?}");
        assert!(all.bytes_total <= 20 * one.bytes_total, "{all:?} for {one:?}");
    }

    /// Runs this on a thread with another slot.
    fn elsewhere<T: Send>(run: impl Fn() -> T + Sync) -> T {
        let here = slot();
        let there = || (slot() != here).then(&run);
        loop {
            let ran = thread::scope(|scope| scope.spawn(there).join().unwrap());
            if let Some(result) = ran {
                return result;
            }
        }
    }

    #[test]
    fn no_thread_has_a_slot_that_is_none() {
        for _ in 0..=slots() * slots() {
            let slot = thread::scope(|scope| scope.spawn(slot).join().unwrap());
            assert!(slot < slots(), "{slot}");
        }
    }

    #[test]
    fn each_thread_has_a_header_of_its_own() {
        let cell = Cell::empty(time());
        cell.publish(&token(1), Generation(1), None);
        let address = || cell.load().unwrap().0.as_bytes().as_ptr().addr();
        assert_eq!(address(), address());
        assert_ne!(address(), elsewhere(address));
    }

    #[test]
    fn each_slot_has_a_place_of_its_own() {
        let first = PerThread::new("shown", Arc::new(Cell::empty(time())));
        let mut found = BTreeSet::from([slot()]);
        while found.len() < slots() {
            found.insert(elsewhere(|| {
                assert_eq!(first.clone().seat().slot, slot());
                slot()
            }));
        }
        assert_eq!(format!("{first:?}"), r#""shown""#);
    }

    #[test]
    fn each_thread_has_a_place_of_its_own() {
        let is_one = |a: &PerThread<_>, b: &PerThread<_>| Arc::ptr_eq(&a.0, &b.0);
        let counted = Arc::new(());
        let first = PerThread::new(counted.clone(), Arc::new(Cell::empty(time())));
        assert!(is_one(&first, &first.clone()));

        let (there, again) = elsewhere(|| {
            let there = first.clone();
            assert!(is_one(&there, &there.clone()));
            assert_eq!(there.seat().slot, slot());
            (there, first.clone())
        });
        assert!(!is_one(&first, &there));
        assert!(is_one(&there, &again), "copied once");
        assert!(is_one(&there, &there.clone()), "a copy isn't copied, here where its slot isn't");
        assert!(Arc::ptr_eq(&first.seat().cell, &there.seat().cell));
        assert_eq!(Arc::strong_count(&counted), 3);

        // None holds the others.
        drop((first, again));
        assert_eq!(Arc::strong_count(&counted), 2);
        assert!(is_one(&there, &elsewhere(|| there.clone())));
        drop(there);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
