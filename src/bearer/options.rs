//! Rarely used options: those of a single request, and a judge of responses.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};

use super::challenge;

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

/// What to do with a response: the result of the function for
/// [`BearerAuthLayer::on_unauthorized`](crate::BearerAuthLayer::on_unauthorized). See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnUnauthorized {
    /// It refuses the token. Renew the token, and send the request again if the [replay policy](crate::replay) has kept it.
    Recover,
    /// It refuses the token. Renew the token for later requests, and return the response.
    Renew,
    /// It says nothing about the token. Return it.
    HandOn,
}

impl OnUnauthorized {
    /// The rule that holds by default: `Recover` for a 401 and for gRPC's `UNAUTHENTICATED` in the headers, unless the challenge says
    /// `insufficient_scope` (RFC 6750 §3.1); `HandOn` for all other responses.
    ///
    /// gRPC's status in the *trailers* isn't read: the call has begun and can't be sent again. After such a response call
    /// [`LiveToken::refresh`](crate::LiveToken::refresh), so that later calls carry another token.
    ///
    /// ```
    /// use http::{HeaderMap, StatusCode};
    /// use tower_bearer::OnUnauthorized;
    ///
    /// let headers = HeaderMap::new();
    /// assert_eq!(OnUnauthorized::by_rule(StatusCode::UNAUTHORIZED, &headers), OnUnauthorized::Recover);
    /// assert_eq!(OnUnauthorized::by_rule(StatusCode::FORBIDDEN, &headers), OnUnauthorized::HandOn);
    /// ```
    #[must_use]
    pub fn by_rule(status: StatusCode, headers: &HeaderMap) -> Self {
        if challenge::is_refusal(status, headers) { Self::Recover } else { Self::HandOn }
    }
}

/// The user's function that judges responses in place of the rule.
#[derive(Clone)]
pub(crate) struct Judge(Arc<Verdict>);

type Verdict = dyn Fn(StatusCode, &HeaderMap) -> OnUnauthorized + Send + Sync;

impl Judge {
    pub(super) fn new(judge: impl Fn(StatusCode, &HeaderMap) -> OnUnauthorized + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    pub(super) fn judge(&self, status: StatusCode, headers: &HeaderMap) -> OnUnauthorized {
        (self.0)(status, headers)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}
