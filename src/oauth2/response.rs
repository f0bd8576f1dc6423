//! A response of an authorization server, and how it is read. Pure, apart from `body`.
//!
//! | module | what it holds |
//! |---|---|
//! | `body` | reads the body, up to a limit on its size |
//! | `shape` | where a server has the members of its responses, and what it calls them |
//! | `members` | parses JSON or a form into members |
//! | `token_response`, `lifetime` | read the tokens and their lifetimes |
//! | `salvage` | finds the refresh token in a response that can't be parsed |
//! | `error_text` | what an error shows of a response |
//! | `shape_hint` | says how to configure the shape of a response without a token |
//! | `token_members` | whether a response may hold a token, and so must not be shown |
//! | `byte_search` | finds a word in bytes |

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};

pub(crate) mod body;
mod byte_search;
mod error_text;
mod lifetime;
mod members;
mod salvage;
pub(crate) mod shape;
mod shape_hint;
pub(crate) mod token_members;
pub(crate) mod token_response;

use shape::ResponseShape;

/// A response, with what is needed to read it.
pub(crate) struct EndpointResponse<'a> {
    /// The endpoint's URL without its query, to be shown.
    pub(crate) endpoint: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) shape: &'a ResponseShape,
    /// The wall-clock time of its arrival.
    pub(crate) now: SystemTime,
}

impl EndpointResponse<'_> {
    /// The body without a byte order mark.
    pub(super) fn text(&self) -> &[u8] {
        self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body)
    }

    /// The media type without its parameters; `no media type` if there is none that can be shown.
    pub(super) fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_one = kind.len() <= 64 && kind.chars().all(|c| c.is_ascii_alphanumeric() || "/+-.".contains(c));
        if is_one && kind.contains('/') { kind } else { "no media type".into() }
    }

    /// The time by the server's clock, if it sends it, because this machine's clock may be wrong.
    pub(super) fn server_time(&self) -> SystemTime {
        let date = self.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.unwrap_or(self.now)
    }

    /// How long to wait (RFC 9110 §10.2.3): seconds, or a date.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(self.server_time()).ok(),
        }
    }

    /// Whether there may be a token anywhere in it.
    pub(super) fn may_hold_a_token(&self) -> bool {
        token_members::in_answer(self.body)
    }

    /// Whether a proxy reports that the server broke off the connection. Envoy and proxies built on it answer 503 then.
    pub(super) fn is_broken_off_behind_a_proxy(&self) -> bool {
        let says = |text: &[u8]| byte_search::holds(self.body, text);
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && says(b"reset before headers")
            && ![&b"connection failure"[..], b"overflow"].into_iter().any(says)
    }
}

/// The media type of RFC 6749 appendix B.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_to_wait_for_is_counted_by_the_servers_own_clock() {
        for (date, retry_after, expected) in [
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "Thu, 01 Jan 2026 00:00:03 GMT", Some(3)),
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "Wed, 31 Dec 2025 23:59:59 GMT", None),
            (Some("soon"), "Thu, 01 Jan 1970 00:00:07 GMT", Some(7)),
            (None, "Thu, 01 Jan 1970 00:00:07 GMT", Some(7)),
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "5", Some(5)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            let response = EndpointResponse {
                endpoint: "https://id.test/token",
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: &headers,
                body: b"",
                shape: &ResponseShape::default(),
                now: SystemTime::UNIX_EPOCH,
            };
            assert_eq!(response.retry_after().map(|wait| wait.as_secs()), expected, "{date:?} {retry_after}");
        }
    }
}
