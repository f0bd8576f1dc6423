//! Who asks: HTTP Basic or form fields (RFC 6749 §2.3.1).

use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use super::{record::TokenRequest, token_endpoint::Refusal};

/// The registered clients: id and secret. An empty secret makes a public client.
#[derive(Default)]
pub(super) struct Clients(HashMap<String, String>);

impl Clients {
    pub(super) fn set(&mut self, id: String, secret: String) {
        self.0.insert(id, secret);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the request comes from a registered client.
    pub(super) fn authenticate(&self, request: &TokenRequest) -> Result<(), Refusal> {
        let headers = request.headers();
        if headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(Refusal::invalid_request("more than one Authorization header"));
        }
        let (id, secret) = (field(request, "client_id"), field(request, "client_secret"));
        if !headers.contains_key(AUTHORIZATION) {
            return match id {
                None => Err(Refusal::invalid_client("no client authentication")),
                Some(id) if self.knows(id, secret.unwrap_or_default()) => Ok(()),
                Some(_) => Err(Refusal::invalid_client("unknown client or wrong secret")),
            };
        }
        if secret.is_some() {
            return Err(Refusal::invalid_request("client authentication both in the header and in the form"));
        }
        let (basic_id, basic_secret) =
            basic(headers).ok_or_else(|| Refusal::invalid_client("not valid Basic authentication").challenged())?;
        let (plain_id, plain_secret) = (decode(&basic_id), decode(&basic_secret));
        let known = if self.knows(&plain_id, &plain_secret) {
            plain_id
        } else if self.knows(&basic_id, &basic_secret) {
            // Many clients leave the encoding out, and many servers put up with it.
            basic_id
        } else {
            return Err(Refusal::invalid_client("unknown client or wrong secret").challenged());
        };
        match id {
            Some(id) if id != known => Err(Refusal::invalid_request("client_id differs from the header's")),
            _ => Ok(()),
        }
    }

    fn knows(&self, id: &str, secret: &str) -> bool {
        self.0.get(id).is_some_and(|known| known == secret)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// RFC 6749 §3.2: a parameter without a value counts as left out.
fn field<'a>(request: &'a TokenRequest, name: &str) -> Option<&'a str> {
    request.field(name).filter(|value| !value.is_empty())
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

/// Undoes the form encoding of a single value; separators in it are characters like others.
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
        clients.authenticate(&request).map_err(|refusal| {
            let reply = refusal.into_reply();
            (reply.status, reply.headers.contains_key("www-authenticate"))
        })
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn who_is_let_in() {
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
