//! The URLs of an authorization server's endpoints: which ones secrets may be sent to.

use std::{borrow::Cow, error, fmt};

use http::Uri;
use url::{Host, Url};
use zeroize::Zeroizing;

/// Reads the URL of an endpoint. Plain `http` is for loopback only, unless `insecure`.
///
/// # Errors
/// Why it is no such URL.
pub(crate) fn parse(url: &str, insecure: bool) -> Result<Uri, InvalidEndpoint> {
    let url = parse_url(url, insecure)?;
    url.as_str().parse().map_err(|_| InvalidEndpoint("it can't be sent in a request".into()))
}

/// The same, as a URL.
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
        return Err(invalid("it holds user info: say how the client proves itself with `client_secret_basic`"));
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

/// The URL for people: a query may hold secrets.
pub(crate) fn without_query(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// What a query holds, to be masked: some gateways take a key there.
pub(crate) fn query_values(uri: &Uri) -> impl Iterator<Item = Zeroizing<String>> {
    let query = uri.query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).map(|(_, value)| Zeroizing::new(value.into_owned()))
}

/// Why a text is no URL of an authorization server's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint(Cow<'static, str>);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the URL of an endpoint: {}", self.0)
    }
}

impl error::Error for InvalidEndpoint {}
