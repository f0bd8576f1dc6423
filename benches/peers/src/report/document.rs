//! `docs/performance.md`.

use super::{
    benches::{Found, Promise},
    better,
    machine::Machine,
    results::{Entry, OURS, OURS_WITHOUT_RECOVERY, Results},
    table::{number, percent, table, time},
    versions::Versions,
};

/// All that the document says something about.
#[derive(Clone, Debug)]
pub struct Input {
    pub results: Results,
    pub benches: Vec<Found>,
    pub versions: Versions,
    pub machine: Machine,
}

/// The plots' names, beside the document.
pub const HOT_PATH_PLOT: &str = "performance-hot-path.svg";
pub const EXPIRY_PLOT: &str = "performance-expiry.svg";

/// Writes the document.
///
/// # Errors
///
/// If this crate isn't among the results.
pub fn write(input: &Input) -> Result<String, String> {
    let parts = [
        found(input)?,
        request_path(input),
        expiry(input),
        where_better(&input.results),
        promises(&input.benches),
        repeat(&input.results),
        versions(input),
    ];
    Ok(parts.join("\n"))
}

/// The first sentence says what was found.
fn found(input: &Input) -> Result<String, String> {
    let results = &input.results;
    let ours = |name| results.named(name).ok_or_else(|| format!("{name} isn't among the results"));
    let (plain, default) = (ours(OURS_WITHOUT_RECOVERY)?, ours(OURS)?);
    let others = || results.peers.iter().filter(|entry| !entry.is_ours() && entry.renews());
    let range = |value: fn(&Entry) -> f64, shown: fn(f64) -> String| {
        let values = || others().map(value);
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        format!("{} to {}", shown(least), shown(most))
    };
    Ok(format!(
        "# Performance\n\n\
         By default this crate's layer costs a request {} times what tower-http's layer costs, whose header never changes. The reason is \
         a copy of the request, which is kept to send it again after a 401. Without recovery this crate costs {} times as much{}, and \
         other crates {} times. While tokens are renewed, {} of the requests are held up for more than 5 ms (others: {}).\n\n\
         {} other crates and this one did the same work in one run on one machine. Ratios carry over to other machines, times don't. \
         [`scripts/performance`](../scripts/performance) writes this file: don't edit it by hand.\n",
        number(default.cost.one_thread.median),
        number(plain.cost.one_thread.median),
        alone(&input.benches),
        range(|entry| entry.cost.one_thread.median, number),
        held_up(plain.refresh.stalled.max(default.refresh.stalled), results),
        range(|entry| entry.refresh.stalled, percent),
        crates(results),
    ))
}

/// What the bench `hot_path` finds, where no other code of the same program moves it.
fn alone(benches: &[Found]) -> String {
    let one_thread = benches.iter().find(|found| found.figure.key == "one_thread").and_then(|found| found.measured);
    one_thread.map_or(String::new(), |ratio| format!(" ({} if each has a program of its own)", number(ratio)))
}

/// A machine with something else to do holds up requests too; those of the static header say how many.
fn held_up(share: f64, results: &Results) -> String {
    let machine = results.peers.iter().find(|entry| !entry.renews()).map_or(0.0, |entry| entry.refresh.stalled);
    match (share, machine) {
        (0.0, _) => "none".into(),
        (share, 0.0) => percent(share),
        (share, machine) => {
            format!("{} ({} without any renewal, because the machine was busy)", percent(share), percent(machine))
        }
    }
}

fn crates(results: &Results) -> usize {
    let mut first: Vec<_> =
        results.peers.iter().filter(|entry| !entry.is_ours()).map(|entry| &entry.crates[0]).collect();
    first.dedup();
    first.len()
}

