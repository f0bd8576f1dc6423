//! The public [`Fault`]: what goes wrong with one request.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{LOCATION, RETRY_AFTER},
};

use crate::testing::reply::{outcome::Delivery, quoted};

mod apply;
mod effect;
pub(crate) mod script;

use effect::{Course, Edit, Replacement};

/// What goes wrong with one request. Pass it to [`AuthorizationServer::fault`] or one of the methods beside it.
///
/// A constructor says what happens. Methods refine it. A fault that replaces the answer issues no token. A fault that
/// only changes the answer issues one. (If the request itself is invalid, its error is sent unchanged.)
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_bearer::testing::{AuthorizationServer, Fault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// // Late, or no answer at all:
/// server.fault(Fault::delay(Duration::from_millis(200)));
/// server.fault(Fault::drop_before_acting());
/// server.fault(Fault::drop_after_acting()); // the token is issued, its answer is lost
/// server.fault_for(Duration::from_secs(1), Fault::hang());
///
/// // Another answer:
/// server.fault(Fault::status(429).retry_after(Duration::from_secs(2)));
/// server.fault(Fault::status(401).error("invalid_client").description("secret expired"));
/// server.fault(Fault::status(502).body("text/plain", "bad gateway").header("x-proxy", "7"));
/// server.fault(Fault::status(503).retry_after_date(SystemTime::now() + Duration::from_secs(2)));
/// server.fault(Fault::error_in_200("temporarily_unavailable"));
/// server.fault(Fault::redirect("https://other.example.com/token"));
/// server.fault(Fault::html().after(Duration::from_millis(20)));
/// server.fault(Fault::empty());
///
/// // The right answer, changed:
/// server.fault(Fault::expires_in("\"3600\"")); // a string, as some servers do
/// server.fault(Fault::access_token("\"mine\"")); // the API accepts it
/// server.fault(Fault::token_type(Some("mac")));
/// server.fault(Fault::member("scope", "\"read\""));
/// server.fault(Fault::without("access_token"));
/// server.fault(Fault::truncated());
/// server.fault(Fault::huge(10_000_000));
/// server.fault(Fault::slow_drip(Duration::from_secs(2)));
/// # Ok(())
/// # }
/// ```
///
/// [`AuthorizationServer::fault`]: crate::testing::AuthorizationServer::fault
#[derive(Clone)]
pub struct Fault {
    delay: Duration,
    course: Course,
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Replacement>,
    edits: Vec<Edit>,
    delivery: Delivery,
}

/// A late answer, or none at all.
impl Fault {
    /// The right answer, `delay` later. The token is issued at once, so a part of its life is over when it arrives.
    ///
    /// Example: [`Fault`].
    pub fn delay(delay: Duration) -> Self {
        Self::new(Course::Answer).after(delay)
    }

    /// No answer, ever. The connection stays open, and no token is issued.
    ///
    /// Example: [`Fault`].
    pub fn hang() -> Self {
        Self::new(Course::Hang)
    }

    /// The connection is closed without an answer. No token is issued.
    ///
    /// Example: [`Fault`].
    pub fn drop_before_acting() -> Self {
        Self::new(Course::CloseBefore)
    }

    /// The token is issued, then the connection is closed without an answer: the answer is lost.
    ///
    /// Example: [`Fault`].
    pub fn drop_after_acting() -> Self {
        Self::new(Course::CloseAfter)
    }
}

/// Another answer. No token is issued.
impl Fault {
    /// An answer with this status and no body. [`error`](Self::error) and [`body`](Self::body) add one.
    ///
    /// Example: [`Fault`].
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999.
    #[track_caller]
    pub fn status(status: u16) -> Self {
        assert!((200..1000).contains(&status), "{status} is not the status of an answer");
        let status = StatusCode::from_u16(status).expect("100 to 999 are status codes");
        Self::replaced(status, Replacement::Fixed(None, Bytes::new()))
    }

    /// 307 to `url`. A careful client doesn't follow it, since it would send its secret there.
    ///
    /// Example: [`Fault`].
    ///
    /// # Panics
    ///
    /// If `url` has characters that are not valid in a header.
    #[track_caller]
    pub fn redirect(url: &str) -> Self {
        let mut fault = Self::status(307);
        fault.headers.push((LOCATION, header_value(url)));
        fault
    }

    /// 200 with a web page, such as the login form of a proxy or a captive portal.
    ///
    /// Example: [`Fault`].
    pub fn html() -> Self {
        Self::status(200).body("text/html; charset=utf-8", PAGE)
    }

    /// 200 without a body.
    ///
    /// Example: [`Fault`].
    pub fn empty() -> Self {
        Self::status(200)
    }

    /// 200 with the JSON body of an error.
    ///
    /// Example: [`Fault`].
    pub fn error_in_200(code: &str) -> Self {
        Self::status(200).error(code)
    }
}

/// The right answer, changed. A token is issued.
impl Fault {
    /// Half of the body, then the connection is closed. `Content-Length` announces all of it.
    ///
    /// Example: [`Fault`].
    pub fn truncated() -> Self {
        Self::delivered(Delivery::Truncated)
    }

    /// The right answer, followed by white space until the body has this many bytes.
    ///
    /// Example: [`Fault`].
    pub fn huge(bytes: usize) -> Self {
        Self::delivered(Delivery::Padded(bytes))
    }

    /// The right answer, a byte at a time. The last byte is sent after `total`.
    ///
    /// Example: [`Fault`].
    pub fn slow_drip(total: Duration) -> Self {
        Self::delivered(Delivery::Drip(total))
    }

    /// The right answer with this `token_type`, or without one.
    ///
    /// Example: [`Fault`].
    pub fn token_type(token_type: Option<&str>) -> Self {
        Self::edited(match token_type {
            Some(text) => Edit::Set("token_type", quoted(text)),
            None => Edit::Remove("token_type".to_owned()),
        })
    }

    /// The right answer with this `expires_in`, as raw JSON: `"\"3600\""`, `"-1"`, `"1e20"`, `"null"`.
    ///
    /// The server still enforces its own [lifetime](crate::testing::Builder::lifetime).
    ///
    /// Example: [`Fault`].
    pub fn expires_in(json: &str) -> Self {
        Self::edited(Edit::Set("expires_in", json.to_owned()))
    }

    /// The right answer with this `access_token`, as raw JSON.
    ///
    /// If it is a string (`"\"mine\""`), that token is issued, so the API accepts it. If it is issued again, its life
    /// starts anew. If it is anything else, a random token is issued, and no answer has it.
    ///
    /// Example: [`Fault`].
    pub fn access_token(json: &str) -> Self {
        Self::edited(Edit::Set("access_token", json.to_owned()))
    }

    /// The right answer with one more member, whose value is raw JSON. If the answer has that member, it has it twice then.
    ///
    /// Example: [`Fault`].
    pub fn member(name: &str, json: &str) -> Self {
        Self::edited(Edit::Add(name.to_owned(), json.to_owned()))
    }

    /// The right answer without the member `name`.
    ///
    /// Example: [`Fault`].
    pub fn without(name: &str) -> Self {
        Self::edited(Edit::Remove(name.to_owned()))
    }
}

/// Refinements.
impl Fault {
    /// The same, `delay` later.
    ///
    /// Example: [`Fault`].
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = self.delay.saturating_add(delay);
        self
    }

    /// With `Retry-After` in seconds, rounded up.
    ///
    /// Example: [`Fault`].
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.set_retry_after(seconds.into())
    }

    /// With `Retry-After` as a date, in whole seconds.
    ///
    /// Example: [`Fault`].
    ///
    /// # Panics
    ///
    /// If the date is before 1970 or after 9999.
    #[must_use]
    pub fn retry_after_date(self, at: SystemTime) -> Self {
        self.set_retry_after(header_value(&httpdate::fmt_http_date(at)))
    }

    /// With one more header.
    ///
    /// Example: [`Fault`].
    ///
    /// # Panics
    ///
    /// If the name or the value is not valid in a header.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse().expect("the name of a header");
        self.headers.push((name, header_value(value)));
        self
    }

    /// With the JSON body of an error (RFC 6749 §5.2). It replaces any other body. Default status: 400.
    ///
    /// Example: [`Fault`].
    #[must_use]
    pub fn error(mut self, code: &str) -> Self {
        self.body = Some(Replacement::Error { code: code.to_owned(), description: None });
        self.or_status(StatusCode::BAD_REQUEST)
    }

    /// With an `error_description`. Call [`error`](Self::error) first: without an error, this has no effect.
    ///
    /// Example: [`Fault`].
    #[must_use]
    pub fn description(mut self, text: &str) -> Self {
        if let Some(Replacement::Error { description, .. }) = &mut self.body {
            *description = Some(text.to_owned());
        }
        self
    }

    /// With this body. It replaces any other body. Default status: 200.
    ///
    /// Example: [`Fault`].
    ///
    /// # Panics
    ///
    /// If `content_type` has characters that are not valid in a header.
    #[must_use]
    #[track_caller]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some(Replacement::Fixed(Some(header_value(content_type)), body.into()));
        self.or_status(StatusCode::OK)
    }
}

