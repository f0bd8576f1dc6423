//! Error codes and words of authorization servers, sorted by what they are about. Pure.
//!
//! RFC 6749 §5.2 has six codes. Servers have hundreds, in other spellings and other members, or only a description.
//! [`ReportedError`](super::reported_error::ReportedError) finds the words in a response and sorts them by these tables; `verdict` decides
//! what they mean.

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The client's credentials or its registration.
    Client,
    /// The request: a parameter, the scope, the resource.
    Request,
    /// What was sent to get a token: the refresh token, the code, the password.
    Grant,
    /// The user must do something (OpenID Connect Core §3.1.2.6).
    Interaction,
    /// The server is busy or away. It has not acted.
    Busy,
    /// The server has an internal error. It may have acted.
    Trouble,
    /// `access_denied`. The HTTP status tells to whom.
    Denied,
}

/// A code in lower case, with words joined by `_`, and without a full stop.
pub(crate) fn normalized(code: &str) -> String {
    let code = code.trim().trim_end_matches(['.', '!']);
    code.chars().map(|c| if matches!(c, ' ' | '-' | '.') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// What a known code is about: one of the specifications, or of a provider.
pub(crate) fn known_topic(code: &str) -> Option<Topic> {
    REGISTERED.iter().chain(&PROVIDERS).find(|(known, _)| *known == code).map(|(_, topic)| *topic)
}

/// What a code is about: a known one, or another that consists of known words.
pub(crate) fn topic_of_code(code: &str) -> Option<Topic> {
    let code = normalized(code);
    if let Some(topic) = known_topic(&code) {
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

/// What a text for people is about.
pub(crate) fn topic_of_text(text: &str) -> Option<Topic> {
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
        "busy",
    ]) {
        return Some(Topic::Busy);
    }
    if has(&["internal error", "internal server", "internal failure", "server error", "system error"]) {
        return Some(Topic::Trouble);
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
pub(crate) const REGISTERED: [(&str, Topic); 19] = [
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

/// Providers' own codes, from their documentation and their responses.
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

/// Words for a fault.
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
