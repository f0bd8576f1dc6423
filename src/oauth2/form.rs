//! The parameters of a token request (RFC 6749 §4, appendix B).

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

/// The parameters of a token request, in the order in which they are sent. Empty ones are left out (RFC 6749 §3.2).
///
/// ```
/// use tower_bearer::oauth2::Form;
///
/// let form = Form::grant("client_credentials").field("scope", "read write").field("audience", "https://api.example.com");
/// assert_eq!(format!("{form:?}"), r#"Form(["grant_type", "scope", "audience"])"#);
/// ```
#[derive(Clone)]
pub struct Form {
    fields: Vec<(Cow<'static, str>, SecretString)>,
}

impl Form {
    /// A request with this `grant_type`.
    pub fn grant(grant_type: impl Into<String>) -> Self {
        Self { fields: Vec::new() }.field("grant_type", grant_type)
    }

    /// One more parameter. The same name may come several times (RFC 8707 §2, `resource`).
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let value = SecretString::from(value.into());
        if !value.expose_secret().is_empty() {
            self.fields.push((name.into(), value));
        }
        self
    }

    /// All parameters of another one as well.
    #[must_use]
    pub(crate) fn fields(mut self, others: &[(Cow<'static, str>, SecretString)]) -> Self {
        self.fields.extend(others.iter().filter(|(_, value)| !value.expose_secret().is_empty()).cloned());
        self
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(_, value)| value.expose_secret())
    }

    /// `application/x-www-form-urlencoded`.
    pub(crate) fn urlencoded(&self) -> Bytes {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(self.fields.iter().map(|(name, value)| (name, value.expose_secret())));
        Bytes::from_owner(zeroize::Zeroizing::new(body.finish().into_bytes()))
    }
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
            Form::grant("g").field("resource", "https://a.test/?x=1&y").field("scope", "").field("resource", "b ü+");
        assert_eq!(form.urlencoded(), "grant_type=g&resource=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y&resource=b+%C3%BC%2B");
    }
}
