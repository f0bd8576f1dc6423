//! A request to the token endpoint, as it arrived.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, header::CONTENT_TYPE, request::Parts};
use tokio::time::Instant;

use super::multipart;

/// A request that reached the token endpoint, from [`AuthorizationServer::recorded`].
///
/// `Debug` shows the names of headers and fields. It hides the values, which are secrets.
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
/// assert_eq!(request.method(), "POST");
/// assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
/// assert_eq!(request.query(), None);
/// assert_eq!(request.body(), body);
/// assert_eq!(request.form()[1], ("scope".to_owned(), "a b".to_owned()));
/// assert_eq!(request.field("scope"), Some("a b"));
/// assert!(request.received_at().elapsed().as_secs() < 60);
/// assert!(!format!("{request:?}").contains("a b"));
/// # Ok(())
/// # }
/// ```
///
/// [`AuthorizationServer::recorded`]: crate::testing::AuthorizationServer::recorded
#[derive(Clone)]
pub struct TokenRequest {
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
    form: Vec<(String, String)>,
    kind: Kind,
    body: Bytes,
    received_at: Instant,
}

impl TokenRequest {
    pub(crate) fn new(head: Parts, body: Bytes, received_at: Instant) -> Self {
        let (kind, form) = if is_form(&head.headers) {
            (Kind::UrlEncoded, form_urlencoded::parse(&body).into_owned().collect())
        } else if let Some(parameters) = multipart::parameters(&head.headers) {
            match multipart::fields(parameters, &body) {
                Some(fields) => (Kind::Multipart, fields),
                None => (Kind::MalformedMultipart, Vec::new()),
            }
        } else {
            (Kind::Other, Vec::new())
        };
        let query = head.uri.query().map(str::to_owned);
        Self { method: head.method, headers: head.headers, query, form, kind, body, received_at }
    }

    /// The method. The server answers 405 to all but POST.
    ///
    /// Example: [`TokenRequest`].
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The headers, `Authorization` included.
    ///
    /// Example: [`TokenRequest`].
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The query of the URL, not decoded.
    ///
    /// Example: [`TokenRequest`].
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The fields of the form, decoded, in the order they came.
    ///
    /// There are none if `Content-Type` names no form (urlencoded or multipart), or if the body is malformed.
    ///
    /// Example: [`TokenRequest`].
    pub fn form(&self) -> &[(String, String)] {
        &self.form
    }

    /// The first field with this name, decoded.
    ///
    /// Example: [`TokenRequest`].
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body, as it came.
    ///
    /// Example: [`TokenRequest`].
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The first field with this name. A parameter without a value counts as omitted (RFC 6749 §3.2).
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.field(name).filter(|value| !value.is_empty())
    }

    /// When the whole request had arrived.
    ///
    /// Example: [`TokenRequest`].
    pub fn received_at(&self) -> Instant {
        self.received_at
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("kind", &self.kind)
            .field("form", &self.form.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The kind of body, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    UrlEncoded,
    Multipart,
    MalformedMultipart,
    Other,
}

fn is_form(headers: &HeaderMap) -> bool {
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
    fn a_multipart_form_is_a_form() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--b--";
        let good = request("multipart/form-data; boundary=b", body);
        assert_eq!((good.kind(), good.field("a"), good.value("a")), (Kind::Multipart, Some(""), None));
        let bad = request("multipart/form-data; boundary=c", body);
        assert_eq!((bad.kind(), bad.form().len()), (Kind::MalformedMultipart, 0));
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
