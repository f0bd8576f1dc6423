//! A token request as it arrived.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, header::CONTENT_TYPE, request::Parts};
use tokio::time::Instant;

/// A request that reached the token endpoint, from [`AuthorizationServer::recorded`].
///
/// Its `Debug` form names headers and fields but shows no values: they are secrets.
///
/// ```
/// use reqwest::{Client, header::CONTENT_TYPE};
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::start().await?;
/// let body = "grant_type=client_credentials&scope=a+b&client_id=client&client_secret=secret";
/// let request = Client::new().post(server.token_url()).body(body);
/// request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").send().await?;
///
/// let request = &server.recorded()[0];
/// assert_eq!(request.field("scope"), Some("a b"));
/// assert_eq!(request.form().len(), 4);
/// assert!(!format!("{request:?}").contains("a b"));
/// # Ok(())
/// # }
/// ```
///
/// [`AuthorizationServer::recorded`]: super::AuthorizationServer::recorded
#[derive(Clone)]
pub struct TokenRequest {
    method: Method,
    headers: HeaderMap,
    form: Vec<(String, String)>,
    body: Bytes,
    received_at: Instant,
}

impl TokenRequest {
    pub(super) fn new(head: Parts, body: Bytes, received_at: Instant) -> Self {
        let form =
            if is_form(&head.headers) { form_urlencoded::parse(&body).into_owned().collect() } else { Vec::new() };
        Self { method: head.method, headers: head.headers, form, body, received_at }
    }

    /// The method; anything but POST was answered 405.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The headers, `Authorization` included.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The form's fields, decoded, in the order they came; none if the body was not declared a form.
    pub fn form(&self) -> &[(String, String)] {
        &self.form
    }

    /// The first field called `name`, decoded.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// When the whole of it had arrived.
    pub fn received_at(&self) -> Instant {
        self.received_at
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("form", &self.form.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content_type: &str, body: &'static str) -> TokenRequest {
        let request = http::Request::post("/token")
            .header(CONTENT_TYPE, content_type)
            .header("authorization", "Basic hidden-credentials")
            .body(())
            .unwrap();
        TokenRequest::new(request.into_parts().0, Bytes::from_static(body.as_bytes()), Instant::now())
    }

    #[test]
    fn fields_are_decoded_and_keep_their_order() {
        let request = request("Application/X-WWW-Form-URLEncoded; charset=utf-8", "b=2%202&a=1+1&b=3");
        let pairs: Vec<_> = request.form().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("b", "2 2"), ("a", "1 1"), ("b", "3")]);
        assert_eq!(request.field("b"), Some("2 2"));
        assert_eq!(request.field("c"), None);
    }

    #[test]
    fn only_a_declared_form_is_parsed() {
        assert!(request("application/json", "a=1").form().is_empty());
    }

    #[test]
    fn debug_shows_no_values() {
        let shown = format!("{:?}", request("application/x-www-form-urlencoded", "client_secret=hidden-secret"));
        assert!(shown.contains("client_secret") && shown.contains("authorization"), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