fn request_path(input: &Input) -> String {
    let floor = |of: fn(&Entry) -> Option<f64>| {
        let mut all: Vec<_> = input.results.peers.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).map_or("-".into(), |ns| format!("{ns:.0} ns"))
    };
    let one = floor(|entry| Some(entry.cost.one_thread.floor_ns));
    let two = floor(|entry| Some(entry.cost.two_threads?.floor_ns));
    let rows = input.results.peers.iter().map(|entry| {
        let ratio = |ratio: crate::hot_path::Ratio| {
            format!("{} ({} to {})", number(ratio.median), number(ratio.quartiles.0), number(ratio.quartiles.1))
        };
        vec![
            name(entry),
            ratio(entry.cost.one_thread),
            entry.cost.two_threads.map_or("-".into(), ratio),
            entry.allocations.to_string(),
        ]
    });
    let head = ["", "one thread", "two threads that share the token", "allocations"];
    format!(
        "## What a request pays\n\n\
         The extra cost of a request with a valid token, compared with the same request to the same inner service without a \
         token. It is given as a ratio to the extra cost of tower-http's static header (here {} on one thread, {} on two). \
         Median of {} samples, with the quartiles of their blocks in brackets. Less is better.\n\n\
         ![Cost of a request, as bars]({HOT_PATH_PLOT})\n\n{}\n\
         Each request has a token of 1 KiB, an https URL, five other headers, and an extension if its type has extensions. The \
         inner service responds at once. A sample is a batch of 100 requests that were made beforehand. Floor and peer take \
         turns within microseconds, forwards and backwards. On two threads each thread has its own clone, and both run the same \
         batches. Samples in which the two threads did not work at the same time are left out. A thread that doesn't get a lock \
         tries again at once instead of sleeping, which favours peers with locks. Allocations are counted in a separate run. Of \
         Azure's pipeline, AWS's orchestrator and kube-client's stack only the part that authorizes is run, which favours them. \
         All peers were built and run. Azure's credential insists on https, so it uses a transport that goes to loopback.\n\n\
         {}",
        one,
        two,
        number(input.results.samples as f64),
        table(&head, true, rows),
        table(
            &["", "what was used"],
            false,
            input.results.peers.iter().map(|entry| vec![name(entry), entry.how.clone()])
        ),
    )
}

/// This crate stands out in the tables.
fn name(entry: &Entry) -> String {
    match entry.is_ours() {
        true => format!("**{}**", entry.name),
        false => entry.name.clone(),
    }
}

fn expiry(input: &Input) -> String {
    let rows = input.results.peers.iter().map(|entry| {
        let Entry { refresh, cold_start, .. } = entry;
        let made = if cold_start.when_made > 0 { " (when made)" } else { "" };
        vec![
            name(entry),
            entry.life.zip(entry.usable).map_or("for good".into(), |(life, usable)| life_and_usable(life, usable)),
            renewed_by(entry).into(),
            percent(refresh.stalled),
            time(refresh.p50_us),
            time(refresh.p99_us),
            time(refresh.p999_us),
            time(refresh.max_us),
            refresh.needed.map_or("-".into(), |needed| format!("{} ({needed})", refresh.fetches)),
            refresh.expired_sent.to_string(),
            refresh.failed.to_string(),
            time(refresh.stop_us),
            if entry.renews() { format!("{}{made}", cold_start.fetches) } else { "-".into() },
        ]
    });
    let head = [
        "",
        "lifetime of a token (of that in use)",
        "renewed by",
        "held up",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "fetches (needed)",
        "expired tokens sent",
        "failed",
        "machine stood still",
        "fetches at a cold start",
    ];
    format!(
        "## The moment of expiry\n\n\
         128 tasks send some 4 000 requests a second for {} s. Meanwhile tokens are renewed from an endpoint that takes 100 ms. \
         The time counts from the beginning of a request until it has reached the inner service with its token. Requests that \
         took more than 5 ms count as *held up*.\n\n\
         ![The longest wait in each hundredth of a second, for each]({EXPIRY_PLOT})\n\n{}\n\
         Tokens live for half a second if the peer accepts that. With tokens of an hour the same happens once in an hour, to as \
         many requests as come in 100 ms. Some peers renew a fixed time before the end (kube-client 60 s, yup-oauth2 60 s, \
         gcp_auth 20 s, Azure five minutes, google-cloud-auth four): their tokens live half a second or a second longer than \
         that, so that they renew as often. Other peers read whole seconds, or wait a second between fetches (middle, \
         aliri_reqwest): their tokens live for two seconds. *Needed* is how often the part of the lifetime in use fits into the \
         run. If a request was held up by the one before it, its time counts from when it was due. If a peer leaves the token \
         request to its user, the user makes it two fifths of the lifetime before the end. A cold start is 128 requests at once \
         without a token. tower-http renews nothing, so its row shows what the machine itself does to requests. *Machine stood \
         still* is the longest time for which a thread that only reads the clock got no processor. If that is more than 5 ms, \
         the run is the calmest of six.\n",
        number(input.results.seconds),
        table(&head, true, rows),
    )
}

