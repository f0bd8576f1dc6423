//! The service below alone, cloned for every request.

use programs::{Inner, run, send};

fn main() {
    run(|_| |request| send(&mut Inner.clone(), request));
}
