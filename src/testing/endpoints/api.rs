//! The protected API, which checks access tokens (RFC 6750). It decides only: counters and connections are elsewhere.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE},
    request::Parts,
};

use crate::testing::{
    issued::tokens::Standing,
    recorded::api_counts::Count,
    reply::{Reply, member},
};

/// The credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    None,
    Several,
    Bearer(Standing),
}

/// Reads the `Authorization` header. `standing` looks the token up.
pub(crate) fn credential(headers: &HeaderMap, standing: impl FnOnce(&str) -> Standing) -> Credential {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Credential::Several;
    }
    match first.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Credential::Bearer(standing(token)),
        _ => Credential::None,
    }
}

/// The reply, and the counter that it adds to. `path` is the rest of the path, after `/api`.
pub(crate) fn decide(path: &str, head: &Parts, body: &Bytes, credential: Credential) -> (Reply, Count) {
    let standing = match credential {
        Credential::Several => return (Reply::new(StatusCode::BAD_REQUEST), Count::Malformed),
        Credential::None if path == "/unauthorized" => {
            return (invalid_token("not wanted here"), Count::Missing);
        }
        Credential::None if path == "/open" => return (describe(head, body), Count::Accepted),
        Credential::None => return (challenge(StatusCode::UNAUTHORIZED, ""), Count::Missing),
        Credential::Bearer(standing) => standing,
    };
    match standing {
        Standing::Unknown => (invalid_token("unknown token"), Count::Unknown),
        Standing::Expired => (invalid_token("the token expired"), Count::Expired),
        Standing::Revoked => (invalid_token("the token was revoked"), Count::Revoked),
        Standing::Live => match path {
            "/unauthorized" => (invalid_token("not wanted here"), Count::Refused),
            "/scope-401" => (insufficient_scope(StatusCode::UNAUTHORIZED), Count::Refused),
            "/forbidden" => (insufficient_scope(StatusCode::FORBIDDEN), Count::Forbidden),
            "/echo" => (echo(&head.headers, body), Count::Accepted),
            "/redirect" => (redirect(head.uri.query()), Count::Accepted),
            _ => (describe(head, body), Count::Accepted),
        },
    }
}

/// 307 to the URL in `to`, a parameter of the query.
pub(crate) fn redirect(query: Option<&str>) -> Reply {
    let to = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find_map(|(name, value)| (name == "to").then_some(value))
        .and_then(|url| HeaderValue::from_str(&url).ok());
    match to {
        Some(url) => Reply::new(StatusCode::TEMPORARY_REDIRECT).header(LOCATION, url),
        None => Reply::new(StatusCode::BAD_REQUEST),
    }
}

fn echo(headers: &HeaderMap, body: &Bytes) -> Reply {
    let content_type = headers.get(CONTENT_TYPE).cloned();
    Reply::new(StatusCode::OK)
        .body(content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")), body.clone())
}

fn describe(head: &Parts, body: &Bytes) -> Reply {
    let length = ("body_length".into(), body.len().to_string());
    Reply::json(StatusCode::OK, &[member("method", head.method.as_str()), member("path", head.uri.path()), length])
}

/// RFC 6750 §3.1.
fn invalid_token(why: &str) -> Reply {
    let parameters = format!(", error=\"invalid_token\", error_description=\"{why}\"");
    challenge(StatusCode::UNAUTHORIZED, &parameters)
}

fn insufficient_scope(status: StatusCode) -> Reply {
    challenge(status, ", error=\"insufficient_scope\", scope=\"admin\"")
}

fn challenge(status: StatusCode, parameters: &str) -> Reply {
    let value = HeaderValue::try_from(format!("Bearer realm=\"api\"{parameters}"));
    Reply::new(status).header(WWW_AUTHENTICATE, value.expect("parameters are written here, in ASCII"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn at(path: &str, credential: Credential) -> (u16, Option<String>, Count) {
        let head = Request::get(format!("/api{path}")).body(()).unwrap().into_parts().0;
        let (reply, count) = decide(path, &head, &Bytes::new(), credential);
        let challenge = reply.headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        (reply.status.as_u16(), challenge, count)
    }

    #[test]
    fn requests_are_answered_and_counted_by_their_credentials() {
        let plain = "Bearer realm=\"api\"";
        for (path, credential, status, challenge, count) in [
            ("/x", Credential::None, 401, plain, Count::Missing),
            ("/scope-401", Credential::None, 401, plain, Count::Missing),
            ("/unauthorized", Credential::None, 401, "invalid_token", Count::Missing),
            ("/x", Credential::Bearer(Standing::Unknown), 401, "invalid_token", Count::Unknown),
            ("/x", Credential::Bearer(Standing::Expired), 401, "expired", Count::Expired),
            ("/forbidden", Credential::Bearer(Standing::Revoked), 401, "revoked", Count::Revoked),
            ("/unauthorized", Credential::Bearer(Standing::Live), 401, "invalid_token", Count::Refused),
            ("/scope-401", Credential::Bearer(Standing::Live), 401, "insufficient_scope", Count::Refused),
            ("/forbidden", Credential::Bearer(Standing::Live), 403, "insufficient_scope", Count::Forbidden),
        ] {
            let (got_status, got_challenge, got_count) = at(path, credential);
            assert_eq!((got_status, got_count), (status, count), "{path} {credential:?}");
            assert!(got_challenge.as_ref().is_some_and(|got| got.contains(challenge)), "{path} {got_challenge:?}");
        }
        assert_eq!(at("/x", Credential::None).1.as_deref(), Some(plain));
        assert_eq!(at("/x", Credential::Bearer(Standing::Live)), (200, None, Count::Accepted));
        assert_eq!(at("/open", Credential::None), (200, None, Count::Accepted));
        assert_eq!(at("/open", Credential::Bearer(Standing::Expired)).2, Count::Expired);
        assert_eq!(at("/x", Credential::Several), (400, None, Count::Malformed));
    }

    #[test]
    fn credentials_are_read_by_scheme() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            credential(&headers, |token| if token == "t" { Standing::Live } else { Standing::Unknown })
        };
        assert_eq!(read(&[]), Credential::None);
        assert_eq!(read(&["Basic t"]), Credential::None);
        assert_eq!(read(&["Bearer"]), Credential::None);
        assert_eq!(read(&["bEARER t"]), Credential::Bearer(Standing::Live));
        assert_eq!(read(&["Bearer t "]), Credential::Bearer(Standing::Unknown));
        assert_eq!(read(&["Bearer t", "Bearer t"]), Credential::Several);
    }

    #[test]
    fn redirects_go_where_the_query_says() {
        let reply = redirect(Some("a=b&to=http%3A%2F%2Fx%2Fy"));
        assert_eq!((reply.status.as_u16(), reply.headers[LOCATION].to_str().unwrap()), (307, "http://x/y"));
        assert_eq!(redirect(None).status, StatusCode::BAD_REQUEST);
        assert_eq!(redirect(Some("to=%0a")).status, StatusCode::BAD_REQUEST);
    }
}
