//! An answer of an authorization server: what came, and what its headers say. Pure.

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

use shape::AnswerShape;

/// An answer, with what is needed to judge it.
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) shape: &'a AnswerShape,
    /// The wall clock when it came, for a `Retry-After` that is a date.
    pub(crate) now: SystemTime,
}

impl Answer<'_> {
    /// Without a byte order mark.
    pub(super) fn text(&self) -> &[u8] {
        self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body)
    }

    /// Without its parameters; `no media type` if there is none that can be shown.
    pub(super) fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_one = kind.len() <= 64 && kind.chars().all(|c| c.is_ascii_alphanumeric() || "/+-.".contains(c));
        if is_one && kind.contains('/') { kind } else { "no media type".into() }
    }

    /// By the server's own clock, if it says what that is: ours may be wrong.
    pub(super) fn server_time(&self) -> SystemTime {
        let date = self.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.unwrap_or(self.now)
    }

    /// RFC 9110 §10.2.3: seconds, or a date.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(self.server_time()).ok(),
        }
    }

    /// Whether there may be a token in it, wherever.
    pub(super) fn may_hold_a_token(&self) -> bool {
        token_members::in_answer(self.body)
    }

    /// Envoy and what is built on it answer 503 when the server breaks off, too, and say how far it came.
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
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: &headers,
                body: b"",
                shape: &AnswerShape::default(),
                now: SystemTime::UNIX_EPOCH,
            };
            assert_eq!(answer.retry_after().map(|wait| wait.as_secs()), expected, "{date:?} {retry_after}");
        }
    }
}
