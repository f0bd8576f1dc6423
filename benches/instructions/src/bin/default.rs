//! The layer as it is by default: a copy of the head is kept, to be sent again after a 401.

use instructions::{Inner, count, send};
use tower::Layer;

fn main() {
    count(|layers| {
        let mut service = layers.live.layer(Inner);
        move |request| send(&mut service, request)
    });
}
