//! The layer as it is by default: a copy of the head is kept, to be sent again after a 401.

use programs::{Inner, run, send};
use tower::Layer;

fn main() {
    run(|layers| {
        let mut service = layers.live.layer(Inner);
        move |request| send(&mut service, request)
    });
}
