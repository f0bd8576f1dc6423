//! What to do after a token endpoint's error: one table, by grant, HTTP status and error code. Pure.

use std::time::Duration;

use http::StatusCode;

use super::{EndpointError, codes::Topic, reported_error::ReportedError};
use crate::{FetchError, oauth2::grant::GrantKind};
use Verdict::{Reauthorize, Rejected, RejectedForGood, TryAgain};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The error may pass by itself.
    TryAgain,
    /// It stays until somebody changes the client's credentials or its registration.
    Rejected,
    /// Like `Rejected`. Trying again by itself would lock an account.
    RejectedForGood,
    /// The user must authorize again.
    Reauthorize,
}

impl Verdict {
    fn of(self, error: EndpointError) -> FetchError {
        match self {
            TryAgain => FetchError::try_again(error),
            Rejected => FetchError::rejected(error),
            RejectedForGood => FetchError::rejected_for_good(error),
            Reauthorize => FetchError::reauthorize(error),
        }
    }
}

/// A verdict, whether it is certain, and an advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// The server has a known code for it. Otherwise it is a guess: the response may come from a proxy, or mean something else. A guess is
    /// final only when it was seen several times.
    pub(crate) certain: bool,
    /// What to tell people to do.
    pub(crate) advice: &'static str,
}

impl Judgement {
    pub(crate) fn of(self, error: EndpointError) -> FetchError {
        if self.certain || self.verdict == TryAgain {
            return self.verdict.of(error);
        }
        let guess = FetchError::try_again(error.clone()).or_finally(self.verdict.of(error));
        // An account is locked after a few wrong passwords.
        if self.verdict == RejectedForGood { guess.pace(PASSWORD_PACE) } else { guess }
    }
}

