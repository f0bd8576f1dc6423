//! The only reader of time.
//!
//! Two clocks matter. *Elapsed* time decides when a token expires. It is tokio's clock, which tests pause, plus the time for which the
//! machine was suspended, if the system tells it (Linux: boot time). *Wall* time never decides whether a token is valid. If it disagrees
//! with elapsed time, the token is fetched again, and nothing else happens. See the example of [`Clock`].

use std::{
    fmt,
    num::NonZeroU64,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// What the crate asks of the system. Tests of suspends and of clock steps replace it by [`Builder::clock`](crate::Builder::clock).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_bearer::clock::Clock;
///
/// /// It is always New Year 2030, and the machine is never suspended.
/// struct Fixed;
///
/// impl Clock for Fixed {
///     fn wall(&self) -> SystemTime {
///         SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000)
///     }
///     fn suspended(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
///
/// # use tower_bearer::{AccessToken, LiveToken};
/// # let source = AccessToken::new("secret")?;
/// let builder = LiveToken::builder(source).clock(Fixed);
/// # Ok::<(), tower_bearer::InvalidToken>(())
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. See the example of [`Clock`].
    fn wall(&self) -> SystemTime;

    /// How long the machine has been suspended since some fixed moment. A monotonic clock doesn't count that time. Zero if the system
    /// doesn't tell it. See the example of [`Clock`].
    fn suspended(&self) -> Duration;
}

/// The clocks of the machine.
///
/// ```
/// use std::time::SystemTime;
/// use tower_bearer::clock::{Clock, SystemClock};
///
/// assert!(SystemClock.wall() > SystemTime::UNIX_EPOCH);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    #[cfg(target_os = "linux")]
    fn suspended(&self) -> Duration {
        use nix::time::{ClockId, clock_gettime};
        let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
        // CLOCK_BOOTTIME is CLOCK_MONOTONIC plus the time in suspend (clock_gettime(2)). In this order, the nanoseconds between the two
        // reads can only make the difference smaller. So no suspend is reported that didn't happen.
        let boot = read(ClockId::CLOCK_BOOTTIME);
        boot.saturating_sub(read(ClockId::CLOCK_MONOTONIC))
    }

    #[cfg(not(target_os = "linux"))]
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A point in elapsed time, suspends included, in nanoseconds: 584 years fit. It counts from when its [`Timeline`] was made. It is never
/// zero, so an `Option<Moment>` takes eight bytes: a live token keeps a dozen of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    fn at(nanos: u64) -> Self {
        Self(NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    pub(crate) fn back(self, time: Duration) -> Self {
        Self::at(self.0.get().saturating_sub(nanos(time)))
    }

    /// Some moment, for tests of pure functions.
    #[cfg(test)]
    pub(crate) const EARLY: Self = Self(NonZeroU64::new(EPOCH.as_secs() * 1_000_000_000).expect("not zero"));
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self::at(self.0.get().saturating_add(nanos(time)))
    }
}

/// Reads elapsed time and wall time.
pub(crate) struct Timeline {
    clock: Arc<dyn Clock>,
    start: Instant,
    suspended_at_start: Duration,
    /// The longest suspend that was read, in nanoseconds. A reading that was interrupted comes out too small, and time must not go back.
    suspended: AtomicU64,
}

impl Timeline {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let suspended_at_start = clock.suspended();
        Self { clock, start: Instant::now(), suspended_at_start, suspended: AtomicU64::new(0) }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub(crate) fn now(&self) -> Moment {
        let read = self.clock.suspended().saturating_sub(self.suspended_at_start);
        let read = nanos(read);
        let suspended = Duration::from_nanos(self.suspended.fetch_max(read, Ordering::Relaxed).max(read));
        // A timeline begins at this epoch, so that moments before it was made can be expressed.
        Moment::at(nanos(EPOCH + Instant::now().saturating_duration_since(self.start) + suspended))
    }

    /// The moment of a stamp. A suspend since then doesn't count, because the stamp doesn't know of it.
    pub(crate) fn at(&self, stamp: &Stamp) -> Moment {
        let now = self.now();
        now.back(stamp.elapsed())
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.clock.wall()
    }
}

/// A moment that belongs to no timeline yet.
#[derive(Clone, Debug)]
pub(crate) struct Stamp(Instant);

impl Stamp {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").finish_non_exhaustive()
    }
}

/// Longer than any lifetime that gets a timer (ten years), so that a moment minus an age is never zero.
const EPOCH: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that the test sets.
    #[derive(Default)]
    pub(crate) struct ManualClock {
        suspended: Mutex<Duration>,
        wall: Mutex<Duration>,
    }

    impl ManualClock {
        pub(crate) fn suspend(&self, time: Duration) {
            *self.suspended.lock().unwrap() += time;
            self.step_wall(time);
        }

        pub(crate) fn step_wall(&self, time: Duration) {
            *self.wall.lock().unwrap() += time;
        }

        pub(crate) fn set_wall_back(&self, time: Duration) {
            *self.wall.lock().unwrap() -= time;
        }

        pub(crate) fn at_noon() -> Arc<Self> {
            let clock = Self::default();
            clock.step_wall(Duration::from_secs(1_800_000_000));
            Arc::new(clock)
        }
    }

    impl Clock for ManualClock {
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + *self.wall.lock().unwrap()
        }

        fn suspended(&self) -> Duration {
            *self.suspended.lock().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn elapsed_time_counts_suspend_and_ignores_the_wall() {
        let clock = ManualClock::at_noon();
        let time = Timeline::new(clock.clone());
        let start = time.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(time.now().since(start), Duration::from_secs(5));
        clock.suspend(Duration::from_secs(60));
        assert_eq!(time.now().since(start), Duration::from_secs(65));
        clock.set_wall_back(Duration::from_secs(3600));
        assert_eq!(time.now().since(start), Duration::from_secs(65));
    }

    #[test]
    fn the_system_clock_reads() {
        let clock = SystemClock;
        assert!(clock.wall() > SystemTime::UNIX_EPOCH);
        let (one, two) = (clock.suspended(), clock.suspended());
        assert!(two.abs_diff(one) < Duration::from_secs(1));
    }
}
