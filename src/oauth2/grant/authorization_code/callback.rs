//! The callback (RFC 6749 §4.1.2): read without trust, because anybody can send a browser here with any parameters. Pure.

use std::time::SystemTime;

use zeroize::Zeroizing;

use super::{
    AuthorizationErrorKind::{Expired, Malformed, StateMismatch, WrongIssuer},
    PendingAuthorization,
    error::AuthorizationError,
    redirect_uri::Called,
};
use crate::oauth2::masking::Masks;

/// The code in a callback: the whole URL, path and query, the query alone, or a posted form.
///
/// # Errors
/// Why there is no code, or why it must not be used.
pub(crate) fn code(
    callback: &str,
    pending: &PendingAuthorization,
    now: SystemTime,
) -> Result<Zeroizing<String>, AuthorizationError> {
    if callback.len() > LONGEST {
        return Err(AuthorizationError::new(Malformed, "it is longer than 32 KiB"));
    }
    let called = Called::read(callback).ok_or_else(|| {
        AuthorizationError::new(Malformed, "it is neither a URL, nor a path with a query, nor a query alone")
    })?;
    let params = read(called.query)?;
    // This check comes first: a callback of another session must have no effect here, not even by its error.
    if !params.state.as_deref().is_some_and(|state| pending.is_state(state)) {
        let why = "it belongs to another authorization, or to none: let the user begin again";
        return Err(AuthorizationError::new(StateMismatch, why));
    }
    if !called.came_to(&pending.login().redirect_uri) {
        let why = "it came to another address than the redirect URI: behind a proxy, hand in its query alone";
        return Err(AuthorizationError::new(StateMismatch, why));
    }
    // RFC 9207 §2.4.
    if let Some(issuer) = pending.login().issuer.as_deref()
        && params.iss.as_deref() != Some(issuer)
    {
        let sent = [&params.code, &params.state].into_iter().flatten().map(|value| value.as_str());
        let came = params.iss.as_deref().map(|iss| format!("`{}`", Masks::new(sent).excerpt(iss)));
        let came = came.as_deref().unwrap_or("nobody (there is no `iss` in it)");
        // Escaped, because a configured issuer may end with a line end that nobody sees.
        let why = format!("it comes from {came}, and `{}` was asked", issuer.escape_debug());
        return Err(AuthorizationError::new(WrongIssuer, &why));
    }
    if pending.has_expired(now) {
        return Err(AuthorizationError::new(Expired, "it took too long: let the user begin again"));
    }
    match (params.error, params.code) {
        (Some(error), _) => {
            Err(AuthorizationError::from_server(&error, params.reason.as_deref(), params.description.as_deref()))
        }
        (None, Some(code)) => Ok(code),
        (None, None) => Err(AuthorizationError::new(Malformed, "there is neither a code nor an error in it")),
    }
}

#[derive(Default)]
struct Callback {
    code: Option<Zeroizing<String>>,
    state: Option<Zeroizing<String>>,
    iss: Option<String>,
    error: Option<String>,
    description: Option<String>,
    reason: Option<String>,
}

fn read(query: &str) -> Result<Callback, AuthorizationError> {
    let mut params = Callback::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        // RFC 6749 §3.1: parameters must not be included more than once.
        let repeated = match &*name {
            "code" => params.code.replace(value.into()).is_some(),
            "state" => params.state.replace(value.into()).is_some(),
            "iss" => params.iss.replace(value).is_some(),
            "error" => params.error.replace(value).is_some(),
            "error_description" => params.description.replace(value).is_some(),
            "error_reason" => params.reason.replace(value).is_some(),
            _ => false,
        };
        if repeated {
            return Err(AuthorizationError::new(Malformed, "a parameter comes twice in it"));
        }
    }
    params.code = params.code.filter(|code| !code.is_empty());
    params.error = params.error.filter(|error| !error.is_empty());
    Ok(params)
}