impl Fault {
    #[cfg(test)]
    pub(crate) fn status_code(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }

    fn new(course: Course) -> Self {
        Self {
            delay: Duration::ZERO,
            course,
            status: None,
            headers: Vec::new(),
            body: None,
            edits: Vec::new(),
            delivery: Delivery::Whole,
        }
    }

    fn replaced(status: StatusCode, body: Replacement) -> Self {
        Self { status: Some(status), body: Some(body), ..Self::new(Course::Answer) }
    }

    fn delivered(delivery: Delivery) -> Self {
        Self { delivery, ..Self::new(Course::Answer) }
    }

    fn edited(edit: Edit) -> Self {
        Self { edits: vec![edit], ..Self::new(Course::Answer) }
    }

    fn set_retry_after(mut self, value: HeaderValue) -> Self {
        self.headers.retain(|(name, _)| name != RETRY_AFTER);
        self.headers.push((RETRY_AFTER, value));
        self
    }

    fn or_status(mut self, status: StatusCode) -> Self {
        self.status.get_or_insert(status);
        self
    }
}

/// Hides bodies, headers and members. They may hold secrets.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("course", &self.course)
            .field("delay", &self.delay)
            .field("status", &self.status)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

#[track_caller]
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("text that a header can hold")
}

const PAGE: &str = "<!doctype html><title>Sign in</title><form><input name=user><input name=password></form>";
