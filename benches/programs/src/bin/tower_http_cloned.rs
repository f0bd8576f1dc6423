//! The floor, cloned for every request.

use programs::{Inner, run, send};
use tower::Layer;

fn main() {
    run(|layers| {
        let service = layers.fixed.layer(Inner);
        move |request| send(&mut service.clone(), request)
    });
}
