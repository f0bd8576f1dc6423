//! No outage ends an authorization: everything that a server, or what stands before it, does at a renewal, on each store. On Redis it
//! is in tests/fleet.
#![cfg(feature = "oauth2")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/outage.rs"]
mod outage;

use std::{fs, path::PathBuf};

use outage::{Outcome, Quiet, cells, may_end, run};
use tower_bearer::store::{FileStore, Memory};

#[tokio::test(start_paused = true)]
async fn in_memory() {
    let mut ended = 0;
    for cell in cells() {
        let outcome = run(cell, Memory::default()).await;
        assert!(outcome == Outcome::Live || may_end(cell), "{cell:?}");
        ended += u32::from(outcome == Outcome::Ended);
    }
    assert!(ended > 0, "or no answer was ever lost");
    println!("{ended} of {} ended by the server's word", cells().len());
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn in_a_file_while_the_token_in_use_serves() {
    in_a_file(false).await;
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn in_a_file_when_the_token_in_use_is_over() {
    in_a_file(true).await;
}

async fn in_a_file(over: bool) {
    let directory = Directory::new();
    for (number, cell) in cells().into_iter().filter(|cell| cell.is_over() == over).enumerate() {
        let outcome = run(cell, Quiet(FileStore::new(directory.0.join(number.to_string())))).await;
        assert!(outcome == Outcome::Live || may_end(cell), "{cell:?}");
    }
}

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "tower-bearer-outages-{}-{:016x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
