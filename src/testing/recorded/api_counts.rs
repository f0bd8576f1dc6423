//! How often the API gave each answer.

/// How the requests to the API were answered, from
/// [`AuthorizationServer::api`](crate::testing::AuthorizationServer::api).
///
/// Each request counts once, under the reason for its answer.
///
/// ```
/// use tower_bearer::testing::ApiCounts;
///
/// let counts = ApiCounts::default();
/// assert_eq!((counts.accepted, counts.unauthorized(), counts.total()), (0, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiCounts {
    /// The request was accepted: it had a live token, or none at `/api/open`.
    pub accepted: u64,
    /// 401: no bearer token.
    pub missing: u64,
    /// 401: the server never issued the token, or has forgotten it.
    pub unknown: u64,
    /// 401: the token has expired.
    pub expired: u64,
    /// 401: the token was revoked.
    pub revoked: u64,
    /// 401 although the token is live: `/api/unauthorized` and `/api/scope-401`.
    pub refused: u64,
    /// 403: `/api/forbidden` with a live token.
    pub forbidden: u64,
    /// 400: more than one `Authorization` header.
    pub malformed: u64,
    /// The API did not act, because of a fault.
    pub faulted: u64,
}

impl ApiCounts {
    /// All that were answered 401, except those that met a fault.
    ///
    /// Example: [`ApiCounts`].
    pub fn unauthorized(&self) -> u64 {
        self.missing + self.unknown + self.expired + self.revoked + self.refused
    }

    /// All requests to the API.
    ///
    /// Example: [`ApiCounts`].
    pub fn total(&self) -> u64 {
        self.accepted + self.unauthorized() + self.forbidden + self.malformed + self.faulted
    }

    pub(crate) fn add(&mut self, count: Count) {
        let counter = match count {
            Count::Accepted => &mut self.accepted,
            Count::Missing => &mut self.missing,
            Count::Unknown => &mut self.unknown,
            Count::Expired => &mut self.expired,
            Count::Revoked => &mut self.revoked,
            Count::Refused => &mut self.refused,
            Count::Forbidden => &mut self.forbidden,
            Count::Malformed => &mut self.malformed,
        };
        *counter += 1;
    }
}

/// A counter of [`ApiCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Accepted,
    Missing,
    Unknown,
    Expired,
    Revoked,
    Refused,
    Forbidden,
    Malformed,
}