/// Judges a response without a token. `reported`: the error that it reports (RFC 6749 §5.2). The first row that matches decides.
pub(crate) fn judge(grant: GrantKind, status: StatusCode, reported: Option<&ReportedError>) -> Judgement {
    use GrantKind::{AuthorizationCode, Password, RefreshToken, Repeatable};
    let (topic, coded) =
        reported.and_then(ReportedError::topic).map_or((None, false), |(topic, coded)| (Some(topic), coded));
    // An error with a success status, as GitHub sends them, counts as a 400.
    let status = if status.is_success() && reported.is_some() { 400 } else { status.as_u16() };
    let is_refusal = matches!(status, 400 | 401 | 403 | 422);
    let certain = |verdict, advice| Judgement { verdict, certain: true, advice };
    let guess = |verdict, advice| Judgement { verdict, certain: false, advice };
    let by = |verdict, advice| Judgement { verdict, certain: coded && status < 500, advice };
    match (grant, topic) {
        // RFC 6585 §4: too many requests, whatever the code says.
        _ if status == 429 => certain(TryAgain, "it asks for fewer requests"),
        // With 401 any of these may be a wrong password. ServiceNow calls it `server_error`.
        (Password, Some(Topic::Trouble | Topic::Denied | Topic::Grant | Topic::Interaction) | None)
            if status == 401 && reported.is_some() =>
        {
            certain(RejectedForGood, "check user name and password")
        }
        // Cloud Foundry's UAA calls a wrong password `unauthorized`. So does Spring every 401, so the client may be meant as well.
        (Password, Some(Topic::Client)) if status == 401 && !coded => {
            certain(RejectedForGood, "check user name and password, and client id and secret")
        }
        // The server may not have checked the password.
        (Password, _) if status >= 500 => certain(TryAgain, "it has trouble"),
        // RFC 6749 §5.2: a refused client gets 401. Only a known code can mean something else.
        (_, Some(Topic::Trouble)) if status == 401 => guess(Rejected, "check client id and secret"),
        (RefreshToken { .. } | AuthorizationCode, Some(Topic::Grant | Topic::Interaction))
            if status == 401 && (!coded || reported.is_some_and(ReportedError::is_prose)) =>
        {
            guess(Rejected, "check client id and secret")
        }
        (_, Some(Topic::Busy | Topic::Trouble)) => certain(TryAgain, "it has trouble"),

        // The same client and parameters have worked before, so the refresh token is meant.
        (RefreshToken { worked: true }, Some(Topic::Client | Topic::Request))
            if matches!(status, 400 | 403) && reported.is_some_and(ReportedError::is_vague) =>
        {
            guess(Reauthorize, "the refresh token has most likely expired, or was revoked")
        }
        // RFC 6749 §5.2: the client may not use this grant. Not with 401: Keycloak has this code for a wrong secret.
        (_, Some(Topic::Client)) if status != 401 && reported.is_some_and(ReportedError::is_about_registration) => {
            by(Rejected, "check whether the client's registration allows this grant")
        }
        (_, Some(Topic::Client)) => by(
            Rejected,
            "check client id and secret first, then how the client proves itself and whether it may use this grant",
        ),
        (_, Some(Topic::Request)) if reported.is_some_and(ReportedError::is_about_grant_type) => by(
            Rejected,
            "the server doesn't have this grant, or not for this client: check the `grant_type` and the URL",
        ),
        (_, Some(Topic::Request)) => {
            by(Rejected, "a parameter, the scope or the resource isn't what the server takes from this client")
        }

        // The refresh token or the code no longer works.
        (RefreshToken { .. }, Some(Topic::Grant)) => {
            by(Reauthorize, "the refresh token has expired, was revoked, or was used before")
        }
        (AuthorizationCode, Some(Topic::Grant)) => {
            by(Reauthorize, "the code has expired or was used before, or redirect URI or PKCE verifier don't fit")
        }
        // Trying a wrong password again would lock the account.
        (Password, Some(Topic::Grant | Topic::Interaction)) => certain(RejectedForGood, "check user name and password"),
        (Repeatable, Some(Topic::Grant)) => by(Rejected, "check id, secret and assertion"),
        (_, Some(Topic::Interaction)) => by(Reauthorize, "the server wants to ask the user"),

        // The rest has no known code, so the status decides. RFC 6749 §5.2: a refused client gets 401, another refusal 400. Some servers
        // send 403, or 422 after a check of the form. A 403, or a response without JSON, may also come from a proxy.
        (Password, _) if is_refusal && reported.is_some() && status != 403 => {
            certain(RejectedForGood, "check user name and password")
        }
        (Password, _) if is_refusal => {
            guess(RejectedForGood, "check user name and password, and what stands before the server")
        }
        (Repeatable, _) if is_refusal => guess(Rejected, "check client id, secret, scope and parameters"),
        (_, _) if status == 401 => guess(Rejected, "check client id and secret"),
        (RefreshToken { .. }, _) if is_refusal => {
            guess(Reauthorize, "the refresh token has most likely expired, or was used before")
        }
        (AuthorizationCode, _) if is_refusal => {
            guess(Reauthorize, "the code has most likely expired, or was used before")
        }

        // A redirect would carry the credentials elsewhere. It may pass: a load balancer may redirect to a maintenance page.
        _ if (300..400).contains(&status) => {
            certain(TryAgain, "redirects are not followed with credentials: use the URL it points to")
        }
        // It may pass: paths come and go during a deployment.
        _ if matches!(status, 404 | 405 | 410) => certain(TryAgain, "check the URL"),
        _ if status == 415 => certain(TryAgain, "it doesn't take a form of this kind"),
        _ if status >= 500 => certain(TryAgain, "it has trouble"),
        _ if (200..300).contains(&status) => certain(TryAgain, "check that the URL is the token endpoint's"),
        _ => certain(TryAgain, "check the URL and what stands before the server"),
    }
}

