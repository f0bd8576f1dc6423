//! What a run of all peers found.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    candidate::{About, Renews},
    cold_start::ColdStart,
    hot_path::Cost,
    refresh::Refresh,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Results {
    /// How long each refresh run took, and how many samples the hot path has.
    pub seconds: f64,
    pub samples: usize,
    pub peers: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    pub name: String,
    pub crates: Vec<String>,
    pub how: String,
    /// In seconds; none where the token never changes.
    pub life: Option<f64>,
    pub usable: Option<f64>,
    pub in_the_background: bool,
    pub cost: Cost,
    pub allocations: u64,
    pub cold_start: ColdStart,
    pub refresh: Refresh,
}

impl Entry {
    pub fn new(about: &About, cost: Cost, allocations: u64, cold_start: ColdStart, refresh: Refresh) -> Self {
        let seconds = |time: Duration| (about.renews != Renews::Never).then_some(time.as_secs_f64());
        Self {
            name: about.name.into(),
            crates: about.crates.iter().map(|&name| name.into()).collect(),
            how: about.how.into(),
            life: seconds(about.life),
            usable: seconds(about.usable),
            in_the_background: about.renews == Renews::InTheBackground,
            cost,
            allocations,
            cold_start,
            refresh,
        }
    }

    /// This crate's, of which there are two.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(OURS)
    }

    /// Tokens, but for the one that never changes.
    pub fn renews(&self) -> bool {
        self.life.is_some()
    }

    /// Token requests for each that was needed.
    pub fn fetch_ratio(&self) -> Option<f64> {
        Some(self.refresh.fetches as f64 / self.refresh.needed? as f64)
    }
}

impl Results {
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.peers.iter().find(|entry| entry.name == name)
    }
}

/// As everybody has it who asks for nothing else; and the other, which is like all peers in that it does nothing about a 401.
pub const OURS: &str = "tower-bearer";
pub const OURS_WITHOUT_RECOVERY: &str = "tower-bearer-without-recovery";

/// What a program printed on its last line that begins with `RESULT`.
///
/// # Errors
///
/// If there is no such line, or no JSON on it.
pub fn result_line(log: &str) -> Result<serde_json::Value, String> {
    let json =
        log.lines().rev().find_map(|line| line.strip_prefix("RESULT ")).ok_or("it printed no line RESULT {json}")?;
    serde_json::from_str(json).map_err(|error| format!("its RESULT isn't JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_result_counts() {
        assert_eq!(result_line("RESULT {\"a\":1}\nx\nRESULT {\"a\":2}\n\n").unwrap()["a"], 2);
        assert!(result_line("nothing").unwrap_err().contains("no line"));
        assert!(result_line("RESULT {").unwrap_err().contains("JSON"));
    }
}
