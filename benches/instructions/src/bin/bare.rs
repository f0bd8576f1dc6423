//! The service below alone: what everything else is counted beyond.

use instructions::{Inner, count, send};

fn main() {
    count(|_| |request| send(&mut Inner, request));
}
