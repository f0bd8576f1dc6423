//! The fence: to which origins a token may be sent.

use std::{
    borrow::Cow,
    error, fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::{Uri, uri::Scheme};

/// A scheme, a host and a port (RFC 6454 §4). A token is sent to its origins only.
///
/// ```
/// use tower_bearer::Origin;
///
/// let api = Origin::parse("https://api.example.com")?;
/// assert_eq!(api, Origin::parse("https://API.example.com:443/")?);
/// assert!(Origin::parse("http://api.example.com").is_err()); // a token in clear text
/// assert!(Origin::parse("http://127.0.0.1:8080").is_ok());
/// # Ok::<(), tower_bearer::InvalidOrigin>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    /// In lower case. IPv6 addresses are in brackets.
    host: String,
    port: u16,
    /// Host and port as clients write them: without the default port.
    authority: String,
}

impl Origin {
    /// Reads an origin from its URL, such as `https://api.example.com`. Plain `http` is accepted only for loopback addresses and
    /// `localhost`. See the example of [`Origin`].
    ///
    /// # Errors
    /// [`InvalidOrigin`] if it isn't a URL of scheme, host and perhaps port alone, or if a token sent to it could be read on its way.
    pub fn parse(url: &str) -> Result<Self, InvalidOrigin> {
        let origin = Self::insecure_http(url)?;
        if origin.https || is_loopback(&origin.host) {
            Ok(origin)
        } else {
            Err(InvalidOrigin("plain http shows the token to everybody on the way: use https".into()))
        }
    }

    /// Reads an origin, and accepts plain `http` to any host: whoever is on the way can read the token and use it. For networks that
    /// encrypt below HTTP (a service mesh, a VPN).
    ///
    /// ```
    /// use tower_bearer::Origin;
    ///
    /// let api = Origin::insecure_http("http://documents.mesh:8080")?;
    /// assert_eq!(api.to_string(), "http://documents.mesh:8080");
    /// # Ok::<(), tower_bearer::InvalidOrigin>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidOrigin`] if it isn't a URL of scheme, host and perhaps port alone.
    pub fn insecure_http(url: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |why: &'static str| InvalidOrigin(Cow::Borrowed(why));
        // A URL from a file may end with a line end.
        let url = url.trim();
        if !url.is_ascii() {
            return Err(invalid("it isn't ASCII: write a host of other characters as it is sent (`xn--…`)"));
        }
        if url.contains('*') {
            return Err(invalid("a wildcard is no host: name each origin"));
        }
        let uri: Uri = url.parse().map_err(|error| InvalidOrigin(format!("{error}").into()))?;
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(invalid("it doesn't begin with https:// (or http://)")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("there is no host in it"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it holds user info"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("it has a path or a query; an origin is scheme, host and port alone"));
        }
        let host = canonical(authority.host()).to_ascii_lowercase();
        if host.is_empty() {
            return Err(invalid("the host in it is empty"));
        }
        let default = default_port(https);
        // `Uri` accepts "host:" and "host:99999". The first means the default port, the second is invalid.
        let port = match authority.as_str()[authority.host().len()..].trim_start_matches(':') {
            "" => default,
            port => port.parse().map_err(|_| invalid("the port in it is not a number below 65536"))?,
        };
        let authority = if port == default { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { https, host, port, authority })
    }

    fn is(&self, https: bool, host: &str, port: u16) -> bool {
        self.https == https && self.port == port && self.host.eq_ignore_ascii_case(&canonical(host))
    }
}

/// The canonical form of an IPv6 address, which can be written in many ways.
fn canonical(host: &str) -> Cow<'_, str> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]").into(),
        None => host.into(),
    }
}

/// The same as [`Origin::parse`] of its text.
impl TryFrom<&Uri> for Origin {
    type Error = InvalidOrigin;

    fn try_from(uri: &Uri) -> Result<Self, InvalidOrigin> {
        Self::parse(&uri.to_string())
    }
}

