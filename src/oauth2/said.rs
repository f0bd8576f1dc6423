//! What an answer says of an error, in the members where servers put it. Pure.

use serde_json::{Map, Value};

use super::{
    token_places,
    vocabulary::{REGISTERED, Topic, explain, look_up, plain, sort},
};

/// What an answer says, as far as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The codes, the most telling one first, as the server wrote them.
    pub(crate) codes: Vec<String>,
    /// What it says to people.
    pub(crate) text: String,
    /// It says that this is an error: by a code, or `"ok": false`. Otherwise there are words only.
    pub(crate) is_error: bool,
    /// It says itself that this passes.
    is_transient: bool,
}

impl Said {
    /// Finds what an answer says, in the members where servers put it: in those of the answer, or of several objects in it. `None` if it
    /// says nothing of an error.
    pub(crate) fn of<'a>(answer: impl IntoIterator<Item = &'a Map<String, Value>>) -> Option<Self> {
        let mut said = Self::default();
        let (mut refuses, mut all_is_well) = (false, false);
        for members in answer {
            refuses |= said.take(members);
            all_is_well |= succeeds(members);
        }
        said.is_error = refuses || !said.codes.is_empty();
        (said.is_error || !said.text.is_empty() && !all_is_well).then_some(said)
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
        let code = answer.get("code").filter(|code| !is_success(code));
        code.into_iter().for_each(|code| self.take_code(code));
        self.take_text(answer);
        ["ok", "success"].iter().any(|name| answer.get(*name) == Some(&Value::Bool(false)))
    }

    /// A code, or one with an explanation behind it (Dropbox).
    fn take_code(&mut self, code: &Value) {
        match code {
            Value::String(code) if !code.trim().is_empty() => match code.split_once(": ") {
                Some((code, text)) => {
                    self.push_code(code);
                    self.push_text(text);
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
        self.take_text(error);
    }

    fn take_text(&mut self, from: &Map<String, Value>) {
        for text in TEXTS.iter().filter_map(|name| from.get(*name)?.as_str()).filter(|text| !is_word_of_success(text)) {
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

    /// Whether there may be a token in what it says.
    pub(crate) fn tells_a_token(&self) -> bool {
        self.codes.iter().chain([&self.text]).any(|said| token_places::in_text(said))
    }

    /// What it speaks of, and whether a code says so that is known. Otherwise it is made of words that may mean something else.
    pub(crate) fn topic(&self) -> Option<(Topic, bool)> {
        if self.is_transient {
            return Some((Topic::Trouble, true));
        }
        let known = self.codes.iter().find_map(|code| look_up(&plain(code))).map(|topic| (topic, true));
        let by_code = known.or_else(|| self.codes.iter().find_map(|code| sort(code)).map(|topic| (topic, false)));
        let by_text = || explain(&self.text).map(|topic| (topic, false));
        match by_code {
            // These leave open what is wrong, and the text says it.
            Some((Topic::Denied, _)) => by_text().filter(|(topic, _)| *topic == Topic::Busy).or(by_code),
            Some((Topic::Request | Topic::Client, _)) if self.is_vague() => {
                by_text().filter(|(topic, _)| *topic == Topic::Grant).or(by_code)
            }
            Some(_) => by_code,
            None => by_text(),
        }
    }

    /// Words of a gateway, perhaps, that only read like a code: none is written so. (Those of the RFCs are, in capitals too.)
    pub(crate) fn is_prose(&self) -> bool {
        self.codes.first().is_some_and(|code| {
            let is_registered = REGISTERED.iter().any(|(known, _)| code.eq_ignore_ascii_case(known));
            !is_registered && look_up(code).is_none()
        })
    }

    /// Codes that some servers send for a dead refresh token or code: Atlassian, LemonLDAP::NG, Xee, Shopify.
    pub(crate) fn is_vague(&self) -> bool {
        self.codes.first().is_some_and(|code| matches!(&*plain(code), "invalid_request" | "unauthorized_client"))
    }

    /// RFC 6749 §5.2: the client is not authorized to use this grant.
    pub(crate) fn is_about_registration(&self) -> bool {
        self.codes.first().is_some_and(|code| plain(code) == "unauthorized_client")
    }

    /// The code in the specifications' spelling, if it is one of theirs.
    pub(crate) fn registered(&self) -> Option<String> {
        self.codes.iter().map(|code| plain(code)).find(|code| REGISTERED.iter().any(|(known, _)| known == code))
    }
}

/// Whether [`Said::of`] looks at this member.
pub(crate) fn is_looked_at(name: &str) -> bool {
    ["error", "errors", "status", "ok", "success", "code"].contains(&name)
        || CODES.contains(&name)
        || TEXTS.contains(&name)
}

/// Whether an answer says itself that all is well. What it says besides is no error then.
fn succeeds(answer: &Map<String, Value>) -> bool {
    let is_true = ["ok", "success"].iter().any(|name| answer.get(*name) == Some(&Value::Bool(true)));
    is_true || ["code", "errcode", "status"].iter().any(|name| answer.get(*name).is_some_and(is_success))
}

/// As Feishu, WeChat and others say it.
fn is_success(code: &Value) -> bool {
    match code {
        Value::Number(code) => matches!(code.as_u64(), Some(0 | 200)),
        Value::String(code) => matches!(code.trim(), "0" | "200") || is_word_of_success(code),
        _ => false,
    }
}

fn is_word_of_success(text: &str) -> bool {
    ["ok", "success"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// Where codes stand beside `error`.
const CODES: [&str; 7] = ["errorCode", "error_code", "errcode", "err_code", "errorType", "error_type", "suberror"];

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

    fn said(answer: Value) -> Option<Said> {
        Said::of(answer.as_object())
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
        ] {
            assert_eq!(said(answer.clone()), None, "{answer}");
        }
    }

    #[test]
    fn a_long_answer_is_cut() {
        let said = said(json!({"error": "x".repeat(9_999), "errors": vec!["y"; 9_999]})).unwrap();
        assert!(said.codes.len() <= MOST && said.codes.iter().all(|code| code.len() <= LONGEST));
    }
}
