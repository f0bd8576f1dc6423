//! Writes the document from what was measured: `performance LOGS DOCS [--incomplete]`
//!
//! In LOGS there is a file for each program that ran, `peers.log` and one for each bench, with what it printed.

use std::{collections::BTreeMap, env, fs, path::Path};

use tower_bearer_peers::report::{
    benches,
    document::{self, EXPIRY_PLOT, HOT_PATH_PLOT, Input},
    machine::Machine,
    plot,
    results::{Results, result_line},
    versions::Versions,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (logs, docs, incomplete) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [logs, docs] => (logs, docs, false),
        [logs, docs, "--incomplete"] => (logs, docs, true),
        _ => return Err("performance LOGS DOCS [--incomplete]".into()),
    };
    let mut logs = read(Path::new(logs))?;
    let peers = logs.remove("peers").ok_or("there is no peers.log")?;
    let results: Results = serde_json::from_value(result_line(&peers).map_err(|reason| format!("peers: {reason}"))?)?;
    let input = Input {
        results,
        benches: benches::find(&logs, incomplete)?,
        versions: Versions::read(include_str!("../../Cargo.lock"), env!("CARGO_PKG_NAME")),
        machine: Machine::here(),
    };
    let docs = Path::new(docs);
    plot::hot_path(&docs.join(HOT_PATH_PLOT), &input.results)?;
    plot::expiry(&docs.join(EXPIRY_PLOT), &input.results)?;
    fs::write(docs.join("performance.md"), document::write(&input)?)?;
    Ok(())
}

/// What each program printed, by its name.
fn read(logs: &Path) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
    let mut all = BTreeMap::new();
    for file in fs::read_dir(logs).map_err(|error| format!("{}: {error}", logs.display()))? {
        let path = file?.path();
        if let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|end| end == "log")) {
            all.insert(name.to_string_lossy().into_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(all)
}
