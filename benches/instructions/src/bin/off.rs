//! A live token, and a 401 is handed on.

use instructions::{Inner, count, send};
use tower::Layer;

fn main() {
    count(|layers| {
        let mut service = layers.live.clone().without_recovery().layer(Inner);
        move |request| send(&mut service, request)
    });
}
