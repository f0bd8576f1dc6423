//! Parses a response, JSON or a form, into the members that matter. Pure.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::shape::ResponseShape;
use crate::oauth2::endpoint_error::reported_error;

/// The members that matter. If a member comes twice, the last one counts, as in JavaScript.
#[derive(Default)]
pub(super) struct Members {
    pub(super) access_token: Option<Text>,
    pub(super) refresh_token: Option<Text>,
    /// The other members that are used. None of them is a token.
    pub(super) others: Map<String, Value>,
    /// There were members with unknown names.
    pub(super) has_unknown: bool,
    /// The members of the wrappers that may report an error, from the outermost in.
    pub(super) wrappers: Vec<Map<String, Value>>,
    /// Why there is no object at the path.
    pub(super) misplaced: Option<String>,
}

/// The value of a member that should be a token.
pub(super) enum Text {
    Secret(SecretString),
    /// A number. A refresh token may be one.
    Number(SecretString),
    /// Another type, in words.
    Other(&'static str),
}

impl Members {
    /// Parses JSON (RFC 8259): all members that matter, or the tokens alone.
    pub(super) fn of_json<const ALL: bool>(shape: &ResponseShape, json: &[u8]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let members = deserializer.deserialize_map(Fill::<ALL> { shape, path: &shape.path })?;
        deserializer.end()?;
        Ok(members)
    }

    /// Parses a form (RFC 6749 appendix B), with which some servers answer.
    pub(super) fn of_form(shape: &ResponseShape, body: &[u8]) -> Self {
        // A form can't nest members. If it has one with the wrapper's name, the tokens are in its text, which isn't parsed.
        let fields = || form_urlencoded::parse(body.trim_ascii());
        let wrapper = shape.path.first().filter(|wrapper| fields().any(|(name, _)| name == wrapper.as_str()));
        let misplaced = wrapper.map(|wrapper| format!("its `{wrapper}` is a string, not an object"));
        let mut members = Self { misplaced, ..Self::default() };
        for (name, value) in fields() {
            let Some(name) = shape.standard_name(&name) else { continue };
            let value = Value::String(value.into_owned());
            match name {
                name if members.misplaced.is_some() && !reported_error::is_error_member(name) => {
                    members.has_unknown = true
                }
                "access_token" => members.access_token = Text::of_access_token(value),
                // The last one counts that isn't a placeholder.
                "refresh_token" => match Text::of(value) {
                    Text::Secret(secret) if can_be_token(&secret) => members.refresh_token = Some(Text::Secret(secret)),
                    _ => {}
                },
                name if is_used(name) => drop(members.others.insert(name.to_owned(), value)),
                _ => members.has_unknown = true,
            }
        }
        members
    }

    pub(super) fn hold_a_token(&self) -> bool {
        // Placeholders were passed over when the members were read.
        [&self.access_token, &self.refresh_token].into_iter().any(|token| matches!(token, Some(Text::Secret(_))))
    }
}

/// Whether a value can be a token. Some servers send an empty refresh token, or a placeholder, and mean "the one you have". It must not
/// replace one that works.
pub(super) fn can_be_token(secret: &SecretString) -> bool {
    let text = secret.expose_secret().trim();
    let is_framed = [('[', ']'), ('<', '>'), ('{', '}'), ('(', ')')]
        .iter()
        .any(|(open, close)| text.starts_with(*open) && text.ends_with(*close));
    let is_placeholder = PLACEHOLDERS.iter().any(|placeholder| text.eq_ignore_ascii_case(placeholder));
    text.chars().take(ENOUGH).any(char::is_alphanumeric) && !is_framed && !is_placeholder
}

/// A token has a letter or a digit within so many characters.
const ENOUGH: usize = 256;

const PLACEHOLDERS: [&str; 12] =
    ["0", "null", "undefined", "none", "nil", "nan", "false", "true", "n/a", "redacted", "filtered", "masked"];

/// Whether a member is used. None of these is a token.
fn is_used(name: &str) -> bool {
    let own = [
        "token_type",
        "expires_in",
        "expires_at",
        "expires_on",
        "refresh_expires_in",
        "refresh_token_expires_in",
        "scope",
    ];
    own.contains(&name) || reported_error::is_error_member(name)
}

/// Parses the members of an object, or of the object at a path within it.
struct Fill<'a, const ALL: bool> {
    shape: &'a ResponseShape,
    path: &'a [String],
}

