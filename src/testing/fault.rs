//! What can go wrong with an answer.

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

/// Something that goes wrong with one request: pass it to [`AuthorizationServer::fault`] and its siblings.
///
/// A constructor says what happens, methods refine it. A fault that replaces the answer issues no token; one that
/// only bends it does, unless the request itself deserves an error, which is then sent unbent.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::testing::{AuthorizationServer, Fault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// server.fault(Fault::status(429).retry_after(Duration::from_secs(2)));
/// server.fault(Fault::status(401).error("invalid_client").description("secret expired"));
/// server.fault(Fault::expires_in("\"3600\"")); // a string, as some servers do
/// server.fault(Fault::html().after(Duration::from_millis(20)));
/// server.fault_for(Duration::from_secs(1), Fault::hang());
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

/// No answer in time, or none at all.
impl Fault {
    /// The right answer, `delay` later. The token is issued at once and its life runs meanwhile.
    pub fn delay(delay: Duration) -> Self {
        Self::new(Course::Answer).after(delay)
    }

    /// No answer, ever; the connection stays open and nothing is issued.
    pub fn hang() -> Self {
        Self::new(Course::Hang)
    }

    /// The connection is closed without an answer, and nothing is issued.
    pub fn drop_before_acting() -> Self {
        Self::new(Course::CloseBefore)
    }

    /// The token is issued, then the connection closed without an answer: the answer was lost.
    pub fn drop_after_acting() -> Self {
        Self::new(Course::CloseAfter)
    }
}

/// Another answer: nothing is issued.
impl Fault {
    /// An answer with this status and no body; [`error`](Self::error) or [`body`](Self::body) give it one.
    ///
    /// # Panics
    ///
    /// Unless `status` is within 200 to 999.
    #[track_caller]
    pub fn status(status: u16) -> Self {
        assert!((200..1000).contains(&status), "{status} is not the status of an answer");
        let status = StatusCode::from_u16(status).expect("100 to 999 are status codes");
        Self::replaced(status, Replacement::Fixed(None, Bytes::new()))
    }

    /// 307 to `url`, which a client with a secret to lose does not follow.
    ///
    /// # Panics
    ///
    /// If `url` has characters that a header can't hold.
    #[track_caller]
    pub fn redirect(url: &str) -> Self {
        let mut fault = Self::status(307);
        fault.headers.push((LOCATION, header_value(url)));
        fault
    }

    /// 200 with a web page: a proxy's login form, a captive portal.
    pub fn html() -> Self {
        Self::status(200).body("text/html; charset=utf-8", PAGE)
    }

    /// 200 without a body.
    pub fn empty() -> Self {
        Self::status(200)
    }

    /// 200 with a JSON body that says `error`.
    pub fn error_in_200(code: &str) -> Self {
        Self::status(200).error(code)
    }
}

/// The right answer, bent: a token is issued.
impl Fault {
    /// Half of the right answer's body, announced as the whole of it; then the connection is closed.
    pub fn truncated() -> Self {
        Self::delivered(Delivery::Truncated)
    }

    /// The right answer, followed by white space until the body is this many bytes long.
    pub fn huge(bytes: usize) -> Self {
        Self::delivered(Delivery::Padded(bytes))
    }

    /// The right answer, a byte at a time, the last one after `total`.
    pub fn slow_drip(total: Duration) -> Self {
        Self::delivered(Delivery::Drip(total))
    }

    /// The right answer with this `token_type`, or without any.
    pub fn token_type(token_type: Option<&str>) -> Self {
        Self::edited(match token_type {
            Some(text) => Edit::Set("token_type", quoted(text)),
            None => Edit::Remove("token_type".to_owned()),
        })
    }

    /// The right answer with this `expires_in`, as raw JSON: `"\"3600\""`, `"-1"`, `"1e20"`, `"null"`.
    ///
    /// The server still enforces its own [lifetime](crate::testing::Builder::lifetime).
    pub fn expires_in(json: &str) -> Self {
        Self::edited(Edit::Set("expires_in", json.to_owned()))
    }

    /// The right answer with this `access_token`, as raw JSON.
    ///
    /// A string (`"\"mine\""`) is the token that is issued, so the API takes it; issued again, it starts a new life.
    /// For anything else a token is issued that nobody learns.
    pub fn access_token(json: &str) -> Self {
        Self::edited(Edit::Set("access_token", json.to_owned()))
    }

    /// The right answer with one more member, its value as raw JSON; if there is one of that name, it comes twice.
    pub fn member(name: &str, json: &str) -> Self {
        Self::edited(Edit::Add(name.to_owned(), json.to_owned()))
    }

    /// The right answer without the member `name`.
    pub fn without(name: &str) -> Self {
        Self::edited(Edit::Remove(name.to_owned()))
    }
}

/// Refinements.
impl Fault {
    /// All of it `delay` later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = self.delay.saturating_add(delay);
        self
    }

    /// With `Retry-After` in seconds, rounded up.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.set_retry_after(seconds.into())
    }

    /// With `Retry-After` as a date, which has whole seconds.
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
    /// # Panics
    ///
    /// If the name or the value can't be those of a header.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse().expect("the name of a header");
        self.headers.push((name, header_value(value)));
        self
    }

    /// With the JSON body of an error (RFC 6749 §5.2), in place of any other. The status is 400 unless given.
    #[must_use]
    pub fn error(mut self, code: &str) -> Self {
        self.body = Some(Replacement::Error { code: code.to_owned(), description: None });
        self.or_status(StatusCode::BAD_REQUEST)
    }

    /// With an `error_description` beside the [`error`](Self::error), which comes first; without one, no effect.
    #[must_use]
    pub fn description(mut self, text: &str) -> Self {
        if let Some(Replacement::Error { description, .. }) = &mut self.body {
            *description = Some(text.to_owned());
        }
        self
    }

    /// With this body, in place of any other. The status is 200 unless given.
    ///
    /// # Panics
    ///
    /// If `content_type` has characters that a header can't hold.
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

/// Shows no bodies, headers or members: they may hold secrets.
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