/// Whether the server may have acted on the request before this response. Then a refresh token may be spent.
pub(crate) fn may_have_acted(status: StatusCode, reported: Option<&ReportedError>) -> bool {
    let topic = reported.and_then(ReportedError::topic);
    match status.as_u16() {
        // An internal error may have come after the refresh token was spent.
        _ if matches!(topic, Some((Topic::Trouble, _))) => true,
        // RFC 9110 §15.6.4: the server can't handle the request at all.
        503 => false,
        // A proxy may have answered instead, even in JSON, as Spring's do. A code of RFC 6749 comes from the server itself.
        408 | 500..=599 => reported.and_then(ReportedError::registered_code).is_none(),
        // A success without a token, unless a known code says why.
        200..=299 => !matches!(topic, Some((topic, true)) if topic != Topic::Busy),
        _ => false,
    }
}

/// So there are two more attempts within a minute.
const PASSWORD_PACE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{
        GrantKind::{AuthorizationCode, Password, Repeatable},
        *,
    };

    const REFRESH: GrantKind = GrantKind::RefreshToken { worked: false };
    const RENEWAL: GrantKind = GrantKind::RefreshToken { worked: true };

    fn say(code: Option<&str>) -> Option<ReportedError> {
        let answer = code.map(|code| Map::from_iter([("error".into(), Value::from(code))]));
        ReportedError::of(StatusCode::BAD_REQUEST, [&answer.unwrap_or_default()])
    }

    fn verdict(grant: GrantKind, status: u16, code: Option<&str>) -> (Verdict, bool) {
        let judged = judge(grant, StatusCode::from_u16(status).unwrap(), say(code).as_ref());
        assert!(!judged.advice.is_empty());
        (judged.verdict, judged.certain)
    }

    #[test]
    fn a_guess_is_tried_again_before_it_is_final() {
        use crate::FetchErrorKind::{self as Kind, ReauthorizationRequired};
        let of = |verdict, certain| Judgement { verdict, certain, advice: "" }.of(EndpointError::unsent("no"));
        let suspected = |error: &FetchError| error.suspected().map(FetchError::kind);
        for (verdict, kind, pace) in [
            (TryAgain, Kind::TryAgain, None),
            (Rejected, Kind::Rejected, None),
            (RejectedForGood, Kind::Rejected, Some(PASSWORD_PACE)),
            (Reauthorize, ReauthorizationRequired, None),
        ] {
            let certain = of(verdict, true);
            assert_eq!((certain.kind(), suspected(&certain), certain.pace_asked()), (kind, None, None), "{verdict:?}");
            let guess = of(verdict, false);
            let finally = (verdict != TryAgain).then_some(kind);
            assert_eq!((guess.kind(), suspected(&guess)), (Kind::TryAgain, finally), "{verdict:?}");
            assert_eq!(guess.pace_asked(), pace, "{verdict:?}");
        }
    }

    #[test]
    fn what_means_the_same_for_every_grant() {
        for grant in [Repeatable, REFRESH, RENEWAL, AuthorizationCode, Password] {
            for (status, code, expected) in [
                (400, Some("invalid_client"), (Rejected, true)),
                (401, Some("invalid_client"), (Rejected, true)),
                (200, Some("invalid_client"), (Rejected, true)),
                (400, Some("invalid_scope"), (Rejected, true)),
                (401, Some("unauthorized_client"), (Rejected, true)),
                (400, Some("unsupported_grant_type"), (Rejected, true)),
                (400, Some("invalid_target"), (Rejected, true)),
                (429, None, (TryAgain, true)),
                (429, Some("invalid_grant"), (TryAgain, true)),
                (400, Some("slow_down"), (TryAgain, true)),
                (503, Some("temporarily_unavailable"), (TryAgain, true)),
                (400, Some("server_error"), (TryAgain, true)),
                (200, Some("internal_error"), (TryAgain, true)),
                (200, None, (TryAgain, true)),
                (204, None, (TryAgain, true)),
                (302, None, (TryAgain, true)),
                (307, None, (TryAgain, true)),
                (404, None, (TryAgain, true)),
                (408, None, (TryAgain, true)),
                (500, None, (TryAgain, true)),
                (502, None, (TryAgain, true)),
                (503, None, (TryAgain, true)),
            ] {
                assert_eq!(verdict(grant, status, code), expected, "{grant:?} {status} {code:?}");
            }
        }
    }

    #[test]
    fn what_depends_on_the_grant() {
        let sure = |verdict| (verdict, true);
        let guess = |verdict| (verdict, false);
        for (status, code, repeatable, refresh, authorization, password) in [
            (400, Some("invalid_grant"), sure(Rejected), sure(Reauthorize), sure(Reauthorize), sure(RejectedForGood)),
            (200, Some("invalid_grant"), sure(Rejected), sure(Reauthorize), sure(Reauthorize), sure(RejectedForGood)),
            (401, Some("INVALID_GRANT"), sure(Rejected), sure(Reauthorize), sure(Reauthorize), sure(RejectedForGood)),
            (
                200,
                Some("bad_refresh_token"),
                sure(Rejected),
                sure(Reauthorize),
                sure(Reauthorize),
                sure(RejectedForGood),
            ),
            (
                403,
                Some("access_denied"),
                guess(Rejected),
                guess(Reauthorize),
                guess(Reauthorize),
                guess(RejectedForGood),
            ),
            (401, Some("access_denied"), guess(Rejected), guess(Rejected), guess(Rejected), sure(RejectedForGood)),
            (401, Some("unauthorized"), guess(Rejected), guess(Rejected), guess(Rejected), sure(RejectedForGood)),
            (401, Some("server_error"), guess(Rejected), guess(Rejected), guess(Rejected), sure(RejectedForGood)),
            (
                400,
                Some("no such thing"),
                guess(Rejected),
                guess(Reauthorize),
                guess(Reauthorize),
                sure(RejectedForGood),
            ),
            (401, Some("no such thing"), guess(Rejected), guess(Rejected), guess(Rejected), sure(RejectedForGood)),
            (400, None, guess(Rejected), guess(Reauthorize), guess(Reauthorize), guess(RejectedForGood)),
            (401, None, guess(Rejected), guess(Rejected), guess(Rejected), guess(RejectedForGood)),
            (403, None, guess(Rejected), guess(Reauthorize), guess(Reauthorize), guess(RejectedForGood)),
            (422, None, guess(Rejected), guess(Reauthorize), guess(Reauthorize), guess(RejectedForGood)),
            (
                400,
                Some("consent_required"),
                sure(Reauthorize),
                sure(Reauthorize),
                sure(Reauthorize),
                sure(RejectedForGood),
            ),
        ] {
            for (grant, expected) in
                [(Repeatable, repeatable), (REFRESH, refresh), (AuthorizationCode, authorization), (Password, password)]
            {
                assert_eq!(verdict(grant, status, code), expected, "{grant:?} {status} {code:?}");
            }
        }
        for code in ["invalid_credentials", "bad_credentials", "no_such_session_token", "Invalid Grant."] {
            assert_eq!(verdict(REFRESH, 401, Some(code)), guess(Rejected), "{code}");
        }
        assert_eq!(verdict(REFRESH, 403, Some("Invalid CSRF token")), guess(Reauthorize));
        for code in ["invalid_grant", "access_denied", "server_error"] {
            assert_eq!(verdict(Password, 502, Some(code)), sure(TryAgain), "{code}");
        }
        assert_eq!(verdict(REFRESH, 500, Some("invalid_client")), guess(Rejected));
        // With an internal error the code isn't certain.
        assert_eq!(verdict(REFRESH, 500, Some("invalid_grant")), guess(Reauthorize));
    }

    #[test]
    fn what_has_worked_before_fails_for_its_refresh_token() {
        for (status, code) in [(403, "unauthorized_client"), (400, "invalid_request")] {
            assert_eq!(verdict(REFRESH, status, Some(code)), (Rejected, true), "{status} {code}");
            assert_eq!(verdict(RENEWAL, status, Some(code)), (Reauthorize, false), "{status} {code}");
        }
        assert_eq!(verdict(RENEWAL, 401, Some("unauthorized_client")), (Rejected, true), "Keycloak's wrong secret");
    }

    #[test]
    fn what_to_check_first_depends_on_who_was_refused() {
        let advice =
            |grant, status, code| judge(grant, StatusCode::from_u16(status).unwrap(), say(Some(code)).as_ref()).advice;
        for grant in [Repeatable, REFRESH, RENEWAL, AuthorizationCode, Password] {
            for (status, code) in [
                (401, "unauthorized_client"),
                (401, "UNAUTHORIZED_CLIENT"),
                (401, "invalid_client"),
                (400, "invalid_client"),
                (200, "incorrect_client_credentials"),
            ] {
                let advice = advice(grant, status, code);
                assert!(advice.starts_with("check client id and secret"), "{grant:?} {status} {code}: {advice}");
            }
            // A refresh token that has worked before may be what is meant.
            for status in [200, 400, 403].into_iter().filter(|_| grant != RENEWAL) {
                let advice = advice(grant, status, "unauthorized_client");
                assert!(advice.contains("registration") && !advice.contains("secret"), "{grant:?} {status}: {advice}");
            }
        }
    }

    #[test]
    fn what_to_check_where_nothing_is_said_depends_on_the_status() {
        for (status, advice) in [
            (200, "check that the URL is the token endpoint's"),
            (204, "check that the URL is the token endpoint's"),
            (302, "redirects are not followed with credentials: use the URL it points to"),
            (404, "check the URL"),
            (405, "check the URL"),
            (410, "check the URL"),
            (415, "it doesn't take a form of this kind"),
            (418, "check the URL and what stands before the server"),
            (500, "it has trouble"),
            (503, "it has trouble"),
        ] {
            for grant in [Repeatable, REFRESH, AuthorizationCode] {
                let judged = judge(grant, StatusCode::from_u16(status).unwrap(), None);
                assert_eq!((judged.verdict, judged.advice), (TryAgain, advice), "{grant:?} {status}");
            }
        }
    }

    #[test]
    fn a_page_for_people_says_nothing_about_a_password() {
        for status in [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
            let judged = judge(Password, status, None);
            assert_eq!((judged.verdict, judged.certain), (RejectedForGood, false));
        }
    }

    #[test]
    fn when_a_refresh_token_may_be_spent() {
        for (status, code, expected) in [
            (200, None, true),
            (200, Some("internal_error"), true),
            (200, Some("bad_refresh_token"), false),
            (200, Some("Service Unavailable"), true),
            (200, Some("some_invalid_token_thing"), true),
            (400, Some("invalid_grant"), false),
            (400, Some("server_error"), true),
            (400, Some("unknown_error"), true),
            (400, None, false),
            (403, None, false),
            (408, None, true),
            (408, Some("Request Timeout"), true),
            (429, None, false),
            (500, None, true),
            (500, Some("Internal Server Error"), true),
            (500, Some("invalid_grant"), false),
            (502, Some("Bad Gateway"), true),
            (503, None, false),
            (503, Some("Service Unavailable"), false),
            (503, Some("temporarily_unavailable"), false),
            (503, Some("server_error"), true),
            (504, Some("Gateway Timeout"), true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_have_acted(status, say(code).as_ref()), expected, "{status} {code:?}");
        }
        // Spring's.
        let reported = json!({"timestamp": "2026", "status": 504, "error": "Gateway Timeout", "path": "/token"});
        assert!(may_have_acted(
            StatusCode::GATEWAY_TIMEOUT,
            ReportedError::of(StatusCode::GATEWAY_TIMEOUT, reported.as_object()).as_ref()
        ));
    }
}
