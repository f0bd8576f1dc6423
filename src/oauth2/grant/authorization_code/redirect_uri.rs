//! Where a callback came to, and whether that is the redirect URI (RFC 6749 §3.1.2). Pure.

use url::Url;

/// A callback, taken apart.
pub(super) struct Called<'a> {
    /// The URL or the path, up to the question mark; `None` for a query alone. The mark is included, because a URL parser would drop a
    /// space at the end.
    address: Option<&'a str>,
    pub(super) query: &'a str,
}

impl<'a> Called<'a> {
    /// Takes a callback apart. `None` if it is no URL, no path with a query, and no query. A posted form is read as a query.
    pub(super) fn read(callback: &'a str) -> Option<Self> {
        let callback = callback.trim();
        // A URL parser drops some control characters, so it would read another URL than people see.
        if callback.contains(char::is_control) {
            return None;
        }
        // RFC 3986 §3.5: a number sign ends the query. Forms encode it.
        let callback = callback.split('#').next().unwrap_or_default();
        // A query may have unencoded question marks (RFC 3986 §3.4), so the first of these characters decides.
        let address = match callback.find(['=', '&', '?', '/', ':']).map(|at| (at, callback.as_bytes()[at])) {
            None | Some((_, b'=' | b'&')) => return Some(Self { address: None, query: callback }),
            Some((0, b'?')) => None,
            Some((0, b'/') | (_, b':')) => Some(()),
            // A host or a relative path, which can't be compared.
            Some(_) => return None,
        };
        let (before, query) = callback.split_at(callback.find('?').map_or(callback.len(), |mark| mark + 1));
        Some(Self { address: address.map(|()| before), query })
    }

    /// Whether the callback came to the redirect URI. A query alone counts as yes. URLs are compared by RFC 3986 §6.2.2 and §6.2.3.
    pub(super) fn came_to(&self, redirect_uri: &str) -> bool {
        let Some(address) = self.address else { return true };
        // The redirect URI was left out of the request, so only the server knows it.
        if redirect_uri.is_empty() {
            return true;
        }
        let Ok(expected) = Url::parse(redirect_uri) else { return false };
        let called = match address.starts_with('/') {
            // `join`, because a path with two slashes has another host.
            true => expected.join(address),
            false => Url::parse(address),
        };
        called.is_ok_and(|called| is_same_address(&called, &expected)) && self.holds_query_of(&expected)
    }

    /// RFC 6749 §3.1.2: the server keeps the redirect URI's own query.
    fn holds_query_of(&self, expected: &Url) -> bool {
        let mut own = expected.query_pairs();
        own.all(|pair| form_urlencoded::parse(self.query.as_bytes()).any(|found| found == pair))
    }
}

fn is_same_address(called: &Url, expected: &Url) -> bool {
    let host = |url: &Url| url.host_str().unwrap_or_default().to_ascii_lowercase();
    called.scheme() == expected.scheme()
        && host(called) == host(expected)
        && called.port_or_known_default() == expected.port_or_known_default()
        && normal_path(called) == normal_path(expected)
}