fn renewed_by(entry: &Entry) -> &'static str {
    match (entry.renews(), entry.in_the_background) {
        (false, _) => "nobody",
        (true, true) => "a task",
        (true, false) => "a request",
    }
}

fn life_and_usable(life: f64, usable: f64) -> String {
    match life == usable {
        true => format!("{life} s"),
        false => format!("{life} s ({usable} s)"),
    }
}

fn where_better(results: &Results) -> String {
    let mut text = String::from("## Where a peer is better\n\nMeasured above; less is better:\n\n");
    let lines = better::lines(results);
    if lines.is_empty() {
        text.push_str("- nowhere, in this run\n");
    }
    for line in lines {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(
        "\nNot measured, from their documentation and source:\n\n\
         - google-cloud-auth, gcp_auth, yup-oauth2, azure_identity, kube-client and AWS's clients find credentials by themselves \
         (files, metadata servers, command lines, workload identity). This crate asks OAuth 2.0 token endpoints and reads token \
         files. For anything else, write a `TokenSource`.\n\
         - tower-http needs no task and no runtime.\n\
         - On two threads: this crate makes twice as many copies of a header as there are cores (eight at most). Threads get \
         them in the order in which they first ask. In a program with more threads than copies, two threads may share a copy, as \
         all threads share tower-http's header.\n\
         - A peer that fetches in a request makes no token request while there are no requests. This crate renews a token that \
         nobody uses, as middle, aliri_reqwest and google-cloud-auth do.\n\
         - A fixed margin before the end of long tokens (five minutes of an hour) costs fewer token requests than 75 to 85 % of the \
         life does.\n\
         - aws-smithy-runtime also signs requests in ways other than with a bearer token.\n",
    );
    text
}

fn promises(benches: &[Found]) -> String {
    let rows = benches.iter().map(|found| {
        let promised = match found.figure.promise {
            Promise::AtMost(bound) => format!("at most {}", number(bound)),
            Promise::Exactly(exact) => number(exact),
            Promise::CheckedIn => "a number that is checked in".into(),
            Promise::None => "-".into(),
        };
        let measured = found.measured.map_or("not measured".into(), number);
        let held = found.holds().map_or("", |holds| if holds { "yes" } else { "**no**" });
        vec![found.figure.says.into(), promised, measured, held.into()]
    });
    format!(
        "## What this crate promises\n\n\
         Its own benches (`cargo bench`) measure more exactly, and fail when a promise is broken. They time each way of sending \
         a request in a program of its own, with its data at many places in memory. Above, all share one program. There, costs \
         near that of the floor change by up to a fifth with the place of the code in memory. [Stores and fleets](fleets.md) \
         shows what token endpoints see of a whole fleet.\n\n{}",
        table(&["", "promised", "measured", "held"], false, rows)
    )
}

fn repeat(results: &Results) -> String {
    let names: Vec<_> = results.peers.iter().map(|entry| format!("`{}`", entry.name)).collect();
    format!(
        "## How to repeat it\n\n\
         ```console\n\
         scripts/performance           # everything; writes this file anew\n\
         scripts/performance --quick   # the peers only, for a shorter time; writes nothing\n\
         target/peers/release/peers --only kube-client   # one of them, after either\n\
         ```\n\n\
         The peers are in [`benches/peers/src/peers/`](../benches/peers/src/peers), a file each, which shows how each is used. \
         Names for `--only`: {}. Anything else that the machine does shows in the longest times first.\n",
        names.join(", ")
    )
}

fn versions(input: &Input) -> String {
    let machine = &input.machine;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for entry in &input.results.peers {
        let version = |name: &String| format!("{name} {}", input.versions.of(name).unwrap_or("(not in Cargo.lock)"));
        let row: Vec<_> = entry.crates.iter().map(version).collect();
        if rows.iter().all(|known| known[1] != row.join(", ")) {
            rows.push(vec![entry.name.clone(), row.join(", ")]);
        }
    }
    format!(
        "## Machine and versions\n\n\
         {}, {} threads, {}, {}, profile `release`.\n\n{}",
        machine.processor,
        machine.threads,
        machine.system,
        machine.rustc,
        table(&["", "from benches/peers/Cargo.lock"], false, rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cold_start::ColdStart,
        hot_path::{Cost, Ratio},
        refresh::Refresh,
        report::benches::FIGURES,
    };

    fn entry(name: &str, cost: f64, stalled: f64) -> Entry {
        let ratio = Ratio { median: cost, quartiles: (cost - 0.1, cost + 0.1), floor_ns: 30.0, samples: 1_500 };
        Entry {
            name: name.into(),
            crates: vec![name.into()],
            how: format!("how {name} is used"),
            life: Some(60.5),
            usable: Some(0.5),
            in_the_background: false,
            cost: Cost { one_thread: ratio, two_threads: Some(ratio) },
            allocations: 3,
            cold_start: ColdStart { fetches: 1, when_made: 0, failed: 0 },
            refresh: Refresh {
                requests: 16_000,
                p50_us: 4.0,
                p99_us: 90_000.0,
                p999_us: 101_000.0,
                max_us: 102_000.0,
                stalled,
                fetches: 8,
                needed: Some(9),
                expired_sent: 0,
                failed: 0,
                stop_us: 900.0,
                over_time: vec![(0, 0.1)],
            },
        }
    }

    fn input() -> Input {
        let peers = vec![
            entry("cheap", 1.01, 0.32),
            entry(OURS_WITHOUT_RECOVERY, 1.25, 0.0),
            entry(OURS, 9.5, 0.0),
            entry("dear", 17.9, 0.08),
        ];
        Input {
            results: Results { seconds: 4.0, samples: 1_500, peers },
            benches: FIGURES.iter().map(|&figure| Found { figure, measured: Some(1.25) }).collect(),
            versions: Versions::read(
                "[[package]]\nname = \"p\"\ndependencies = [\n \"dear\",\n]\n[[package]]\nname = \"dear\"\nversion = \"4.5.6\"\n",
                "p",
            ),
            machine: Machine { processor: "A CPU".into(), threads: 2, system: "linux".into(), rustc: "rustc 1".into() },
        }
    }

    #[test]
    fn it_begins_with_what_was_found() {
        let text = write(&input()).unwrap();
        let first = text.lines().nth(2).unwrap();
        assert!(
            first.contains("By default this crate's layer costs a request 9.50 times")
                && first.contains("Without recovery this crate costs 1.25 times")
                && first.contains("(1.25 if each has a program of its own)"),
            "{first}"
        );
        assert!(
            first.contains("1.01 to 17.9 times")
                && first.contains("none of the requests")
                && first.contains("(others: 8.0 % to 32 %)"),
            "{first}"
        );
        let sections: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections[..3], ["What a request pays", "The moment of expiry", "Where a peer is better"]);
        assert_eq!(sections[3..], ["What this crate promises", "How to repeat it", "Machine and versions"]);
    }

    #[test]
    fn it_says_who_is_better_which_version_it_is_and_which_promise_is_broken() {
        let text = write(&input()).unwrap();
        assert!(text.contains("- cost on one thread, 1.25 here without recovery: cheap 1.01\n"), "{text}");
        assert!(!text.contains("here without recovery: cheap 1.01, dear"), "{text}");
        assert!(text.contains("| dear | dear 4.5.6 |"), "{text}");
        assert!(text.contains("| requests that waited for a token | 0 | 1.25 | **no** |"), "{text}");
    }

    #[test]
    fn a_busy_machine_is_told_from_a_renewal() {
        let mut input = input();
        input.results.peers[1].refresh.stalled = 0.009;
        assert!(write(&input).unwrap().contains("renewed, 0.9 % of the requests"));
        let mut fixed = entry("fixed", 1.0, 0.033);
        fixed.life = None;
        input.results.peers.insert(0, fixed);
        assert!(write(&input).unwrap().contains("0.9 % (3.3 % without any renewal, because the machine was busy) of"));
    }

    #[test]
    fn without_this_crate_there_is_nothing_to_say() {
        let mut input = input();
        input.results.peers.retain(|entry| !entry.is_ours());
        assert!(write(&input).unwrap_err().contains("isn't among the results"));
    }
}
