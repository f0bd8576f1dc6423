//! The authorization request (RFC 6749 §4.1.1): the URL for the browser.

use std::borrow::Cow;

use form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::{AuthorizationCode, pkce};

impl AuthorizationCode {
    pub(super) fn url(&self, state: &str, verifier: Option<&str>) -> Zeroizing<String> {
        let client_id = self.known_client_id().filter(|_| self.given("client_id").is_none());
        let challenge = verifier.map(pkce::challenge);
        let mut pairs = vec![("response_type", "code")];
        pairs.extend(client_id.as_deref().map(|id| ("client_id", id)));
        // RFC 6749 §4.1.3: an empty one is also left out of the token request.
        pairs.extend(Some(("redirect_uri", self.redirect_uri.as_str())).filter(|(_, uri)| !uri.is_empty()));
        pairs.push(("state", state));
        pairs.extend(Some(("scope", self.scope.0.as_str())).filter(|(_, scope)| !scope.is_empty()));
        if let Some(challenge) = &challenge {
            pairs.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        pairs.extend(self.params.iter());

        let base = self.authorize.as_str();
        // At most three bytes for each, and the signs between them. The string never grows, so no copy of the state stays in memory.
        let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum::<usize>();
        let mut url = String::with_capacity(base.len() + 1 + room);
        url.push_str(base);
        let query = base.find('?').map_or_else(
            || {
                url.push('?');
                url.len()
            },
            |mark| mark + 1,
        );
        Serializer::for_suffix(url, query).extend_pairs(pairs).finish().into()
    }

    /// The client's id: from the option, a parameter, or the token endpoint.
    pub(super) fn known_client_id(&self) -> Option<String> {
        let stated = self.client_id.clone().filter(|id| !id.is_empty());
        let given = || self.given("client_id").map(Cow::into_owned);
        stated.or_else(given).or_else(|| self.endpoint.client.known_id()).filter(|id| !id.is_empty())
    }

    /// A parameter that was set by `param` or in the authorization URL. RFC 6749 §3.1: none may come twice.
    fn given(&self, name: &str) -> Option<Cow<'_, str>> {
        let param = self.params.iter().find(|(param, _)| *param == name).map(|(_, value)| value.into());
        param.or_else(|| self.authorize.query_pairs().find(|(param, _)| param == name).map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth2::TokenEndpoint;

    fn endpoint() -> TokenEndpoint {
        TokenEndpoint::new("https://id.test/token").unwrap()
    }

    fn login(endpoint: TokenEndpoint, authorize: &str) -> AuthorizationCode {
        AuthorizationCode::new(endpoint, authorize, "https://app.test/cb?a=b c").unwrap().insecure_without_pkce()
    }

    fn url(login: &AuthorizationCode) -> String {
        login.url("s", None).to_string()
    }

    #[test]
    fn the_url_is_the_endpoint_and_every_parameter_once() {
        let public = endpoint().public_client("i d");
        let query = "response_type=code&client_id=i+d&redirect_uri=https%3A%2F%2Fapp.test%2Fcb%3Fa%3Db+c&state=s";
        for (authorize, start) in [
            ("https://id.test", "https://id.test/?"),
            ("https://id.test/a", "https://id.test/a?"),
            ("https://id.test/a?", "https://id.test/a?"),
            ("https://id.test/a?p=1", "https://id.test/a?p=1&"),
        ] {
            assert_eq!(url(&login(public.clone(), authorize)), format!("{start}{query}"));
        }
        let login = login(public, "https://id.test/a").scope("x y").param("prompt", "none");
        assert_eq!(url(&login), format!("https://id.test/a?{query}&scope=x+y&prompt=none"));
    }

    #[test]
    fn it_has_room_from_the_start() {
        for value in ["", "%%%", "ü"] {
            let public = endpoint().public_client(value.repeat(99));
            let url = login(public, "https://id.test/a").param(value, value.repeat(999)).url("s", Some("verifier"));
            let (base, query) = url.split_once('?').unwrap();
            let pairs = form_urlencoded::parse(query.as_bytes());
            let room = pairs.map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum::<usize>();
            assert_eq!(url.capacity(), base.len() + 1 + room, "it has grown");
        }
    }

    #[test]
    fn the_client_id_is_there_once_wherever_it_comes_from() {
        let authorize = "https://id.test/a";
        let unpadded = login(endpoint().client_basic_value("Basic aWQ6c2VjcmV0MQ"), authorize);
        let unknown = login(endpoint().client_basic_value("opaque"), authorize);
        for (login, id) in [
            (unpadded.clone(), "id"),
            (unpadded.clone().client_id("mine"), "mine"),
            (unpadded.clone().client_id(""), "id"),
            (unpadded.param("client_id", "mine"), "mine"),
            (unknown.clone().client_id("mine"), "mine"),
            (unknown.clone().param("client_id", "mine"), "mine"),
            (login(endpoint().public_client("id"), "https://id.test/a?client_id=mine"), "mine"),
        ] {
            let url = url(&login);
            let ids = || url.split(['?', '&']).filter_map(|pair| pair.strip_prefix("client_id="));
            assert_eq!(ids().collect::<Vec<_>>(), [id], "{url}");
            assert_eq!(login.known_client_id().as_deref(), Some(id));
        }
        assert!(!url(&unknown).contains("client_id"));
    }

    #[test]
    fn an_empty_redirect_uri_is_left_out() {
        let login = AuthorizationCode::new(endpoint().public_client("id"), "https://id.test/a", "").unwrap();
        assert!(!url(&login).contains("redirect_uri"));
    }
}
