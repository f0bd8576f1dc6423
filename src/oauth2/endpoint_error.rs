//! [`EndpointError`]: what a token endpoint answered instead of a token.
//!
//! | module | what it holds |
//! |---|---|
//! | `reported_error` | finds the codes and the text of an error in a response (RFC 6749 §5.2) |
//! | `codes` | error codes and words, of the RFCs and of providers, sorted by what they are about |
//! | `verdict` | the table that decides what to do next |

use std::{error, fmt};

use http::StatusCode;

pub(crate) mod codes;
pub(crate) mod reported_error;
pub(crate) mod verdict;

/// What a token endpoint answered instead of a token. It is the [cause](crate::FetchError::cause) of a [`FetchError`](crate::FetchError).
///
/// Its text says what was wrong and what to do. It shows the endpoint's URL without its query, the server's error code, and at most 256
/// characters of the server's message. It holds no secret: in all that is the server's, everything that was sent, and everything that looks
/// like a token, is masked. Nothing is shown of a response that may
/// hold a token. If the response has no known member, the text shows the media type, the length, the title of a page, or a short plain text
/// with an error status, such as that of a proxy.
///
/// ```
/// use tower_bearer::{FetchError, oauth2::EndpointError};
///
/// /// Whether the server doesn't know this client.
/// fn is_unknown_client(error: &FetchError) -> bool {
///     let error = error.cause().downcast_ref::<EndpointError>();
///     error.is_some_and(|error| error.code() == Some("invalid_client"))
/// }
/// # assert!(!is_unknown_client(&FetchError::try_again("no response")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError {
    pub(crate) status: Option<StatusCode>,
    pub(crate) code: Option<String>,
    pub(crate) text: String,
    pub(crate) acted: bool,
}

impl EndpointError {
    /// An error before anything was sent.
    pub(crate) fn unsent(why: &str) -> Self {
        Self { status: None, code: None, text: why.to_owned(), acted: false }
    }

    /// The HTTP status of the response; `None` if there was no response.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether the server may have acted on the request, although it brought no token: its response was lost, can't be read, or reports an
    /// internal error. Then a refresh token may be spent.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        self.acted
    }

    /// The `error` of the response (RFC 6749 §5.2), such as `invalid_client`, or the server's own code. [`EndpointError`] has an example.
    ///
    /// `None` if the code holds anything that was sent, looks like a token, or has more than 64 characters. If the response has a token as
    /// well, only known codes are returned, because another may be a copy of the token.
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
