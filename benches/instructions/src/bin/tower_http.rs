//! The floor: a header that never changes.

use instructions::{Inner, count, send};
use tower::Layer;

fn main() {
    count(|layers| {
        let mut service = layers.fixed.layer(Inner);
        move |request| send(&mut service, request)
    });
}
