//! A live token; a 401 renews it, and nothing is sent again.

use instructions::{Inner, count, send};
use tower::Layer;
use tower_bearer::replay;

fn main() {
    count(|layers| {
        let mut service = layers.live.clone().replay(replay::Never).layer(Inner);
        move |request| send(&mut service, request)
    });
}
