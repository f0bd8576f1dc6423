//! What is rarely wanted: options of a single request, and another judgement of responses.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};

use super::challenge;

/// What one request wants different from its layer: goes into the request's extensions.
///
/// Only layers that [ask](crate::BearerAuthLayer::ask_requests) look for it; to the others it is an extension like any other.
/// `reqwest::Request` has no extensions to look at; those of `reqwest-middleware` do.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, header::AUTHORIZATION};
/// use http_body_util::Empty;
/// use tower_bearer::PerRequest;
///
/// // This one has credentials of its own, and no use for a token.
/// let request = Request::post("https://api.example.com/user")
///     .header(AUTHORIZATION, "Basic Y2xpZW50OnNlY3JldA==")
///     .extension(PerRequest::new().without_token())
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
    /// Everything as the layer has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the request as it is, whatever its `Authorization` header and wherever it goes: no token travels with it, so there
    /// is nothing to fence in. Whatever is answered is handed on.
    pub fn without_token(mut self) -> Self {
        self.without_token = true;
        self
    }

    /// How long this request may wait for a token, in place of the layer's [`max_wait`](crate::BearerAuthLayer::max_wait).
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

/// What to do with a response, as [`BearerAuthLayer::on_unauthorized`](crate::BearerAuthLayer::on_unauthorized) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnUnauthorized {
    /// It refuses the token: renew it, and send the request again if the [replay policy](crate::replay) has kept it.
    Recover,
    /// It refuses the token: renew it for those who come later, and hand the response on.
    Renew,
    /// It says nothing about the token: hand it on.
    HandOn,
}

impl OnUnauthorized {
    /// The rule without a judge: `Recover` for a 401 and for gRPC's `UNAUTHENTICATED` in the headers, unless the challenge says
    /// `insufficient_scope` (RFC 6750 §3.1); `HandOn` for everything else.
    ///
    /// gRPC's status in the *trailers* isn't looked at: a call that ends with it has begun, and can't be sent again. Whoever gets one calls
    /// [`LiveToken::refresh`](crate::LiveToken::refresh), so that later calls have another token.
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

/// Who judges responses in place of the rule.
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
