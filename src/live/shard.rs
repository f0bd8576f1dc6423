//! Copies of a value, so that threads need not share one. A *shard* is one copy. Each thread uses one shard.
//!
//! A service that is cloned for each request also clones its `Arc`, which writes a count. A count that several threads write costs more
//! than everything else that a request pays (two threads: 1.2 to 1.7 times a header that never changes; 0.3 to 0.4 with a count for each
//! thread; `benches/contention.rs`).

use std::{
    cell::Cell,
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// An `Arc` of which each thread clones its own shard.
///
/// The first shard belongs to the thread on which the value was put in. The others are clones of the value. Each is made at the first clone
/// on a thread with that shard. They hold no reference to the first shard, so a clone that outlives it still works.
pub(crate) struct Sharded<T>(Arc<Shard<T>>);

struct Shard<T> {
    value: T,
    number: usize,
    /// The other shards by their number. `None` in all but the first shard.
    others: Option<OnceLock<Others<T>>>,
}

type Others<T> = Box<[OnceLock<Sharded<T>>]>;

impl<T: Clone> Sharded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shard { value, number: shard_of_thread(), others: Some(OnceLock::new()) }))
    }

    /// Clones on a thread with another shard. If this isn't the first shard, it was moved to that thread, and clones itself.
    #[cold]
    fn clone_on_another_thread(&self, number: usize) -> Self {
        let Some(others) = &self.0.others else { return Self(self.0.clone()) };
        let others = others.get_or_init(|| (0..shards()).map(|_| OnceLock::new()).collect());
        let other = others[number % others.len()]
            .get_or_init(|| Self(Arc::new(Shard { value: self.0.value.clone(), number, others: None })));
        Self(other.0.clone())
    }
}

impl<T: Clone> Clone for Sharded<T> {
    #[inline]
    fn clone(&self) -> Self {
        let number = shard_of_thread();
        if number == self.0.number { Self(self.0.clone()) } else { self.clone_on_another_thread(number) }
    }
}

impl<T> Deref for Sharded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

/// How many shards there are: twice the number of threads that run at the same time, at most eight.
///
/// Threads take shards in turn. With only as many shards as threads, two workers would share one if another thread had asked in between
/// (two threads: 1.2 to 1.7 instead of 0.4). More than eight don't help a client, and cost memory.
pub(super) fn shards() -> usize {
    // The answer of the first thread counts for all. Another thread may be bound to fewer processors.
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| thread::available_parallelism().map_or(1, |threads| 2 * threads.get()).min(8))
}

/// The shard of this thread. Shards are assigned in the order in which threads ask.
#[inline]
pub(super) fn shard_of_thread() -> usize {
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| match shard.get() {
        usize::MAX => {
            shard.set(next_shard());
            shard.get()
        }
        shard => shard,
    })
}

#[cold]
fn next_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % shards()
}

/// Runs this on a thread with another shard.
#[cfg(test)]
pub(super) fn on_another_shard<T: Send>(run: impl Fn() -> T + Sync) -> T {
    let here = shard_of_thread();
    let there = || (shard_of_thread() != here).then(&run);
    loop {
        let ran = thread::scope(|scope| scope.spawn(there).join().unwrap());
        if let Some(result) = ran {
            return result;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_thread_has_a_shard_that_is_none() {
        for _ in 0..=shards() * shards() {
            let shard = thread::scope(|scope| scope.spawn(shard_of_thread).join().unwrap());
            assert!(shard < shards(), "{shard}");
        }
    }

    #[test]
    fn each_thread_clones_its_shard() {
        let first = Sharded::new("shown");
        let mut found = BTreeSet::from([shard_of_thread()]);
        while found.len() < shards() {
            found.insert(on_another_shard(|| {
                assert_eq!(first.clone().0.number, shard_of_thread());
                shard_of_thread()
            }));
        }
        assert_eq!(format!("{first:?}"), r#""shown""#);
    }

    #[test]
    fn a_shard_is_made_once_and_keeps_no_other_alive() {
        let is_one = |a: &Sharded<_>, b: &Sharded<_>| Arc::ptr_eq(&a.0, &b.0);
        let counted = Arc::new(());
        let first = Sharded::new(counted.clone());
        assert!(is_one(&first, &first.clone()));

        let (there, again) = on_another_shard(|| {
            let there = first.clone();
            assert!(is_one(&there, &there.clone()));
            assert_eq!(there.0.number, shard_of_thread());
            (there, first.clone())
        });
        assert!(!is_one(&first, &there));
        assert!(is_one(&there, &again));
        assert!(is_one(&there, &there.clone()), "moved here, where its shard isn't, it stays what it is");
        assert_eq!(Arc::strong_count(&counted), 3);

        drop((first, again));
        assert_eq!(Arc::strong_count(&counted), 2);
        assert!(is_one(&there, &on_another_shard(|| there.clone())));
        drop(there);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
