//! What a token endpoint's refusal means: one table, keyed by grant, status and error code. Pure.

use std::{error, fmt};

use http::StatusCode;

use crate::FetchError;
use Verdict::{Reauthorize, Rejected, RejectedForGood, TryAgain};

/// What a token endpoint answered instead of a token. Found behind a [`FetchError`](crate::FetchError) with
/// [`FetchError::cause`](crate::FetchError::cause).
///
/// Its text says what was wrong and what to do. It holds no secret: of an answer with a success status it shows nothing, of any
/// other at most 256 characters in which everything that was sent, and everything that looks like a token, is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError {
    pub(crate) status: Option<StatusCode>,
    pub(crate) code: Option<String>,
    pub(crate) text: String,
    pub(crate) acted: bool,
}

impl EndpointError {
    /// There was no answer, because nothing was sent.
    pub(crate) fn unsent(why: &str) -> Self {
        Self { status: None, code: None, text: why.to_owned(), acted: false }
    }

    /// The HTTP status of the answer; `None` if there was no answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether the server may have done what it was asked to, although it brought no token: its answer was lost or can't be read,
    /// or it broke down over it. Then a refresh token may be spent.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        self.acted
    }

    /// The `error` of the answer (RFC 6749 §5.2), such as `invalid_client`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for EndpointError {}

/// What kind of grant was refused: the same words mean different things for different grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    /// Nothing is spent, nobody is asked: client credentials, assertions.
    Repeatable,
    /// RFC 6749 §6.
    RefreshToken,
    /// RFC 6749 §4.1.
    AuthorizationCode,
    /// RFC 6749 §4.3.
    Password,
}

impl GrantKind {
    pub(crate) fn of(grant_type: Option<&str>) -> Self {
        match grant_type {
            Some("refresh_token") => Self::RefreshToken,
            Some("authorization_code") => Self::AuthorizationCode,
            Some("password") => Self::Password,
            _ => Self::Repeatable,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass.
    TryAgain,
    /// Until somebody changes the client's credentials or its registration.
    Rejected,
    /// The same, and trying again by itself would lock an account.
    RejectedForGood,
    /// The user must authorize again.
    Reauthorize,
}

impl Verdict {
    pub(crate) fn of(self, error: EndpointError) -> FetchError {
        match self {
            TryAgain => FetchError::try_again(error),
            Rejected => FetchError::rejected(error),
            RejectedForGood => FetchError::rejected_for_good(error),
            Reauthorize => FetchError::reauthorize(error),
        }
    }
}

/// Judges an answer without a token: what to do next, and what to tell people to do. The first row that fits holds.
pub(crate) fn judge(grant: GrantKind, status: StatusCode, code: Option<&str>) -> (Verdict, &'static str) {
    use GrantKind::{AuthorizationCode, Password, RefreshToken, Repeatable};
    // An error that comes with a success status (GitHub's do) is the 400 it should be.
    let status = if status.is_success() && code.is_some() { 400 } else { status.as_u16() };
    match (grant, status, code) {
        // RFC 6585 §4: whatever else it says, later is fine.
        (_, 429, _) => (TryAgain, "it asks for fewer requests"),

        // The codes of RFC 6749 §5.2, whatever the status: servers send them with 200, 400, 401, 403 and 500.
        (_, _, Some("invalid_client")) => {
            (Rejected, "check client id and secret, and whether the server wants them in HTTP Basic or in the form")
        }
        (_, _, Some("unauthorized_client")) => (Rejected, "the client may not use this grant: change its registration"),
        (_, _, Some("unsupported_grant_type")) => (Rejected, "the server doesn't know this grant"),
        (_, _, Some("invalid_scope")) => {
            (Rejected, "the client may not have this scope: ask for less, or change its registration")
        }
        (_, _, Some("invalid_request")) => (Rejected, "a parameter is missing, unknown or repeated"),
        // RFC 8707 §2.
        (_, _, Some("invalid_target")) => (Rejected, "the client may not have a token for this resource"),
        // RFC 6749 §4.1.2.1 and RFC 8628 §3.5, borrowed by many.
        (_, _, Some("temporarily_unavailable" | "server_error" | "slow_down")) => (TryAgain, "it has trouble"),

        // What was spent is void. Some name the token instead of the grant.
        (
            RefreshToken,
            _,
            Some("invalid_grant" | "invalid_token" | "invalid_refresh_token" | "expired_token" | "access_denied"),
        ) => (Reauthorize, "the refresh token has expired, was revoked, or was used before"),
        (AuthorizationCode, _, Some("invalid_grant" | "invalid_code" | "access_denied")) => {
            (Reauthorize, "the code has expired or was used before, or redirect URI or PKCE verifier don't fit")
        }
        // Whoever guesses passwords gets accounts locked.
        (Password, _, Some("invalid_grant" | "access_denied")) => (RejectedForGood, "check user name and password"),
        // Not meant for these grants, and sent for clients that were disabled.
        (Repeatable, _, Some("invalid_grant" | "access_denied")) => {
            (Rejected, "the server denies this client access: check id, secret and assertion")
        }

        // Without a code that says more. A refused client gets 401 (RFC 6749 §5.2); anything else that is refused, 400 or 403,
        // or 422 from frameworks that check forms with it.
        (Repeatable, 400 | 401 | 403 | 422, _) => (Rejected, "check client id, secret, scope and parameters"),
        (RefreshToken | AuthorizationCode, 401, _) => (Rejected, "check client id and secret"),
        (RefreshToken | AuthorizationCode, 400 | 403 | 422, _) => {
            (Reauthorize, "what was sent has most likely expired, or was used before")
        }
        (Password, 400 | 401 | 403 | 422, _) => (RejectedForGood, "check user name, password, client id and secret"),

        // A redirect would take the credentials elsewhere; behind a balancer it may be a page for a break.
        (_, 300..=399, _) => (TryAgain, "redirects are not followed with credentials: use the URL it points to"),
        // While servers are being deployed, paths come and go.
        (_, 404 | 405 | 410, _) => (TryAgain, "check the URL"),
        (_, 415, _) => (TryAgain, "it doesn't take a form of this kind"),
        (_, 500..=599, _) => (TryAgain, "it has trouble"),
        (_, 200..=299, _) => (TryAgain, "check that the URL is the token endpoint's"),
        _ => (TryAgain, "check the URL and what stands before the server"),
    }
}

/// Whether the server may have acted on a request that it answered so.
pub(crate) fn may_have_acted(status: StatusCode, code: Option<&str>) -> bool {
    match (status.as_u16(), code) {
        // It has trouble, and nobody knows when that began.
        (_, Some("server_error")) => true,
        // It says why it did not.
        (_, Some(_)) => false,
        // RFC 9110 §15.6.4: it is not able to handle the request.
        (503, None) => false,
        // A success that brought nothing, a proxy that waited in vain (RFC 9110 §15.6.5), a server that gave up waiting (§15.5.9).
        (200..=299 | 500..=599 | 408, None) => true,
        _ => false,
    }
}

/// The codes that may be shown of an answer with a success status: those that say nothing but themselves.
pub(crate) fn is_registered(code: &str) -> bool {
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
        "temporarily_unavailable",
        "server_error",
        "slow_down",
    ]
    .contains(&code)
}

#[cfg(test)]
mod tests {
    use super::{
        GrantKind::{AuthorizationCode, Password, RefreshToken, Repeatable},
        *,
    };

