//! Reading a token endpoint's answer, leniently where servers differ, strictly where it matters. Pure.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{
    excerpt::Masks,
    refusal::{self, EndpointError, GrantKind},
};
use crate::{AccessToken, FetchError};

/// An answer, with what is needed to judge it.
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The wall clock when it came, for a `Retry-After` that is a date.
    pub(crate) now: SystemTime,
}

/// What a good answer brings.
pub(crate) struct Brought {
    pub(crate) access_token: Option<SecretString>,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_lifetime: Option<Duration>,
    pub(crate) scope: Option<String>,
}

impl Answer<'_> {
    /// Reads a token out of it (RFC 6749 §5.1).
    ///
    /// # Errors
    /// What was wrong with it, judged.
    pub(crate) fn read(&self, grant: GrantKind, masks: &Masks) -> Result<Brought, FetchError> {
        let brought = self.read_about(grant, masks)?;
        match brought.access_token {
            Some(_) => Ok(brought),
            None => Err(self.malformed("there is no `access_token` in it".into())),
        }
    }

    /// Reads what it says about a token that may be known already.
    ///
    /// # Errors
    /// What was wrong with it, judged.
    pub(crate) fn read_about(&self, grant: GrantKind, masks: &Masks) -> Result<Brought, FetchError> {
        let members = serde_json::from_slice::<Members>(self.body);
        let error = members.as_ref().ok().and_then(Members::error);
        match members {
            // A success status, or none: a server that answers 200 with an `error` has no token for us.
            Ok(members) if self.status.is_success() && error.is_none() => {
                members.check().map_err(|what| self.malformed(what))
            }
            Ok(members) => Err(self.refused(grant, error, masks, members.hold_a_token())),
            Err(_) if !self.status.is_success() => Err(self.refused(grant, None, masks, false)),
            Err(_) if self.body.is_empty() => Err(self.malformed("it is empty".into())),
            Err(error) => Err(self.malformed(format!(
                "it is no JSON object as far as {} ({} bytes)",
                position(&error),
                self.body.len()
            ))),
        }
    }

    /// A success without a usable token. Nothing of it is shown: there may be tokens in it.
    pub(crate) fn malformed(&self, what: String) -> FetchError {
        let advice = "check that the URL is the token endpoint's, and what stands before it";
        let text = format!("the authorization server answered {}, but {what}; {advice}", self.status);
        FetchError::try_again(EndpointError { status: Some(self.status), code: None, text, acted: true })
    }

    /// What an answer means that is no success.
    pub(crate) fn refusal(&self, grant: GrantKind, masks: &Masks) -> FetchError {
        let members = serde_json::from_slice::<Members>(self.body).unwrap_or_default();
        self.refused(grant, members.error(), masks, members.hold_a_token())
    }

    /// `holds_a_token`: then nothing of it is shown, whatever its status.
    fn refused(&self, grant: GrantKind, error: Option<Refused>, masks: &Masks, holds_a_token: bool) -> FetchError {
        let code = error.as_ref().and_then(|error| error.code.as_deref());
        let (verdict, advice) = refusal::judge(grant, self.status, code);
        let acted = holds_a_token || refusal::may_have_acted(self.status, code);
        let code = code.filter(|code| refusal::is_registered(code)).map(str::to_owned);
        let mut text = format!("the authorization server answered {}", self.status);
        if let Some(code) = &code {
            text += &format!(", {code}");
        }
        if !self.status.is_success() && !holds_a_token {
            let shown = match error.map(|error| error.text) {
                Some(said) if !said.is_empty() => masks.excerpt(&said),
                _ => masks.excerpt(&String::from_utf8_lossy(self.body)),
            };
            if !shown.is_empty() {
                text += &format!(" (it says: {shown})");
            }
        }
        text += "; ";
        text += advice;
        let error = verdict.of(EndpointError { status: Some(self.status), code, text, acted });
        match self.retry_after() {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    /// RFC 9110 §10.2.3: seconds, or a date.
    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(self.now).ok(),
        }
    }
}

/// The members of the answer that matter; others are passed over. Where a member comes twice, the last counts, as in JavaScript.
#[derive(Default)]
struct Members {
    access_token: Option<Text>,
    refresh_token: Option<Text>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
    refresh_expires_in: Option<Value>,
    scope: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
    errors: Option<Value>,
    message: Option<Value>,
}

/// A string that may be a secret, or whatever else came in its place.
enum Text {
    Secret(SecretString),
    Other,
}

/// An error as the server put it.
struct Refused {
    code: Option<String>,
    text: String,
}

