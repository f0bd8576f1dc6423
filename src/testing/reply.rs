//! A reply, before it is bytes. The members of a token response stay apart, so that a fault can change them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA},
};

pub(crate) mod body;
pub(crate) mod error_response;
pub(crate) mod outcome;

/// Status, headers and content.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// The body of a reply.
pub(crate) enum Content {
    Fixed(Bytes),
    /// The members of a token response.
    Token(Vec<Member>),
}

/// A member of a JSON object: its name and its value as JSON.
pub(crate) type Member = (Cow<'static, str>, String);

impl Reply {
    /// A reply without a body.
    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), content: Content::Fixed(Bytes::new()) }
    }

    /// A reply with a JSON object.
    pub(crate) fn json(status: StatusCode, members: &[Member]) -> Self {
        Self::new(status).body(HeaderValue::from_static("application/json"), object(members))
    }

    /// A token response. No cache may keep it (RFC 6749 §5.1).
    pub(crate) fn token(members: Vec<Member>) -> Self {
        let mut reply = Self::json(StatusCode::OK, &[]).no_store();
        reply.content = Content::Token(members);
        reply
    }

    /// An error response (RFC 6749 §5.2).
    pub(crate) fn error(status: StatusCode, code: &str, description: Option<&str>) -> Self {
        let mut members = vec![member("error", code)];
        members.extend(description.map(|text| member("error_description", text)));
        Self::json(status, &members).no_store()
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.content = Content::Fixed(body.into());
        self.header(CONTENT_TYPE, content_type)
    }

    fn no_store(self) -> Self {
        self.header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .header(PRAGMA, HeaderValue::from_static("no-cache"))
    }
}

impl Content {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Content::Fixed(bytes) => bytes,
            Content::Token(members) => object(&members).into(),
        }
    }
}

/// A member whose value is a string.
pub(crate) fn member(name: &'static str, text: &str) -> Member {
    (Cow::Borrowed(name), quoted(text))
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object(members: &[Member]) -> String {
    let members: Vec<_> = members.iter().map(|(name, json)| format!("{}:{json}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}
