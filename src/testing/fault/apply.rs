//! From a fault to what the connection does. Decides only.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::Fault;
use crate::testing::reply::{Content, Member, Reply};

/// What the connection does with a request.
pub(crate) struct Verdict {
    pub(crate) wait: Duration,
    pub(crate) act: Act,
}

pub(crate) enum Act {
    Reply(Reply, Delivery),
    Hang,
    Close,
}

impl Verdict {
    pub(crate) fn just(reply: Reply) -> Self {
        Self { wait: Duration::ZERO, act: Act::Reply(reply, Delivery::Whole) }
    }

    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.wait = self.wait.saturating_add(wait);
        self
    }
}

impl Fault {
    /// Decides; `right` acts and gives the right answer, and is only called where the server gets to act.
    pub(crate) fn verdict(self, right: impl FnOnce() -> Reply) -> Verdict {
        let act = match self.course {
            Course::Hang => Act::Hang,
            Course::CloseBefore => Act::Close,
            Course::CloseAfter => {
                right();
                Act::Close
            }
            Course::Answer => {
                let mut reply = match self.body {
                    None => right(),
                    Some(body) => body.into_reply(self.status.unwrap_or_default()),
                };
                reply.headers.extend(self.headers);
                if let Content::Token(members) = &mut reply.content {
                    for edit in self.edits {
                        edit.apply(members);
                    }
                }
                Act::Reply(reply, self.delivery)
            }
        };
        Verdict { wait: self.delay, act }
    }

    /// Whether the server does what was asked, however the answer fares.
    pub(crate) fn lets_act(&self) -> bool {
        match self.course {
            Course::Answer => self.body.is_none(),
            Course::CloseAfter => true,
            Course::Hang | Course::CloseBefore => false,
        }
    }

    /// The access token that the fault wants issued.
    pub(crate) fn chosen_token(&self) -> Option<String> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Set("access_token", json) => {
                serde_json::from_str(json).ok().filter(|token: &String| !token.is_empty())
            }
            _ => None,
        })
    }
}

/// How far it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    Answer,
    Hang,
    CloseBefore,
    CloseAfter,
}

/// A body in place of the right one.
#[derive(Clone)]
pub(crate) enum Replaced {
    Fixed(Option<HeaderValue>, Bytes),
    Error { code: String, description: Option<String> },
}

/// A change to the members of a token answer.
#[derive(Clone)]
pub(crate) enum Edit {
    Set(&'static str, String),
    Add(String, String),
    Remove(String),
}

/// How the body travels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    Whole,
    Truncated,
    Padded(usize),
    Drip(Duration),
}

impl Replaced {
    fn into_reply(self, status: StatusCode) -> Reply {
        match self {
            Replaced::Error { code, description } => Reply::error(status, &code, description.as_deref()),
            Replaced::Fixed(content_type, body) => {
                let mut reply = Reply::new(status);
                reply.headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
                reply.content = Content::Fixed(body);
                reply
            }
        }
    }
}

impl Edit {
    fn apply(self, members: &mut Vec<Member>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reply::member;

    fn right() -> Reply {
        Reply::token(vec![member("access_token", "t"), member("token_type", "Bearer")])
    }

    fn sent(fault: Fault) -> (u16, String) {
        match fault.verdict(right).act {
            Act::Reply(reply, _) => {
                let body = reply.content.into_bytes();
                (reply.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
            }
            Act::Hang | Act::Close => panic!("no answer"),
        }
    }

    #[test]
    fn the_right_answer_is_bent() {
        for (fault, body) in [
            (Fault::delay(Duration::ZERO), r#"{"access_token":"t","token_type":"Bearer"}"#),
            (Fault::token_type(None), r#"{"access_token":"t"}"#),
            (Fault::token_type(Some("mac")), r#"{"access_token":"t","token_type":"mac"}"#),
            (Fault::access_token("null"), r#"{"access_token":null,"token_type":"Bearer"}"#),
            (Fault::without("access_token"), r#"{"token_type":"Bearer"}"#),
            (Fault::expires_in("1e20"), r#"{"access_token":"t","token_type":"Bearer","expires_in":1e20}"#),
            (
                Fault::member("token_type", "\"mac\""),
                r#"{"access_token":"t","token_type":"Bearer","token_type":"mac"}"#,
            ),
        ] {
            assert!(fault.lets_act());
            assert_eq!(sent(fault), (200, body.to_owned()));
        }
    }

    #[test]
    fn the_right_answer_is_replaced() {
        for (fault, status, body) in [
            (Fault::status(503), 503, ""),
            (Fault::empty(), 200, ""),
            (Fault::error_in_200("bad\"code"), 200, r#"{"error":"bad\"code"}"#),
            (Fault::status(401).error("a").description("b"), 401, r#"{"error":"a","error_description":"b"}"#),
            (Fault::delay(Duration::ZERO).error("a"), 400, r#"{"error":"a"}"#),
            (Fault::status(500).body("text/plain", "x"), 500, "x"),
        ] {
            assert!(!fault.lets_act());
            assert_eq!(sent(fault), (status, body.to_owned()));
        }
    }

    #[test]
    fn the_server_acts_or_not() {
        for (fault, acts) in [
            (Fault::hang(), false),
            (Fault::drop_before_acting(), false),
            (Fault::drop_after_acting(), true),
            (Fault::truncated(), true),
            (Fault::html(), false),
        ] {
            let mut acted = false;
            assert_eq!(fault.lets_act(), acts);
            fault.verdict(|| {
                acted = true;
                right()
            });
            assert_eq!(acted, acts);
        }
    }

    #[test]
    fn waits_add_up() {
        let second = Duration::from_secs(1);
        let verdict = Fault::delay(second).after(second).verdict(right).after(second);
        assert_eq!(verdict.wait, second * 3);
    }

    #[test]
    fn a_chosen_token_is_a_string_with_something_in_it() {
        assert_eq!(Fault::access_token("\"mine\"").chosen_token().as_deref(), Some("mine"));
        assert_eq!(Fault::access_token("\"\"").chosen_token(), None);
        assert_eq!(Fault::access_token("17").chosen_token(), None);
        assert_eq!(Fault::token_type(None).chosen_token(), None);
    }
}
