//! What a response says about the token of its request. Pure: it reads the status and the headers.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use http_auth::ChallengeParser;

/// Whether the response refuses the token because it is not valid, or no longer: a 401 (RFC 9110 §15.5.2, RFC 6750 §3), or gRPC's
/// `UNAUTHENTICATED` in the headers, where servers put it that reject a call before it begins.
#[inline]
pub(crate) fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    (status == StatusCode::UNAUTHORIZED || headers.get(&GRPC_STATUS).is_some_and(|status| status == UNAUTHENTICATED))
        && !is_for_scope(headers)
}

/// Whether the response shows that the API accepted the token. The response of a server that is down or busy doesn't show that. Nor does a
/// response that a proxy or the HTTP server itself gives before anybody looks at the token.
#[cold]
pub(crate) fn is_acceptance(status: StatusCode, headers: &HeaderMap) -> bool {
    let without_looking = status.is_server_error()
        || WITHOUT_LOOKING.contains(&status)
        || headers.get(&GRPC_STATUS).is_some_and(|status| FAILURES.iter().any(|failure| status == failure));
    !without_looking && !is_refusal(status, headers)
}

/// Whether the response says that the token is valid but lacks a scope (RFC 6750 §3.1, `insufficient_scope`). Another token of the same
/// kind would be refused as well. Servers should say this with 403, and some say it with 401.
#[cold]
fn is_for_scope(headers: &HeaderMap) -> bool {
    headers.get_all(WWW_AUTHENTICATE).iter().any(names_scope)
}

/// Whether a 401 asks for a token, as if the request had come without one: it has a Bearer challenge that names no error (RFC 6750 §3.1).
#[cold]
pub(crate) fn asks_for_a_token(headers: &HeaderMap) -> bool {
    let mut asks = false;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for challenge in ChallengeParser::new(value.to_str().unwrap_or_default()) {
            let Ok(challenge) = challenge else { return false };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if challenge.params.iter().any(|(name, _)| name.eq_ignore_ascii_case("error")) {
                    return false;
                }
                asks = true;
            }
        }
    }
    asks
}

fn names_scope(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return holds_scope(value.as_bytes()) };
    for challenge in ChallengeParser::new(text) {
        let Ok(challenge) = challenge else { return holds_scope(text.as_bytes()) };
        let is_error = |name: &str| name.eq_ignore_ascii_case("error");
        if challenge.scheme.eq_ignore_ascii_case("bearer")
            && challenge.params.iter().any(|(name, value)| {
                is_error(name) && value.to_unescaped().trim_matches('\'').eq_ignore_ascii_case(SCOPE)
            })
        {
            return true;
        }
    }
    false
}

/// The same for a header that breaks the grammar (RFC 9110 §11.2): with text in other languages, with a scheme and its token before it, or
/// with colons, spaces and commas that are wrong or missing.
fn holds_scope(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let is_part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    // Quoted text is no parameter, unless a quote isn't closed.
    let is_quoted = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
    let is_closed = !is_quoted(&value);
    value.windows(5).enumerate().filter(|(_, window)| *window == b"error").any(|(at, _)| {
        let (before, rest) = (&value[..at], &value[at + 5..]);
        let is_name = before.last().is_none_or(|byte| !is_part_of_word(byte)) && !(is_closed && is_quoted(before));
        let is_bearers = before.windows(6).any(|window| window == b"bearer");
        let rest = rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
        let rest = rest.map(|rest| rest.strip_prefix(b"\"").or(rest.strip_prefix(b"'")).unwrap_or(rest));
        let after = rest.and_then(|rest| rest.strip_prefix(SCOPE.as_bytes()));
        is_name && is_bearers && after.is_some_and(|after| !after.first().is_some_and(is_part_of_word))
    })
}

const SCOPE: &str = "insufficient_scope";

/// Proxy authentication is missing; or the request came too slowly, to the wrong server, too early or too often, or its head is too large.
const WITHOUT_LOOKING: [StatusCode; 6] = [
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
];

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The number of `UNAUTHENTICATED` among gRPC's status codes.
const UNAUTHENTICATED: &str = "16";

