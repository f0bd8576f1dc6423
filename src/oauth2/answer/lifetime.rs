//! How long a token lives, as servers write it. Pure.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tracing::warn;

use crate::panics::contained;

/// What is left until a moment, which some servers name instead: in seconds since 1970, or in milliseconds (13 digits).
pub(super) fn left(value: &Value, now: SystemTime) -> Option<Duration> {
    let at = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|at| *at > 0.0)?;
    let at = if at >= 1e11 { at / 1000.0 } else { at };
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at).ok()?)?;
    // One that is over says more of clocks than of the token.
    at.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// A lifetime as a number of any kind, or as text with one. `None` where it isn't known: missing, null, empty, 0, and what is no time
/// at all, which costs nobody their token.
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
