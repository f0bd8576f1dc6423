//! The lifetime of a token, as servers write it. Pure.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tracing::warn;

use crate::panics::contained;

/// The time left until `expires_at`: in seconds since 1970, or in milliseconds (13 digits).
pub(super) fn left(value: &Value, now: SystemTime) -> Option<Duration> {
    let at = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|at| *at > 0.0)?;
    let at = if at >= 1e11 { at / 1000.0 } else { at };
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at).ok()?)?;
    // A time in the past means that the clocks differ, so the lifetime is unknown.
    at.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// A lifetime: a number of seconds, or a string with one. `None` if it is unknown: missing, null, empty, 0 or invalid. An invalid lifetime
/// is no reason to reject the token.
pub(super) fn lifetime(name: &'static str, value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Null => return None,
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(0.0) => None,
        Some(seconds) if seconds > 0.0 => Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => {
            contained(|| warn!(member = name, "a token's lifetime is no time in seconds: taken for unknown"));
            None
        }
    }
}
