//! What a fault does to a reply: it replaces the body, or edits the members of a token response.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::testing::reply::{Content, Member, Reply};

/// How far the server gets with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    Answer,
    /// It never answers.
    Hang,
    /// It closes the connection before it acts.
    CloseBefore,
    /// It acts, then closes the connection.
    CloseAfter,
}

/// A body in place of the right one.
#[derive(Clone)]
pub(crate) enum Replacement {
    Fixed(Option<HeaderValue>, Bytes),
    /// An error response (RFC 6749 §5.2).
    Error {
        code: String,
        description: Option<String>,
    },
}

/// A change to the members of a token response. Values are raw JSON.
#[derive(Clone)]
pub(crate) enum Edit {
    Set(&'static str, String),
    Add(String, String),
    Remove(String),
}

impl Replacement {
    pub(crate) fn into_reply(self, status: StatusCode) -> Reply {
        match self {
            Replacement::Error { code, description } => Reply::error(status, &code, description.as_deref()),
            Replacement::Fixed(content_type, body) => {
                let mut reply = Reply::new(status);
                reply.headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
                reply.content = Content::Fixed(body);
                reply
            }
        }
    }
}

impl Edit {
    pub(crate) fn apply(self, members: &mut Vec<Member>) {
        match self {
            Edit::Add(name, json) => members.push((name.into(), json)),
            Edit::Remove(name) => members.retain(|(member, _)| *member != name),
            Edit::Set(name, json) => match members.iter_mut().find(|(member, _)| member == name) {
                Some((_, value)) => *value = json,
                None => members.push((name.into(), json)),
            },
        }
    }
}