/// The same as [`Origin::parse`] of its text.
///
/// ```
/// use reqwest::Url;
/// use tower_bearer::Origin;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let base = Url::parse("https://api.example.com/v1/")?;
/// assert!(Origin::try_from(&base).is_err()); // it has a path
/// assert_eq!(Origin::try_from(&base.join("/")?)?, Origin::parse("https://api.example.com")?);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "reqwest")]
impl TryFrom<&reqwest::Url> for Origin {
    type Error = InvalidOrigin;

    fn try_from(url: &reqwest::Url) -> Result<Self, InvalidOrigin> {
        Self::parse(url.as_str())
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(url: &str) -> Result<Self, InvalidOrigin> {
        Self::parse(url)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Why a text is no [`Origin`] to which a token can be sent.
///
/// ```
/// use tower_bearer::Origin;
///
/// let error = Origin::parse("http://api.example.com").unwrap_err();
/// assert!(error.to_string().contains("plain http shows the token"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin(Cow<'static, str>);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an origin for tokens: {}", self.0)
    }
}

impl error::Error for InvalidOrigin {}

/// The origins of one layer. (`pub` because a sealed trait names it. Nothing outside of the crate can name it.)
#[derive(Clone)]
pub struct Fence {
    first: Origin,
    others: Vec<Origin>,
    any_https: bool,
    /// The authority of `first` if that is https. Otherwise empty, which equals no authority.
    quick: Box<[u8]>,
}

impl Fence {
    pub(crate) fn around(origin: Origin) -> Self {
        Self {
            quick: if origin.https { origin.authority.as_bytes().into() } else { Box::default() },
            first: origin,
            others: Vec::new(),
            any_https: false,
        }
    }

    pub(crate) fn admit(&mut self, origin: Origin) {
        self.others.push(origin);
    }

    pub(crate) fn admit_any_https(&mut self) {
        self.any_https = true;
    }

    /// Whether a request with this URI may carry the token.
    #[inline]
    pub(crate) fn admits(&self, uri: &Uri) -> bool {
        match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority))
                if scheme.len() == 5
                    && ends::<4>(scheme.as_bytes(), b"https")
                    && is_same(authority.as_str().as_bytes(), &self.quick) =>
            {
                true
            }
            _ => self.admits_slowly(uri),
        }
    }

    /// The same for any way to write the URI.
    #[cold]
    fn admits_slowly(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else {
            // Only a path: the connection below is fixed (tonic, an HTTP/1 connection, the upstream of a proxy).
            return uri.scheme().is_none();
        };
        let Some(https) = uri.scheme().and_then(is_https) else { return false };
        // `port_u16` is `None` both for no port and for one that is no number.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority
                .as_str()
                .rsplit('@')
                .next()
                .is_some_and(|rest| rest.len() > authority.host().len() + 1) =>
            {
                return false;
            }
            None => default_port(https),
        };
        self.admits_parts(https, authority.host(), port)
    }

    /// The same for the parts of a URL.
    pub(crate) fn admits_parts(&self, https: bool, host: &str, port: u16) -> bool {
        (self.any_https && https && !host.is_empty())
            || self.first.is(https, host, port)
            || self.others.iter().any(|origin| origin.is(https, host, port))
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, others, any_https, quick: _ } = self;
        f.debug_struct("Fence").field("first", first).field("others", others).field("any_https", any_https).finish()
    }
}

/// The origin of a URI for an error: without user info, path and query, which may contain secrets.
pub(crate) fn describe(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    match uri.scheme_str() {
        Some(scheme) => format!("{scheme}://{host}{port}"),
        None => format!("{host}{port}"),
    }
}

/// `==`, inlined for hosts of 8 to 32 bytes: a call of `memcmp` costs as much as everything else that a request pays for its origin. Two
/// overlapping loads read all of a text that is at most twice as long as each of them.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && match a.len() {
            8..=16 => ends::<8>(a, b),
            17..=32 => ends::<16>(a, b),
            _ => a == b,
        }
}