/// The path with unreserved characters decoded (RFC 3986 §6.2.2.2), and a slash for an empty one after a host (§6.2.3).
fn normal_path(url: &Url) -> String {
    let mut pieces = url.path().split('%');
    let mut path = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        match u8::from_str_radix(digits, 16).map(char::from) {
            Ok(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => path.push(c),
            _ => {
                path.push('%');
                path.push_str(&digits.to_ascii_uppercase());
            }
        }
        path.push_str(rest);
    }
    if path.is_empty() && url.has_host() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(callback: &str, redirect_uri: &str) -> Option<bool> {
        Called::read(callback).map(|called| called.came_to(redirect_uri))
    }

    #[test]
    fn every_shape_is_known_by_its_first_mark() {
        for (callback, expected) in [
            ("https://app.test/cb?a=b?c", Some((Some("https://app.test/cb?"), "a=b?c"))),
            ("https://app.test/cb", Some((Some("https://app.test/cb"), ""))),
            (" /cb?a=b\n", Some((Some("/cb?"), "a=b"))),
            ("//host/cb?a=b", Some((Some("//host/cb?"), "a=b"))),
            ("com.example.app:cb?a=b", Some((Some("com.example.app:cb?"), "a=b"))),
            ("?a=b?c:/", Some((None, "a=b?c:/"))),
            ("a=b?c", Some((None, "a=b?c"))),
            ("a=https://x/?y", Some((None, "a=https://x/?y"))),
            ("a&b?c", Some((None, "a&b?c"))),
            ("a=b#c", Some((None, "a=b"))),
            ("?a=b?#c?d", Some((None, "a=b?"))),
            ("#a=b", Some((None, ""))),
            ("", Some((None, ""))),
            ("word", Some((None, "word"))),
            ("cb?a=b", None),
            ("app.test/cb?a=b", None),
            ("ht\ntps://app.test/cb?a=b", None),
            ("\0?a=b", None),
        ] {
            let found = Called::read(callback).map(|called| (called.address, called.query));
            assert_eq!(found, expected, "{callback}");
        }
    }

    #[test]
    fn the_address_is_the_redirect_uri_or_it_is_not() {
        for (redirect_uri, same, others) in [
            (
                "https://app.test/cb",
                &[
                    "https://app.test/cb?",
                    "HTTPS://APP.TEST:443/cb?",
                    "https://app.test/%63%62?",
                    "https://app.test/x/../cb?",
                    "/cb?",
                    "/%63b?",
                    "?",
                    "code=",
                ][..],
                &[
                    "http://app.test/cb?",
                    "http://app.test:443/cb?",
                    "https://app.test:8443/cb?",
                    "https://evil.test/cb?",
                    "https://app.test.evil.test/cb?",
                    "https://app.test@evil.test/cb?",
                    "https://evil.test/https://app.test/cb?",
                    "https:\\\\evil.test\\cb?",
                    "https://app.test/cb/?",
                    "https://app.test/CB?",
                    "https://app.test/cb ?",
                    "/cb ?",
                    "https://app.test/other?",
                    "https://app.test/?",
                    "https://[bad/cb?",
                    "com.example.app:/cb?",
                    "app.test:443/cb?",
                    "javascript:/cb?",
                    "/?",
                    "/cb/?",
                    "//app.test.evil/cb?",
                    "/\\evil.test/cb?",
                    ":?",
                ][..],
            ),
            ("https://app.test", &["https://app.test/?", "https://app.test?", "/?"], &["/cb?", "https://app.test//?"]),
            // RFC 8252 §7.3: the port is part of what was sent.
            (
                "http://127.0.0.1:54321/cb",
                &["http://127.0.0.1:54321/cb?", "/cb?"],
                &["http://127.0.0.1:54322/cb?", "http://127.0.0.1/cb?", "http://localhost:54321/cb?"],
            ),
            ("http://[::1]:80/cb", &["http://[::1]/cb?", "http://[0:0::1]:80/cb?"], &["http://[::2]/cb?"]),
            // RFC 8252 §7.1.
            (
                "com.example.app:/cb",
                &["com.example.app:/cb?", "COM.example.app:/cb?", "/cb?"],
                &["com.example.other:/cb?", "com.example.app:/?", "com.example.app:cb?", "com.example.app://cb?"],
            ),
            (
                "com.example.app://oauth",
                &["com.example.app://oauth?", "com.example.app://OAuth/?", "/?"],
                &["com.example.app://other?", "com.example.app://oauth/cb?", "com.example.app:oauth?"],
            ),
            ("com.example.app:cb", &["com.example.app:cb?"], &["com.example.app:/cb?", "/cb?", "com.example.app:?"]),
            ("https://app.test/a%2fb/ü", &["/a%2Fb/%c3%bc?", "https://app.test/a%2fb/ü?"], &["/a/b/ü?", "/a%2fb/u?"]),
            ("https://app.test/%zz%", &["/%zz%?", "/%ZZ%?"], &["/zz?", "/%25zz%25?"]),
            // Its own query is part of it.
            (
                "https://app.test/cb?from=a+b&x",
                &["/cb?x=&code=1&from=a%20b&", "https://app.test/cb?from=a+b&x&", "from=other&"],
                &["/cb?", "/cb?from=a+b&", "/cb?x=&from=b&", "https://app.test/cb?from=A+b&x&"],
            ),
            // Left out of the request: the server knows it.
            ("", &["https://any.test/?", "/any?", "?"], &[]),
            ("no URL", &["?", "code="], &["https://app.test/cb?", "/no URL?"]),
        ] {
            for (expected, callbacks) in [(true, same), (false, others)] {
                for callback in callbacks {
                    let found = came(&format!("{callback}code=c&state=s"), redirect_uri);
                    assert_eq!(found, Some(expected), "{callback} for {redirect_uri}");
                }
            }
        }
    }
}
