//! The cell between real threads: more of them than it has shards, pinned to cores, which come and go while tokens change all the time.
//!
//! This takes a second in all, or as many as `TOWER_BEARER_STRESS_SECONDS` says (`scripts/deep` and `scripts/threads` set it).

use std::{
    env,
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::*;
use crate::live::shard::Sharded;

/// What a service holds of its layer.
type Service = Sharded<(Arc<()>, CellView)>;

/// A cell, what its publisher reports, and services that read it.
struct Bench {
    name: char,
    cell: Arc<Cell>,
    first: Service,
    counted: Arc<()>,
    /// The newest token whose publication is over.
    newest: AtomicU64,
    /// How often the publisher began to remove the token, and how often it has published one again.
    gone: AtomicU64,
    back: AtomicU64,
    reads: AtomicU64,
}

impl Bench {
    fn new(name: char) -> Self {
        let cell = Arc::new(Cell::empty(Arc::new(Timeline::new(Arc::new(crate::clock::SystemClock))), Arc::default()));
        let counted = Arc::new(());
        let first = Sharded::new((counted.clone(), CellView::of(cell.clone())));
        let bench = Self {
            name,
            cell,
            first,
            counted,
            newest: AtomicU64::new(1),
            gone: AtomicU64::new(0),
            back: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        };
        bench.publish(1);
        bench
    }

    /// A long secret, so that a torn one shows.
    fn secret(&self, generation: u64) -> String {
        format!("{}{generation}", self.name).repeat(16)
    }

    fn publish(&self, generation: u64) {
        let token = AccessToken::new(self.secret(generation)).unwrap();
        self.cell.publish(&token, Generation(generation), None);
        self.newest.store(generation, SeqCst);
    }

    /// Publishes until `done`. Returns references to some of what it published.
    fn keep_publishing(&self, rng: &mut Rng, done: &AtomicBool) -> Vec<Weak<Published>> {
        let (mut generation, mut published) = (1, Vec::new());
        while !done.load(SeqCst) {
            generation += 1;
            if rng.u8(..16) == 0 {
                self.gone.fetch_add(1, SeqCst);
                self.cell.clear();
                pause(rng);
                self.publish(generation);
                self.back.fetch_add(1, SeqCst);
            } else {
                self.publish(generation);
            }
            if generation.is_multiple_of(64) {
                published.extend(self.cell.published.load_full().as_ref().map(Arc::downgrade));
            }
            pause(rng);
        }
        published
    }
}

/// One thread's view of a bench: a service that stays, clones that come and go, and the newest token that any of them has seen.
struct Visitor<'a> {
    bench: &'a Bench,
    services: Vec<(Service, Reader)>,
    last: Generation,
}

impl<'a> Visitor<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self { bench, services: Vec::new(), last: Generation::NONE }
    }

    /// Makes, uses and drops services.
    fn act(&mut self, rng: &mut Rng) {
        match rng.u8(..8) {
            0 if self.services.len() < 4 => {
                let from = self.services.first().map_or(&self.bench.first, |(link, _)| link);
                self.services.push((from.clone(), Reader::new()));
            }
            1 if !self.services.is_empty() => drop(self.services.swap_remove(rng.usize(..self.services.len()))),
            2 | 3 => self.read(&self.bench.first.clone(), &mut Reader::new()),
            _ if !self.services.is_empty() => {
                let (link, mut reader) = self.services.swap_remove(rng.usize(..self.services.len()));
                (0..rng.u8(1..8)).for_each(|_| self.read(&link, &mut reader));
                self.services.push((link, reader));
            }
            _ => {}
        }
    }

    fn read(&mut self, link: &Service, reader: &mut Reader) {
        let bench = self.bench;
        let (newest, back) = (bench.newest.load(SeqCst), bench.back.load(SeqCst));
        let mut headers = HeaderMap::new();
        let seen = reader.authorize(&link.1, &mut headers);
        bench.reads.fetch_add(1, Ordering::Relaxed);
        if seen == Generation::NONE {
            assert!(headers.is_empty());
            assert!(bench.gone.load(SeqCst) > back, "there was a token all the time");
            return;
        }
        assert_eq!(headers[AUTHORIZATION], format!("Bearer {}", bench.secret(seen.0)), "as {seen:?} of {}", bench.name);
        assert!(seen.0 >= newest, "{seen:?}, and {newest} was there before");
        assert!(seen >= self.last, "{seen:?} after {:?}", self.last);
        self.last = seen;
    }
}

