//! What an answer says of an error, in the members where servers put it. Pure.

use http::StatusCode;
use serde_json::{Map, Value};

use super::codes::{REGISTERED, Topic, explain, look_up, plain, sort};

/// What an answer says, as far as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReportedError {
    /// The codes, the most telling one first, as the server wrote them.
    pub(crate) codes: Vec<String>,
    /// What it says to people.
    pub(crate) text: String,
    /// What stood in one member and is code and text here.
    pub(crate) cuts: Vec<Cut>,
    /// It says that this is an error: by a code, or `"ok": false`. Otherwise there are words only.
    pub(crate) is_error: bool,
    /// It says so in a way that may mean something else: `"status": "error"`, `"success": "false"`.
    complains: bool,
    /// It says itself that this passes.
    is_transient: bool,
    /// It came with a success status. With another, nothing in it says that all is well.
    succeeded: bool,
    /// What its number speaks of, where HTTP's status is that of a success.
    number: Option<Topic>,
}

/// A text before and after `: `.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) before: String,
    pub(crate) after: String,
}

impl ReportedError {
    /// Finds what an answer says, in the members where servers put it: in those of the answer, or of several objects in it. `None` if it
    /// says nothing of an error.
    pub(crate) fn of<'a>(status: StatusCode, answer: impl IntoIterator<Item = &'a Map<String, Value>>) -> Option<Self> {
        let mut said = Self { succeeded: status.is_success(), ..Self::default() };
        let (mut refuses, mut all_is_well) = (false, false);
        for members in answer {
            refuses |= said.take(members);
            // Yii's refusals have `"code": 0` as well.
            all_is_well |= said.succeeded && succeeds(members);
        }
        said.is_error = refuses || !said.codes.is_empty();
        (said.is_refusal() || !said.text.is_empty() && !all_is_well).then_some(said)
    }

    /// Whether it says that this is an error, in whatever way. Otherwise there are words only.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_error || self.complains
    }

    /// Whether it refuses, whatever else it says.
    fn take(&mut self, answer: &Map<String, Value>) -> bool {
        // RFC 6749 §5.2, or an object in its place (Facebook, Google's APIs).
        match answer.get("error") {
            Some(Value::Object(error)) => self.take_object(error),
            Some(error) => self.take_code(error),
            None => {}
        }
        for name in CODES {
            answer.get(name).into_iter().for_each(|code| self.take_code(code));
        }
        if let Some(Value::Array(errors)) = answer.get("errors") {
            for error in errors.iter().take(MOST) {
                match error {
                    Value::Object(error) => self.take_object(error),
                    error => self.take_code(error),
                }
            }
        }
        // A word in capitals in HubSpot's, `failure` or a number in others'.
        let status = answer.get("status").filter(|status| status.as_str().is_some_and(|word| sort(word).is_some()));
        status.into_iter().for_each(|status| self.take_code(status));
        // Feishu's, DingTalk's: a number, which others have for a success.
        let code = answer.get("code").filter(|code| !is_success(code) && self.is_error_code(code, answer));
        code.into_iter().for_each(|code| self.take_code(code));
        NUMBERS.iter().filter_map(|name| answer.get(*name)).for_each(|code| self.take_number(code));
        // Withings' for too many requests. Its other numbers are none of HTTP's, or mean something else.
        if self.succeeded && answer.get("status").and_then(number) == Some(601) {
            self.number.get_or_insert(Topic::Busy);
        }
        self.take_text(answer);
        self.complains |= ["ok", "success"].iter().any(|name| answer.get(*name).is_some_and(|ok| is_flag(ok, false)));
        self.complains |= answer.get("status").and_then(Value::as_str).is_some_and(is_word_of_failure);
        ["ok", "success"].iter().any(|name| answer.get(*name) == Some(&Value::Bool(false)))
    }

    /// Whether a member `code` is that of an error. In a success it may be an authorization code, or a number that means a success.
    fn is_error_code(&self, code: &Value, answer: &Map<String, Value>) -> bool {
        match code {
            _ if !self.succeeded => true,
            Value::String(word) if number(code).is_none() => sort(word).is_some() || texts(answer).next().is_some(),
            _ => !says_success(answer),
        }
    }

    /// WeChat's -1 and what others take over from HTTP: an outage, and not the end of an authorization.
    fn take_number(&mut self, code: &Value) {
        let topic = match number(code).filter(|_| self.succeeded) {
            Some(429 | 503) => Topic::Busy,
            Some(-1 | 500..=599) => Topic::Trouble,
            _ => return,
        };
        self.number.get_or_insert(topic);
    }

    /// A code, or one with an explanation behind it (Dropbox).
    fn take_code(&mut self, code: &Value) {
        match code {
            Value::String(code) if !code.trim().is_empty() => match code.split_once(": ") {
                Some((code, text)) => {
                    self.push_code(code);
                    self.push_text(text);
                    // What was sent may have stood over the cut, and neither part of it would be masked.
                    let seen = |text: &str| text.chars().filter(|c| *c != '\0').take(LONGEST_TEXT).collect();
                    if self.cuts.len() < 2 * MOST {
                        self.cuts.push(Cut { before: seen(code), after: seen(text) });
                    }
                }
                None => self.push_code(code),
            },
            // 0 is no error.
            Value::Number(code) if code.as_f64() != Some(0.0) => self.push_code(&code.to_string()),
            _ => {}
        }
    }

    fn push_code(&mut self, code: &str) {
        let code: String = code.trim().chars().take(LONGEST).collect();
        if self.codes.len() < MOST && !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }

    fn take_object(&mut self, error: &Map<String, Value>) {
        self.is_transient |= error.get("is_transient") == Some(&Value::Bool(true));
        // Strava names what is `invalid` beside it.
        if let (Some(Value::String(what)), Some(Value::String(which))) = (error.get("code"), error.get("field")) {
            self.push_code(&format!("{what}_{which}"));
        }
        for name in ["error", "errorType", "code", "type", "status", "reason"] {
            error.get(name).into_iter().for_each(|code| self.take_code(code));
        }
        error.get("code").into_iter().for_each(|code| self.take_number(code));
        self.take_text(error);
    }

    fn take_text(&mut self, from: &Map<String, Value>) {
        for text in texts(from) {
            // Google Identity Platform's: `TOKEN_EXPIRED`.
            if (1..=LONGEST).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            {
                self.push_code(text);
            }
            self.push_text(text);
        }
    }

    fn push_text(&mut self, text: &str) {
        if !text.trim().is_empty() && self.text.len() < LONGEST {
            let space = if self.text.is_empty() { "" } else { " " };
            self.text += space;
            // More than is ever shown; without what isn't counted there.
            self.text.extend(text.trim().chars().filter(|c| *c != '\0').take(LONGEST_TEXT));
        }
    }

    /// What it speaks of, and whether a code says so that is known. Otherwise it is made of words that may mean something else.
    pub(crate) fn topic(&self) -> Option<(Topic, bool)> {
        if self.is_transient {
            return Some((Topic::Trouble, true));
        }
        let by_code = self.deciding_code().map(|(_, topic, is_known)| (topic, is_known));
        let by_text = || explain(&self.text).map(|topic| (topic, false));
        match by_code {
            // These leave open what is wrong, and the text says it.
            Some((Topic::Denied, _)) => by_text().filter(|(topic, _)| *topic == Topic::Busy).or(by_code),
            Some((Topic::Request | Topic::Client, _)) if self.is_vague() => {
                by_text().filter(|(topic, _)| *topic == Topic::Grant).or(by_code)
            }
            Some(_) => by_code,
            // Many have one number for everything.
            None => by_text().or(self.number.map(|topic| (topic, false))),
        }
    }

    /// The first code that says what this speaks of, and whether it is known. That of a wrapper may say less than one within.
    fn deciding_code(&self) -> Option<(&str, Topic, bool)> {
        let known = self.codes.iter().find_map(|code| Some((&**code, look_up(&plain(code))?, true)));
        known.or_else(|| self.codes.iter().find_map(|code| Some((&**code, sort(code)?, false))))
    }

    /// Words of a gateway, perhaps, that only read like a code: none is written so. (Those of the RFCs are, in capitals too.)
    pub(crate) fn is_prose(&self) -> bool {
        self.deciding_code().is_some_and(|(code, ..)| {
            let is_registered = REGISTERED.iter().any(|(known, _)| code.eq_ignore_ascii_case(known));
            !is_registered && look_up(code).is_none()
        })
    }

    /// Codes that some servers send for a dead refresh token or code: Atlassian, LemonLDAP::NG, Xee, Shopify.
    pub(crate) fn is_vague(&self) -> bool {
        self.deciding_code()
            .is_some_and(|(code, ..)| matches!(&*plain(code), "invalid_request" | "unauthorized_client"))
    }

    /// RFC 6749 §5.2: the client is not authorized to use this grant.
    pub(crate) fn is_about_registration(&self) -> bool {
        self.deciding_code().is_some_and(|(code, ..)| plain(code) == "unauthorized_client")
    }

    /// The code in the specifications' spelling, if it is one of theirs.
    pub(crate) fn registered(&self) -> Option<String> {
        self.codes.iter().map(|code| plain(code)).find(|code| REGISTERED.iter().any(|(known, _)| known == code))
    }
}

