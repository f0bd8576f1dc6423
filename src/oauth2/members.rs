//! The members of an answer, read out of JSON or of a form. Pure.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::said;

/// The members of the answer that matter; others are passed over. Where a member comes twice, the last counts, as in JavaScript.
#[derive(Default)]
pub(super) struct Members {
    pub(super) access_token: Option<Text>,
    pub(super) refresh_token: Option<Text>,
    /// None of these is a token.
    pub(super) others: Map<String, Value>,
    /// Whether there were members whose names are not known, and that may be anything.
    pub(super) has_unknown: bool,
}

/// A string that may be a secret, or whatever else came in its place.
pub(super) enum Text {
    Secret(SecretString),
    /// Which a refresh token may be, for all anybody knows.
    Number(SecretString),
    /// What it is.
    Other(&'static str),
}

impl Members {
    /// RFC 6749 appendix B, which some servers answer with.
    pub(super) fn of_form(body: &[u8]) -> Self {
        let mut members = Self::default();
        for (name, value) in form_urlencoded::parse(body.trim_ascii()) {
            let value = Value::String(value.into_owned());
            match &*name {
                "access_token" => members.access_token = Some(Text::of(value)),
                // The last counts of those that are one.
                "refresh_token" => match Text::of(value) {
                    Text::Secret(secret) if is_some_token(&secret) => {
                        members.refresh_token = Some(Text::Secret(secret))
                    }
                    _ => {}
                },
                name if is_wanted(name) => drop(members.others.insert(name.to_owned(), value)),
                _ => members.has_unknown = true,
            }
        }
        members
    }

    pub(super) fn hold_a_token(&self) -> bool {
        [&self.access_token, &self.refresh_token].into_iter().any(|token| matches!(token, Some(Text::Secret(_))))
    }
}

/// Whether it can be a refresh token. Some servers mean "the one you have" by an empty one, and what others write in the place of one that
/// isn't there, or that they don't show, would take the place of one that works.
pub(super) fn is_some_token(secret: &SecretString) -> bool {
    let text = secret.expose_secret().trim();
    let is_framed = [('[', ']'), ('<', '>'), ('{', '}'), ('(', ')')]
        .iter()
        .any(|(open, close)| text.starts_with(*open) && text.ends_with(*close));
    text.contains(|c: char| c.is_alphanumeric()) && !is_framed && !PLACEHOLDERS.contains(&&*text.to_ascii_lowercase())
}

const PLACEHOLDERS: [&str; 12] =
    ["0", "null", "undefined", "none", "nil", "nan", "false", "true", "n/a", "redacted", "filtered", "masked"];

/// Whether a member is worth keeping. None of these is a token.
fn is_wanted(name: &str) -> bool {
    let own = [
        "token_type",
        "expires_in",
        "expires_at",
        "expires_on",
        "refresh_expires_in",
        "refresh_token_expires_in",
        "scope",
    ];
    own.contains(&name) || said::is_looked_at(name)
}

/// Members as they are read: all that matter, or the tokens alone.
pub(super) struct Read<const ALL: bool>(pub(super) Members);

impl<'de, const ALL: bool> Deserialize<'de> for Read<ALL> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fill<const ALL: bool>;

        impl<'de, const ALL: bool> Visitor<'de> for Fill<ALL> {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "access_token" => members.access_token = map.next_value()?,
                        // The last counts of those that are one.
                        "refresh_token" => match map.next_value()? {
                            Some(Text::Secret(secret) | Text::Number(secret)) if is_some_token(&secret) => {
                                members.refresh_token = Some(Text::Secret(secret));
                            }
                            _ => {}
                        },
                        name if ALL && is_wanted(name) => {
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
        }

        deserializer.deserialize_map(Fill::<ALL>).map(Self)
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
