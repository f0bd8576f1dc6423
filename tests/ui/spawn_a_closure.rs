//! A closure that isn't made into a source.

use tower_bearer::{AccessToken, LiveToken};

fn main() {
    LiveToken::spawn(async |_request| Ok(AccessToken::new("mF_9.B5f-4.1JqM")?));
}
