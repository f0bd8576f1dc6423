//! What the server's configuration means for token sets, said once in the log.

use std::collections::HashMap;

use redis::{Pipeline, Value};
use tracing::warn;

use super::connection::Connection;
use crate::panics::contained;

/// What of the configuration matters here. Empty where the server doesn't tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    policy: String,
    memory: String,
    append_only: String,
    sync: String,
    snapshots: Option<String>,
}

/// What may happen to token sets.
#[derive(Debug, PartialEq, Eq)]
enum Risk {
    Evicted,
    NothingOnDisk,
    SnapshotsOnly,
    SyncedSometime,
}

/// Reads the configuration, and warns of what it means. Whoever may not read it is told nothing.
pub(super) async fn check(connection: &Connection) {
    let mut question = Pipeline::new();
    for name in NAMES {
        question.cmd("CONFIG").arg("GET").arg(name);
    }
    let mut settings = connection.ask_aside(&question).await.map(configured).unwrap_or_default();
    if settings.policy.is_empty() {
        let mut question = Pipeline::new();
        question.cmd("INFO").arg("memory");
        settings = connection.ask_aside(&question).await.map(informed).unwrap_or_default();
    }
    for risk in risks(&settings) {
        contained(|| tell(&risk, &settings));
    }
}

fn tell(risk: &Risk, settings: &Settings) {
    match risk {
        Risk::Evicted => {
            warn!(maxmemory_policy = settings.policy, "Redis may evict token sets: set maxmemory-policy to noeviction");
        }
        Risk::NothingOnDisk => {
            warn!(
                "Redis keeps nothing on disk: when it restarts, authorizations end that no process remembers; set appendonly to yes"
            );
        }
        Risk::SnapshotsOnly => {
            warn!(
                save = settings.snapshots,
                "Redis keeps snapshots only: when it restarts, older token sets come back; set appendonly to yes"
            );
        }
        Risk::SyncedSometime => {
            warn!(
                "Redis doesn't wait for its disk: after a power cut, older token sets come back; set appendfsync to always"
            );
        }
    }
}

fn risks(settings: &Settings) -> Vec<Risk> {
    let mut risks = Vec::new();
    // Other policies evict only what has an end, which token sets haven't.
    if settings.policy.starts_with("allkeys") && !matches!(&*settings.memory, "" | "0") {
        risks.push(Risk::Evicted);
    }
    match (&*settings.append_only, &settings.snapshots) {
        ("no", Some(snapshots)) if snapshots.is_empty() => risks.push(Risk::NothingOnDisk),
        ("no", Some(_)) => risks.push(Risk::SnapshotsOnly),
        ("yes", _) if settings.sync == "no" => risks.push(Risk::SyncedSometime),
        _ => {}
    }
    risks
}

/// Reads the responses to `CONFIG GET`, one for each name.
fn configured(answers: Vec<Value>) -> Settings {
    let read = |answer| redis::from_redis_value::<HashMap<String, String>>(answer).unwrap_or_default();
    let mut all: HashMap<_, _> = answers.into_iter().flat_map(read).collect();
    let [policy, memory, append_only, sync, snapshots] = NAMES.map(|name| all.remove(name));
    let text = Option::unwrap_or_default;
    Settings { policy: text(policy), memory: text(memory), append_only: text(append_only), sync: text(sync), snapshots }
}

/// Reads the response to `INFO memory`. It doesn't tell what is kept on disk.
fn informed(mut answers: Vec<Value>) -> Settings {
    let text: String = answers.pop().and_then(|answer| redis::from_redis_value(answer).ok()).unwrap_or_default();
    let find =
        |name| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned())).unwrap_or_default();
    Settings { policy: find("maxmemory_policy:"), memory: find("maxmemory:"), ..Settings::default() }
}

const NAMES: [&str; 5] = ["maxmemory-policy", "maxmemory", "appendonly", "appendfsync", "save"];

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(policy: &str, memory: &str, append_only: &str, sync: &str, snapshots: &str) -> Settings {
        let [policy, memory, append_only, sync, snapshots] =
            [policy, memory, append_only, sync, snapshots].map(str::to_owned);
        Settings { policy, memory, append_only, sync, snapshots: Some(snapshots) }
    }

    #[test]
    fn what_may_take_token_sets_away_is_a_risk_and_nothing_else() {
        use Risk::{Evicted, NothingOnDisk, SnapshotsOnly, SyncedSometime};
        for (settings, expected) in [
            (settings("noeviction", "0", "yes", "always", ""), vec![]),
            (settings("noeviction", "1000000", "yes", "everysec", "3600 1"), vec![]),
            (settings("allkeys-lru", "0", "yes", "always", ""), vec![]),
            (settings("volatile-lru", "1000000", "yes", "always", ""), vec![]),
            (settings("allkeys-lru", "1000000", "yes", "always", ""), vec![Evicted]),
            (settings("noeviction", "0", "no", "everysec", ""), vec![NothingOnDisk]),
            (settings("noeviction", "0", "no", "everysec", "3600 1 300 100"), vec![SnapshotsOnly]),
            (settings("noeviction", "0", "yes", "no", ""), vec![SyncedSometime]),
            (settings("allkeys-random", "1", "no", "no", ""), vec![Evicted, NothingOnDisk]),
            (Settings::default(), vec![]),
        ] {
            assert_eq!(risks(&settings), expected, "{settings:?}");
        }
    }

    #[test]
    fn the_configuration_is_read_in_either_protocol() {
        let two = b"*2\r\n$16\r\nmaxmemory-policy\r\n$11\r\nallkeys-lru\r\n";
        let three = b"%1\r\n$16\r\nmaxmemory-policy\r\n$11\r\nallkeys-lru\r\n";
        let other = b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n";
        for answer in [&two[..], three] {
            let answers = [answer, other].map(|bytes| redis::parse_redis_value(bytes).unwrap());
            let read = configured(answers.into());
            assert_eq!((&*read.policy, read.snapshots.as_deref(), &*read.append_only), ("allkeys-lru", Some(""), ""));
        }
        let unknown = redis::parse_redis_value(b"*0\r\n").unwrap();
        assert_eq!(configured(vec![unknown]), Settings::default());
    }

    #[test]
    fn who_may_not_read_the_configuration_learns_of_evictions() {
        let info = b"$64\r\n# Memory\r\nmaxmemory:1000000\r\nmaxmemory_policy:allkeys-lru\r\nx:1\r\n\r\n";
        let text = Value::BulkString(info[5..info.len() - 2].to_vec());
        assert_eq!(risks(&informed(vec![text])), [Risk::Evicted]);
        assert!(risks(&informed(vec![Value::Int(1)])).is_empty());
    }
}
