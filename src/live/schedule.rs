//! When to renew a token: pure functions of its lifetime, with the reasons.

use std::time::Duration;

use fastrand::Rng;

use crate::clock::Moment;

/// What follows from a token's lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// When to fetch the next token.
    pub(crate) refresh_at: Moment,
    /// When this token expires.
    pub(crate) expires_at: Moment,
}

/// When a token is renewed, as the user has configured it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Renewal {
    /// At a random point of 75 to 85 % of the lifetime, which spreads a fleet over a tenth of it.
    #[default]
    Spread,
    /// Not before this share of the lifetime has passed, but within the first quarter of what is left then.
    At(f64),
    /// This long before the end, or up to a tenth of that earlier.
    Before(Duration),
}

impl Renewal {
    fn point(self, lifetime: Duration, rng: &mut Rng) -> Duration {
        match self {
            Self::Spread => lifetime.mul_f64(0.75 + 0.10 * rng.f64()),
            Self::At(share) => lifetime.mul_f64(share + (1.0 - share) / 4.0 * rng.f64()),
            // A token whose lifetime is shorter than that must not be renewed all the time.
            Self::Before(left) => {
                // Random, so that the processes of a fleet differ.
                let left = left.min(lifetime);
                lifetime.saturating_sub(left + left.mul_f64(0.1 * rng.f64())).max(lifetime / 2)
            }
        }
    }
}

/// What is known of how long fetches take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The slowest of the recent fetches that brought a token.
    pub(crate) slowest: Duration,
    /// The slowest of the fetches that have failed since.
    pub(crate) failed: Duration,
    /// How long an exchange may take at most.
    pub(crate) longest: Duration,
}

/// The time to plan for a fetch this slow: twice as long, because the next one may be slower, and 5 ms for a timer that fires late (tokio's
/// fire up to 1 ms late, and loaded machines add to that).
fn room(fetch: Duration) -> Duration {
    fetch * 2 + Duration::from_millis(5)
}

/// Plans the renewal of a token that was requested at `sent` and is valid for `lifetime` from then.
///
/// The renewal begins sooner if a slow fetch would not fit into the rest of the lifetime. If half of the lifetime is too short for
/// [`room`], the slowest fetch and a quarter more must do. So requests never lack a token whose lifetime is longer than two fetches. But
/// the renewal doesn't begin before half of the lifetime, or a second, has passed: a lifetime shorter than a fetch must not cause a busy
/// loop.
pub(crate) fn plan(sent: Moment, lifetime: Duration, renewal: Renewal, pace: &Pace, rng: &mut Rng) -> Plan {
    let wanted = renewal.point(lifetime, rng);
    let (roomy, narrow) = (room(pace.slowest), pace.slowest + pace.slowest / 4 + Duration::from_millis(5));
    let latest = lifetime.saturating_sub(roomy).max((lifetime / 2).min(lifetime.saturating_sub(narrow)));
    Plan { refresh_at: sent + wanted.min(latest).max(gap(Some(lifetime))), expires_at: sent + lifetime }
}

/// How long to wait after a source has returned the same token again without more lifetime: about half of what is left, so that the source
/// isn't called all the time towards the end.
pub(crate) fn again(left: Duration, lifetime: Duration, rng: &mut Rng) -> Duration {
    left.mul_f64(0.4 + 0.2 * rng.f64()).max(gap(Some(lifetime)))
}

/// How long one exchange may take: half of the time left, so that a second attempt fits. But at least what a fetch as slow as the recent
/// ones needs, and at least 2 s, for a slow but healthy server. Without a valid token, or with one of unknown lifetime: the longest.
pub(crate) fn timeout(left: Left, pace: &Pace) -> Duration {
    match left {
        Left::Nothing | Left::Unknown => pace.longest,
        Left::Some(left) => {
            let slow = room(pace.slowest.max(pace.failed));
            (left / 2).max(slow).max(Duration::from_secs(2)).min(pace.longest)
        }
    }
}

/// The lifetime, if it gets a timer: if it is known, and shorter than ten years.
pub(crate) fn timed(lifetime: Option<Duration>) -> Option<Duration> {
    lifetime.filter(|lifetime| !lifetime.is_zero() && *lifetime < ABSURD)
}

/// The gap: the least time between the beginnings of two fetches, once a fetch has brought a token. A second, or half of the lifetime if
/// that is shorter.
pub(crate) fn gap(lifetime: Option<Duration>) -> Duration {
    // Half of a nanosecond rounds to zero, and the loop would never sleep.
    let (least, most) = (Duration::from_nanos(1), Duration::from_secs(1));
    lifetime.map_or(most, |lifetime| (lifetime / 2).clamp(least, most))
}

/// The gap after a token with this much time left. If another process fetched the token a while ago, the next fetch may begin sooner, so
/// that a lifetime of seconds doesn't end before it.
pub(crate) fn gap_after(lifetime: Option<Duration>, left: Duration) -> Duration {
    let sooner = lifetime.map(|lifetime| (left / 2).max(lifetime / 20).max(Duration::from_nanos(1)));
    gap(lifetime).min(sooner.unwrap_or(Duration::MAX))
}

