//! The service below alone: what everything else is counted beyond.

use programs::{Inner, run, send};

fn main() {
    run(|_| |request| send(&mut Inner, request));
}
