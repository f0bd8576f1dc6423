//! An error of another type, handed on by `?`.

use std::io;

use tower_bearer::{AccessToken, source_fn};

async fn ask() -> io::Result<String> {
    Ok("mF_9.B5f-4.1JqM".into())
}

fn main() {
    source_fn(async |_request| Ok(AccessToken::new(ask().await?)?));
}
