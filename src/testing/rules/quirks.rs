//! Where providers deviate from RFC 6749: what their answers contain, how their errors look, what else they accept.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};

use crate::testing::reply::{
    Reply,
    error_response::{Cause, ErrorResponse},
    quoted,
};

/// The quirks of one provider. Default: none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quirks {
    /// The `token_type` of answers, if they have one.
    pub(crate) token_type: Option<&'static str>,
    /// Answers have `expires_in`.
    pub(crate) announce_lifetime: bool,
    /// The `scope` of answers.
    pub(crate) scope: ScopeAnswer,
    /// More members of answers: their names, and their values as JSON.
    pub(crate) extra_members: &'static [(&'static str, &'static str)],
    /// `scope` is a known parameter.
    pub(crate) scope_parameter: bool,
    /// An authorization request must name a scope.
    pub(crate) scope_required: bool,
    /// `expiration_time` shortens the life of a token.
    pub(crate) expiration_time: bool,
    /// The exchange of a code must repeat the `redirect_uri` (RFC 6749 §4.1.3).
    pub(crate) redirect_uri_again: bool,
    /// The URL of a token request may have a query.
    pub(crate) query_allowed: bool,
    /// GET at the token endpoint describes a token.
    pub(crate) token_check: bool,
    /// There are introspection, revocation and discovery.
    pub(crate) more_endpoints: bool,
    pub(crate) error_format: ErrorFormat,
}

/// Which scope an answer names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScopeAnswer {
    /// The requested scope, if any.
    Requested,
    RequestedOr(&'static str),
    Always(&'static str),
    Never,
}

/// What an error response looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ErrorFormat {
    Rfc6749,
    SignNow,
    EsignGlobal,
}

impl Default for Quirks {
    fn default() -> Self {
        Self::NONE
    }
}

impl Quirks {
    pub(crate) const NONE: Self = Self {
        token_type: Some("Bearer"),
        announce_lifetime: true,
        scope: ScopeAnswer::Requested,
        extra_members: &[],
        scope_parameter: true,
        scope_required: false,
        expiration_time: false,
        redirect_uri_again: true,
        query_allowed: true,
        token_check: false,
        more_endpoints: true,
        error_format: ErrorFormat::Rfc6749,
    };

    /// Whether the requested scope has an effect.
    pub(crate) fn reads_scope(&self) -> bool {
        self.scope_parameter && !matches!(self.scope, ScopeAnswer::Always(_))
    }
}

impl ScopeAnswer {
    /// The scope that the answer names.
    pub(crate) fn name(self, requested: Option<&str>) -> Option<Cow<'static, str>> {
        match self {
            ScopeAnswer::Requested => requested.map(|scope| scope.to_owned().into()),
            ScopeAnswer::RequestedOr(default) => {
                Some(requested.map_or(default.into(), |scope| scope.to_owned().into()))
            }
            ScopeAnswer::Always(scope) => Some(scope.into()),
            ScopeAnswer::Never => None,
        }
    }
}

impl ErrorFormat {
    pub(crate) fn reply(self, error: ErrorResponse) -> Reply {
        let json = |status, body: String| Reply::new(status).body(HeaderValue::from_static("application/json"), body);
        match (self, error.cause) {
            // The documentation has only this text. The object around it is made up, and so are the two below. They follow
            // the style of each API.
            (ErrorFormat::SignNow, Cause::Password) => {
                json(StatusCode::BAD_REQUEST, r#"{"error":"Invalid credentials."}"#.into())
            }
            (ErrorFormat::SignNow, Cause::Body) => {
                let message = quoted(error.description);
                json(StatusCode::BAD_REQUEST, format!(r#"{{"errors":[{{"code":65536,"message":{message}}}]}}"#))
            }
            (ErrorFormat::EsignGlobal, Cause::Body) => {
                let message = quoted(error.description);
                json(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!(r#"{{"code":415,"message":{message},"data":null,"success":false}}"#),
                )
            }
            _ => error.into_reply(),
        }
    }
}
