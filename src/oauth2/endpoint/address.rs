//! The URLs of an authorization server's endpoints: which ones secrets may be sent to, and which server they belong to.

use std::{borrow::Cow, error, fmt};

use http::Uri;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::store::tenant;

/// Reads the URL of an endpoint. Plain `http` is for loopback only, unless `insecure`.
///
/// # Errors
/// Why it is no such URL.
pub(crate) fn parse(url: &str, insecure: bool) -> Result<Uri, InvalidEndpoint> {
    let url = parse_url(url, insecure)?;
    url.as_str().parse().map_err(|_| InvalidEndpoint("it can't be sent in a request".into()))
}

/// [`parse`], as a `Url`.
///
/// # Errors
/// Why it is no such URL.
pub(crate) fn parse_url(url: &str, insecure: bool) -> Result<Url, InvalidEndpoint> {
    let invalid = |why: &'static str| InvalidEndpoint(Cow::Borrowed(why));
    let url = Url::parse(url).map_err(|error| InvalidEndpoint(error.to_string().into()))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(invalid("it doesn't begin with https:// (or http://)"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("it holds user info: authenticate the client with `client_secret_basic` instead"));
    }
    // RFC 6749 §3.1 and §3.2.
    if url.fragment().is_some() {
        return Err(invalid("it has a fragment"));
    }
    if url.scheme() == "http" && !insecure && !is_loopback(&url) {
        return Err(invalid("plain http shows secrets to everybody on the way: use https"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // RFC 6761 §6.3.
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The URL without its query, to be shown: a query may hold secrets.
pub(crate) fn without_query(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// A name for the authorization server of an endpoint: its origin, and the parts of path and query that may name a tenant. It leaves out
/// what changes when a server is updated or moved behind a gateway: versions, OAuth terms, keys.
pub(crate) fn server(uri: &Uri) -> String {
    let mut server =
        format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |of| of.as_str()));
    let segments: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in without_end(&segments) {
        server.push('/');
        server.push_str(segment);
    }
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        server += &tenant(&name, &value);
    }
    server
}

/// A path without the usual end of a token endpoint: `/token`, `/oauth2/v2.0/token`, `/protocol/openid-connect/token`. Each part is removed
/// once: the same word before it may be a tenant's name.
fn without_end<'a>(mut path: &'a [&'a str]) -> &'a [&'a str] {
    for is_part in [is_token, is_version, is_oauth, is_protocol] as [fn(&str) -> bool; 4] {
        if let [before @ .., last] = path
            && is_part(&last.to_ascii_lowercase())
        {
            path = before;
        }
    }
    path
}

fn is_token(segment: &str) -> bool {
    ["access_token", "accesstoken", "token", "token.oauth2"].contains(&segment)
}

fn is_oauth(segment: &str) -> bool {
    ["connect", "oauth", "oauth2", "oidc", "openid-connect"].contains(&segment)
}

/// Keycloak's `protocol/openid-connect`.
fn is_protocol(segment: &str) -> bool {
    segment == "protocol"
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|version| {
        (1..=4).contains(&version.len()) && version.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

/// The values in a query, to be masked: some gateways take a key there.
pub(crate) fn query_values(uri: &Uri) -> impl Iterator<Item = Zeroizing<String>> {
    let query = uri.query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).map(|(_, value)| Zeroizing::new(value.into_owned()))
}

/// Why a text can't be the URL of an authorization server's endpoint. [`TokenEndpoint`](super::TokenEndpoint) has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint(Cow<'static, str>);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the URL of an endpoint: {}", self.0)
    }
}

impl error::Error for InvalidEndpoint {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> String {
        server(&url.parse().unwrap())
    }

    #[test]
    fn what_moves_without_meaning_is_no_part_of_a_server() {
        for url in [
            "https://id.test/token",
            "https://id.test/v2/token",
            "https://id.test/oauth2/v2.0/token",
            "https://id.test/token?key=gateway",
            "https://id.test/protocol/openid-connect/token/",
        ] {
            assert_eq!(of(url), "https://id.test", "{url}");
        }
    }

    #[test]
    fn a_tenant_in_the_query_counts_and_is_not_shown() {
        let [one, other] = ["a", "b"].map(|tenant| of(&format!("https://id.test/token?tenant={tenant}&key=marked")));
        assert_ne!(one, other);
        assert!(one.starts_with("https://id.test?tenant=") && !one.contains("marked") && !one.ends_with("=a"), "{one}");
        // Keys are called like this, too.
        for name in ["user_key", "account_key", "login_token", "org_secret", "userpass"] {
            assert_eq!(of(&format!("https://id.test/token?{name}=marked")), "https://id.test", "{name}");
        }
    }

    #[test]
    fn what_may_name_a_tenant_is() {
        for (url, expected) in [
            ("https://id.test/realms/a/protocol/openid-connect/token", "https://id.test/realms/a"),
            ("https://id.test/6f9c/oauth2/v2.0/token", "https://id.test/6f9c"),
            ("https://id.test/oauth2/default/v1/token", "https://id.test/oauth2/default"),
            ("https://id.test/1001/token", "https://id.test/1001"),
            ("https://id.test/1001/v1/token", "https://id.test/1001"),
            ("https://id.test/api/token", "https://id.test/api"),
            ("https://id.test/rest/token", "https://id.test/rest"),
            ("https://id.test/v2/a/token", "https://id.test/v2/a"),
            ("https://id.test/realms/token/protocol/openid-connect/token", "https://id.test/realms/token"),
            ("https://id.test/v1/v2/token", "https://id.test/v1"),
            ("https://id.test:8443/token", "https://id.test:8443"),
        ] {
            assert_eq!(of(url), expected, "{url}");
        }
    }
}
