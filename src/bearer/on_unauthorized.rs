//! The user's own judge of responses, in place of the rule of `challenge`.

use std::{fmt, sync::Arc};

use http::{HeaderMap, StatusCode};

use super::challenge;

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