impl<'de, const ALL: bool> Visitor<'de> for Fill<'_, ALL> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members, A::Error> {
        match self.path {
            [] => self.members(map),
            [name, path @ ..] => self.members_within(name, path, map),
        }
    }
}

impl<const ALL: bool> Fill<'_, ALL> {
    fn members<'de, A: MapAccess<'de>>(&self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            match self.shape.standard_name(&name) {
                Some("access_token") => members.access_token = Text::of_access_token(map.next_value()?),
                // The last one counts that isn't a placeholder.
                Some("refresh_token") => match map.next_value()? {
                    Some(Text::Secret(secret) | Text::Number(secret)) if can_be_token(&secret) => {
                        members.refresh_token = Some(Text::Secret(secret));
                    }
                    _ => {}
                },
                Some(name) if ALL && is_used(name) => {
                    members.others.insert(name.to_owned(), map.next_value()?);
                }
                _ => {
                    members.has_unknown = true;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }

    /// The members of the object in this member. Tokens beside it are ignored.
    fn members_within<'de, A: MapAccess<'de>>(
        &self,
        member: &str,
        path: &[String],
        mut map: A,
    ) -> Result<Members, A::Error> {
        let mut inner = Err(missing(member));
        let (mut wrapper, mut has_unknown) = (Map::new(), false);
        while let Some(name) = map.next_key::<String>()? {
            if name == member {
                let found = map.next_value_seed(Within(Fill::<ALL> { shape: self.shape, path }))?;
                inner = found.map_err(|kind| format!("its `{member}` is {kind}, not an object"));
            } else if ALL && reported_error::is_error_member(&name) {
                wrapper.insert(name, map.next_value()?);
            } else {
                has_unknown = true;
                map.next_value::<IgnoredAny>()?;
            }
        }
        let mut members = inner.unwrap_or_else(|why| Members { misplaced: Some(why), ..Members::default() });
        members.has_unknown |= has_unknown;
        members.wrappers.insert(0, wrapper);
        Ok(members)
    }
}

fn missing(member: &str) -> String {
    format!("there is no `{member}` in it")
}

/// Parses an object. Of another type it returns the name.
struct Within<'a, const ALL: bool>(Fill<'a, ALL>);

impl<'de, const ALL: bool> DeserializeSeed<'de> for Within<'_, ALL> {
    type Value = Result<Members, &'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const ALL: bool> Visitor<'de> for Within<'_, ALL> {
    type Value = Result<Members, &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map).map(Ok)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err("an array"))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Err("null"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Err("a boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Err("a string"))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of)
    }
}

impl Text {
    fn of(value: Value) -> Self {
        match value {
            Value::String(secret) => Self::Secret(secret.into()),
            Value::Number(number) => Self::Number(number.to_string().into()),
            value => Self::Other(kind_of(&value)),
        }
    }

    /// The access token; `None` for a placeholder. So an error beside a placeholder counts.
    fn of_access_token(value: Value) -> Option<Self> {
        let is_nothing = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Array(values) => values.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Bool(true) | Value::String(_) => false,
        };
        let text = (!is_nothing).then(|| Self::of(value))?;
        let is_blank = matches!(&text, Self::Secret(secret) if !can_be_token(secret));
        (!is_blank).then_some(text)
    }

    pub(super) fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::Secret(secret) | Self::Number(secret) => Some(secret),
            Self::Other(_) => None,
        }
    }
}

/// The type of a value, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
