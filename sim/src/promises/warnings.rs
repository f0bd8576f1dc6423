//! Whether users are told that they must authorize again.

use std::time::Duration;

use super::{Found, Run};
use crate::{
    plan::What,
    trace::{Happened, Outcome},
};

/// In the last tenth of what was left when that became known, three days before the end at the earliest; planned anew when the end
/// moves later.
pub fn come_in_time(run: &Run) -> Found {
    let plan = run.plan;
    let is_told = plan.server.ends.is_some_and(|ending| ending.told);
    let is_simple =
        |what: &What| matches!(what, What::Outage { .. } | What::Revoke | What::Refresh | What::ApiDown { .. });
    if !is_told || plan.programs > 1 || !plan.events.iter().all(|event| is_simple(&event.what)) {
        return None;
    }
    let (mut plan, mut said): (Option<(Duration, Duration)>, bool) = (None, false);
    let until =
        run.trace.iter().position(|entry| matches!(entry.what, Happened::Well { .. })).unwrap_or(run.trace.len());
    run.trace[..until].iter().find_map(|entry| {
        let now = entry.at;
        let late = plan.filter(|(ends, due)| !said && now < *ends && now > *due + LATE);
        match entry.what {
            Happened::Answered { outcome: Outcome::Issued { authorization_ends: Some(ends), .. }, .. } => {
                let left = ends.saturating_sub(now);
                let ahead = (left / 10).min(Duration::from_secs(3 * 24 * 3_600));
                let due = (ends - ahead).max(now);
                let noise = (left / 100).min(Duration::from_secs(60)) + INEXACT;
                plan = match plan {
                    Some((before, planned)) if ends <= before + noise => Some((before, planned.min(due))),
                    _ => {
                        said = false;
                        Some((ends, due))
                    }
                };
                None
            }
            // In the last second the server says 0, which with others means that there is no end.
            Happened::Shows { ending: false, .. } if said && plan.is_some_and(|(ends, _)| now + INEXACT < ends) => {
                Some((now, "what was told is taken back".into()))
            }
            // Told too late is not told in time.
            Happened::Shows { ending: true, .. } if late.is_some() => late_of(late, now),
            Happened::Shows { ending: true, usable, .. } if !said => {
                said = true;
                let (ends, due) = plan?;
                // What is told counts from when it was asked for.
                let early = ends.saturating_sub(due) / 100 + INEXACT + run.fetch();
                (now + early < due && usable).then(|| (now, format!("told at {now:?}, and that was due at {due:?}")))
            }
            _ => late_of(late, now),
        }
    })
}

fn late_of(late: Option<(Duration, Duration)>, now: Duration) -> Found {
    late.map(|(_, due)| (now, format!("not told until {now:?}, and that was due at {due:?}")))
}

/// The server tells whole seconds, and counts from when it answers.
const INEXACT: Duration = Duration::from_secs(3);

/// Clocks are looked at every half minute.
const LATE: Duration = Duration::from_secs(35);
