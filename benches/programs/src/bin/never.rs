//! A live token; a 401 renews it, and nothing is sent again.

use programs::{Inner, run, send};
use tower::Layer;
use tower_bearer::replay;

fn main() {
    run(|layers| {
        let mut service = layers.live.clone().replay(replay::Never).layer(Inner);
        move |request| send(&mut service, request)
    });
}