    fn verdict(grant: GrantKind, status: u16, code: Option<&str>) -> Verdict {
        let (verdict, advice) = judge(grant, StatusCode::from_u16(status).unwrap(), code);
        assert!(!advice.is_empty());
        verdict
    }

    #[test]
    fn what_means_the_same_for_every_grant() {
        for grant in [Repeatable, RefreshToken, AuthorizationCode, Password] {
            for (status, code, expected) in [
                (400, Some("invalid_client"), Rejected),
                (401, Some("invalid_client"), Rejected),
                (200, Some("invalid_client"), Rejected),
                (500, Some("invalid_client"), Rejected),
                (400, Some("invalid_scope"), Rejected),
                (400, Some("unauthorized_client"), Rejected),
                (400, Some("unsupported_grant_type"), Rejected),
                (400, Some("invalid_request"), Rejected),
                (400, Some("invalid_target"), Rejected),
                (429, None, TryAgain),
                (429, Some("invalid_grant"), TryAgain),
                (400, Some("slow_down"), TryAgain),
                (503, Some("temporarily_unavailable"), TryAgain),
                (400, Some("server_error"), TryAgain),
                (200, None, TryAgain),
                (204, None, TryAgain),
                (302, None, TryAgain),
                (307, None, TryAgain),
                (404, None, TryAgain),
                (408, None, TryAgain),
                (500, None, TryAgain),
                (502, None, TryAgain),
                (503, None, TryAgain),
            ] {
                assert_eq!(verdict(grant, status, code), expected, "{grant:?} {status} {code:?}");
            }
        }
    }

    #[test]
    fn what_depends_on_the_grant() {
        for (status, code, repeatable, refresh, authorization, password) in [
            (400, Some("invalid_grant"), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (200, Some("invalid_grant"), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (403, Some("access_denied"), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (400, Some("Invalid credentials."), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (401, Some("Invalid credentials."), Rejected, Rejected, Rejected, RejectedForGood),
            (400, None, Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (401, None, Rejected, Rejected, Rejected, RejectedForGood),
            (403, None, Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (422, None, Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (422, Some("invalid"), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            // GitHub's.
            (200, Some("bad_refresh_token"), Rejected, Reauthorize, Reauthorize, RejectedForGood),
            (200, Some("Invalid credentials."), Rejected, Reauthorize, Reauthorize, RejectedForGood),
        ] {
            for (grant, expected) in [
                (Repeatable, repeatable),
                (RefreshToken, refresh),
                (AuthorizationCode, authorization),
                (Password, password),
            ] {
                assert_eq!(verdict(grant, status, code), expected, "{grant:?} {status} {code:?}");
            }
        }
    }
}
