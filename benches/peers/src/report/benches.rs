//! What the crate's own benches found, beside what is promised.

use std::collections::BTreeMap;

use serde_json::Value;

use super::results::result_line;

/// A number of a bench.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Where it may stand: the first bench that has the key counts.
    pub benches: &'static [&'static str],
    pub key: &'static str,
    pub says: &'static str,
    pub promise: Promise,
}

#[derive(Clone, Copy, Debug)]
pub enum Promise {
    AtMost(f64),
    Exactly(f64),
    /// Held by a number that is checked in, with what it may differ: scripts/instructions fails otherwise.
    CheckedIn,
    /// Measured, not promised.
    None,
}

/// What is written into the document, in this order.
pub const FIGURES: &[Figure] = &[
    figure(
        PATH,
        "one_thread",
        "a request, without recovery, as a ratio to tower-http's static header",
        Promise::AtMost(1.1),
    ),
    figure(PATH, "two_threads", "the same on two threads that share the token", Promise::AtMost(0.5)),
    figure(PATH, "cloned_one_thread", "the service cloned for every request, tower-http's too", Promise::AtMost(1.2)),
    figure(PATH, "cloned_two_threads", "the same on two threads", Promise::AtMost(0.8)),
    figure(PATH, "default_beyond_head", "the default, less the copy of the request's head", Promise::None),
    figure(PATH, "extra_allocations", "allocations beyond tower-http's, without recovery", Promise::Exactly(0.0)),
    figure(PATH, "future_bytes", "bytes by which the future is larger than the inner service's", Promise::AtMost(64.0)),
    figure(COUNTED, "off", "instructions without recovery, as a ratio to tower-http's", Promise::AtMost(1.1)),
    figure(COUNTED, "never", "instructions with `replay::Never`", Promise::CheckedIn),
    figure(COUNTED, "default_beyond_head", "instructions of the default, less those of the copy", Promise::AtMost(1.6)),
    figure(COUNTED, "cloned", "instructions, cloned for every request", Promise::CheckedIn),
    figure(
        EXPIRY,
        "p99_ratio",
        "p99 over loopback while tokens are renewed, as a ratio to a client without any",
        Promise::AtMost(1.5),
    ),
    figure(EXPIRY, "p999_extra_us", "p99.9 beyond that client's, µs", Promise::AtMost(1_000.0)),
    figure(EXPIRY, "waited", "requests that waited for a token", Promise::Exactly(0.0)),
    figure(EXPIRY, "expired_sent", "expired tokens sent", Promise::Exactly(0.0)),
    figure(EXPIRY, "fetch_ratio", "token requests for each lifetime that went by", Promise::AtMost(1.5)),
    figure(
        EXPIRY,
        "cold_start_fetches",
        "token requests when 10 000 requests wait for the first token",
        Promise::Exactly(1.0),
    ),
    figure(
        EXPIRY,
        "cold_start_spread_ratio",
        "first to last of them sent, as a ratio to requests that wait for a `watch` by hand",
        Promise::AtMost(2.0),
    ),
    figure(
        EXPIRY,
        "cold_start_over_bare_watch",
        "the same, as a ratio to waking as many tasks that do nothing",
        Promise::AtMost(2.0),
    ),
    figure(STORM, "fetches", "token requests after 10 000 401s at once", Promise::Exactly(1.0)),
    figure(STORM, "failed", "requests that failed then, though they could be sent again", Promise::Exactly(0.0)),
    figure(
        STORM,
        "longest_wait_over_fetch",
        "the longest wait of one of them, as a ratio to the fetch",
        Promise::AtMost(1.25),
    ),
];

const PATH: &[&str] = &["hot_path", "contention"];
const COUNTED: &[&str] = &["instructions"];
const EXPIRY: &[&str] = &["refresh_stall"];
const STORM: &[&str] = &["storm"];

const fn figure(benches: &'static [&'static str], key: &'static str, says: &'static str, promise: Promise) -> Figure {
    Figure { benches, key, says, promise }
}

/// A figure and what was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub figure: Figure,
    /// None if the bench wasn't run, which only an incomplete document shows.
    pub measured: Option<f64>,
}

impl Found {
    pub fn holds(&self) -> Option<bool> {
        let measured = self.measured?;
        match self.figure.promise {
            Promise::AtMost(bound) => Some(measured <= bound),
            Promise::Exactly(number) => Some(measured == number),
            Promise::CheckedIn | Promise::None => None,
        }
    }
}

/// Finds all figures in what the benches printed, by bench. Unless it may be `incomplete`, each must be there.
///
/// # Errors
///
/// Names what is missing, all of it.
pub fn find(logs: &BTreeMap<String, String>, incomplete: bool) -> Result<Vec<Found>, String> {
    let mut missing = Vec::new();
    let results: BTreeMap<_, Value> = logs
        .iter()
        .filter_map(|(bench, log)| match result_line(log) {
            Ok(result) => Some((bench.as_str(), result)),
            Err(reason) => {
                missing.push(format!("{bench}: {reason}"));
                None
            }
        })
        .collect();
    let found = FIGURES.iter().map(|&figure| {
        let in_order = figure.benches.iter().filter_map(|bench| results.get(bench));
        let measured = in_order.filter_map(|result| result.get(figure.key)?.as_f64()).next();
        if measured.is_none() {
            missing.push(format!("{}: no number `{}`", figure.benches.join(" or "), figure.key));
        }
        Found { figure, measured }
    });
    let found = found.collect();
    match missing.is_empty() || incomplete {
        true => Ok(found),
        false => Err(format!("the benches left out:\n  {}", missing.join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(bench, log)| ((*bench).to_owned(), (*log).to_owned())).collect()
    }

    fn measured(found: &[Found], bench: &str, key: &str) -> Option<f64> {
        found.iter().find(|found| found.figure.benches[0] == bench && found.figure.key == key).unwrap().measured
    }

    #[test]
    fn a_key_belongs_to_its_bench() {
        let logs = logs(&[
            ("hot_path", "RESULT {\"one_thread\":1.1,\"default_beyond_head\":1.8}"),
            ("contention", "RESULT {\"two_threads\":0.5}"),
            ("instructions", "RESULT {\"default_beyond_head\":1.9}"),
        ]);
        let found = find(&logs, true).unwrap();
        assert_eq!(measured(&found, "hot_path", "default_beyond_head"), Some(1.8));
        assert_eq!(measured(&found, "hot_path", "two_threads"), Some(0.5));
        assert_eq!(measured(&found, "instructions", "default_beyond_head"), Some(1.9));
        assert_eq!(measured(&found, "storm", "fetches"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = find(&logs(&[("hot_path", "it crashed")]), false).unwrap_err();
        assert!(error.contains("hot_path: it printed no line RESULT"), "{error}");
        assert!(error.contains("storm: no number `failed`"), "{error}");
    }

    #[test]
    fn a_promise_is_held_or_broken() {
        let found = |measured| Found { figure: FIGURES[0], measured };
        assert_eq!(found(Some(1.1)).holds(), Some(true));
        assert_eq!(found(Some(1.11)).holds(), Some(false));
        assert_eq!(found(None).holds(), None);
    }
}
