//! A closure that returns an error of another type.

use tower::BoxError;
use tower_bearer::{AccessToken, source_fn};

async fn ask() -> Result<AccessToken, BoxError> {
    Ok(AccessToken::new("mF_9.B5f-4.1JqM")?)
}

fn main() {
    source_fn(|_request| ask());
}
