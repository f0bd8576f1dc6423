//! Where a peer is better than this crate: worked out, so that nobody forgets to say it.

use super::{
    results::{Entry, OURS, OURS_WITHOUT_RECOVERY, Results},
    table::{number, percent, time},
};

/// Less is better in each. The one that never renews has no part in what is about renewing.
struct Measure {
    what: &'static str,
    value: fn(&Entry) -> Option<f64>,
    shown: fn(f64) -> String,
    /// Smaller differences say nothing.
    noise: f64,
}

const MEASURES: [Measure; 7] = [
    Measure {
        what: "cost on one thread",
        value: |entry| Some(entry.cost.one_thread.median),
        shown: number,
        noise: 0.0,
    },
    Measure {
        what: "cost on two threads",
        value: |entry| entry.cost.two_threads.map(|ratio| ratio.median),
        shown: number,
        noise: 0.0,
    },
    Measure { what: "allocations", value: |entry| Some(entry.allocations as f64), shown: number, noise: 0.0 },
    Measure {
        what: "requests held up",
        value: |entry| entry.renews().then_some(entry.refresh.stalled),
        shown: percent,
        noise: 0.0,
    },
    Measure {
        what: "p99.9 at the moment of expiry",
        value: |entry| entry.renews().then_some(entry.refresh.p999_us),
        shown: time,
        noise: 1_000.0,
    },
    Measure { what: "token requests for each that was needed", value: Entry::fetch_ratio, shown: number, noise: 0.0 },
    Measure {
        what: "token requests of a cold start",
        value: |entry| entry.renews().then_some(entry.cold_start.fetches as f64),
        shown: number,
        noise: 0.0,
    },
];

/// A line for each measure in which somebody is better than one of ours.
pub(super) fn lines(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    for measure in MEASURES {
        for (name, called) in [(OURS_WITHOUT_RECOVERY, "without recovery"), (OURS, "by default")] {
            let Some(ours) = results.named(name).and_then(measure.value) else { continue };
            let mut better: Vec<_> = results
                .peers
                .iter()
                .filter(|entry| !entry.is_ours())
                .filter_map(|entry| Some((entry, (measure.value)(entry)?)))
                .filter(|(_, value)| ours - value > measure.noise)
                .collect();
            better.sort_by(|a, b| a.1.total_cmp(&b.1));
            if !better.is_empty() {
                let shown = |(entry, value): &(&Entry, f64)| format!("{} {}", entry.name, (measure.shown)(*value));
                let better: Vec<_> = better.iter().map(shown).collect();
                lines.push(format!("{}, {} here {called}: {}", measure.what, (measure.shown)(ours), better.join(", ")));
            }
        }
    }
    lines
}
