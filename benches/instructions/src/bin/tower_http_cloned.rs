//! The floor, cloned for every request.

use instructions::{Inner, count, send};
use tower::Layer;

fn main() {
    count(|layers| {
        let service = layers.fixed.layer(Inner);
        move |request| send(&mut service.clone(), request)
    });
}
