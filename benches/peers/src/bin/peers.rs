//! Runs everyone and ends with a line `RESULT {json}`: `peers [--quick] [--only NAME]…`

use std::{env, process::Command, time::Duration, time::Instant};

use tower_bearer_peers::{
    candidate::Peer,
    cold_start, hot_path, refresh,
    report::results::{Entry, Results},
    roster::{self, Visit},
};

#[tokio::main]
async fn main() -> Result<(), String> {
    let mut run = Run::from_arguments(env::args().skip(1))?;
    let started = Instant::now();
    roster::each(&mut run).await;
    if run.results.peers.is_empty() {
        return Err(format!("--only: there is nobody of that name; there are {}", run.skipped.join(", ")));
    }
    println!("{:.0} s in all", started.elapsed().as_secs_f64());
    println!("RESULT {}", serde_json::to_string(&run.results).map_err(|error| error.to_string())?);
    Ok(())
}

struct Run {
    samples: usize,
    time: Duration,
    only: Vec<String>,
    skipped: Vec<&'static str>,
    allocations: serde_json::Value,
    results: Results,
}

impl Run {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut quick, mut only) = (false, Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => quick = true,
                "--only" => only.push(arguments.next().ok_or("--only wants a name")?),
                other => return Err(format!("{other}: unknown; there are --quick and --only NAME")),
            }
        }
        let (samples, time) = if quick { (250, Duration::from_secs(1)) } else { (1_500, Duration::from_secs(4)) };
        let results = Results { seconds: time.as_secs_f64(), samples, peers: Vec::new() };
        Ok(Self { samples, time, only, skipped: Vec::new(), allocations: allocations()?, results })
    }
}

impl Visit for Run {
    async fn visit<P: Peer>(&mut self) {
        let about = P::ABOUT;
        if !self.only.is_empty() && !self.only.iter().any(|name| name == about.name) {
            self.skipped.push(about.name);
            return;
        }
        let cost = hot_path::measure::<P>(self.samples).await;
        let cold_start = cold_start::measure::<P>().await;
        let refresh = refresh::measure::<P>(self.time).await;
        let allocations = self.allocations[about.name].as_u64().expect("it counts the same peers");
        println!(
            "{:<30} {:>6.2} {:>6} of a static header, {allocations} allocations; {:>5.1} % stalled, longest {:>7.2} ms, {} \
             fetches; {} for a cold start",
            about.name,
            cost.one_thread.median,
            cost.two_threads.map_or("-".into(), |ratio| format!("{:.2}", ratio.median)),
            refresh.stalled * 100.0,
            refresh.max_us / 1e3,
            refresh.fetches,
            cold_start.fetches,
        );
        self.results.peers.push(Entry::new(&about, cost, allocations, cold_start, refresh));
    }
}

/// From the program that counts them, which cargo puts beside this one.
fn allocations() -> Result<serde_json::Value, String> {
    let beside = env::current_exe().map_err(|error| error.to_string())?.with_file_name("allocations");
    let output = Command::new(&beside).output();
    let output = output.map_err(|error| format!("{}: {error}: build the whole package", beside.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "))
        .ok_or_else(|| format!("{} found nothing: {}", beside.display(), String::from_utf8_lossy(&output.stderr)))?;
    serde_json::from_str(json).map_err(|error| error.to_string())
}