#[test]
fn whatever_threads_do_each_request_has_one_whole_token_and_never_an_older_one() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let seconds = env::var("TOWER_BEARER_STRESS_SECONDS").map_or(1.0, |seconds| seconds.parse().expect("seconds"));
    let end = now() + Duration::from_secs_f64(seconds);
    // A token of the one must never be seen at the other, although threads have the same shard in both.
    let benches = [Bench::new('a'), Bench::new('b')];
    let done = AtomicBool::new(false);
    let lives = AtomicU64::new(0);
    let cores = cores();
    let (benches, done, lives, cores) = (&benches, &done, &lives, &cores);

    let published = thread::scope(|scope| {
        let publishers = [(0, seed), (1, seed + 1)]
            .map(|(bench, seed)| scope.spawn(move || benches[bench].keep_publishing(&mut Rng::with_seed(seed), done)));
        for place in 0..shards() + 3 {
            let mut rng = Rng::with_seed(seed + 2 + place as u64);
            scope.spawn(move || {
                // One thread after the other, each with a shard of its own.
                while now() < end {
                    let mut rng = rng.fork();
                    let live = move || {
                        pin_to(cores, place + rng.usize(..2));
                        let mut visitors = benches.each_ref().map(Visitor::new);
                        for _ in 0..rng.u32(1..2_000) {
                            visitors[rng.usize(..2)].act(&mut rng);
                        }
                        lives.fetch_add(1, Ordering::Relaxed);
                    };
                    thread::scope(|scope| scope.spawn(live).join()).unwrap();
                }
            });
        }
        while now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        done.store(true, SeqCst);
        publishers.map(|publisher| publisher.join().unwrap())
    });

    for (bench, published) in benches.iter().zip(published) {
        let (newest, reads) = (bench.newest.load(SeqCst), bench.reads.load(Ordering::Relaxed));
        println!("{}: {newest} tokens, {reads} reads", bench.name);
        assert!(newest > 100 && reads > 1_000, "too few to mean anything");
        // What is still in use is the last one, and all clones are gone.
        bench.cell.clear();
        assert_eq!(published.iter().filter(|published| published.strong_count() > 0).count(), 0);
    }
    println!("{} threads", lives.load(Ordering::Relaxed));
    assert!(lives.load(Ordering::Relaxed) > 3 * shards() as u64, "too few threads to mean anything");
}

#[test]
fn nothing_of_a_service_is_left_when_the_last_clone_goes_on_whatever_thread() {
    for _ in 0..50 {
        let Bench { cell, first, counted, .. } = Bench::new('a');
        let clones: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..shards() + 3).map(|_| scope.spawn(|| first.clone())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        drop(first);
        thread::scope(|scope| clones.into_iter().for_each(|clone| drop(scope.spawn(move || drop(clone.clone())))));
        assert_eq!((Arc::strong_count(&counted), Arc::strong_count(&cell)), (1, 1));
    }
}

/// Mostly none, now and then long enough for others to run.
fn pause(rng: &mut Rng) {
    match rng.u8(..32) {
        0 => thread::sleep(Duration::from_micros(rng.u64(..200))),
        1..8 => thread::yield_now(),
        _ => {}
    }
}

#[allow(clippy::disallowed_methods, reason = "real threads run in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Those that this process may run on.
#[cfg(target_os = "linux")]
fn cores() -> Vec<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    (0..nix::sched::CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap()).collect()
}

/// Binds this thread to one of the cores.
#[cfg(target_os = "linux")]
fn pin_to(cores: &[usize], number: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cores[number % cores.len()]).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
}

#[cfg(not(target_os = "linux"))]
fn cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_: &[usize], _: usize) {}
