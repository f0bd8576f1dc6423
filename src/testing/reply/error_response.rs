//! OAuth 2.0 error responses (RFC 6749 §5.2).

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
};

use super::Reply;

/// An error response, before it is a reply.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) description: &'static str,
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    pub(crate) cause: Cause,
}

/// The causes that some providers answer in a format of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    #[default]
    Other,
    /// The body is not of the kind that the server reads.
    Body,
    /// The user is unknown, or the password is wrong.
    Password,
}

impl ErrorResponse {
    fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self { status, code, description, header: None, cause: Cause::Other }
    }

    /// 405: the endpoint knows these methods only.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "not this method");
        Self { header: Some((ALLOW, HeaderValue::from_static(allowed))), ..error }
    }

    pub(crate) fn body(description: &'static str) -> Self {
        Self { cause: Cause::Body, ..Self::invalid_request(description) }
    }

    pub(crate) fn password() -> Self {
        Self { cause: Cause::Password, ..Self::invalid_grant("unknown user or wrong password") }
    }

    pub(crate) fn invalid_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(crate) fn invalid_client(description: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    pub(crate) fn invalid_grant(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    pub(crate) fn invalid_scope() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", "unknown, malformed or missing scope")
    }

    pub(crate) fn unsupported_grant_type() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", "not a grant that is offered here")
    }

    pub(crate) fn invalid_token(description: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description)
    }

    /// Adds a challenge, for a client that used the `Authorization` header.
    pub(crate) fn challenged(mut self) -> Self {
        self.header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\", charset=\"UTF-8\"")));
        self
    }

    pub(crate) fn into_reply(self) -> Reply {
        let mut reply = Reply::error(self.status, self.code, Some(self.description));
        reply.headers.extend(self.header);
        reply
    }
}