impl Members {
    fn check(self) -> Result<Brought, String> {
        let access_token = match self.access_token {
            Some(Text::Secret(secret)) => {
                // Checked here, where the answer can be named, and once more where it is used.
                AccessToken::new(secret.expose_secret())
                    .map_err(|invalid| format!("its `access_token` can't be used: {invalid}"))?;
                Some(secret)
            }
            Some(Text::Other) => return Err("its `access_token` is no text".into()),
            None => None,
        };
        // RFC 6749 §7.1: not to be used if its type isn't understood. Several servers leave the type out and mean Bearer.
        match self.token_type {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") || kind.is_empty() => {}
            Some(_) => return Err("its `token_type` is not Bearer, the only one this client can send".into()),
        }
        Ok(Brought {
            access_token,
            refresh_token: match self.refresh_token {
                // Some servers mean "the one you have" by an empty one.
                Some(Text::Secret(secret)) if !secret.expose_secret().is_empty() => Some(secret),
                _ => None,
            },
            lifetime: lifetime(self.expires_in.as_ref())?,
            // Of no standard, but sent by many. Nothing depends on it but a warning, so nonsense is none.
            refresh_lifetime: lifetime(self.refresh_expires_in.as_ref()).unwrap_or_default(),
            scope: self.scope.and_then(|scope| match scope {
                Value::String(scope) => Some(scope),
                // Against RFC 6749 §3.3, but seen.
                Value::Array(scopes) => Some(scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
                _ => None,
            }),
        })
    }

    fn hold_a_token(&self) -> bool {
        [&self.access_token, &self.refresh_token].into_iter().any(|token| matches!(token, Some(Text::Secret(_))))
    }

    /// RFC 6749 §5.2, and the other shapes that errors come in: an object as `error`, a list `errors`, a `message`.
    fn error(&self) -> Option<Refused> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let object = |value: &Value| Refused {
            code: text(value.get("code")).or_else(|| text(value.get("error"))),
            text: text(value.get("message")).or_else(|| text(value.get("description"))).unwrap_or_default(),
        };
        match (&self.error, &self.errors) {
            (Some(Value::String(code)), _) if !code.is_empty() => {
                let said = text(self.error_description.as_ref()).or_else(|| text(self.message.as_ref()));
                // A code that isn't one of the usual is part of what the server says.
                let said = match (refusal::is_registered(code), said) {
                    (true, said) => said.unwrap_or_default(),
                    (false, said) => format!("{code} {}", said.unwrap_or_default()),
                };
                Some(Refused { code: Some(code.clone()), text: said })
            }
            (Some(error @ Value::Object(_)), _) => Some(object(error)),
            (_, Some(Value::Array(errors))) => errors.first().map(object),
            _ if self.access_token.is_none() => {
                text(self.message.as_ref()).map(|message| Refused { code: None, text: message })
            }
            _ => None,
        }
    }
}

/// `expires_in` as a number of any kind, or as text with one. `None` where it isn't known: missing, null, empty, 0.
fn lifetime(expires_in: Option<&Value>) -> Result<Option<Duration>, String> {
    let seconds = match expires_in {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match seconds {
        Some(0.0) => Ok(None),
        Some(seconds) if seconds > 0.0 => Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))),
        _ => Err("its `expires_in` is no time in seconds".into()),
    }
}

/// Where the JSON broke off. The error's own text could show a part of it.
fn position(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fill;

        impl<'de> Visitor<'de> for Fill {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "access_token" => members.access_token = map.next_value()?,
                        "refresh_token" => members.refresh_token = map.next_value()?,
                        "token_type" => members.token_type = Some(map.next_value()?),
                        "expires_in" => members.expires_in = Some(map.next_value()?),
                        "refresh_expires_in" | "refresh_token_expires_in" => {
                            members.refresh_expires_in = Some(map.next_value()?);
                        }
                        "scope" => members.scope = Some(map.next_value()?),
                        "error" => members.error = Some(map.next_value()?),
                        "error_description" => members.error_description = Some(map.next_value()?),
                        "errors" => members.errors = Some(map.next_value()?),
                        "message" => members.message = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Fill)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(secret) => Self::Secret(secret.into()),
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_refresh_token_is_none() {
        let body = br#"{"access_token":"a","refresh_token":""}"#;
        let answer = Answer { status: StatusCode::OK, headers: &HeaderMap::new(), body, now: SystemTime::UNIX_EPOCH };
        let brought = answer.read(GrantKind::RefreshToken, &Masks::new(std::iter::empty())).unwrap();
        assert!(brought.refresh_token.is_none(), "the old one would be lost");
    }
}
