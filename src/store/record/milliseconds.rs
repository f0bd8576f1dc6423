//! Times as they are stored: whole milliseconds, since the Unix epoch.

use std::time::{Duration, SystemTime};

pub(super) fn to_ms(time: SystemTime) -> u64 {
    whole_ms(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn from_ms(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LATEST))
}

pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(LATEST)
}

/// About the year 10 000. A larger number in an entry must not overflow the arithmetic of times.
pub(super) const LATEST: u64 = 253_402_300_800_000;
