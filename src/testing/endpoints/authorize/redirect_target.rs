//! Redirect URIs: which ones lead to this machine, and how parameters are added to them.

use http::Uri;

/// RFC 8252 §7.3: plain HTTP to this machine, on any port.
pub(crate) fn is_loopback(uri: &str) -> bool {
    // RFC 6749 §3.1.2 forbids a fragment. `Uri` would drop it unnoticed.
    let Ok(parsed) = uri.parse::<Uri>() else { return false };
    let Some(authority) = parsed.authority() else { return false };
    !uri.contains('#')
        && !authority.as_str().contains('@')
        && parsed.scheme_str() == Some("http")
        && matches!(authority.host(), "127.0.0.1" | "[::1]" | "localhost")
}

/// Adds parameters to the query of the URI, and keeps the query that is there (RFC 6749 §3.1.2).
pub(crate) fn with(uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{uri}{separator}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_on_any_port() {
        for uri in
            ["http://127.0.0.1:8421/callback", "http://[::1]:1/", "http://localhost:65535/a?b", "http://127.0.0.1"]
        {
            assert!(is_loopback(uri), "{uri}");
        }
        for uri in [
            "",
            "/callback",
            "https://127.0.0.1/",
            "http://127.0.0.2/",
            "http://127.0.0.1.example.com/",
            "http://127.0.0.1@example.com/",
            "http://user@127.0.0.1/",
            "http://localhost:1/#fragment",
            "http://localhost/a b",
        ] {
            assert!(!is_loopback(uri), "{uri}");
        }
    }

    #[test]
    fn a_query_is_kept() {
        for (uri, expected) in [("http://h/", "http://h/?a=b+c"), ("x:y?", "x:y?a=b+c"), ("x:y?z=", "x:y?z=&a=b+c")] {
            assert_eq!(with(uri, &[("a", "b c")]), expected);
        }
    }
}
