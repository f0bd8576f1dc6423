//! What an error response means, for those that once ended an authorization without need, or never.

use http::StatusCode;
use serde_json::{Value, json};

use crate::oauth2::{
    endpoint_error::{
        reported_error::ReportedError,
        verdict::{Verdict, judge},
    },
    grant::GrantKind,
};

fn verdict(grant: GrantKind, status: u16, body: Value) -> (Verdict, bool) {
    let status = StatusCode::from_u16(status).unwrap();
    let judged = judge(grant, status, ReportedError::of(status, body.as_object()).as_ref());
    (judged.verdict, judged.certain)
}

const RENEWAL: GrantKind = GrantKind::RefreshToken { worked: true };

/// A 401 without a known code never ends an authorization.
#[test]
fn a_401_without_a_known_code_is_never_about_the_user() {
    let mut wrong = Vec::new();
    for body in [
        // API gateways (AWS, Okta).
        json!({"message": "The incoming token has expired"}),
        json!({"errorCode": "E0000011", "errorSummary": "Invalid token provided"}),
        // Words of no specification, about the client's credentials.
        json!({"error": "invalid_credentials"}),
        json!({"error": "Bad credentials"}),
        json!({"error": "invalid_authorization_header"}),
        json!({"error": "Missing Authorization Header"}),
    ] {
        let (verdict, certain) = verdict(RENEWAL, 401, body.clone());
        if !(verdict == Verdict::Rejected) {
            wrong.push(format!("{body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// "Later" in a provider's own words, and an unknown code that was final at once.
#[test]
fn a_code_that_is_not_registered_is_never_final_at_once() {
    let mut wrong = Vec::new();
    for (status, body) in [
        // Slack: "The workspace is undergoing an enterprise migration and will not be available until migration is complete."
        (200, json!({"ok": false, "error": "org_login_required"})),
        (400, json!({"error": "token_used_too_early"})),
        (400, json!({"error": "missing_token"})),
        (400, json!({"error": "invalid_session_affinity"})),
        (400, json!({"error": "code_unknown"})),
    ] {
        let (verdict, certain) = verdict(RENEWAL, status, body.clone());
        if verdict == Verdict::Reauthorize && certain {
            wrong.push(format!("{body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Firebase's securetoken endpoint, which rotates: a deleted user was taken for a wrong configuration, for ever.
#[test]
fn google_identity_platform_says_that_the_refresh_token_is_dead() {
    let mut wrong = Vec::new();
    for message in ["TOKEN_EXPIRED", "USER_DISABLED", "USER_NOT_FOUND", "INVALID_REFRESH_TOKEN"] {
        let body = json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
        let (verdict, certain) = verdict(RENEWAL, 400, body);
        if !(verdict == Verdict::Reauthorize) {
            wrong.push(format!("{message}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An internal error is no final refusal of a password.
#[test]
fn a_5xx_never_ends_a_password_for_good() {
    let mut wrong = Vec::new();
    for (status, body) in [
        (500, json!({"error": "invalid_grant"})),
        (502, json!({"message": "upstream session not found"})),
        (504, json!({"error": "Access Denied"})),
        (503, json!({"message": "The incoming token has expired"})),
    ] {
        let (verdict, certain) = verdict(GrantKind::Password, status, body.clone());
        if verdict == Verdict::RejectedForGood && certain {
            wrong.push(format!("{status} {body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
