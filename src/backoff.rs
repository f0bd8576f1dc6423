//! How long to wait after a failure, and between fetches that 401s ask for: pure functions.

use std::time::Duration;

use fastrand::Rng;

use crate::{FetchError, FetchErrorKind};

/// How long to wait before trying again after the `failures`-th failure in a row (1 is the first). `None`: until asked.
///
/// `lifetime` is that of the token in use, if it has one: for short-lived tokens the first attempts come faster.
pub(crate) fn after_failure(
    error: &FetchError,
    failures: u32,
    lifetime: Option<Duration>,
    rng: &mut Rng,
) -> Option<Duration> {
    if !error.is_tried_unattended() {
        return None;
    }
    let asked = error.wait_asked().unwrap_or_default().min(LONGEST_ASKED);
    if let Some(pace) = error.pace_asked() {
        return Some(pace.max(SECOND).max(asked));
    }
    if error.kind() == FetchErrorKind::Rejected {
        return Some(REJECTED.max(asked));
    }
    let wait = exponential(failures, lifetime, rng);
    // Never before the time the server named; a little later, so that those it told the same don't come together.
    Some(if asked.is_zero() { wait } else { asked + wait.min(SPREAD) })
}

/// What is left of a wait after an attempt that took so long: from its beginning to the next one it is a minute at most, for an endpoint
/// that doesn't answer, too. At least a quarter, and all of what the server asked for.
pub(crate) fn left(error: &FetchError, wait: Duration, took: Duration) -> Duration {
    let asked = error.wait_asked().is_some() || error.pace_asked().is_some();
    if asked || wait > LONGEST { wait } else { wait.min(LONGEST.saturating_sub(took)).max(wait / 4) }
}

/// Uniform(½, 1) · min(60 s, b · 2ⁿ) with b = min(1 s, L/20) and n = 0 for the first failure: tokens of minutes and more start
/// with a second; a token of two seconds can be renewed five times in the rest of its life. Half of it random, for a fleet that
/// fails together.
fn exponential(failures: u32, lifetime: Option<Duration>, rng: &mut Rng) -> Duration {
    let base = lifetime.map_or(SECOND, |lifetime| (lifetime / 20).min(SECOND)).max(Duration::from_millis(1));
    let doublings = failures.saturating_sub(1).min(31);
    let whole = base.saturating_mul(1 << doublings).min(LONGEST);
    whole.mul_f64(0.5 + 0.5 * rng.f64())
}

/// How long no 401 may cause a fetch, after the `streak`-th such fetch in a row of which none was seen to help.
///
/// A route that answers 401 to everybody costs one fetch a minute in the end, and a true revocation is answered within a minute
/// even then.
pub(crate) fn after_refusal(streak: u32) -> Duration {
    SECOND.saturating_mul(1 << streak.saturating_sub(1).min(6)).min(LONGEST)
}

const SECOND: Duration = Duration::from_secs(1);

/// The longest pause: what an outage may cost beyond its own end.
const LONGEST: Duration = Duration::from_secs(60);

/// Between attempts with credentials that were rejected: mended secrets come into use within five minutes.
const REJECTED: Duration = Duration::from_secs(300);

/// A server that asks for more is misconfigured, or means "never", which it can say otherwise.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// How far those who were told the same time spread.
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
