//! A live token, and a 401 is handed on.

use programs::{Inner, run, send};
use tower::Layer;

fn main() {
    run(|layers| {
        let mut service = layers.live.clone().without_recovery().layer(Inner);
        move |request| send(&mut service, request)
    });
}
