//! A source whose tokens aren't new when they come, for tests that revoke them right away.

#![allow(unreachable_pub, reason = "each test binary is nobody's library")]

use std::time::Duration;

use tower_bearer::{AccessToken, FetchError, FetchRequest, TokenSource};

/// An API may not know a token yet that is younger than five seconds, so that a 401 means little.
pub struct Settled<S>(pub S);

impl<S: TokenSource> TokenSource for Settled<S> {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        Ok(self.0.fetch(request).await?.age(Duration::from_secs(10)))
    }
}