#[inline]
fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
}

fn is_https(scheme: &Scheme) -> Option<bool> {
    if *scheme == Scheme::HTTPS {
        Some(true)
    } else if *scheme == Scheme::HTTP {
        Some(false)
    } else {
        None
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// Whether requests to this host stay on this machine: loopback addresses, and the names that RFC 6761 §6.3 reserves for them.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            "api.example.com",
            "/path",
            "https://",
            "https:///path",
            "https://:443",
            "ftp://api.example.com",
            "https://api.example.com/v1",
            "https://api.example.com?x",
            "https://user:marked@api.example.com",
            "https://api.example.com:99999",
            "https://api.example.com:x",
            "http://api.example.com",
            "http://10.0.0.1",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "https://api.example.com\n/",
            "https://*.example.com",
            "https://b\u{fc}cher.example",
        ] {
            let error = Origin::parse(bad).expect_err(bad);
            let text = error.to_string();
            assert!(text.starts_with("not an origin for tokens: ") && !text.contains("marked"), "{error}");
        }
        for good in [
            "https://api.example.com\n",
            "http://localhost:1",
            "http://127.0.0.1",
            "http://127.9.9.9",
            "http://[::1]:8080",
            "https://x",
        ] {
            Origin::parse(good).expect(good);
        }
        assert!(Origin::insecure_http("http://api.mesh").is_ok());
        assert!(Origin::insecure_http("ftp://api.mesh").is_err());
    }

    #[test]
    fn an_address_of_ipv6_is_one_however_it_is_written() {
        let spellings = ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::0.0.0.1]"];
        for origin in spellings {
            let fence = Fence::around(Origin::parse(&format!("https://{origin}")).unwrap());
            for written in spellings {
                assert!(fence.admits(&format!("https://{written}/x").parse().unwrap()), "{origin} {written}");
            }
            assert!(!fence.admits(&"https://[::2]/x".parse().unwrap()));
        }
        let uri: Uri = "https://api.example.com".parse().unwrap();
        assert_eq!(Origin::try_from(&uri), Origin::parse("https://api.example.com"));
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn a_url_becomes_the_same_origin_as_its_text_and_no_other() {
        let of = |url: &str| Origin::try_from(&reqwest::Url::parse(url).expect(url));
        for (url, origin) in [
            ("https://API.example.com:443", "https://api.example.com"),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("https://[0:0::0.0.0.1]:8443/", "https://[::1]:8443"),
            ("https://[::ffff:192.0.2.1]", "https://[::ffff:192.0.2.1]"),
            ("http://127.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(of(url), Origin::parse(origin), "{url}");
            assert_eq!(of(url).unwrap(), of(&of(url).unwrap().to_string()).unwrap(), "{url}");
        }
        for bad in [
            "http://api.example.com",
            "https://api.example.com/v1",
            "https://api.example.com/?marked",
            "https://marked:marked@api.example.com",
            "https://*.example.com",
            "wss://api.example.com",
            "file:///marked",
            "data:,marked",
            "mailto:marked@example.com",
            "unix:/marked.sock",
        ] {
            let error = of(bad).expect_err(bad);
            assert!(!error.to_string().contains("marked"), "{error}");
        }
    }

    #[test]
    fn the_fence_lets_nothing_else_through() {
        let fence = Fence::around(Origin::parse("https://api.example.com").unwrap());
        for (uri, admitted) in [
            ("https://api.example.com/v1?q", true),
            ("https://API.Example.com:443/", true),
            ("https://api.example.com:/", true),
            ("https://user:pw@api.example.com/", true),
            ("/only/a/path", true),
            ("*", true),
            ("http://api.example.com/", false),
            ("https://api.example.com:444/", false),
            ("https://api.example.com.evil.test/", false),
            ("https://evil.test/", false),
            ("https://api.example.com@evil.test/", false),
            ("https://api.example.com:443@evil.test/", false),
            ("https://xapi.example.com/", false),
            ("https://api.example.com./", false),
            ("https://api.example.com:99999/", false),
            ("api.example.com:443", false), // CONNECT
            ("wss://api.example.com/", false),
            ("httqs://api.example.com/", false),
            ("httpxttps://api.example.com/", false),
        ] {
            let uri: Uri = uri.parse().expect(uri);
            assert_eq!(fence.admits(&uri), admitted, "{uri}");
        }
    }

    /// Short authorities are compared by overlapping loads. A difference in any byte must show.
    #[test]
    fn look_alikes_of_hosts_of_every_length_stay_outside() {
        for (origin, look_alikes) in [
            ("https://api.eu.example.com", &["api.us.example.com", "api.euxexample.com", "api.eu.exemple.com"][..]),
            ("https://documents.api.example.com", &["documents.apj.example.com", "documents-api.example.com"]),
            (
                "https://documents.api.eu.example.com",
                &["documents.api.ew.example.com", "documents.apiieu.example.com", "documents.ap1.eu.example.com"],
            ),
            (
                "https://api.example.com:8443",
                &[
                    "api.example.com:8444",
                    "api.example.com:9443",
                    "api.example.comx8443",
                    "api.example.com:843",
                    "api.example.com",
                ],
            ),
            (
                "https://documents.eu.example.com:8443",
                &["documents.eu.example.com:8543", "documents.ev.example.com:8443"],
            ),
        ] {
            let fence = Fence::around(Origin::parse(origin).unwrap());
            let admits = |uri: &str| fence.admits(&uri.parse().expect(uri));
            assert!(admits(&format!("{origin}/x")) && admits(&origin.replace("example", "EXAMPLE")), "{origin}");
            for look_alike in look_alikes {
                assert!(!admits(&format!("https://{look_alike}/x")), "{look_alike} passes for {origin}");
            }
        }
    }

    #[test]
    fn the_same_is_what_has_the_same_length_and_every_byte() {
        for length in 0..=40 {
            let text: Vec<u8> = (b'0'..).take(length).collect();
            assert!(is_same(&text, &text.clone()), "{length}");
            for at in 0..length {
                let mut other = text.clone();
                other[at] ^= 1;
                assert!(!is_same(&text, &other) && !is_same(&other, &text), "{length}, byte {at}");
            }
            // All bytes are the same, so only the length differs.
            let (text, longer) = (vec![b'a'; length], vec![b'a'; length + 1]);
            assert!(!is_same(&text, &longer) && !is_same(&longer, &text), "{length} and one more");
        }
    }

    #[test]
    fn debug_shows_origins_and_not_how_they_are_compared() {
        let mut fence = Fence::around(Origin::parse("https://a.test").unwrap());
        fence.admit(Origin::parse("https://b.test:8443").unwrap());
        assert_eq!(
            format!("{fence:?}"),
            "Fence { first: Origin(https://a.test), others: [Origin(https://b.test:8443)], any_https: false }"
        );
    }

    #[test]
    fn further_origins_and_any_https() {
        let mut fence = Fence::around(Origin::parse("https://a.test").unwrap());
        fence.admit(Origin::parse("http://127.0.0.1:8080").unwrap());
        let admits = |fence: &Fence, uri: &str| fence.admits(&uri.parse().unwrap());
        assert!(admits(&fence, "http://127.0.0.1:8080/x"));
        assert!(!admits(&fence, "https://b.test/"));
        fence.admit_any_https();
        assert!(admits(&fence, "https://b.test/"));
        assert!(!admits(&fence, "http://b.test/"));
    }

    #[test]
    fn a_description_shows_no_secrets() {
        let uri: Uri = "https://marked:marked@evil.test:8443/marked?marked".parse().unwrap();
        assert_eq!(describe(&uri), "https://evil.test:8443");
    }
}
