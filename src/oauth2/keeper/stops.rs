//! How long the machine and the store have stood still lately, and the lease that outlasts it.

use std::time::Duration;

use crate::clock::Moment;

/// The longest stops of the last half hour to hour.
#[derive(Default)]
pub(super) struct Stops {
    /// When this half hour began, and the longest stop in it.
    now: Option<(Moment, Duration)>,
    /// The longest stop of the half hour before.
    before: Duration,
}

impl Stops {
    /// Notes that something took so much longer than it should.
    pub(super) fn note(&mut self, stop: Duration, now: Moment) {
        let (began, longest) = self.turn(now);
        self.now = Some((began, longest.max(stop)));
    }

    /// A lease for which its holder may stand still as long as lately, and still renew it in time. `lifetime`: of access tokens.
    pub(super) fn lease(&mut self, least: Duration, lifetime: Option<Duration>, now: Moment) -> Duration {
        let (_, longest) = self.turn(now);
        let most = lifetime.map_or(LONGEST, |lifetime| LONGEST.min(lifetime / PART_OF_A_LIFETIME));
        longest.max(self.before).saturating_mul(TIMES).clamp(least, most.max(least))
    }

    fn turn(&mut self, now: Moment) -> (Moment, Duration) {
        let (began, longest) = self.now.unwrap_or((now, Duration::ZERO));
        let age = now.since(began);
        if age < HALF_AN_HOUR {
            return (began, longest);
        }
        self.before = if age < 2 * HALF_AN_HOUR { longest } else { Duration::ZERO };
        self.now = Some((now, Duration::ZERO));
        (now, Duration::ZERO)
    }
}

/// A lease is renewed after a third of the shortest one. The next stop may be twice as long.
const TIMES: u32 = 3;

/// A renewal begins when a fifth of the lifetime is left, or more. If its holder dies, the others must come in time.
const PART_OF_A_LIFETIME: u32 = 10;

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// The others wait so long for a holder that has died. Longer stops are those of a machine that was suspended.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timeline;

    #[test]
    fn a_lease_outlasts_the_longest_stop_of_the_last_half_hour_and_is_forgotten_after_an_hour() {
        let second = Duration::from_secs(1);
        let start = Timeline::new(std::sync::Arc::new(crate::clock::SystemClock)).now();
        let mut stops = Stops::default();
        assert_eq!(stops.lease(second, None, start), second);
        stops.note(Duration::from_millis(200), start);
        assert_eq!(stops.lease(second, None, start), second, "the least");
        stops.note(2 * second, start + second);
        stops.note(second, start + 2 * second);
        assert_eq!(stops.lease(second, None, start + 3 * second), 6 * second);
        let brief = |seconds| Some(seconds * second);
        assert_eq!(stops.lease(second, brief(40), start + 3 * second), 4 * second, "a tenth of a lifetime");
        assert_eq!(stops.lease(second, brief(2), start + 3 * second), second, "the least");
        assert_eq!(stops.lease(second, None, start + HALF_AN_HOUR + second), 6 * second, "half an hour later");
        assert_eq!(stops.lease(second, None, start + 2 * HALF_AN_HOUR + 2 * second), second);
        stops.note(1000 * second, start + 2 * HALF_AN_HOUR + 3 * second);
        assert_eq!(
            stops.lease(second, None, start + 2 * HALF_AN_HOUR + 4 * second),
            LONGEST,
            "a machine that was suspended"
        );
        assert_eq!(stops.lease(second, None, start + 9 * HALF_AN_HOUR), second);
    }
}
