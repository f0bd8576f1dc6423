//! The floor and a copy of the head, kept in a box until the answer is there: what `default` can not do without.

use programs::{Inner, run, send};
use tower::Layer;
use tower_bearer::replay::{Auto, ReplayPolicy};

fn main() {
    run(|layers| {
        let mut service = layers.fixed.layer(Inner);
        move |mut request| {
            let spare = Box::new(Auto.keep(&mut request));
            send(&mut service, request);
            drop(std::hint::black_box(spare));
        }
    });
}
