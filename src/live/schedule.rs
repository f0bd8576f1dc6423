//! When to renew a token: pure functions of its life, with their reasons.

use std::time::Duration;

use fastrand::Rng;

use crate::clock::Moment;

/// What follows from a token's lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// When to fetch the next one.
    pub(crate) refresh_at: Moment,
    /// When this one ends.
    pub(crate) expires_at: Moment,
}

/// Plans the renewal of a token that was asked for at `sent` and lives for `lifetime` from then.
///
/// A random point of 75 to 85 % of the life spreads a fleet over a tenth of it. It comes sooner where the slowest of the recent
/// fetches would not fit into the rest, but never before half of the life, or a second, is over: a lifetime shorter than the
/// fetch must not make a busy loop.
pub(crate) fn plan(sent: Moment, lifetime: Duration, slowest_fetch: Duration, rng: &mut Rng) -> Plan {
    let share = 0.75 + 0.10 * rng.f64();
    // A quarter more than the slowest, and 5 ms for a timer that fires late (tokio's fire up to 1 ms late, loaded machines add).
    let room = slowest_fetch + slowest_fetch / 4 + Duration::from_millis(5);
    let wanted = lifetime.mul_f64(share).min(lifetime.saturating_sub(room));
    Plan { refresh_at: sent + wanted.max(gap(Some(lifetime))), expires_at: sent + lifetime }
}

/// The lifetime that gets a timer: not "unknown", and not longer than anybody's plan.
pub(crate) fn timed(lifetime: Option<Duration>) -> Option<Duration> {
    lifetime.filter(|lifetime| !lifetime.is_zero() && *lifetime < ABSURD)
}

/// How much time lies between the beginnings of two fetches at least, once one has brought a token: a second, or half of a life
/// shorter than two.
pub(crate) fn gap(lifetime: Option<Duration>) -> Duration {
    // Half of a nanosecond is none: the loop would never sleep.
    let (least, most) = (Duration::from_nanos(1), Duration::from_secs(1));
    lifetime.map_or(most, |lifetime| (lifetime / 2).clamp(least, most))
}

/// How long one exchange may take: half of the time left, so that a second attempt fits; at least the 2 s that a slow but
/// healthy server needs, at most 30 s. With no valid token, as long as a request waits by default; with an endless one, 30 s.
pub(crate) fn timeout(left: Left) -> Duration {
    match left {
        Left::Nothing => Duration::from_secs(10),
        Left::Some(left) => (left / 2).clamp(Duration::from_secs(2), Duration::from_secs(30)),
        Left::Unknown => Duration::from_secs(30),
    }
}

/// What is left of the token in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    Some(Duration),
    Unknown,
}

/// When a fetch may begin after a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retry {
    Free,
    At(Moment),
    /// When the token in use is over, or the API refuses it.
    WhenTokenEnds,
    WhenAsked,
}

/// How long before the end of an authorization it is time to say so: the last tenth of what was left when that was learnt, three
/// days at most, so that a weekend doesn't use up the warning.
pub(crate) fn warning(left: Duration) -> Duration {
    (left / 10).min(Duration::from_secs(3 * 24 * 3600))
}

/// How long a fetch may take altogether: twice what the longest exchange may take. A source that keeps to no timeout is given up
/// then.
pub(crate) const LONGEST_FETCH: Duration = Duration::from_secs(60);

/// Ten years.
const ABSURD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How many fetches "recent" are: enough to remember a slow spell for a while, few enough to forget it.
pub(crate) const RECENT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Moment = Moment::EARLY;

    fn refresh_after(lifetime: Duration, slowest: Duration, rng: &mut Rng) -> Duration {
        plan(SENT, lifetime, slowest, rng).refresh_at.since(SENT)
    }

    #[test]
    fn a_fleet_spreads_over_a_tenth_of_the_life() {
        let mut rng = Rng::with_seed(1);
        let hour = Duration::from_secs(3600);
        let points: Vec<_> =
            (0..1000).map(|_| refresh_after(hour, Duration::ZERO, &mut rng).as_secs_f64() / 3600.0).collect();
        assert!(points.iter().all(|share| (0.75..=0.85).contains(share)));
        let in_first_half = points.iter().filter(|share| **share < 0.80).count();
        assert!((400..600).contains(&in_first_half), "{in_first_half} of 1000");
    }

    #[test]
    fn holds_for_every_lifetime_and_slowness() {
        let mut rng = Rng::with_seed(2);
        for millis in [1, 7, 200, 500, 1_000, 1_999, 2_000, 15_000, 60_000, 3_600_000, 86_400_000] {
            let lifetime = Duration::from_millis(millis);
            for slow in [0, 1, 100, 400, 2_000, 30_000] {
                let slowest = Duration::from_millis(slow);
                for _ in 0..50 {
                    let after = refresh_after(lifetime, slowest, &mut rng);
                    assert!(after < lifetime, "{lifetime:?} {slowest:?}: {after:?}");
                    assert!(after >= gap(Some(lifetime)), "{lifetime:?} {slowest:?}: {after:?}");
                    // Where there is room at all, the slowest fetch still fits in.
                    if slowest + slowest / 4 + Duration::from_millis(5) <= lifetime - gap(Some(lifetime)) {
                        assert!(after + slowest < lifetime, "{lifetime:?} {slowest:?}: {after:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn which_lifetimes_get_a_timer() {
        let secs = Duration::from_secs;
        for (lifetime, timer) in [
            (None, false),
            (Some(Duration::ZERO), false),
            (Some(Duration::from_millis(1)), true),
            (Some(secs(2_592_000)), true),
            (Some(ABSURD), false),
            (Some(Duration::MAX), false),
        ] {
            assert_eq!(timed(lifetime).is_some(), timer, "{lifetime:?}");
        }
    }

    #[test]
    fn how_long_an_exchange_may_take() {
        let secs = Duration::from_secs;
        for (left, limit) in [
            (Left::Nothing, 10),
            (Left::Unknown, 30),
            (Left::Some(Duration::from_millis(100)), 2),
            (Left::Some(secs(20)), 10),
            (Left::Some(secs(3600)), 30),
        ] {
            assert_eq!(timeout(left), secs(limit), "{left:?}");
        }
    }
}
