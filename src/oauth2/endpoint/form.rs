//! The parameters of a token request (RFC 6749 §4, appendix B).

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::store::Account;

/// The parameters of a token request, in the order in which they are sent. Empty ones are left out (RFC 6749 §3.2).
///
/// ```
/// use tower_bearer::oauth2::Form;
///
/// let form = Form::grant("client_credentials").param("scope", "read write").param("audience", "https://api.example.com");
/// assert_eq!(format!("{form:?}"), r#"Form(["grant_type", "scope", "audience"])"#);
/// ```
#[derive(Clone)]
pub struct Form {
    fields: Vec<(Cow<'static, str>, SecretString)>,
}

impl Form {
    /// A request with this `grant_type`.
    pub fn grant(grant_type: impl Into<String>) -> Self {
        Self { fields: Vec::new() }.param("grant_type", grant_type)
    }

    /// Adds a parameter. The same name may be added several times (RFC 8707 §2, `resource`).
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let value = SecretString::from(value.into());
        if !value.expose_secret().is_empty() {
            self.fields.push((name.into(), value));
        }
        self
    }

    pub(crate) fn scope(self, scope: &Scope) -> Self {
        self.param("scope", scope.0.clone())
    }

    pub(crate) fn params(mut self, params: &Params) -> Self {
        self.fields.extend(params.0.iter().filter(|(_, value)| !value.expose_secret().is_empty()).cloned());
        self
    }

    /// The values that an error must not show: all but the grant type, the scope and the token type.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let is_open = |name: &str| ["grant_type", "scope", "token_type_hint"].contains(&name);
        self.fields.iter().filter(move |(name, _)| !is_open(name)).map(|(_, value)| value.expose_secret())
    }

    /// The `grant_type`. `None` if this is no token request.
    pub(crate) fn grant_type(&self) -> Option<&str> {
        self.values("grant_type").next()
    }

    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.expose_secret())
    }

    /// A form without a `grant_type`, for other endpoints than the token endpoint.
    pub(crate) fn empty() -> Self {
        Self { fields: Vec::new() }
    }

    /// Content type and body.
    ///
    /// # Errors
    /// None, with the bodies that this makes.
    pub(crate) async fn encode(&self, encoding: Encoding) -> Result<(HeaderValue, Bytes), crate::BoxError> {
        match encoding {
            Encoding::Urlencoded => {
                Ok((HeaderValue::from_static("application/x-www-form-urlencoded"), self.urlencoded()))
            }
            #[cfg(feature = "multipart")]
            Encoding::Multipart => self.multipart().await,
        }
    }

    /// `multipart/form-data` (RFC 7578).
    #[cfg(feature = "multipart")]
    async fn multipart(&self) -> Result<(HeaderValue, Bytes), crate::BoxError> {
        use futures_util::TryStreamExt;

        let form = self.fields.iter().fold(reqwest::multipart::Form::new(), |form, (name, value)| {
            form.text(name.clone(), value.expose_secret().to_owned())
        });
        let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={}", form.boundary()))?;
        let body = zeroize::Zeroizing::new(Vec::new());
        let body = form
            .into_stream()
            .try_fold(body, |mut body, piece| async move {
                body.extend_from_slice(&piece);
                Ok(body)
            })
            .await?;
        Ok((content_type, Bytes::from_owner(body)))
    }

    fn urlencoded(&self) -> Bytes {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(self.fields.iter().map(|(name, value)| (name, value.expose_secret())));
        Bytes::from_owner(zeroize::Zeroizing::new(body.finish().into_bytes()))
    }
}

/// The scope of a request, space-delimited (RFC 6749 §3.3).
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope(pub(crate) String);

impl Scope {
    /// Adds a scope, or several, space-delimited.
    pub(crate) fn add(&mut self, scopes: &str) {
        for scope in scopes.split_ascii_whitespace() {
            if !self.0.is_empty() {
                self.0.push(' ');
            }
            self.0.push_str(scope);
        }
    }
}

/// Parameters beyond a grant's own. `Debug` shows names only.
#[derive(Clone, Default)]
pub(crate) struct Params(Vec<(Cow<'static, str>, SecretString)>);

impl Params {
    pub(crate) fn add(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.0.push((name.into(), value.into().into()));
    }

    /// Adds the parameters to an account: tokens for other parameters (`audience`, `resource`) are other tokens.
    pub(crate) fn account(&self, account: Account) -> Account {
        self.iter().fold(account, |account, (name, value)| account.with_param(name, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.expose_secret()))
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// How a form is written into the body of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// RFC 6749 appendix B.
    #[default]
    Urlencoded,
    /// Not in the RFC, but some providers ask for it.
    #[cfg(feature = "multipart")]
    Multipart,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| name).collect();
        f.debug_tuple("Form").field(&names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_needs_it_keeps_order_and_repetition_and_drops_empty_ones() {
        let form =
            Form::grant("g").param("resource", "https://a.test/?x=1&y").param("scope", "").param("resource", "b ü+");
        assert_eq!(form.urlencoded(), "grant_type=g&resource=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y&resource=b+%C3%BC%2B");
    }

    #[cfg(feature = "multipart")]
    #[tokio::test]
    async fn multipart_carries_values_as_they_are() {
        let form = Form::grant("password").param("username", "ü@x \"y\"").param("password", "a&b=c\r\nd");
        let (content_type, body) = form.encode(Encoding::Multipart).await.unwrap();
        let boundary = content_type.to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.ends_with(&format!("--{boundary}--\r\n")), "{text}");
        for (name, value) in [("grant_type", "password"), ("username", "ü@x \"y\""), ("password", "a&b=c\r\nd")] {
            let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            assert!(text.contains(&part), "{name}: {text}");
        }
    }
}