/// The numbers of the gRPC status codes that are 5xx or 429 in HTTP (google.rpc.Code, "HTTP Mapping"): `UNKNOWN`, `DEADLINE_EXCEEDED`,
/// `RESOURCE_EXHAUSTED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
const FAILURES: [&str; 7] = ["2", "4", "8", "12", "13", "14", "15"];

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&'static str, &'static str)]) -> (StatusCode, HeaderMap) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // Characters beyond ASCII become one byte each, as in HTTP.
            let bytes: Vec<u8> = value.chars().map(|c| c as u8).collect();
            map.append(*name, HeaderValue::from_bytes(&bytes).unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), map)
    }

    #[test]
    fn which_responses_refuse_the_token() {
        let www = "www-authenticate";
        for (status, headers, expected) in [
            (200, &[][..], false),
            (401, &[], true),
            (403, &[], false),
            (407, &[], false),
            (401, &[(www, "Bearer")], true),
            (401, &[(www, r#"Bearer realm="api""#)], true),
            (401, &[(www, r#"Bearer realm="api", error="invalid_token", error_description="expired""#)], true),
            (401, &[(www, r#"Bearer error="insufficient_scope", scope="admin""#)], false),
            (401, &[(www, "bearer ERROR=insufficient_scope")], false),
            (401, &[(www, r#"Bearer error="Insufficient_Scope""#)], false),
            (403, &[(www, r#"Bearer error="insufficient_scope""#)], false),
            (401, &[(www, r#"Basic realm="x", Bearer error="insufficient_scope""#)], false),
            (401, &[(www, r#"Basic realm="x""#), (www, r#"Bearer error="insufficient_scope""#)], false),
            // Only as the value of the parameter, and only of this scheme.
            (401, &[(www, r#"Bearer error_description="not insufficient_scope""#)], true),
            (401, &[(www, r#"DPoP error="insufficient_scope""#)], true),
            (401, &[(www, r#"Bearer realm="api", error="invalid_token", DPoP algs="RS256 ES256""#)], true),
            // As some servers write it.
            (401, &[(www, r#"Bearer realm="unclosed, error=insufficient_scope"#)], false),
            (
                401,
                &[(www, "Bearer error=\"insufficient_scope\", error_description=\"permisos no v\u{e1}lidos\"")],
                false,
            ),
            (401, &[(www, r#"Negotiate dG9rZW4=, Bearer error="insufficient_scope""#)], false),
            (401, &[(www, r#"Bearer  realm="api"  error="insufficient_scope""#)], false),
            (401, &[(www, "Bearer error=insufficient_scope error_uri=https://id.test/a?b=c")], false),
            (401, &[(www, r#"Bearer: error="insufficient_scope""#)], false),
            (
                401,
                &[(www, "Bearer: error=\"invalid_token\", error_description=\"no v\u{e1}lido, insufficient_scope\"")],
                true,
            ),
            (401, &[(www, "Negotiate dG9rZW4=, DPoP error=insufficient_scope")], true),
            (401, &[(www, "Bearer: no_error=insufficient_scope")], true),
            (401, &[(www, "Bearer: error=insufficient_scope_x")], true),
            (401, &[(www, "Bearer: error=insufficient_scopes")], true),
            (401, &[(www, "Bearer error='insufficient_scope'")], false),
            (401, &[(www, r#"Bearer error="invalid_token" error_description="was error=insufficient_scope""#)], true),
            (401, &[(www, r#"DPoP a=b c error="insufficient_scope", Bearer error="invalid_token""#)], true),
            (401, &[(www, "=,\"\\,,")], true),
            (200, &[("grpc-status", "16")], true),
            (200, &[("grpc-status", "0")], false),
            (200, &[("grpc-status", "7")], false),
        ] {
            let (status, headers) = response(status, headers);
            assert_eq!(is_refusal(status, &headers), expected, "{status} {headers:?}");
            assert!(!(expected && is_acceptance(status, &headers)), "{status} {headers:?}: both");
        }
    }

    #[test]
    fn which_responses_show_that_the_token_is_valid() {
        for (status, headers, expected) in [
            (200, &[][..], true),
            (304, &[], true),
            (400, &[], true),
            (403, &[], true),
            (404, &[], true),
            (401, &[], false),
            (401, &[("www-authenticate", r#"Bearer error="insufficient_scope""#)], true),
            (429, &[], false),
            (500, &[], false),
            (503, &[], false),
            (599, &[], false),
            (200, &[("grpc-status", "0")], true),
            (200, &[("grpc-status", "5")], true),
            (200, &[("grpc-status", "7")], true),
            (200, &[("grpc-status", "8")], false),
            (200, &[("grpc-status", "13")], false),
            (200, &[("grpc-status", "14")], false),
            (200, &[("grpc-status", "16")], false),
            (503, &[("grpc-status", "0")], false),
        ] {
            let (status, headers) = response(status, headers);
            assert_eq!(is_acceptance(status, &headers), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn which_refusals_ask_for_a_token_as_if_there_was_none() {
        let www = "www-authenticate";
        for (headers, expected) in [
            (&[][..], false),
            (&[(www, "Bearer")], true),
            (&[(www, r#"Bearer realm="api""#)], true),
            (&[(www, r#"Basic realm="x", Bearer realm="api", scope="read""#)], true),
            (&[(www, r#"Bearer realm="api", error="invalid_token""#)], false),
            (&[(www, "Bearer"), (www, r#"Bearer error="invalid_token""#)], false),
            (&[(www, r#"Basic realm="x""#)], false),
            (&[(www, "Bearer realm=\"api")], false),
            (&[(www, "Bearer realm=\"\u{e1}\"")], false),
        ] {
            assert_eq!(asks_for_a_token(&response(401, headers).1), expected, "{headers:?}");
        }
    }

    #[test]
    fn no_header_makes_it_panic() {
        let mut rng = fastrand::Rng::with_seed(3);
        let pieces =
            ["Bearer", "Basic", " ", ",", "=", "\"", "\\", "error", "insufficient_scope", "\t", "a", "==", "\u{e9}"];
        for _ in 0..20_000 {
            let text: String = (0..rng.usize(0..12)).map(|_| pieces[rng.usize(0..pieces.len())]).collect();
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                names_scope(&value);
            }
        }
    }
}
