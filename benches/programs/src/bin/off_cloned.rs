//! A live token, and a 401 is handed on; cloned for every request.

use programs::{Inner, run, send};
use tower::Layer;

fn main() {
    run(|layers| {
        let service = layers.live.clone().without_recovery().layer(Inner);
        move |request| send(&mut service.clone(), request)
    });
}
