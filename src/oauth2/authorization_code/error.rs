//! Why an authorization brought no token.

use std::{error, fmt};

use crate::{FetchError, FetchErrorKind, oauth2::excerpt::is_unseen};

/// Why an authorization brought no token.
#[derive(Debug)]
pub struct AuthorizationError {
    kind: AuthorizationErrorKind,
    text: String,
    description: Option<String>,
    cause: Option<FetchError>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizationErrorKind {
    /// The user said no, or the server on behalf of the user (`access_denied`).
    Denied,
    /// The server refused the request: its configuration, or the client's registration, must change.
    Refused,
    /// The server has trouble: the user may begin again.
    TryAgain,
    /// The callback belongs to another authorization, or to none: somebody else's, a page loaded again, or an attack (RFC 9700
    /// §4.7). Nothing was exchanged.
    StateMismatch,
    /// The callback doesn't come from the issuer that was asked (RFC 9207). Nothing was exchanged.
    WrongIssuer,
    /// The user took too long, and must begin again.
    Expired,
    /// The callback can't be read.
    Malformed,
    /// The code was not taken: it has expired or was used before. The user must begin again.
    CodeRefused,
}

impl AuthorizationError {
    pub(super) fn new(kind: AuthorizationErrorKind, text: &str) -> Self {
        Self { kind, text: text.to_owned(), description: None, cause: None }
    }

    /// What the server says, in a URL that anybody can write: short, and on one line.
    pub(super) fn from_server(kind: AuthorizationErrorKind, code: &str, description: Option<&str>) -> Self {
        let description = description.map(|said| one_line(said, 256)).filter(|said| !said.is_empty());
        let code = one_line(code, 64);
        let text = match &description {
            Some(said) => format!("the authorization server answered {code} (it says: {said})"),
            None => format!("the authorization server answered {code}"),
        };
        Self { kind, text, description, cause: None }
    }

    pub(super) fn exchange(cause: FetchError) -> Self {
        let kind = match cause.kind() {
            FetchErrorKind::ReauthorizationRequired => AuthorizationErrorKind::CodeRefused,
            FetchErrorKind::Rejected => AuthorizationErrorKind::Refused,
            FetchErrorKind::TryAgain => AuthorizationErrorKind::TryAgain,
        };
        Self { kind, text: "the code brought no token".into(), description: None, cause: Some(cause) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> AuthorizationErrorKind {
        self.kind
    }

    /// What the server says about it (`error_description`), on one line and at most 256 characters long. It came through the
    /// browser: show it as text, and don't believe it.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

impl fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            AuthorizationErrorKind::Denied => "the user did not agree: ",
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
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

fn one_line(text: &str, longest: usize) -> String {
    text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).take(longest).collect::<String>().trim().to_owned()
}
