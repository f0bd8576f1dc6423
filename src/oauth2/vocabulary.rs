//! The words that authorization servers use when they refuse, sorted by what they speak of. Pure.
//!
//! RFC 6749 §5.2 has six codes. Servers have hundreds: written differently, in other members, with the reason in the
//! description only. [`Said::of`] finds the words in an answer, [`Said::topic`] sorts them; `refusal` decides what they mean.

use serde_json::{Map, Value};

/// What a refusal speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The client's credentials or its registration.
    Client,
    /// The request: a parameter, the scope, the resource.
    Request,
    /// What was sent for a token: the refresh token, the code, the password.
    Grant,
    /// The user has to be asked something (OpenID Connect Core §3.1.2.6).
    Interaction,
    /// The server is busy or away. It has not acted.
    Busy,
    /// The server has trouble. Nobody knows whether it has acted.
    Trouble,
    /// `access_denied`: to whom, the status tells.
    Denied,
}

/// What an answer says, as far as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The codes, the most telling one first, as the server wrote them.
    pub(crate) codes: Vec<String>,
    /// What it says to people.
    pub(crate) text: String,
    /// It says itself that this passes.
    is_transient: bool,
}

impl Said {
    /// Finds what an answer says, in the members where servers put it. `None` if it says nothing of an error.
    pub(crate) fn of(answer: &Map<String, Value>) -> Option<Self> {
        let mut said = Self::default();
        // RFC 6749 §5.2, or an object in its place (Facebook, Google's APIs).
        match answer.get("error") {
            Some(Value::Object(error)) => said.take_object(error),
            Some(error) => said.take_code(error),
            None => {}
        }
        for name in CODES {
            answer.get(name).into_iter().for_each(|code| said.take_code(code));
        }
        if let Some(Value::Array(errors)) = answer.get("errors") {
            for error in errors.iter().take(MOST) {
                match error {
                    Value::Object(error) => said.take_object(error),
                    error => said.take_code(error),
                }
            }
        }
        // A word in capitals in HubSpot's, `failure` or a number in others'.
        let status = answer.get("status").filter(|status| status.as_str().is_some_and(|word| sort(word).is_some()));
        status.into_iter().for_each(|status| said.take_code(status));
        let refuses = ["ok", "success"].iter().any(|name| answer.get(*name) == Some(&Value::Bool(false)));
        said.take_text(answer);
        (refuses || !said.codes.is_empty() || !said.text.is_empty()).then_some(said)
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
        for text in TEXTS.iter().filter_map(|name| from.get(*name)?.as_str()) {
            // Google Identity Platform's: `TOKEN_EXPIRED`.
            if text.len() <= LONGEST && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
                self.push_code(text);
            }
            self.push_text(text);
        }
    }

    fn push_text(&mut self, text: &str) {
        if !text.trim().is_empty() && self.text.len() < LONGEST {
            let space = if self.text.is_empty() { "" } else { " " };
            self.text.extend([space, text.trim()]);
        }
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

/// The members that [`Said::of`] looks at.
pub(crate) const MEMBERS: [&str; 22] = [
    "error", "errors", "status", "ok", "success", CODES[0], CODES[1], CODES[2], CODES[3], CODES[4], CODES[5], TEXTS[0],
    TEXTS[1], TEXTS[2], TEXTS[3], TEXTS[4], TEXTS[5], TEXTS[6], TEXTS[7], TEXTS[8], TEXTS[9], TEXTS[10],
];

/// Where codes stand beside `error`.
const CODES: [&str; 6] = ["errorCode", "error_code", "errcode", "err_code", "errorType", "suberror"];

/// What people are to read.
const TEXTS: [&str; 11] = [
    "error_description",
    "errorDescription",
    "errorSummary",
    "errorMessage",
    "errmsg",
    "message",
    "msg",
    "description",
    "detail",
    "reason",
    "title",
];

/// In lower case, words joined by `_`, without a full stop.
fn plain(code: &str) -> String {
    let code = code.trim().trim_end_matches(['.', '!']);
    code.chars().map(|c| if matches!(c, ' ' | '-' | '.') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// What a code speaks of that is known: of the specifications, or of a provider.
fn look_up(code: &str) -> Option<Topic> {
    REGISTERED.iter().chain(&PROVIDERS).find(|(known, _)| *known == code).map(|(_, topic)| *topic)
}

/// What a code speaks of: a known one, or one made of the same words.
pub(crate) fn sort(code: &str) -> Option<Topic> {
    let code = plain(code);
    if let Some(topic) = look_up(&code) {
        return Some(topic);
    }
    let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
    let fault = has(&FAULTS);
    match () {
        () if has(&BUSY) => Some(Topic::Busy),
        () if has(&TROUBLE) => Some(Topic::Trouble),
        () if has(&INTERACTION) => Some(Topic::Interaction),
        () if fault && has(&["client", "application", "app_id", "consumer"]) => Some(Topic::Client),
        () if fault && has(&["scope", "redirect", "resource", "audience", "parameter", "argument", "grant_type"]) => {
            Some(Topic::Request)
        }
        () if fault
            && has(&["token", "grant", "code", "session", "assertion", "authorization", "credential", "password"]) =>
        {
            Some(Topic::Grant)
        }
        () if code == "unauthorized" => Some(Topic::Client),
        () if has(&["accessdenied"]) => Some(Topic::Denied),
        () => None,
    }
}

/// What a text for people speaks of.
fn explain(text: &str) -> Option<Topic> {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "too many",
        "rate limit",
        "rate-limit",
        "throttl",
        "quota",
        "try again",
        "retry",
        "not expired",
        "not yet expired",
        "hasn't expired",
        "has not expired",
        "still valid",
        "temporar",
        "unavailable",
        "maintenance",
    ]) {
        return Some(Topic::Busy);
    }
    let fault = has(&[
        "invalid",
        "expired",
        "revoked",
        "already used",
        "already been used",
        "not found",
        "unknown",
        "inactive",
        "no longer",
    ]);
    // "Grant type 'refresh_token' is not allowed" is about the client.
    let text = text.replace("grant type", "").replace("grant_type", "");
    let names = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if fault && !names(&["client", "scope", "parameter"]) && names(&["token", "code", "session", "grant"]) {
        return Some(Topic::Grant);
    }
    None
}

/// RFC 6749 §4.1.2.1 and §5.2, RFC 6750 §3.1, RFC 8628 §3.5, RFC 8707 §2, OpenID Connect Core §3.1.2.6.
const REGISTERED: [(&str, Topic); 19] = [
    ("invalid_client", Topic::Client),
    ("unauthorized_client", Topic::Client),
    ("invalid_request", Topic::Request),
    ("invalid_scope", Topic::Request),
    ("unsupported_grant_type", Topic::Request),
    ("unsupported_token_type", Topic::Request),
    ("invalid_target", Topic::Request),
    ("invalid_grant", Topic::Grant),
    ("invalid_token", Topic::Grant),
    ("expired_token", Topic::Grant),
    ("temporarily_unavailable", Topic::Busy),
    ("slow_down", Topic::Busy),
    ("authorization_pending", Topic::Busy),
    ("server_error", Topic::Trouble),
    ("access_denied", Topic::Denied),
    ("interaction_required", Topic::Interaction),
    ("login_required", Topic::Interaction),
    ("consent_required", Topic::Interaction),
    ("account_selection_required", Topic::Interaction),
];

/// Providers' own, from their documentation and from what they answer.
const PROVIDERS: [(&str, Topic); 26] = [
    // GitHub
    ("bad_refresh_token", Topic::Grant),
    ("bad_verification_code", Topic::Grant),
    ("incorrect_client_credentials", Topic::Client),
    // Slack
    ("invalid_refresh_token", Topic::Grant),
    ("token_revoked", Topic::Grant),
    ("token_expired", Topic::Grant),
    ("invalid_code", Topic::Grant),
    ("code_already_used", Topic::Grant),
    ("bad_client_secret", Topic::Client),
    ("invalid_client_id", Topic::Client),
    ("ratelimited", Topic::Busy),
    ("internal_error", Topic::Trouble),
    ("fatal_error", Topic::Trouble),
    // Google
    ("deleted_client", Topic::Client),
    ("disabled_client", Topic::Client),
    ("internal_failure", Topic::Trouble),
    // Microsoft
    ("invalid_resource", Topic::Request),
    // Salesforce
    ("unknown_error", Topic::Trouble),
    ("server_unavailable", Topic::Busy),
    ("inactive_user", Topic::Grant),
    ("inactive_org", Topic::Grant),
    // Okta
    ("e0000047", Topic::Busy),
    // Google Identity Platform
    ("user_disabled", Topic::Grant),
    ("user_not_found", Topic::Grant),
    // Others
    ("expired_refresh_token", Topic::Grant),
    ("refresh_token_expired", Topic::Grant),
];

/// What is wrong with it.
const FAULTS: [&str; 19] = [
    "invalid",
    "bad",
    "incorrect",
    "wrong",
    "expired",
    "revoked",
    "deleted",
    "disabled",
    "unknown",
    "unauthorized",
    "not_found",
    "mismatch",
    "missing",
    "inactive",
    "used",
    "unsupported",
    "malformed",
    "suspended",
    "not_allowed",
];

const BUSY: [&str; 11] = [
    "rate_limit",
    "ratelimit",
    "too_many",
    "toomany",
    "throttl",
    "quota",
    "limit_exceeded",
    "slow_down",
    "unavailable",
    "busy",
    "maintenance",
];

const TROUBLE: [&str; 11] = [
    "internal",
    "server_error",
    "servererror",
    "unknown_error",
    "unexpected",
    "fatal_error",
    "timeout",
    "timed_out",
    "transient",
    "retry",
    "try_again",
];

const INTERACTION: [&str; 6] =
    ["interaction_required", "login_required", "consent_required", "mfa_required", "reauth", "selection_required"];

/// Longer than any code.
const LONGEST: usize = 256;

/// More codes than any server sends.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(answer: Value) -> Option<Said> {
        Said::of(answer.as_object().unwrap())
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
        for answer in
            [json!({}), json!({"error": ""}), json!({"error": null}), json!({"errcode": 0}), json!({"ok": true})]
        {
            assert_eq!(said(answer.clone()), None, "{answer}");
        }
    }

    #[test]
    fn a_long_answer_is_cut() {
        let said = said(json!({"error": "x".repeat(9_999), "errors": vec!["y"; 9_999]})).unwrap();
        assert!(said.codes.len() <= MOST && said.codes.iter().all(|code| code.len() <= LONGEST));
    }
}
