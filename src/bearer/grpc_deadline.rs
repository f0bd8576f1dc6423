//! The deadline of a gRPC call. The header `grpc-timeout` says how much of it is left (gRPC over HTTP/2, "Requests"). Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// How long the call may take, as its sender says.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (_, nanos) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let count: u64 = digits.parse().ok()?;
    Some(Duration::from_nanos(count.saturating_mul(nanos)))
}

/// Writes how much is left, in the smallest unit in which it fits. Never zero, because some servers take that for no deadline.
pub(super) fn lower(headers: &mut HeaderMap, left: Duration) {
    let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).max(1);
    let fits = UNITS.into_iter().find(|(_, nanos)| left / nanos < 10_u64.pow(DIGITS as u32));
    // Changes the value in place: the hot path would share a second `insert` in this crate, and call it (`live::cell`).
    if let Some((unit, nanos)) = fits
        && let Ok(value) = HeaderValue::try_from(format!("{}{unit}", left / nanos))
        && let Some(said) = headers.get_mut(&GRPC_TIMEOUT)
    {
        *said = value;
    }
}

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How many digits a value has at most.
const DIGITS: usize = 8;

/// In nanoseconds, from the smallest to the largest.
const UNITS: [(&str, u64); 6] =
    [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000), ("H", 3_600_000_000_000)];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &[u8]) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_bytes(value).unwrap())]))
    }

    #[test]
    fn what_senders_say() {
        for (value, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("00000006n", Duration::from_nanos(6)),
            ("0S", Duration::ZERO),
            ("99999999H", Duration::from_nanos(u64::MAX)),
        ] {
            assert_eq!(read(value.as_bytes()), Some(expected), "{value}");
        }
        for value in
            [&b""[..], b"S", b"1", b"1s", b"-1S", b"+1S", b"1.5S", b"123456789S", b"1 S", "1\u{b5}".as_bytes(), b"\xff"]
        {
            assert_eq!(read(value), None, "{value:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_left_is_said_and_never_too_much() {
        for (left, expected) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "5124095H"),
        ] {
            let mut headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static("1H"))]);
            lower(&mut headers, left);
            assert_eq!(headers[GRPC_TIMEOUT], expected, "{left:?}");
            let read = timeout(&headers).unwrap();
            assert!(read <= left.max(Duration::from_nanos(1)), "{left:?}");
        }
    }
}
