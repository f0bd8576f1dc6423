//! The registered clients, and their authentication by HTTP Basic or in the form (RFC 6749 §2.3.1).

use std::{collections::HashMap, fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::testing::{recorded::token_request::TokenRequest, reply::error_response::ErrorResponse};

/// Where clients may put their secret, for [`Builder::client_auth`](crate::testing::Builder::client_auth).
///
/// A public client has no secret. It sends `client_id` in the form, whatever is chosen here.
///
/// ```
/// use reqwest::{Client, header::CONTENT_TYPE};
/// use tower_bearer::testing::{AuthorizationServer, ClientAuthMethods};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::builder().client_auth(ClientAuthMethods::Post).start().await?;
/// let answer = Client::new()
///     .post(server.token_url())
///     .basic_auth("client", Some("secret"))
///     .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
///     .body("grant_type=client_credentials");
/// assert_eq!(answer.send().await?.status(), 401); // the secret belongs into the form
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthMethods {
    /// By HTTP Basic, with or without the form encoding, or in the form.
    #[default]
    BasicOrPost,
    /// By HTTP Basic, with or without the form encoding of RFC 6749 §2.3.1.
    Basic,
    /// By HTTP Basic, with the form encoding that RFC 6749 §2.3.1 requires.
    BasicEncoded,
    /// By HTTP Basic, without the form encoding: the Base64 of `id:secret`. Some providers hand out this value.
    BasicRaw,
    /// In the form, as `client_id` and `client_secret`.
    Post,
}

impl ClientAuthMethods {
    /// The names in the discovery document.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::BasicOrPost => &["client_secret_basic", "client_secret_post"],
            Self::Basic | Self::BasicEncoded | Self::BasicRaw => &["client_secret_basic"],
            Self::Post => &["client_secret_post"],
        }
    }

    fn encoded(self) -> bool {
        self != Self::BasicRaw
    }

    fn raw(self) -> bool {
        self != Self::BasicEncoded
    }
}

/// The registered clients: id and secret. A public client has an empty secret.
#[derive(Default)]
pub(crate) struct Clients(HashMap<Arc<str>, String>);

impl Clients {
    pub(crate) fn set(&mut self, id: String, secret: String) {
        self.0.insert(id.into(), secret);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Authenticates the client of a request, and returns its id.
    pub(crate) fn authenticate(
        &self,
        request: &TokenRequest,
        by: ClientAuthMethods,
    ) -> Result<Arc<str>, ErrorResponse> {
        let headers = request.headers();
        if headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(ErrorResponse::invalid_request("more than one Authorization header"));
        }
        let (id, secret) = (request.value("client_id"), request.value("client_secret"));
        if !headers.contains_key(AUTHORIZATION) {
            let by_header_only = !matches!(by, ClientAuthMethods::BasicOrPost | ClientAuthMethods::Post);
            if secret.is_some() && by_header_only {
                return Err(ErrorResponse::invalid_client("the secret belongs into the Authorization header"));
            }
            let id = id.ok_or_else(|| ErrorResponse::invalid_client("no client authentication"))?;
            let known = self.find(id, secret.unwrap_or_default());
            return known.ok_or_else(|| ErrorResponse::invalid_client("unknown client or wrong secret"));
        }
        if by == ClientAuthMethods::Post {
            return Err(ErrorResponse::invalid_client("the secret belongs into the form").challenged());
        }
        if secret.is_some() {
            return Err(ErrorResponse::invalid_request("client authentication both in the header and in the form"));
        }
        let (basic_id, basic_secret) = basic(headers)
            .ok_or_else(|| ErrorResponse::invalid_client("not valid Basic authentication").challenged())?;
        let encoded = || self.find(&decode(&basic_id), &decode(&basic_secret));
        // Many clients leave the form encoding out, and many servers accept that or require it.
        let raw = || self.find(&basic_id, &basic_secret);
        let known = by.encoded().then(encoded).flatten().or_else(|| by.raw().then(raw).flatten());
        let known =
            known.ok_or_else(|| ErrorResponse::invalid_client("unknown client or wrong secret").challenged())?;
        match id {
            Some(id) if id != &*known => Err(ErrorResponse::invalid_request("client_id differs from the header's")),
            _ => Ok(known),
        }
    }

    /// The client with this id, and whether it has a secret.
    pub(crate) fn get(&self, id: &str) -> Option<(Arc<str>, bool)> {
        self.0.get_key_value(id).map(|(id, secret)| (Arc::clone(id), !secret.is_empty()))
    }

