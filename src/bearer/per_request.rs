//! Options of a single request.

use std::time::Duration;

/// What one request wants different from its layer. It goes into the request's extensions.
///
/// Only a layer with [`ask_requests`](crate::BearerAuthLayer::ask_requests) reads it. `reqwest::Request` has no extensions that the layer
/// could read; the requests of `reqwest-middleware` have.
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use http::{Request, header::AUTHORIZATION};
/// use http_body_util::Empty;
/// use tower_bearer::PerRequest;
///
/// // This one has credentials of its own and needs no token.
/// let request = Request::post("https://api.example.com/user")
///     .header(AUTHORIZATION, "Basic Y2xpZW50OnNlY3JldA==")
///     .extension(PerRequest::new().without_token())
///     .body(Empty::<Bytes>::new())?;
///
/// // A person waits for this one.
/// let request = Request::get("https://api.example.com/user")
///     .extension(PerRequest::new().max_wait(Duration::from_secs(2)))
///     .body(Empty::<Bytes>::new())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "goes into the extensions of a request"]
pub struct PerRequest {
    without_token: bool,
    max_wait: Option<Duration>,
}

impl PerRequest {
    /// Everything as in the layer. See the example of [`PerRequest`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the request unchanged, with any `Authorization` header and to any origin: it carries no token, so the fence doesn't apply. Its
    /// response is returned, whatever it is. See the example of [`PerRequest`].
    pub fn without_token(mut self) -> Self {
        self.without_token = true;
        self
    }

    /// How long this request may wait for a token, in place of the layer's [`max_wait`](crate::BearerAuthLayer::max_wait). See the example
    /// of [`PerRequest`].
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    pub(super) fn wants_no_token(self) -> bool {
        self.without_token
    }

    pub(super) fn wait(self) -> Option<Duration> {
        self.max_wait
    }
}
