//! Why an authorization brought no token.

use std::{error, fmt};

use crate::{
    FetchError, FetchErrorKind,
    oauth2::{EndpointError, masking::is_invisible},
};
use AuthorizationErrorKind::{CodeRefused, Denied, InteractionRequired, Refused, TryAgain, WrongLogin};

/// Why an authorization brought no token.
///
/// ```
/// use tower_bearer::oauth2::{AuthorizationCode, AuthorizationErrorKind, TokenEndpoint};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.public_client("id");
/// let login = AuthorizationCode::new(endpoint, "https://id.example.com/authorize", "https://app.example.com/cb")?;
/// let pending = login.start();
/// let callback = format!("/cb?error=access_denied&state={}", pending.state());
///
/// let error = login.finish(pending, &callback).await.unwrap_err();
/// assert_eq!(error.kind(), AuthorizationErrorKind::Denied);
/// assert_eq!(error.code(), Some("access_denied"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AuthorizationError {
    kind: AuthorizationErrorKind,
    text: String,
    code: Option<String>,
    description: Option<String>,
    cause: Option<FetchError>,
}

/// What went wrong. [`AuthorizationError`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizationErrorKind {
    /// The user refused, or the server refused for the user (`access_denied`).
    Denied,
    /// The server must show the user a page (`login_required`, `consent_required` and the like, OpenID Connect Core §3.1.2.6). Begin
    /// again without `prompt=none`.
    InteractionRequired,
    /// The server refused the client or the request. Client id and secret, the parameters, or the client's registration must change. The
    /// error's text says what to check first.
    Refused,
    /// The server has trouble. The user may begin again.
    TryAgain,
    /// The callback belongs to another authorization, or to none: another user's, a page loaded twice, or an attack (RFC 9700 §4.7). Or
    /// it came to another address than the redirect URI. Nothing was exchanged.
    StateMismatch,
    /// Another login began the pending authorization, with another token endpoint, client id, redirect URI or issuer (mix-up, RFC 9700
    /// §4.4). Nothing was exchanged. Finish it with the login that began it. If the configuration has changed since, the user must begin
    /// again.
    WrongLogin,
    /// The callback names another issuer than the configured one (RFC 9207). Nothing was exchanged.
    WrongIssuer,
    /// The user took too long and must begin again.
    Expired,
    /// The callback can't be read.
    Malformed,
    /// The server refused the code: it has expired or was used before. The user must begin again.
    CodeRefused,
}

impl AuthorizationError {
    pub(super) fn new(kind: AuthorizationErrorKind, text: &str) -> Self {
        Self { kind, text: text.to_owned(), code: None, description: None, cause: None }
    }

    /// `part` is what differs.
    pub(super) fn wrong_login(part: &str) -> Self {
        Self::new(WrongLogin, &format!("it was begun with another {part}: finish it with the login that began it"))
    }

    /// The server's error in a callback. Anybody can write such a URL, so its text is cut and put on one line.
    pub(super) fn from_server(code: &str, reason: Option<&str>, description: Option<&str>) -> Self {
        let kind = of_code(code, reason);
        let description = description.map(|said| one_line(said, 256)).filter(|said| !said.is_empty());
        let code = one_line(code, LONGEST_CODE);
        let text = match &description {
            Some(said) => format!("the authorization server answered {code} (it says: {said})"),
            None => format!("the authorization server answered {code}"),
        };
        Self { kind, text, code: Some(code).filter(|code| !code.is_empty()), description, cause: None }
    }

    pub(super) fn exchange(cause: FetchError) -> Self {
        let code = cause.cause().downcast_ref().and_then(EndpointError::code);
        let (kind, code) = (of_exchange(&cause), code.map(|code| one_line(code, LONGEST_CODE)));
        Self { kind, text: "the code brought no token".into(), code, description: None, cause: Some(cause) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> AuthorizationErrorKind {
        self.kind
    }

    /// The server's `error`, such as `access_denied`: from the callback (RFC 6749 §4.1.2.1), or from the token endpoint
    /// ([`EndpointError::code`]). It is on one line, and at most 64 characters long. From the callback it came through the browser, so
    /// show it as text.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The server's `error_description`, on one line and at most 256 characters long. It came through the browser: show it as text, and
    /// don't rely on it.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

impl fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Denied => "the user did not agree: ",
            _ => "the authorization failed: ",
        })?;
        f.write_str(&self.text)?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl error::Error for AuthorizationError {
    /// What is behind the cause, whose text is part of this one's.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.as_ref().and_then(error::Error::source)
    }
}