/// How much time the current token has left.
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
    /// When the current token expires, or the API refuses it.
    WhenTokenEnds,
    WhenAsked,
}

/// The end of an authorization, and when to warn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) ends: Moment,
    /// `None` after the warning.
    pub(crate) warning: Option<Moment>,
}

impl Authorization {
    /// An authorization that lasts for `whole` and has `left` left. The warning is due in the last tenth of the whole, but at most three
    /// days before the end, so that a weekend doesn't use it up. It is planned again only if the end moves later: if it were planned again
    /// at each renewal, from a tenth of what is left then, it would move later each time. `took`: how long the fetch took that brought
    /// this.
    pub(crate) fn plan(
        now: Moment,
        took: Duration,
        left: Duration,
        whole: Option<Duration>,
        before: Option<Self>,
    ) -> Self {
        let ends = now + left;
        let ahead = (whole.unwrap_or(left).max(left) / 10).min(Duration::from_secs(3 * 24 * 3600));
        let warning = Some(ends.back(ahead).max(now));
        // Sources tell the end as a number of seconds that are left, rounded, counted from some moment of the fetch, by clocks that differ.
        let noise = (left / 100).min(Duration::from_secs(60)) + Duration::from_secs(1) + took;
        match before {
            // The end stays, so that small steps add up: an authorization that slides with each renewal does move.
            Some(before) if ends <= before.ends + noise => Self {
                ends: ends.min(before.ends),
                warning: before.warning.and_then(|planned| Some(planned.min(warning?))),
            },
            _ => Self { ends, warning },
        }
    }

    /// Whether to warn now; `true` once.
    pub(crate) fn warns(&mut self, now: Moment) -> bool {
        self.warning.take_if(|warning| *warning <= now).is_some()
    }
}

/// How long one exchange may take. The default of `Builder::fetch_timeout`.
pub(crate) const LONGEST_EXCHANGE: Duration = Duration::from_secs(30);

/// How long a fetch may take in all: twice as long as an exchange, because some sources make two. A source that keeps to no timeout is
/// dropped then.
pub(crate) fn longest_fetch(longest_exchange: Duration) -> Duration {
    longest_exchange * 2
}

