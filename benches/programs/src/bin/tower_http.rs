//! The floor: a header that never changes.

use programs::{Inner, run, send};
use tower::Layer;

fn main() {
    run(|layers| {
        let mut service = layers.fixed.layer(Inner);
        move |request| send(&mut service, request)
    });
}