/// What an error of the authorization endpoint means (RFC 6749 §4.1.2.1). `reason` is Facebook's `error_reason`.
fn of_code(code: &str, reason: Option<&str>) -> AuthorizationErrorKind {
    let code = code.trim().to_ascii_lowercase();
    let is_cancelled = |code: &str| code.split(['_', '-']).any(|word| matches!(word, "cancelled" | "canceled"));
    match code.as_str() {
        "access_denied" | "consent_denied" | "user_denied" => Denied,
        // LinkedIn's and Apple's `user_cancelled_authorize`, and others like it.
        code if is_cancelled(code) => Denied,
        "server_error" | "temporarily_unavailable" => TryAgain,
        // OpenID Connect Core §3.1.2.6. `session_selection_required` is a name from its drafts.
        "interaction_required" | "login_required" | "consent_required" => InteractionRequired,
        "account_selection_required" | "session_selection_required" => InteractionRequired,
        _ if reason.is_some_and(|reason| reason.eq_ignore_ascii_case("user_denied")) => Denied,
        _ => Refused,
    }
}

/// What a failed exchange means. A code can't be tried again, so a guess is final.
fn of_exchange(cause: &FetchError) -> AuthorizationErrorKind {
    match cause.suspected().unwrap_or(cause).kind() {
        FetchErrorKind::ReauthorizationRequired => CodeRefused,
        FetchErrorKind::Rejected => Refused,
        FetchErrorKind::TryAgain => TryAgain,
    }
}

fn one_line(text: &str, longest: usize) -> String {
    text.chars().map(|c| if is_invisible(c) { ' ' } else { c }).take(longest).collect::<String>().trim().to_owned()
}

/// In characters. Longer than any registered code.
const LONGEST_CODE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth2::endpoint_error::{reported_error::ReportedError, verdict};

    #[test]
    fn every_code_of_the_authorization_endpoint() {
        for (code, expected) in [
            ("access_denied", Denied),
            ("Access_Denied", Denied),
            ("ACCESS_DENIED", Denied),
            ("consent_denied", Denied),
            ("user_denied", Denied),
            ("user_cancelled_login", Denied),
            ("user_cancelled_authorize", Denied),
            ("User-Canceled", Denied),
            ("oem_cancelled_login", Denied),
            ("login_required", InteractionRequired),
            ("consent_required", InteractionRequired),
            ("interaction_required", InteractionRequired),
            ("account_selection_required", InteractionRequired),
            ("Login_Required", InteractionRequired),
            ("server_error", TryAgain),
            ("Temporarily_Unavailable", TryAgain),
            ("invalid_request", Refused),
            ("unauthorized_client", Refused),
            ("invalid_scope", Refused),
            ("uncancelledness", Refused),
            ("access_denied_by_policy", Refused),
            ("", Refused),
        ] {
            assert_eq!(AuthorizationError::from_server(code, None, None).kind(), expected, "{code}");
        }
        let error = |code, reason| AuthorizationError::from_server(code, Some(reason), None);
        assert_eq!(error("200", "user_denied").kind(), Denied);
        assert_eq!(error("server_error", "user_denied").kind(), TryAgain);
        assert_eq!(error("invalid_scope", "other").kind(), Refused);
    }

    #[test]
    fn a_code_is_short_and_on_one_line() {
        for (code, expected) in [
            ("access_denied", Some("access_denied".to_owned())),
            ("Custom Code", Some("Custom Code".to_owned())),
            ("a\nb\u{2028}c\u{1b}[31m", Some("a b c [31m".to_owned())),
            (&"ü".repeat(99), Some("ü".repeat(64))),
            (" \n", None),
        ] {
            assert_eq!(AuthorizationError::from_server(code, None, None).code(), expected.as_deref(), "{code}");
        }
        assert_eq!(AuthorizationError::new(WrongLogin, "").code(), None);
    }

    #[test]
    fn an_exchange_tells_the_code_of_the_token_endpoint() {
        use crate::oauth2::grant::GrantKind::AuthorizationCode;
        for (status, code, expected) in [
            (400, "invalid_grant", CodeRefused),
            (401, "invalid_client", Refused),
            (503, "temporarily_unavailable", TryAgain),
        ] {
            let status = http::StatusCode::from_u16(status).unwrap();
            let said = ReportedError::of(status, [&serde_json::Map::from_iter([("error".into(), code.into())])]);
            let judged = verdict::judge(AuthorizationCode, status, said.as_ref());
            let endpoint =
                EndpointError { status: Some(status), code: Some(code.into()), text: String::new(), acted: false };
            let error = AuthorizationError::exchange(judged.of(endpoint));
            assert_eq!((error.kind(), error.code()), (expected, Some(code)));
        }
        assert_eq!(AuthorizationError::exchange(FetchError::try_again("no answer")).code(), None);
    }
}