/// Whether [`ReportedError::of`] looks at this member.
pub(crate) fn is_looked_at(name: &str) -> bool {
    ["error", "errors", "status", "ok", "success", "code"].contains(&name)
        || CODES.contains(&name)
        || TEXTS.contains(&name)
}

/// Whether an answer says itself that all is well. What it says besides is no error then.
fn succeeds(answer: &Map<String, Value>) -> bool {
    let is_true = ["ok", "success"].iter().any(|name| answer.get(*name).is_some_and(|ok| is_flag(ok, true)));
    let is_code = ["code", "errcode", "status"].iter().any(|name| answer.get(*name).is_some_and(is_success));
    is_true || is_code || answer.get("code").and_then(number).is_some() && says_success(answer)
}

/// As Feishu, WeChat and others say it.
fn is_success(code: &Value) -> bool {
    match code {
        Value::String(code) if is_word_of_success(code) => true,
        code => matches!(number(code), Some(0 | 200)),
    }
}

/// Whether the words for people are those of a success, whatever number stands beside them: 1, 20000.
fn says_success(answer: &Map<String, Value>) -> bool {
    let words = ["msg", "message"].iter().filter_map(|name| answer.get(*name)?.as_str());
    words.into_iter().any(is_word_of_success)
}

/// A number, or a text that is one: `"0000"`.
fn number(code: &Value) -> Option<i64> {
    code.as_i64().or_else(|| code.as_str()?.trim().parse().ok())
}

