//! Finds the error that a response reports, in the members where servers put it. RFC 6749 §5.2 has `error` and `error_description`. Pure.

use http::StatusCode;
use serde_json::{Map, Value};

use super::codes::{REGISTERED, Topic, known_topic, normalized, topic_of_code, topic_of_text};

/// The error that a response reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReportedError {
    /// The codes as the server wrote them. The one that says most comes first.
    pub(crate) codes: Vec<String>,
    /// The text for people.
    pub(crate) text: String,
    /// Members that were split into a code and a text.
    pub(crate) splits: Vec<Split>,
    /// The response has a code, or says `"ok": false`. Otherwise it has only a text.
    pub(crate) is_error: bool,
    /// The response seems to report an error: `"status": "error"`, `"success": "false"`.
    seems_error: bool,
    /// The server says that the error passes.
    is_transient: bool,
    /// The HTTP status is that of a success. With another one, no member can say that all is well.
    has_success_status: bool,
    /// What a numeric code in a success is about.
    topic_of_number: Option<Topic>,
}

/// The parts of a member before and after `: `.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) before: String,
    pub(crate) after: String,
}

impl ReportedError {
    /// Finds the error in the members of a response, or in those of several objects in it. `None` if it reports none.
    pub(crate) fn of<'a>(
        status: StatusCode,
        objects: impl IntoIterator<Item = &'a Map<String, Value>>,
    ) -> Option<Self> {
        let mut reported = Self { has_success_status: status.is_success(), ..Self::default() };
        let (mut refuses, mut all_is_well) = (false, false);
        for members in objects {
            refuses |= reported.read_members(members);
            // Only with a success status: Yii's errors have `"code": 0`, too.
            all_is_well |= reported.has_success_status && says_all_is_well(members);
        }
        reported.is_error = refuses || !reported.codes.is_empty();
        (reported.is_refusal() || !reported.text.is_empty() && !all_is_well).then_some(reported)
    }

    /// Whether the response reports an error by a code or a flag. Otherwise it has only a text.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_error || self.seems_error
    }

    /// Reads the members of an object. Returns whether a flag says that this is an error.
    fn read_members(&mut self, members: &Map<String, Value>) -> bool {
        // RFC 6749 §5.2 has a string. Facebook and Google's APIs have an object.
        match members.get("error") {
            Some(Value::Object(error)) => self.add_error_object(error),
            Some(error) => self.add_code(error),
            None => {}
        }
        for name in CODES {
            members.get(name).into_iter().for_each(|code| self.add_code(code));
        }
        if let Some(Value::Array(errors)) = members.get("errors") {
            for error in errors.iter().take(MOST) {
                match error {
                    Value::Object(error) => self.add_error_object(error),
                    error => self.add_code(error),
                }
            }
        }
        // HubSpot has a code in `status`; others have `failure` or a number there.
        let status =
            members.get("status").filter(|status| status.as_str().is_some_and(|word| topic_of_code(word).is_some()));
        status.into_iter().for_each(|status| self.add_code(status));
        // Feishu and DingTalk have a numeric error code in `code`. Others have a number there in a success, too.
        let code = members.get("code").filter(|code| !is_success(code) && self.is_error_code(code, members));
        code.into_iter().for_each(|code| self.add_code(code));
        NUMBERS.iter().filter_map(|name| members.get(*name)).for_each(|code| self.add_number(code));
        // Withings has this number for too many requests. Its other numbers don't have the meaning of HTTP's.
        if self.has_success_status && members.get("status").and_then(number) == Some(601) {
            self.topic_of_number.get_or_insert(Topic::Busy);
        }
        self.add_texts(members);
        self.seems_error |=
            ["ok", "success"].iter().any(|name| members.get(*name).is_some_and(|ok| is_flag(ok, false)));
        self.seems_error |= members.get("status").and_then(Value::as_str).is_some_and(is_word_of_failure);
        ["ok", "success"].iter().any(|name| members.get(*name) == Some(&Value::Bool(false)))
    }

    /// Whether the member `code` is an error code. In a success it may be an authorization code, or a number for success.
    fn is_error_code(&self, code: &Value, members: &Map<String, Value>) -> bool {
        match code {
            _ if !self.has_success_status => true,
            Value::String(word) if number(code).is_none() => {
                topic_of_code(word).is_some() || texts(members).next().is_some()
            }
            _ => !says_success(members),
        }
    }

    /// Numbers that mean an outage: WeChat's -1, and those of HTTP.
    fn add_number(&mut self, code: &Value) {
        let topic = match number(code).filter(|_| self.has_success_status) {
            Some(429 | 503) => Topic::Busy,
            Some(-1 | 500..=599) => Topic::Trouble,
            _ => return,
        };
        self.topic_of_number.get_or_insert(topic);
    }

    /// Adds a code. Dropbox has a text behind it.
    fn add_code(&mut self, code: &Value) {
        match code {
            Value::String(code) if !code.trim().is_empty() => match code.split_once(": ") {
                Some((code, text)) => {
                    self.push_code(code);
                    self.push_text(text);
                    // A secret across the split would not be masked in either part, so this is checked later.
                    let seen = |text: &str| text.chars().filter(|c| *c != '\0').take(LONGEST_TEXT).collect();
                    if self.splits.len() < 2 * MOST {
                        self.splits.push(Split { before: seen(code), after: seen(text) });
                    }
                }
                None => self.push_code(code),
            },
            // 0 means success.
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

    /// Adds an error that is an object.
    fn add_error_object(&mut self, error: &Map<String, Value>) {
        self.is_transient |= error.get("is_transient") == Some(&Value::Bool(true));
        // Strava has `invalid` in `code` and what is invalid in `field`.
        if let (Some(Value::String(what)), Some(Value::String(which))) = (error.get("code"), error.get("field")) {
            self.push_code(&format!("{what}_{which}"));
        }
        for name in ["error", "errorType", "code", "type", "status", "reason"] {
            error.get(name).into_iter().for_each(|code| self.add_code(code));
        }
        error.get("code").into_iter().for_each(|code| self.add_number(code));
        self.add_texts(error);
    }

    fn add_texts(&mut self, from: &Map<String, Value>) {
        for text in texts(from) {
            // Google Identity Platform has codes as texts: `TOKEN_EXPIRED`.
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
            // More than is ever shown. Zeros are left out, as where it is shown.
            self.text.extend(text.trim().chars().filter(|c| *c != '\0').take(LONGEST_TEXT));
        }
    }

    /// What the error is about, and whether a known code says so. Otherwise it is guessed from words.
    pub(crate) fn topic(&self) -> Option<(Topic, bool)> {
        if self.is_transient {
            return Some((Topic::Trouble, true));
        }
        let by_code = self.deciding_code().map(|(_, topic, is_known)| (topic, is_known));
        let by_text = || topic_of_text(&self.text).map(|topic| (topic, false));
        match by_code {
            // These codes are vague, so the text may decide.
            Some((Topic::Denied, _)) => by_text().filter(|(topic, _)| *topic == Topic::Busy).or(by_code),
            Some((Topic::Request | Topic::Client, _)) if self.is_vague() => {
                by_text().filter(|(topic, _)| *topic == Topic::Grant).or(by_code)
            }
            Some(_) => by_code,
            // Many servers have one number for all errors, so the text comes first.
            None => by_text().or(self.topic_of_number.map(|topic| (topic, false))),
        }
    }

    /// The code that decides what the error is about, and whether it is known. A known one anywhere comes first.
    fn deciding_code(&self) -> Option<(&str, Topic, bool)> {
        let known = self.codes.iter().find_map(|code| Some((&**code, known_topic(&normalized(code))?, true)));
        known.or_else(|| self.codes.iter().find_map(|code| Some((&**code, topic_of_code(code)?, false))))
    }

    /// Whether the deciding code isn't written like a code. It may be the words of a gateway.
    pub(crate) fn is_prose(&self) -> bool {
        self.deciding_code().is_some_and(|(code, ..)| {
            let is_registered = REGISTERED.iter().any(|(known, _)| code.eq_ignore_ascii_case(known));
            !is_registered && known_topic(code).is_none()
        })
    }

    /// Whether the code is one that some servers also send for an expired refresh token: Atlassian, LemonLDAP::NG, Xee, Shopify.
    pub(crate) fn is_vague(&self) -> bool {
        self.deciding_code()
            .is_some_and(|(code, ..)| matches!(&*normalized(code), "invalid_request" | "unauthorized_client"))
    }

    /// Whether the client is not authorized to use this grant (RFC 6749 §5.2).
    pub(crate) fn is_about_registration(&self) -> bool {
        self.deciding_code().is_some_and(|(code, ..)| normalized(code) == "unauthorized_client")
    }

    /// Whether the server doesn't have this grant (RFC 6749 §5.2).
    pub(crate) fn is_about_grant_type(&self) -> bool {
        self.deciding_code().is_some_and(|(code, ..)| normalized(code) == "unsupported_grant_type")
    }

    /// The first registered code, as the specifications spell it.
    pub(crate) fn registered_code(&self) -> Option<String> {
        self.codes.iter().map(|code| normalized(code)).find(|code| REGISTERED.iter().any(|(known, _)| known == code))
    }
}

/// Whether [`ReportedError::of`] reads a member of this name.
pub(crate) fn is_error_member(name: &str) -> bool {
    ["error", "errors", "status", "ok", "success", "code"].contains(&name)
        || CODES.contains(&name)
        || TEXTS.contains(&name)
}

/// Whether a response says that all is well. Then its text is no error.
fn says_all_is_well(members: &Map<String, Value>) -> bool {
    let is_true = ["ok", "success"].iter().any(|name| members.get(*name).is_some_and(|ok| is_flag(ok, true)));
    let is_code = ["code", "errcode", "status"].iter().any(|name| members.get(*name).is_some_and(is_success));
    is_true || is_code || members.get("code").and_then(number).is_some() && says_success(members)
}

/// Whether a code means success, at Feishu, WeChat and others.
fn is_success(code: &Value) -> bool {
    match code {
        Value::String(code) if is_word_of_success(code) => true,
        code => matches!(number(code), Some(0 | 200)),
    }
}

/// Whether the text is that of a success. The number beside it may be anything: 1, 20000.
fn says_success(members: &Map<String, Value>) -> bool {
    let words = ["msg", "message"].iter().filter_map(|name| members.get(*name)?.as_str());
    words.into_iter().any(is_word_of_success)
}

/// A number, or a string with one: `"0000"`.
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

/// The texts for people, without those that only say that all is well.
fn texts(members: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let texts = TEXTS.iter().filter_map(|name| members.get(*name)?.as_str());
    texts.filter(|text| !text.trim().is_empty() && !is_word_of_success(text))
}

/// Members with codes, beside `error`.
const CODES: [&str; 7] = ["errorCode", "error_code", "errcode", "err_code", "errorType", "error_type", "suberror"];

/// Members with numbers that may have the meaning of HTTP's. Not `status`: Withings' 503 means invalid parameters.
const NUMBERS: [&str; 5] = ["code", "errcode", "err_code", "error_code", "errorCode"];

/// Members with texts for people.
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

/// In characters. Four times what an excerpt reads.
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