    /// The client with this id, if this is its secret.
    pub(crate) fn find(&self, id: &str, secret: &str) -> Option<Arc<str>> {
        self.0.get_key_value(id).filter(|(_, known)| *known == secret).map(|(id, _)| Arc::clone(id))
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The user and password of RFC 7617.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// Undoes the form encoding of a single value. Separators in it are ordinary characters.
fn decode(value: &str) -> String {
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, StatusCode, header::CONTENT_TYPE};
    use tokio::time::Instant;

    use super::*;

    fn outcome(authorization: Option<&str>, body: &'static str) -> Result<(), (StatusCode, bool)> {
        outcome_by(ClientAuthMethods::default(), authorization, body)
    }

    fn outcome_by(
        by: ClientAuthMethods,
        authorization: Option<&str>,
        body: &'static str,
    ) -> Result<(), (StatusCode, bool)> {
        let mut clients = Clients::default();
        for (id, secret) in [("client", "secret"), ("a:b c", "p+%&=ü"), ("raw", "x+y%41"), ("public", "")] {
            clients.set(id.to_owned(), secret.to_owned());
        }
        let mut request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let request = TokenRequest::new(head, Bytes::from_static(body.as_bytes()), Instant::now());
        clients.authenticate(&request, by).map(drop).map_err(|error| {
            let reply = error.into_reply();
            (reply.status, reply.headers.contains_key("www-authenticate"))
        })
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn clients_are_authenticated() {
        let unauthorized = |challenged| Err((StatusCode::UNAUTHORIZED, challenged));
        let bad = Err((StatusCode::BAD_REQUEST, false));
        for (pair, body, expected) in [
            ("client:secret", "", Ok(())),
            ("client:secret", "client_id=client", Ok(())),
            ("client:secret", "client_id=&client_secret=", Ok(())),
            ("client:secret", "client_id=public", bad),
            ("client:secret", "client_id=client&client_secret=secret", bad),
            ("client:wrong", "", unauthorized(true)),
            ("nobody:secret", "", unauthorized(true)),
            ("a%3Ab+c:p%2B%25%26%3D%C3%BC", "", Ok(())),
            ("raw:x+y%41", "", Ok(())),
            ("public:", "", Ok(())),
            ("no-colon", "", unauthorized(true)),
        ] {
            assert_eq!(outcome(Some(&basic_of(pair)), body), expected, "{pair} with {body}");
        }
        for (authorization, body, expected) in [
            (None, "", unauthorized(false)),
            (None, "client_id=client&client_secret=secret", Ok(())),
            (None, "client_id=client&client_secret=wrong", unauthorized(false)),
            (None, "client_id=client", unauthorized(false)),
            (None, "client_id=public", Ok(())),
            (None, "client_secret=secret", unauthorized(false)),
            (Some("Bearer secret"), "", unauthorized(true)),
            (Some("Basic !"), "", unauthorized(true)),
            (Some("bASIC Y2xpZW50OnNlY3JldA=="), "", Ok(())),
        ] {
            assert_eq!(outcome(authorization, body), expected, "{authorization:?} with {body}");
        }
    }

    #[test]
    fn a_server_may_accept_one_method_only() {
        use ClientAuthMethods::{Basic, BasicEncoded, BasicRaw, Post};
        let (raw, encoded) = (basic_of("raw:x+y%41"), basic_of("raw:x%2By%2541"));
        let form = "client_id=raw&client_secret=x%2By%2541";
        for (by, raw_in, encoded_in, form_in) in [
            (Basic, true, true, false),
            (BasicEncoded, false, true, false),
            (BasicRaw, true, false, false),
            (Post, false, false, true),
        ] {
            assert_eq!(outcome_by(by, Some(&raw), "").is_ok(), raw_in, "{by:?}");
            assert_eq!(outcome_by(by, Some(&encoded), "").is_ok(), encoded_in, "{by:?}");
            assert_eq!(outcome_by(by, None, form).is_ok(), form_in, "{by:?}");
            assert_eq!(outcome_by(by, None, "client_id=public"), Ok(()), "{by:?}");
        }
        assert_eq!(outcome_by(Post, Some(&raw), ""), Err((StatusCode::UNAUTHORIZED, true)));
        assert_eq!(outcome_by(Basic, None, form), Err((StatusCode::UNAUTHORIZED, false)));
    }

    #[test]
    fn decoding_undoes_form_encoding_of_one_value() {
        for (encoded, plain) in [("", ""), ("a+b", "a b"), ("a%3Ab", "a:b"), ("a=b&c", "a=b&c"), ("%zz", "%zz")] {
            assert_eq!(decode(encoded), plain);
        }
    }

    #[test]
    fn debug_shows_no_secrets() {
        let mut clients = Clients::default();
        clients.set("client".to_owned(), "hidden".to_owned());
        assert_eq!(format!("{clients:?}"), r#"{"client"}"#);
    }
}
