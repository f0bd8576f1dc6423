//! How long to wait after a failed fetch, and how long 401s cause no fetch: pure functions.

use std::time::Duration;

use fastrand::Rng;

use crate::{FetchError, FetchErrorKind};

/// How long to wait before the next attempt, after `failures` failures in a row (1 for the first). `None`: until `refresh` is called or the
/// source has changed.
///
/// `lifetime` is that of the current token, if it has one: for short lifetimes the first attempts come sooner.
pub(crate) fn after_failure(
    error: &FetchError,
    failures: u32,
    lifetime: Option<Duration>,
    rng: &mut Rng,
) -> Option<Duration> {
    if !error.is_tried_unattended() {
        return None;
    }
    let retry_after = error.wait_asked().unwrap_or_default().min(LONGEST_RETRY_AFTER);
    if let Some(pace) = error.pace_asked() {
        return Some(pace.max(SECOND).max(retry_after));
    }
    if error.kind() == FetchErrorKind::Rejected {
        return Some(REJECTED.max(retry_after));
    }
    let wait = exponential(failures, lifetime, rng);
    // Not before the time that the server named. Up to a second later, so that clients with the same `Retry-After` don't come together.
    Some(if retry_after.is_zero() { wait } else { retry_after + wait.min(SPREAD) })
}

/// What is left of a wait after an attempt that took this long. From the beginning of an attempt to the next it is a minute at most, even
/// if the endpoint doesn't respond. At least a quarter of the wait is left, and all of it if the server asked for it.
pub(crate) fn left(error: &FetchError, wait: Duration, took: Duration) -> Duration {
    let is_given = error.wait_asked().is_some() || error.pace_asked().is_some();
    if is_given || wait > LONGEST { wait } else { wait.min(LONGEST.saturating_sub(took)).max(wait / 4) }
}

/// Uniform(½, 1) · min(60 s, b · 2ⁿ) with b = min(1 s, L/20) and n = 0 for the first failure. For a lifetime of 20 s or more this begins
/// with a second. A token of two seconds can be renewed five times in the rest of its lifetime. Half of the wait is random, for a fleet
/// whose processes fail together.
fn exponential(failures: u32, lifetime: Option<Duration>, rng: &mut Rng) -> Duration {
    let base = lifetime.map_or(SECOND, |lifetime| (lifetime / 20).min(SECOND)).max(Duration::from_millis(1));
    let doublings = failures.saturating_sub(1).min(31);
    let whole = base.saturating_mul(1 << doublings).min(LONGEST);
    whole.mul_f64(0.5 + 0.5 * rng.f64())
}

/// How long 401s cause no fetch, after the `streak`-th fetch in a row that a 401 caused and that was not seen to help.
///
/// In the end a route that refuses everybody causes one fetch a minute, and a real revocation is answered within a minute even then.
pub(crate) fn after_refusal(streak: u32) -> Duration {
    SECOND.saturating_mul(1 << streak.saturating_sub(1).min(6)).min(LONGEST)
}

const SECOND: Duration = Duration::from_secs(1);

/// The longest backoff and the longest pause: after an outage it takes at most this much longer until a fetch works.
const LONGEST: Duration = Duration::from_secs(60);

/// The time between attempts with rejected credentials: a corrected secret is used within five minutes.
const REJECTED: Duration = Duration::from_secs(300);

/// The longest `Retry-After` that is obeyed. A server that asks for more is misconfigured, or means "never", which it can say otherwise.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// By how much clients with the same `Retry-After` spread.
const SPREAD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(error: &FetchError, failures: u32, lifetime: Option<Duration>) -> (Duration, Duration) {
        let mut rng = Rng::with_seed(7);
        let waits: Vec<_> =
            (0..500).map(|_| after_failure(error, failures, lifetime, &mut rng).expect("tried again")).collect();
        (*waits.iter().min().unwrap(), *waits.iter().max().unwrap())
    }

    #[test]
    fn doubles_up_to_a_minute_and_half_of_it_is_random() {
        let error = FetchError::try_again("down");
        for (failures, lifetime, longest) in [
            (1, None, 1.0),
            (2, None, 2.0),
            (6, None, 32.0),
            (7, None, 60.0),
            (u32::MAX, None, 60.0),
            (1, Some(3600.0), 1.0),
            (1, Some(2.0), 0.1),
            (4, Some(2.0), 0.8),
        ] {
            let (low, high) = waits(&error, failures, lifetime.map(Duration::from_secs_f64));
            assert!(low.as_secs_f64() >= longest / 2.0 - 1e-6, "{failures} {lifetime:?}: {low:?}");
            assert!(high.as_secs_f64() <= longest + 1e-6, "{failures} {lifetime:?}: {high:?}");
            assert!((high - low).as_secs_f64() > longest * 0.4, "{failures} {lifetime:?}: not random");
        }
    }

    #[test]
    fn an_attempt_that_took_long_is_part_of_the_wait() {
        let error = FetchError::try_again("no answer");
        let seconds = Duration::from_secs;
        for (wait, took, expected) in [(60, 0, 60), (60, 30, 30), (60, 59, 15), (4, 30, 4)] {
            assert_eq!(left(&error, seconds(wait), seconds(took)), seconds(expected), "{wait} {took}");
        }
        assert_eq!(left(&error.retry_after(seconds(60)), seconds(60), seconds(30)), seconds(60));
    }

    #[test]
    fn retry_after_is_obeyed_up_to_an_hour() {
        for (asked, least) in [(30, 30), (3600, 3600), (86_400, 3600)] {
            let error = FetchError::try_again("busy").retry_after(Duration::from_secs(asked));
            let (low, high) = waits(&error, 5, None);
            assert!(low >= Duration::from_secs(least), "{asked}: {low:?}");
            assert!(high <= Duration::from_secs(least + 1), "{asked}: {high:?}");
        }
    }

    #[test]
    fn what_costs_nobody_anything_is_tried_at_its_own_pace() {
        for (pace, wait) in [(5_000, 5_000), (90_000, 90_000), (1, 1_000)] {
            let error = FetchError::try_again("missing").pace(Duration::from_millis(pace));
            let wait = Duration::from_millis(wait);
            assert_eq!(waits(&error, 1, None), (wait, wait));
            assert_eq!(waits(&error, u32::MAX, None), (wait, wait));
        }
    }

    #[test]
    fn what_is_rejected_waits_minutes_and_what_needs_a_person_for_ever() {
        let mut rng = Rng::with_seed(7);
        let mut after = |error: &FetchError| after_failure(error, 3, None, &mut rng);
        assert_eq!(after(&FetchError::rejected("secret")), Some(Duration::from_secs(300)));
        assert_eq!(after(&FetchError::reauthorize("dead")), None);
        assert_eq!(after(&FetchError::rejected_for_good("password")), None);
    }

    #[test]
    fn the_pause_between_refusals_grows_to_a_minute() {
        let pauses: Vec<_> = (1..=8).map(|streak| after_refusal(streak).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after_refusal(u32::MAX).as_secs(), 60);
    }
}
