//! Applies a fault: decides what the connection does with the request.

use super::{
    Fault,
    effect::{Course, Edit},
};
use crate::testing::reply::{
    Content, Reply,
    outcome::{Action, Outcome},
};

impl Fault {
    /// Decides. `right` carries out the request and returns the right answer. It is called only if the server acts.
    pub(crate) fn outcome(self, right: impl FnOnce() -> Reply) -> Outcome {
        let action = match self.course {
            Course::Hang => Action::Hang,
            Course::CloseBefore => Action::Close,
            Course::CloseAfter => {
                right();
                Action::Close
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
                Action::Reply(reply, self.delivery)
            }
        };
        Outcome { wait: self.delay, action }
    }

    /// Whether the server carries out the request, even if the answer is lost or changed.
    pub(crate) fn lets_act(&self) -> bool {
        match self.course {
            Course::Answer => self.body.is_none(),
            Course::CloseAfter => true,
            Course::Hang | Course::CloseBefore => false,
        }
    }

    /// The access token that the server should issue, if the fault names one.
    pub(crate) fn chosen_token(&self) -> Option<String> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Set("access_token", json) => {
                serde_json::from_str(json).ok().filter(|token: &String| !token.is_empty())
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::reply::member;

    fn right() -> Reply {
        Reply::token(vec![member("access_token", "t"), member("token_type", "Bearer")])
    }

    fn sent(fault: Fault) -> (u16, String) {
        match fault.outcome(right).action {
            Action::Reply(reply, _) => {
                let body = reply.content.into_bytes();
                (reply.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
            }
            Action::Hang | Action::Close => panic!("no answer"),
        }
    }

    #[test]
    fn the_right_answer_is_changed() {
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
            fault.outcome(|| {
                acted = true;
                right()
            });
            assert_eq!(acted, acts);
        }
    }

    #[test]
    fn waits_add_up() {
        let second = Duration::from_secs(1);
        let outcome = Fault::delay(second).after(second).outcome(right).after(second);
        assert_eq!(outcome.wait, second * 3);
    }

    #[test]
    fn a_chosen_token_is_a_string_with_something_in_it() {
        assert_eq!(Fault::access_token("\"mine\"").chosen_token().as_deref(), Some("mine"));
        assert_eq!(Fault::access_token("\"\"").chosen_token(), None);
        assert_eq!(Fault::access_token("17").chosen_token(), None);
        assert_eq!(Fault::token_type(None).chosen_token(), None);
    }
}
