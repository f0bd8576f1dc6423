//! The lock-free read: how a request gets its header.
//!
//! What keeps it cheap, each measured on two cores as a ratio to a header that never changes (`benches/hot_path.rs`,
//! `benches/instructions`):
//! - A service keeps the header it used last and compares one number, the version; equal means "still right". Loading an `ArcSwap`
//!   for every request costs 1.4 times the instructions.
//! - Header values share a reference count between clones, and a count that several cores write costs more than all the rest.
//!   So a token is published as several headers, each on memory of its own, and threads spread over them (two threads: 0.16 to
//!   0.44; with one shared header: 1.1 to 1.3).
//! - "Expired" is published as one more version. The request path needs no clock (24 ns, nearly what a static header costs).
//! - The header is put into the request here, not in generic code: two thirds of what a request pays are `HeaderMap::insert`. Here it
//!   is compiled once, as a part of [`Reader::authorize`]; in a program that inserts headers elsewhere too it would be a call, with
//!   a hash that is computed instead of known (1.25 instead of 1.10 times the instructions).

use std::{
    cell::Cell as ThreadCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::AccessToken;

/// Which token a request carried: tokens are numbered from 1 as they are published, 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    pub(crate) const NONE: Self = Self(0);
}

/// Holds what requests may use now. One task writes, everybody reads: whoever holds it keeps what is written more often off its
/// cache line.
#[derive(Debug)]
pub(crate) struct Cell {
    version: AtomicU64,
    published: ArcSwapOption<Published>,
}

#[derive(Debug)]
struct Published {
    generation: Generation,
    /// A thread always uses the same.
    headers: Box<[HeaderValue]>,
}

impl Cell {
    pub(crate) fn empty() -> Self {
        Self { version: AtomicU64::new(VERSION_NONE), published: ArcSwapOption::empty() }
    }

    /// From now on requests carry this token.
    pub(crate) fn publish(&self, token: &AccessToken, generation: Generation) {
        let headers = (0..slots()).map(|_| token.authorization()).collect();
        self.published.store(Some(Arc::new(Published { generation, headers })));
        // After the store: whoever sees the version sees the headers.
        self.version.store(generation.0, Ordering::Release);
    }

    /// From now on requests find no token.
    pub(crate) fn clear(&self) {
        self.published.store(None);
        self.version.store(VERSION_NONE, Ordering::Release);
    }

    /// The generation that requests carry now, [`Generation::NONE`] if they find none.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.version.load(Ordering::Acquire))
    }

    /// The header to send now and its generation, without a [`Reader`]: where it doesn't matter what it costs.
    pub(crate) fn load(&self) -> Option<(HeaderValue, Generation)> {
        let published = self.published.load();
        let published = published.as_ref()?;
        Some((published.headers[slot() % published.headers.len()].clone(), published.generation))
    }
}

/// A service's own view of a [`Cell`].
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// The version that `header` is right for.
    version: u64,
    header: HeaderValue,
    /// The version seen last.
    seen: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self { version: u64::MAX, header: HeaderValue::from_static(""), seen: VERSION_NONE }
    }
}

impl Reader {
    /// Puts the header to send now into a request. Returns its generation, [`Generation::NONE`] if there is none.
    pub(crate) fn authorize(&mut self, cell: &Cell, headers: &mut HeaderMap) -> Generation {
        let version = cell.version.load(Ordering::Acquire);
        let (header, generation) = if version == self.version {
            (self.header.clone(), Generation(version))
        } else {
            match self.reload(cell) {
                Some(found) => found,
                None => return Generation::NONE,
            }
        };
        // The name by value: `insert` is compiled for each type of name. All others in this crate pass a reference, so this one needn't
        // be a call. (By reference, copying the name stalls the processor: a quarter of the time spent here.)
        headers.insert(AUTHORIZATION, header);
        generation
    }

    #[cold]
    fn reload(&mut self, cell: &Cell) -> Option<(HeaderValue, Generation)> {
        let Some((header, generation)) = cell.load() else {
            *self = Self::default();
            return None;
        };
        // Kept from the second use on: a service that is cloned for every request and used once would pay for nothing.
        if self.seen == generation.0 {
            (self.version, self.header) = (generation.0, header.clone());
        }
        self.seen = generation.0;
        Some((header, generation))
    }
}

/// No token. Generations start at 1, so a version is a generation or this.
const VERSION_NONE: u64 = 0;

/// Twice as many headers as threads that run at the same time: threads take them in turn, and with just as many, two workers would
/// share one where another thread had asked in between (two threads: 1.2 to 1.7 instead of 0.4). More than eight bring nothing to a
/// client and cost their memory.
fn slots() -> usize {
    static SLOTS: AtomicUsize = AtomicUsize::new(0);
    match SLOTS.load(Ordering::Relaxed) {
        0 => {
            let slots = thread::available_parallelism().map_or(1, |threads| 2 * threads.get()).min(8);
            SLOTS.store(slots, Ordering::Relaxed);
            slots
        }
        slots => slots,
    }
}

/// The number of this thread, given out in the order in which threads ask.
fn slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        static SLOT: ThreadCell<usize> = const { ThreadCell::new(0) };
    }
    SLOT.with(|slot| match slot.get() {
        0 => {
            slot.set(NEXT.fetch_add(1, Ordering::Relaxed));
            slot.get()
        }
        slot => slot,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn token(secret: &str) -> AccessToken {
        AccessToken::new(secret).unwrap()
    }

    /// What a request carries that this reader authorizes.
    fn header(reader: &mut Reader, cell: &Cell) -> Option<(HeaderValue, Generation)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("is replaced"));
        let generation = reader.authorize(cell, &mut headers);
        assert_eq!(headers.len(), 1);
        let header = headers.remove(AUTHORIZATION).unwrap();
        assert_eq!(generation == Generation::NONE, header == "is replaced", "{generation:?} {header:?}");
        (generation != Generation::NONE).then_some((header, generation))
    }

    #[test]
    fn a_reader_follows_every_change() {
        let cell = Cell::empty();
        let mut reader = Reader::default();
        assert!(header(&mut reader, &cell).is_none());
        for generation in 1..=3 {
            cell.publish(&token(&format!("t{generation}")), Generation(generation));
            for _ in 0..3 {
                let (found, seen) = header(&mut reader, &cell).unwrap();
                assert_eq!(found, format!("Bearer t{generation}"));
                assert_eq!(seen, Generation(generation));
            }
        }
        cell.clear();
        assert!(header(&mut reader, &cell).is_none());
        assert_eq!(cell.generation(), Generation::NONE);

        // The same token again (a source gave it more life) is usable again, under its old number.
        cell.publish(&token("t3"), Generation(3));
        assert_eq!(header(&mut reader, &cell).unwrap().1, Generation(3));
    }

    #[test]
    fn readers_never_see_a_header_of_another_generation() {
        let cell = Arc::new(Cell::empty());
        let done = Arc::new(AtomicBool::new(false));
        cell.publish(&token("t1"), Generation(1));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (cell, done) = (cell.clone(), done.clone());
                thread::spawn(move || {
                    let mut reader = Reader::default();
                    let mut last = Generation::NONE;
                    while !done.load(Ordering::Relaxed) {
                        let (found, generation) = header(&mut reader, &cell).unwrap();
                        assert_eq!(found, format!("Bearer t{}", generation.0));
                        assert!(generation >= last, "went back from {last:?} to {generation:?}");
                        last = generation;
                    }
                })
            })
            .collect();
        for generation in 2..2000 {
            cell.publish(&token(&format!("t{generation}")), Generation(generation));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    }
}