/// Real callbacks have up to some KiB. The code is sent on, and masked in the response.
const LONGEST: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::oauth2::{
        AuthorizationCode,
        AuthorizationErrorKind::{self, Denied, InteractionRequired, Refused, TryAgain},
        TokenEndpoint,
    };

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    const REDIRECT_URI: &str = "https://app.test/cb";

    fn pending(issuer: Option<&str>) -> PendingAuthorization {
        let endpoint = TokenEndpoint::new("https://id.test/token").unwrap().public_client("id");
        let mut login = AuthorizationCode::new(endpoint, "https://id.test/", REDIRECT_URI).unwrap();
        if let Some(issuer) = issuer {
            login = login.issuer(issuer);
        }
        let (url, state) = (String::from("https://id.test/").into(), String::from("s1").into());
        PendingAuthorization::new(login.login(), url, state, None, NOW, Duration::from_secs(600))
    }

    fn outcome(callback: &str, issuer: Option<&str>) -> Result<String, AuthorizationErrorKind> {
        code(callback, &pending(issuer), NOW).map(|code| code.to_string()).map_err(|error| error.kind())
    }

    #[test]
    fn every_shape_of_callback() {
        for (callback, expected) in [
            ("https://app.test/cb?code=c1&state=s1", Ok("c1")),
            ("/cb?state=s1&code=c1", Ok("c1")),
            ("code=c1&state=s1", Ok("c1")),
            ("?code=c1&state=s1#_=_", Ok("c1")),
            ("?code=a%2Bb+c&state=s1", Ok("a+b c")),
            ("?code=c1&state=s1&scope=read&session_state=x", Ok("c1")),
            ("?error=access_denied&error_description=No&state=s1", Err(Denied)),
            ("?error=access_denied&state=s1", Err(Denied)),
            ("?error=invalid_scope&state=s1", Err(Refused)),
            ("?error=server_error&state=s1", Err(TryAgain)),
            ("?error=temporarily_unavailable&state=s1", Err(TryAgain)),
            ("?error=login_required&state=s1", Err(InteractionRequired)),
            ("?error=user_cancelled_login&state=s1", Err(Denied)),
            ("?error=other&error_reason=user_denied&state=s1", Err(Denied)),
            // A question mark needs no encoding.
            ("code=a?b&state=s1", Ok("a?b")),
            ("?code=a?b&state=s1", Ok("a?b")),
            ("/cb?code=a?b/:&state=s1", Ok("a?b/:")),
            ("https://app.test/cb?state=s1&code=a?", Ok("a?")),
            ("state=s1&code=c1?#?", Ok("c1?")),
            (" https://app.test/cb?code=c1&state=s1\r\n", Ok("c1")),
            // Another address than the redirect URI.
            ("https://evil.test/cb?code=c1&state=s1", Err(StateMismatch)),
            ("http://app.test/cb?code=c1&state=s1", Err(StateMismatch)),
            ("https://app.test/?code=c1&state=s1", Err(StateMismatch)),
            ("/other?code=c1&state=s1", Err(StateMismatch)),
            ("/other?error=access_denied&state=s1", Err(StateMismatch)),
            (" https://evil.test/?a=b&code=c1&state=s1", Err(StateMismatch)),
            ("ht\ntps://evil.test/?a=b&code=c1&state=s1", Err(Malformed)),
            ("cb?code=c1&state=s1", Err(Malformed)),
            // An error wins over a code.
            ("?error=access_denied&code=c1&state=s1", Err(Denied)),
            ("?code=c1", Err(StateMismatch)),
            ("?code=c1&state=", Err(StateMismatch)),
            ("?code=c1&state=s2", Err(StateMismatch)),
            ("?code=c1&state=s1x", Err(StateMismatch)),
            ("?error=access_denied", Err(StateMismatch)),
            ("", Err(StateMismatch)),
            ("?state=s1", Err(Malformed)),
            ("?state=s1&code=", Err(Malformed)),
            ("?code=c1&code=c2&state=s1", Err(Malformed)),
            ("?code=c1&state=s1&state=s1", Err(Malformed)),
        ] {
            assert_eq!(outcome(callback, None), expected.map(str::to_owned), "{callback}");
        }
    }

    #[test]
    fn the_issuer_must_be_the_one_that_was_asked() {
        let issuer = Some("https://id.test");
        assert_eq!(outcome("?code=c1&state=s1&iss=https%3A%2F%2Fid.test", issuer), Ok("c1".into()));
        assert_eq!(outcome("?code=c1&state=s1&iss=https%3A%2F%2Fevil.test", issuer), Err(WrongIssuer));
        let error =
            code("?code=c1&state=s1&iss=https%3A%2F%2Fevil.test", &pending(issuer), NOW).unwrap_err().to_string();
        assert!(error.contains("https://evil.test") && error.contains("https://id.test"), "{error}");
        let configured = pending(Some("https://id.test\n"));
        let error = code("?code=c1&state=s1&iss=https%3A%2F%2Fid.test", &configured, NOW).unwrap_err().to_string();
        assert!(error.contains(r"`https://id.test\n` was asked"), "{error}");
        assert_eq!(outcome("?code=c1&state=s1", issuer), Err(WrongIssuer));
        assert_eq!(outcome("?error=access_denied&state=s1", issuer), Err(WrongIssuer));
        assert_eq!(outcome("?code=c1&state=s1&iss=https%3A%2F%2Fany.test", None), Ok("c1".into()));
    }

    #[test]
    fn who_comes_late_begins_again() {
        let at = |seconds| NOW + Duration::from_secs(seconds);
        assert!(code("?code=c1&state=s1", &pending(None), at(599)).is_ok());
        let error = code("?code=c1&state=s1", &pending(None), at(600)).unwrap_err();
        assert_eq!(error.kind(), Expired);
    }

    #[test]
    fn what_the_server_says_is_short_and_harmless() {
        for said in ["x".repeat(5000), "%1b[31m%0aline".into(), "a%E2%80%A8b%E2%80%A9c%C2%85d".into()] {
            let callback = format!("?error=access_denied&error_description={said}&state=s1");
            let error = code(&callback, &pending(None), NOW).unwrap_err();
            assert!(error.description().unwrap().chars().count() <= 256, "{said}");
            assert!(!error.to_string().contains(['\u{1b}', '\n', '\u{85}', '\u{2028}', '\u{2029}']), "{error:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let of_length = |length: usize| format!("?state=s1&code={}", "c".repeat(length - "?state=s1&code=".len()));
        assert!(code(&of_length(LONGEST), &pending(None), NOW).is_ok());
        let error = code(&of_length(LONGEST + 1), &pending(None), NOW).unwrap_err();
        assert_eq!(error.kind(), Malformed);
        assert!(error.to_string().contains(&format!("{} KiB", LONGEST / 1024)), "{error}");
    }

    #[test]
    fn no_callback_makes_it_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        let pieces =
            ["code", "state", "error", "iss", "=", "&", "?", "#", "%", "%4", "%ff", "s1", "é", "+", "://", "\0"];
        for _ in 0..50_000 {
            let text: String = (0..rng.usize(0..14)).map(|_| pieces[rng.usize(0..pieces.len())]).collect();
            let _ = outcome(&text, None);
        }
    }

    #[test]
    fn no_url_of_another_address_yields_a_code() {
        let mut rng = fastrand::Rng::with_seed(12);
        let pieces = [
            "https",
            "http",
            "HTTPS",
            ":",
            "/",
            "//",
            "\\",
            "@",
            "app.test",
            "evil.test",
            ":443",
            ":80",
            "cb",
            "%63b",
            "..",
            "%2e",
            "?",
            "&",
            "#",
            " ",
            "\t",
            "\u{a0}",
            "\u{fffe}",
            ".",
            "=",
            "x",
            "[::1]",
            "%",
            "\0",
        ];
        let (query, mut taken) = ("code=c1&state=s1", 0);
        for _ in 0..50_000 {
            let mut parts = vec!["https", "://", "app.test", "/", "cb"];
            for _ in 0..rng.usize(0..5) {
                let piece = pieces[rng.usize(0..pieces.len())];
                match rng.usize(0..=parts.len()) {
                    at if at < parts.len() && rng.bool() => parts[at] = piece,
                    at => parts.insert(at, piece),
                }
            }
            let text = parts.concat();
            for callback in [format!("{text}?{query}"), format!("{text}&{query}"), format!("{query}{text}")] {
                if outcome(&callback, None).is_ok()
                    && let Ok(url) = Url::parse(&callback)
                {
                    assert_eq!(url.origin().ascii_serialization(), "https://app.test", "{callback}");
                    assert_eq!(url.path().replace("%63", "c"), "/cb", "{callback}");
                    taken += 1;
                }
            }
        }
        assert!(taken > 1000, "{taken}");
    }
}
