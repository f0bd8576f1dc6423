//! Where providers leave the standard: what they put into answers, how they refuse, what else they take.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};

use crate::testing::reply::{
    Reply,
    error_response::{Cause, Refusal},
    quoted,
};

/// The ways of one provider; the default is RFC 6749's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) token_type: Option<&'static str>,
    /// `expires_in` is answered.
    pub(crate) tell_lifetime: bool,
    pub(crate) scope: ScopeAnswer,
    /// More members of an answer, their values as JSON.
    pub(crate) extra: &'static [(&'static str, &'static str)],
    /// `scope` is a parameter.
    pub(crate) scope_parameter: bool,
    /// A request to authorize has to name a scope.
    pub(crate) scope_required: bool,
    /// `expiration_time` shortens the life of a token.
    pub(crate) expiration_time: bool,
    /// A code is exchanged with the `redirect_uri` it was asked with (RFC 6749 §4.1.3).
    pub(crate) redirect_uri_again: bool,
    /// A query beside the form is put up with.
    pub(crate) query: bool,
    /// GET at the token endpoint tells about a token.
    pub(crate) verify: bool,
    /// Introspection, revocation and discovery.
    pub(crate) more_endpoints: bool,
    pub(crate) dialect: Dialect,
}

/// Which scope an answer tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScopeAnswer {
    /// What was asked for, if anything was.
    Asked,
    AskedOr(&'static str),
    Always(&'static str),
    Never,
}

/// How a refusal looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Rfc6749,
    SignNow,
    EsignGlobal,
}

impl Default for Ways {
    fn default() -> Self {
        Self::STANDARD
    }
}

impl Ways {
    pub(crate) const STANDARD: Self = Self {
        token_type: Some("Bearer"),
        tell_lifetime: true,
        scope: ScopeAnswer::Asked,
        extra: &[],
        scope_parameter: true,
        scope_required: false,
        expiration_time: false,
        redirect_uri_again: true,
        query: true,
        verify: false,
        more_endpoints: true,
        dialect: Dialect::Rfc6749,
    };

    /// Whether a scope that is asked for changes anything.
    pub(crate) fn asks_scope(&self) -> bool {
        self.scope_parameter && !matches!(self.scope, ScopeAnswer::Always(_))
    }
}

impl ScopeAnswer {
    pub(crate) fn tell(self, asked: Option<&str>) -> Option<Cow<'static, str>> {
        match self {
            ScopeAnswer::Asked => asked.map(|scope| scope.to_owned().into()),
            ScopeAnswer::AskedOr(default) => Some(asked.map_or(default.into(), |scope| scope.to_owned().into())),
            ScopeAnswer::Always(scope) => Some(scope.into()),
            ScopeAnswer::Never => None,
        }
    }
}

impl Dialect {
    pub(crate) fn refuse(self, refusal: Refusal) -> Reply {
        let json = |status, body: String| Reply::new(status).body(HeaderValue::from_static("application/json"), body);
        match (self, refusal.cause) {
            // The page names the text; the object around it and those below are ours, in the style of each API.
            (Dialect::SignNow, Cause::Password) => {
                json(StatusCode::BAD_REQUEST, r#"{"error":"Invalid credentials."}"#.into())
            }
            (Dialect::SignNow, Cause::Body) => {
                let message = quoted(refusal.description);
                json(StatusCode::BAD_REQUEST, format!(r#"{{"errors":[{{"code":65536,"message":{message}}}]}}"#))
            }
            (Dialect::EsignGlobal, Cause::Body) => {
                let message = quoted(refusal.description);
                json(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!(r#"{{"code":415,"message":{message},"data":null,"success":false}}"#),
                )
            }
            _ => refusal.into_reply(),
        }
    }
}