fn is_flag(value: &Value, flag: bool) -> bool {
    match value {
        Value::Bool(value) => *value == flag,
        Value::String(text) => text.trim().eq_ignore_ascii_case(if flag { "true" } else { "false" }),
        value => value.as_i64() == Some(i64::from(flag)),
    }
}

fn is_word_of_success(text: &str) -> bool {
    ["ok", "success"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

fn is_word_of_failure(text: &str) -> bool {
    ["error", "fail", "failed", "failure"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// What people are to read, if it is more than that all is well.
fn texts(answer: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let texts = TEXTS.iter().filter_map(|name| answer.get(*name)?.as_str());
    texts.filter(|text| !text.trim().is_empty() && !is_word_of_success(text))
}

/// Where codes stand beside `error`.
const CODES: [&str; 7] = ["errorCode", "error_code", "errcode", "err_code", "errorType", "error_type", "suberror"];

/// Where numbers stand that may be HTTP's. Not `status`: Withings' 503 means invalid parameters.
const NUMBERS: [&str; 5] = ["code", "errcode", "err_code", "error_code", "errorCode"];

/// What people are to read.
const TEXTS: [&str; 13] = [
    "error_description",
    "errorDescription",
    "errorSummary",
    "errorMessage",
    "error_message",
    "error_msg",
    "errmsg",
    "message",
    "msg",
    "description",
    "detail",
    "reason",
    "title",
];

/// Longer than any code, and long enough for a text.
const LONGEST: usize = 256;

/// In characters: four times what is read of it for an excerpt.
const LONGEST_TEXT: usize = 4096;

/// More codes than any server sends.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(answer: Value) -> Option<ReportedError> {
        ReportedError::of(StatusCode::OK, answer.as_object())
    }

    fn refused(answer: Value) -> Option<ReportedError> {
        ReportedError::of(StatusCode::BAD_REQUEST, answer.as_object())
    }

    fn topic(answer: Value) -> Option<Topic> {
        said(answer).and_then(|said| said.topic()).map(|(topic, _)| topic)
    }

    #[test]
    fn codes_are_found_where_servers_put_them_and_compared_without_case() {
        for answer in [
            json!({"error": "invalid_grant"}),
            json!({"error": "INVALID_GRANT"}),
            json!({"error": "Invalid Grant."}),
            json!({"error": "invalid_grant: it has expired"}),
            json!({"error": {"code": "invalid_grant", "message": "no"}}),
            json!({"error": {"type": "invalid_grant"}}),
            json!({"errors": [{"errorType": "invalid_grant", "message": "no"}], "success": false}),
            json!({"errors": [{"field": "refresh_token", "code": "invalid"}]}),
            json!({"errorCode": "invalid_grant"}),
            json!({"status": "BAD_REFRESH_TOKEN", "message": "no"}),
            json!({"ok": false, "error": "invalid_refresh_token"}),
            json!({"error": "token_revoked"}),
            json!({"error": "bad_verification_code"}),
            json!({"errcode": 40029, "errmsg": "invalid code"}),
            json!({"code": 20003, "msg": "invalid authorization code"}),
            json!({"code": "invalid_grant", "message": "no"}),
            json!({"error_type": "invalid_grant", "error_message": "no"}),
        ] {
            assert_eq!(topic(answer.clone()), Some(Topic::Grant), "{answer}");
        }
    }

    #[test]
    fn what_a_word_speaks_of() {
        for (code, expected) in [
            ("invalid_client_id", Some(Topic::Client)),
            ("bad_client_secret", Some(Topic::Client)),
            ("incorrect_client_credentials", Some(Topic::Client)),
            ("deleted_client", Some(Topic::Client)),
            ("invalid_resource", Some(Topic::Request)),
            ("redirect_uri_mismatch", Some(Topic::Request)),
            ("missing_parameter", Some(Topic::Request)),
            ("ratelimited", Some(Topic::Busy)),
            ("rate_limit_exceeded", Some(Topic::Busy)),
            ("server_unavailable", Some(Topic::Busy)),
            ("internal_error", Some(Topic::Trouble)),
            ("unknown_error", Some(Topic::Trouble)),
            ("Internal Server Error", Some(Topic::Trouble)),
            ("mfa_required", Some(Topic::Interaction)),
            ("Access Denied", Some(Topic::Denied)),
            ("nonsense", None),
            ("400", None),
        ] {
            assert_eq!(topic(json!({"error": code})), expected, "{code}");
        }
    }

    #[test]
    fn what_a_code_leaves_open_the_text_says() {
        for (code, text, expected) in [
            ("access_denied", "You have made too many requests continuously.", Some(Topic::Busy)),
            ("access_denied", "access_token not expired", Some(Topic::Busy)),
            ("access_denied", "Unauthorized", Some(Topic::Denied)),
            ("unauthorized_client", "refresh_token is invalid", Some(Topic::Grant)),
            ("unauthorized_client", "Grant type 'refresh_token' not allowed for the client.", Some(Topic::Client)),
            ("invalid_request", "The authorization code was not found or was already used", Some(Topic::Grant)),
            ("invalid_request", "The parameter code is missing", Some(Topic::Request)),
            ("nonsense", "Session has expired", Some(Topic::Grant)),
            ("invalid_grant", "please try again", Some(Topic::Grant)),
        ] {
            assert_eq!(topic(json!({"error": code, "error_description": text})), expected, "{code}: {text}");
        }
    }

    #[test]
    fn only_codes_that_are_known_are_certain() {
        for (code, certain) in [
            ("invalid_grant", true),
            ("INVALID_GRANT", true),
            ("bad_refresh_token", true),
            ("invalid_credentials", false),
            ("bad_credentials", false),
            ("Invalid CSRF token", false),
            ("missing_authorization_header", false),
        ] {
            assert_eq!(
                said(json!({"error": code})).unwrap().topic().map(|(_, certain)| certain),
                Some(certain),
                "{code}"
            );
        }
    }

    #[test]
    fn what_is_no_error_says_nothing() {
        for answer in [
            json!({}),
            json!({"error": ""}),
            json!({"error": null}),
            json!({"errcode": 0}),
            json!({"ok": true}),
            json!({"code": 0, "msg": "success"}),
            json!({"code": "200", "message": "成功"}),
            json!({"errcode": 0, "errmsg": "ok"}),
            json!({"message": "success"}),
            json!({"success": true, "message": "You are logged in"}),
            json!({"success": "true", "message": "You are logged in"}),
            json!({"code": 1, "msg": "success", "data": {}}),
            json!({"code": "0000", "message": "done"}),
            json!({"code": 20000, "message": "OK", "description": "logged in"}),
            // An authorization code, perhaps.
            json!({"code": "4/x9Kq-short", "state": "s"}),
            json!({"code": "4/x9Kq-short", "message": "success"}),
        ] {
            assert_eq!(said(answer.clone()), None, "{answer}");
        }
    }

    #[test]
    fn with_a_status_that_is_no_success_nothing_says_that_all_is_well() {
        for answer in [
            // Yii's.
            json!({"name": "Unauthorized", "message": "Your session has expired", "code": 0, "status": 401}),
            json!({"status": 200, "message": "Your session has expired"}),
            json!({"ok": true, "message": "Your session has expired"}),
            json!({"code": 1, "message": "Your session has expired", "msg": "success"}),
        ] {
            let said = refused(answer.clone()).unwrap_or_else(|| panic!("{answer}"));
            assert_eq!(said.topic(), Some((Topic::Grant, false)), "{answer}");
        }
        assert_eq!(refused(json!({"code": "4/x9Kq-short"})).unwrap().codes, ["4/x9Kq-short"]);
    }

    #[test]
    fn a_code_with_a_success_is_one_if_it_is_known_or_a_number_or_explained() {
        for answer in [
            json!({"code": "invalid_grant"}),
            json!({"code": "20003"}),
            json!({"code": 20003}),
            json!({"code": "InvalidCode", "message": "no"}),
        ] {
            assert!(said(answer.clone()).unwrap().is_error, "{answer}");
        }
    }

    #[test]
    fn numbers_of_outages_are_no_refusals() {
        for (answer, expected) in [
            (json!({"code": 500, "msg": "system error"}), Some(Topic::Trouble)),
            (json!({"code": 503, "msg": "System busy"}), Some(Topic::Busy)),
            (json!({"code": 502}), Some(Topic::Trouble)),
            (json!({"code": "500", "msg": "?"}), Some(Topic::Trouble)),
            (json!({"code": 429, "message": "slower"}), Some(Topic::Busy)),
            (json!({"errcode": -1, "errmsg": "system error"}), Some(Topic::Trouble)),
            (json!({"errcode": -1, "errmsg": "?"}), Some(Topic::Trouble)),
            (json!({"error": {"code": 500, "message": "?"}}), Some(Topic::Trouble)),
            (json!({"code": 1, "msg": "internal server error"}), Some(Topic::Trouble)),
            // Some have one number for everything.
            (json!({"code": 500, "msg": "The refresh token has expired"}), Some(Topic::Grant)),
            (json!({"code": 500, "error": "invalid_grant"}), Some(Topic::Grant)),
            // Withings'.
            (json!({"status": 503, "error": "Invalid Params"}), None),
            (json!({"status": 601, "error": "Same arguments in less than 10 seconds"}), Some(Topic::Busy)),
            (json!({"code": 20003, "msg": "no"}), None),
        ] {
            assert_eq!(topic(answer.clone()), expected, "{answer}");
        }
        assert_eq!(refused(json!({"code": 500, "msg": "?"})).unwrap().topic(), None);
    }

    #[test]
    fn a_flag_or_a_word_says_that_it_is_an_error() {
        for (answer, is_error) in [
            (json!({"ok": false}), true),
            (json!({"ok": 0}), false),
            (json!({"success": "false"}), false),
            (json!({"success": "False", "code": 0}), false),
            (json!({"status": "error"}), false),
            (json!({"status": "failed", "data": null}), false),
        ] {
            let said = said(answer.clone()).unwrap_or_else(|| panic!("{answer}"));
            assert_eq!((said.is_refusal(), said.is_error), (true, is_error), "{answer}");
        }
    }

    #[test]
    fn the_code_that_decides_is_asked_and_not_that_of_a_wrapper() {
        let of = |answer: [Value; 2]| {
            ReportedError::of(StatusCode::BAD_REQUEST, answer.iter().filter_map(Value::as_object)).unwrap()
        };
        let wrapped = |error: Value| of([json!({"code": 20014}), error]);
        assert!(wrapped(json!({"error": "unauthorized_client"})).is_about_registration());
        assert!(wrapped(json!({"error": "Invalid CSRF token"})).is_prose());
        assert!(!wrapped(json!({"error": "invalid_grant"})).is_prose());
        let vague = wrapped(json!({"error": "invalid_request", "error_description": "the refresh token has expired"}));
        assert!(vague.is_vague());
        assert_eq!(vague.topic(), Some((Topic::Grant, false)));
    }

    #[test]
    fn a_long_answer_is_cut() {
        let said = said(json!({"error": "x".repeat(9_999), "errors": vec!["y"; 9_999]})).unwrap();
        assert!(said.codes.len() <= MOST && said.codes.iter().all(|code| code.len() <= LONGEST));
    }
}
