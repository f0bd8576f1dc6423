//! What the server answers at its paths. Most files here are named after the path.

use http::Method;

use crate::testing::rules::Rules;

pub(crate) mod api;
pub(crate) mod authorize;
pub(crate) mod discovery;
pub(crate) mod introspect;
pub(crate) mod revoke;
pub(crate) mod signnow_check;
pub(crate) mod token_endpoint;

/// The endpoint that a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Token,
    SignNowCheck,
    /// The rest of the path, after `/api`.
    Api(&'a str),
    Redirect,
    Authorize,
    Introspect,
    Revoke,
    Discovery,
    Nowhere,
}

/// Finds the endpoint. Paths that the rules switch off lead nowhere.
pub(crate) fn route<'a>(method: &Method, path: &'a str, rules: &Rules) -> Route<'a> {
    if path == rules.token_path {
        return if rules.quirks.token_check && method == Method::GET { Route::SignNowCheck } else { Route::Token };
    }
    if let Some(rest) = path.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Route::Api(rest);
    }
    match path {
        "/redirect" => Route::Redirect,
        AUTHORIZE if rules.offers("authorization_code") => Route::Authorize,
        INTROSPECT if rules.quirks.more_endpoints => Route::Introspect,
        REVOKE if rules.quirks.more_endpoints => Route::Revoke,
        DISCOVERY if rules.quirks.more_endpoints => Route::Discovery,
        _ => Route::Nowhere,
    }
}

pub(crate) const AUTHORIZE: &str = "/authorize";
pub(crate) const INTROSPECT: &str = "/introspect";
pub(crate) const REVOKE: &str = "/revoke";

/// RFC 8414 §3.
pub(crate) const DISCOVERY: &str = "/.well-known/oauth-authorization-server";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say_and_others_nowhere() {
        let rules = Rules::default();
        for (path, expected) in [
            ("/token", Route::Token),
            ("/token/", Route::Nowhere),
            ("/api", Route::Api("")),
            ("/api/a/b", Route::Api("/a/b")),
            ("/apis", Route::Nowhere),
            ("/authorize", Route::Authorize),
            ("/introspect", Route::Introspect),
            ("/revoke", Route::Revoke),
            (DISCOVERY, Route::Discovery),
            ("/", Route::Nowhere),
        ] {
            assert_eq!(route(&Method::GET, path, &rules), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_offered_is_not_there() {
        let mut rules = Rules { token_path: "/t".into(), grants: Some(vec!["password".into()]), ..Rules::default() };
        (rules.quirks.more_endpoints, rules.quirks.token_check) = (false, true);
        for path in ["/token", "/authorize", "/introspect", "/revoke", DISCOVERY] {
            assert_eq!(route(&Method::GET, path, &rules), Route::Nowhere, "{path}");
        }
        assert_eq!(route(&Method::GET, "/t", &rules), Route::SignNowCheck);
        assert_eq!(route(&Method::POST, "/t", &rules), Route::Token);
    }
}
