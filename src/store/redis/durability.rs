//! Who must have a write before it counts.

use std::time::Duration;

use redis::{Cmd, RedisError, Value};

use super::redis_error::redis_error;
use crate::store::StoreError;

/// Who must have a write before it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The primary, as durable as its configuration makes it.
    Primary,
    /// This number of replicas, in memory.
    Replicas(u32),
    /// The primary and this number of replicas, on disk.
    Disks(u32),
}

impl Durability {
    /// The command that is sent after a write, on the same connection: `WAIT` and `WAITAOF` are about the writes of a connection.
    pub(super) fn wait(self, limit: Duration) -> Option<Cmd> {
        // Half of the limit, because the response must come within the limit. Zero would mean for ever.
        let time = u64::try_from((limit / 2).as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = Cmd::new();
        match self {
            Self::Primary | Self::Replicas(0) => return None,
            Self::Replicas(replicas) => command.arg("WAIT").arg(replicas).arg(time),
            Self::Disks(replicas) => command.arg("WAITAOF").arg(1).arg(replicas).arg(time),
        };
        Some(command)
    }

    /// Whether enough servers have the write, by the response to that command.
    ///
    /// # Errors
    /// [`StoreError::unreachable`] if too few have it, [`StoreError::unusable`] if the server can't tell.
    pub(super) fn judge(self, answer: &Value) -> Result<(), StoreError> {
        match (self, answer) {
            (_, Value::ServerError(error)) => Err(self.refused(&RedisError::from(error.clone()))),
            (Self::Replicas(wanted), Value::Int(have)) if *have < i64::from(wanted) => Err(StoreError::unreachable(
                format!("Redis: the primary has it, but only {have} of {wanted} replicas: it does not count as stored"),
            )),
            (Self::Replicas(_), Value::Int(_)) => Ok(()),
            (Self::Disks(wanted), Value::Array(have)) => match have[..] {
                [Value::Int(own), Value::Int(replicas)] if own < 1 || replicas < i64::from(wanted) => {
                    let own = if own < 1 { "not on its disk" } else { "on its disk" };
                    Err(StoreError::unreachable(format!(
                        "Redis: the primary has it, {own}, and {replicas} of {wanted} replicas have it on theirs: it does \
                         not count as stored"
                    )))
                }
                [Value::Int(_), Value::Int(_)] => Ok(()),
                _ => Err(nonsense()),
            },
            _ => Err(nonsense()),
        }
    }

    fn refused(self, error: &RedisError) -> StoreError {
        let said = error.to_string();
        let is_unknown = said.contains("unknown command");
        // "WAITAOF cannot be used when numlocal is set but appendonly is disabled."
        let has_no_file = said.contains("appendonly is disabled");
        match self {
            Self::Disks(_) if is_unknown => {
                StoreError::unusable("Redis: to wait for disks, the server must be Redis 7.2 or later (WAITAOF)")
            }
            Self::Disks(_) if has_no_file => {
                StoreError::unusable("Redis: to wait for disks, the server must have `appendonly yes`")
            }
            _ if is_unknown => StoreError::unusable("Redis: the server can't wait for replicas (WAIT)"),
            _ => redis_error(error),
        }
    }
}

fn nonsense() -> StoreError {
    StoreError::unusable("Redis: an answer that makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    #[test]
    fn waits_for_half_of_the_limit_and_never_for_ever() {
        let time = |limit| {
            let packed = Durability::Replicas(2).wait(limit).unwrap().get_packed_command();
            String::from_utf8(packed).unwrap().trim_end().rsplit("\r\n").next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(time(Duration::from_secs(1)), 500);
        assert_eq!(time(Duration::from_millis(1)), 1);
        assert!(Durability::Primary.wait(Duration::MAX).is_none());
        assert!(Durability::Replicas(0).wait(Duration::MAX).is_none());
        assert!(Durability::Disks(0).wait(Duration::MAX).is_some(), "there is still the primary's own disk");
    }

    #[test]
    fn fewer_than_asked_for_are_too_few() {
        let array = |own, replicas| Value::Array(vec![Value::Int(own), Value::Int(replicas)]);
        for (durability, answer, said) in [
            (Durability::Replicas(1), Value::Int(0), Some("0 of 1 replicas")),
            (Durability::Replicas(2), Value::Int(1), Some("1 of 2 replicas")),
            (Durability::Replicas(1), Value::Int(1), None),
            (Durability::Replicas(1), Value::Int(3), None),
            (Durability::Disks(0), array(1, 0), None),
            (Durability::Disks(0), array(0, 0), Some("not on its disk")),
            (Durability::Disks(1), array(1, 0), Some("0 of 1 replicas")),
            (Durability::Disks(1), array(1, 2), None),
        ] {
            let judged = durability.judge(&answer);
            match said {
                None => judged.unwrap(),
                Some(said) => {
                    let error = judged.unwrap_err();
                    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
                    assert!(error.to_string().contains(said), "{error}");
                }
            }
        }
        assert_eq!(Durability::Disks(1).judge(&Value::Int(1)).unwrap_err().kind(), StoreErrorKind::Unusable);
    }

    #[test]
    fn a_server_that_cannot_wait_says_what_it_needs() {
        let said = |durability: Durability, text: &str| {
            let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            durability.judge(&answer).unwrap_err()
        };
        for (durability, text, kind, what) in [
            (Durability::Disks(1), "ERR unknown command 'WAITAOF'", StoreErrorKind::Unusable, "7.2"),
            (
                Durability::Disks(0),
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
                StoreErrorKind::Unusable,
                "appendonly yes",
            ),
            (Durability::Replicas(1), "ERR unknown command 'WAIT'", StoreErrorKind::Unusable, "WAIT"),
            (Durability::Replicas(1), "NOPERM no permissions to run 'wait'", StoreErrorKind::Unusable, "permissions"),
            // It was demoted meanwhile, or it was a replica all the time.
            (Durability::Replicas(1), "UNBLOCKED instance state changed", StoreErrorKind::Unreachable, "UNBLOCKED"),
            (
                Durability::Replicas(1),
                "ERR WAIT cannot be used with replica instances.",
                StoreErrorKind::Unreachable,
                "replica instances",
            ),
        ] {
            let error = said(durability, text);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
