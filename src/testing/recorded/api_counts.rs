//! How often the API gave each answer.

/// How the requests to the API fared, from [`AuthorizationServer::api`](crate::testing::AuthorizationServer::api).
///
/// Each request is counted once, under the reason for its answer.
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
    /// Had a live token, or went to `/api/open` without one, and were let in.
    pub accepted: u64,
    /// 401: no bearer token.
    pub missing: u64,
    /// 401: a token that the server never issued, or has forgotten.
    pub unknown: u64,
    /// 401: a token whose life had ended.
    pub expired: u64,
    /// 401: a revoked token.
    pub revoked: u64,
    /// 401 in spite of a live token: `/api/unauthorized` and `/api/scope-401`.
    pub refused: u64,
    /// 403: `/api/forbidden` with a live token.
    pub forbidden: u64,
    /// 400: more than one `Authorization` header.
    pub malformed: u64,
    /// Met a fault in place of the API.
    pub faulted: u64,
}

impl ApiCounts {
    /// The requests answered 401, faults apart.
    pub fn unauthorized(&self) -> u64 {
        self.missing + self.unknown + self.expired + self.revoked + self.refused
    }

    /// All requests to the API.
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
