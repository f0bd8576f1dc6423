//! The service below alone, cloned for every request.

use instructions::{Inner, count, send};

fn main() {
    count(|_| |request| send(&mut Inner.clone(), request));
}