/// Ten years: nobody plans a renewal that far ahead.
const ABSURD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What the user has configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) assumed_lifetime: Option<Duration>,
    pub(crate) renewal: Renewal,
    /// How long one exchange may take.
    pub(crate) longest_exchange: Duration,
    /// After this long without use a token isn't renewed.
    pub(crate) idle_after: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { assumed_lifetime: None, renewal: Renewal::Spread, longest_exchange: LONGEST_EXCHANGE, idle_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Moment = Moment::EARLY;

    fn pace(slowest: Duration) -> Pace {
        Pace { slowest, failed: Duration::ZERO, longest: LONGEST_EXCHANGE }
    }

    fn refresh_after(lifetime: Duration, slowest: Duration, rng: &mut Rng) -> Duration {
        plan(SENT, lifetime, Renewal::Spread, &pace(slowest), rng).refresh_at.since(SENT)
    }

    #[test]
    fn what_has_lived_for_a_while_when_it_comes_is_followed_sooner() {
        let (secs, millis) = (Duration::from_secs, Duration::from_millis);
        for (lifetime, left, distance) in [
            (Some(secs(3600)), secs(3600), secs(1)),
            (Some(secs(3600)), millis(1), secs(1)),
            (Some(secs(4)), secs(4), secs(1)),
            (Some(secs(4)), secs(1), millis(500)),
            (Some(secs(4)), Duration::ZERO, millis(200)),
            (Some(millis(100)), millis(100), millis(50)),
            (Some(Duration::from_nanos(1)), Duration::ZERO, Duration::from_nanos(1)),
            (None, secs(1), secs(1)),
        ] {
            assert_eq!(gap_after(lifetime, left), distance, "{lifetime:?} {left:?}");
        }
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
    fn a_slow_fetch_begins_as_early_as_it_must_and_no_earlier() {
        let mut rng = Rng::with_seed(4);
        for (lifetime, slowest, latest) in
            [(100, 20, 59_995), (100, 30, 50_000), (10, 4, 4_995), (10, 6, 2_495), (10, 9, 1_000), (1, 1, 500)]
        {
            let [lifetime, slowest] = [lifetime, slowest].map(Duration::from_secs);
            assert_eq!(
                refresh_after(lifetime, slowest, &mut rng),
                Duration::from_millis(latest),
                "{lifetime:?} {slowest:?}"
            );
        }
    }

    #[test]
    fn the_same_token_is_asked_for_again_after_about_half_of_what_is_left() {
        let mut rng = Rng::with_seed(5);
        let hour = Duration::from_secs(3600);
        let shares: Vec<_> =
            (0..1000).map(|_| again(hour, hour * 10, &mut rng).as_secs_f64() / hour.as_secs_f64()).collect();
        assert!(shares.iter().all(|share| (0.4..=0.6).contains(share)));
        let in_first_half = shares.iter().filter(|share| **share < 0.5).count();
        assert!((400..600).contains(&in_first_half), "{in_first_half} of 1000");
        assert_eq!(again(Duration::from_millis(1), hour, &mut rng), Duration::from_secs(1));
    }

    #[test]
    fn which_lifetimes_get_a_timer() {
        let secs = Duration::from_secs;
        for (lifetime, timer) in [
            (None, false),
            (Some(Duration::ZERO), false),
            (Some(Duration::from_millis(1)), true),
            (Some(secs(2_592_000)), true),
            (Some(secs(9 * 365 * 24 * 3600)), true),
            (Some(ABSURD), false),
            (Some(Duration::MAX), false),
        ] {
            assert_eq!(timed(lifetime).is_some(), timer, "{lifetime:?}");
        }
    }

    #[test]
    fn a_warning_comes_in_the_last_tenth_and_three_days_ahead_at_most() {
        const DAY: u64 = 24 * 3600;
        for (left, whole, ahead) in [
            (1_000, None, 100),
            (1_000, Some(10), 100),
            (1_000, Some(5_000), 500),
            (1_000, Some(50_000), 1_000),
            (20 * DAY, None, 2 * DAY),
            (60 * DAY, None, 3 * DAY),
        ] {
            let [left, ahead] = [left, ahead].map(Duration::from_secs);
            let planned = Authorization::plan(SENT, Duration::ZERO, left, whole.map(Duration::from_secs), None);
            let ends = SENT + left;
            assert_eq!(planned, Authorization { ends, warning: Some(ends.back(ahead)) }, "{left:?} {whole:?}");
        }
    }

    #[test]
    fn an_end_that_moves_by_as_much_as_clocks_disagree_is_the_same() {
        for (left, took, moved, is_another) in [
            (1_000, 0, 11, false),
            (1_000, 0, 12, true),
            (9_000, 0, 61, false),
            (9_000, 0, 62, true),
            // It is told in whole seconds, from some moment of the fetch.
            (10, 0, 1, false),
            (10, 0, 2, true),
            (1_000, 20, 31, false),
            (1_000, 20, 32, true),
        ] {
            let [left, took, moved] = [left, took, moved].map(Duration::from_secs);
            let told = Authorization { ends: (SENT + left).back(moved), warning: None };
            let planned = Authorization::plan(SENT, took, left, None, Some(told));
            assert_eq!(planned.warning.is_some(), is_another, "{left:?} {took:?} {moved:?}");
        }
    }

    #[test]
    fn how_long_an_exchange_may_take() {
        let secs = Duration::from_secs;
        for (left, slowest, failed, limit) in [
            (Left::Nothing, 0, 0, 30_000),
            (Left::Unknown, 0, 0, 30_000),
            (Left::Some(Duration::from_millis(100)), 0, 0, 2_000),
            (Left::Some(secs(20)), 0, 0, 10_000),
            (Left::Some(secs(3600)), 0, 0, 30_000),
            // As slow as those before, and slower.
            (Left::Some(secs(5)), 4, 0, 8_005),
            (Left::Some(secs(5)), 1, 2, 4_005),
            (Left::Some(secs(5)), 20, 0, 30_000),
        ] {
            let pace = Pace { failed: secs(failed), ..pace(secs(slowest)) };
            assert_eq!(timeout(left, &pace), Duration::from_millis(limit), "{left:?} {slowest} {failed}");
        }
    }

    #[test]
    fn a_renewal_comes_when_it_is_wished_for() {
        let mut rng = Rng::with_seed(3);
        let minutes = |minutes: u32| Duration::from_secs(60) * minutes;
        for (renewal, lifetime, earliest, latest) in [
            (Renewal::Spread, 60, 45.0, 51.0),
            (Renewal::At(0.95), 60, 57.0, 57.75),
            (Renewal::At(0.5), 60, 30.0, 37.5),
            (Renewal::Before(minutes(5)), 60, 54.5, 55.0),
            (Renewal::Before(minutes(5)), 6, 3.0, 3.0),
            (Renewal::Before(minutes(5)), 4, 2.0, 2.0),
            (Renewal::Before(Duration::MAX), 4, 2.0, 2.0),
        ] {
            for _ in 0..200 {
                let after =
                    plan(SENT, minutes(lifetime), renewal, &pace(Duration::ZERO), &mut rng).refresh_at.since(SENT);
                let after = after.as_secs_f64() / 60.0;
                assert!((earliest - 1e-6..=latest + 1e-6).contains(&after), "{renewal:?} {lifetime}: {after}");
            }
            // What is wished for makes no gap.
            let slow = minutes(lifetime) / 5;
            let after = plan(SENT, minutes(lifetime), renewal, &pace(slow), &mut rng).refresh_at.since(SENT);
            assert!(after + slow < minutes(lifetime), "{renewal:?} {lifetime}: {after:?}");
        }
    }
}
