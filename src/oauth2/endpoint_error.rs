//! What a token endpoint answered instead of a token.

use std::{error, fmt};

use http::StatusCode;

pub(crate) mod codes;
pub(crate) mod reported_error;
pub(crate) mod verdict;

/// What a token endpoint answered instead of a token. Found behind a [`FetchError`](crate::FetchError) with
/// [`FetchError::cause`](crate::FetchError::cause).
///
/// Its text says what was wrong and what to do: of what the server says, the code and at most 256 characters of the message. It holds no
/// secret: everything that was sent, and everything that looks like a token, is masked in them, and of an answer that may hold a token
/// nothing is shown. Of an answer that doesn't explain itself in a member that is known, only its media type, its length and the title of a
/// page are, and a short text without any structure that is no success: what proxies say.
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

    /// The `error` of the answer (RFC 6749 §5.2), such as `invalid_client`, or what the server has in its place. `None` if it holds
    /// anything that was sent, looks like a token, or has more than 64 characters; and beside a token, where it may be a copy of it, unless
    /// it is one of the RFCs' or made of such words.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_it_was_made_of() {
        let unsent = EndpointError::unsent("no");
        assert_eq!((unsent.status(), unsent.code(), unsent.may_have_acted()), (None, None, false));
        let error = EndpointError {
            status: Some(StatusCode::BAD_GATEWAY),
            code: Some("server_error".into()),
            acted: true,
            ..unsent
        };
        assert_eq!((error.status(), error.code()), (Some(StatusCode::BAD_GATEWAY), Some("server_error")));
        assert!(error.may_have_acted());
        assert_eq!(error.to_string(), "no");
    }
}
