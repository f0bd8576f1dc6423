//! Reading a token endpoint's answer, leniently where servers differ, strictly where it matters. Pure.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tracing::warn;
use zeroize::Zeroizing;

use super::{
    excerpt::Masks,
    members::{Members, Read, Text, is_some_token},
    refusal::{self, EndpointError, GrantKind},
    vocabulary::{self, Said},
};
use crate::{AccessToken, FetchError, panics::contained};

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
    /// Why there is no access token in it, although there is a refresh token: that one must not be lost, whatever else is wrong.
    pub(crate) flaw: Option<FetchError>,
}

impl Answer<'_> {
    /// Reads a token out of it (RFC 6749 §5.1).
    ///
    /// # Errors
    /// What was wrong with it, judged. Not if there is a refresh token in a success: the one that was sent may be spent for it.
    pub(crate) fn read(&self, grant: GrantKind, masks: &Masks) -> Result<Brought, FetchError> {
        let mut brought = match self.read_about(grant, masks) {
            Err(error) if self.status.is_success() => return self.salvage(error),
            read => read?,
        };
        if brought.access_token.is_none() {
            let missing = || self.malformed("there is no `access_token` in it".into());
            let flaw = brought.flaw.take().unwrap_or_else(missing);
            if brought.refresh_token.is_none() {
                return self.salvage(flaw);
            }
            brought.flaw = Some(flaw);
        }
        Ok(brought)
    }

    /// Reads what it says about a token that may be known already.
    ///
    /// # Errors
    /// What was wrong with it, judged.
    pub(crate) fn read_about(&self, grant: GrantKind, masks: &Masks) -> Result<Brought, FetchError> {
        let members = match self.members() {
            Ok(members) => members,
            Err(_) if !self.status.is_success() => return Err(self.refused(grant, None, masks, false)),
            Err(_) if self.body.is_empty() => return Err(self.malformed("it is empty".into())),
            Err(error) => {
                let (kind, end) = (self.content_type(), position(&error));
                let what = format!("it is no JSON object as far as {end} ({kind}, {} bytes)", self.body.len());
                return self.salvage(self.malformed(what));
            }
        };
        let said = Said::of(&members.others);
        if !self.status.is_success() {
            return Err(self.refused(grant, said.as_ref(), masks, members.hold_a_token()));
        }
        // A server that answers 200 with an `error` has no token for us. Beside a token a warning is none, whatever it is called.
        let refusal = said.filter(|said| match members.access_token {
            None => true,
            Some(_) => said.registered().is_some(),
        });
        let refused = refusal.map(|said| self.refused(grant, Some(&said), masks, members.hold_a_token()));
        match (refused, members.check(self.server_time())) {
            (None, Ok(brought)) => Ok(brought),
            (None, Err((what, rest))) => rest.or_else(self.malformed(what)),
            (Some(error), Ok(brought)) => Brought { access_token: None, ..brought }.or_else(error),
            (Some(error), Err((_, rest))) => rest.or_else(error),
        }
    }

    /// The refresh token in an answer that can't be read as a whole, or has it where nobody looks: warnings around it, an end that is
    /// missing, a level down, a text within the text.
    ///
    /// # Errors
    /// This one, if there is none.
    pub(crate) fn salvage(&self, error: FetchError) -> Result<Brought, FetchError> {
        let body = self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body).trim_ascii_start();
        let text = serde_json::from_slice::<String>(body).map(Zeroizing::new);
        let refresh_token = match &text {
            Ok(text) => salvaged(text.as_bytes()),
            Err(_) => salvaged(body),
        };
        let brought = Brought {
            access_token: None,
            refresh_token,
            lifetime: None,
            refresh_lifetime: None,
            scope: None,
            flaw: None,
        };
        brought.or_else(error)
    }

    /// The members that matter, of JSON (RFC 8259) as servers write it, or of a form that says that it is one.
    fn members(&self) -> Result<Members, serde_json::Error> {
        let body = self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body);
        let is_json = body.trim_ascii_start().starts_with(b"{");
        if self.content_type() == "application/x-www-form-urlencoded" && !is_json {
            return Ok(Members::of_form(body));
        }
        serde_json::from_slice(body).map(|Read::<true>(members)| members).or_else(|error| {
            // Line ends within a string, and texts in Latin-1.
            let text = Zeroizing::new(String::from_utf8_lossy(body).replace(|c: char| c.is_control(), " "));
            let tokens = || {
                // A number that is none, or what is nested too deep, beside the tokens.
                let Read::<false>(tokens) = serde_json::from_str(&text).ok()?;
                tokens.hold_a_token().then_some(tokens)
            };
            match serde_json::from_str(&text) {
                Ok(Read::<true>(members)) => Ok(members),
                Err(_) => tokens().or_else(|| self.form_with_a_token()).ok_or(error),
            }
        })
    }

    /// A form that doesn't say that it is one.
    fn form_with_a_token(&self) -> Option<Members> {
        let holds = |name: &[u8]| self.body.windows(name.len()).any(|window| window == name);
        let is_form = holds(b"access_token=") || holds(b"refresh_token=");
        is_form.then(|| Members::of_form(self.body)).filter(Members::hold_a_token)
    }

    /// Without its parameters; `no media type` if there is none that can be shown.
    fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_one = kind.len() <= 64 && kind.chars().all(|c| c.is_ascii_alphanumeric() || "/+-.".contains(c));
        if is_one && kind.contains('/') { kind } else { "no media type".into() }
    }

    /// A success without a usable token. Nothing of it is shown: there may be tokens in it.
    pub(crate) fn malformed(&self, what: String) -> FetchError {
        let advice = "check that the URL is the token endpoint's, and what stands before it";
        let text = format!("the authorization server answered {}, but {what}; {advice}", self.status);
        FetchError::try_again(EndpointError { status: Some(self.status), code: None, text, acted: true })
    }

    /// What an answer means that is no success.
    pub(crate) fn refusal(&self, grant: GrantKind, masks: &Masks) -> FetchError {
        let members = self.members().unwrap_or_default();
        self.refused(grant, Said::of(&members.others).as_ref(), masks, members.hold_a_token())
    }

    /// `holds_a_token`: then nothing of it is shown, whatever its status.
    fn refused(&self, grant: GrantKind, said: Option<&Said>, masks: &Masks, holds_a_token: bool) -> FetchError {
        let judged = refusal::judge(grant, self.status, said);
        let acted = holds_a_token || refusal::may_have_acted(self.status, said) || self.is_broken_off_behind_a_proxy();
        let code = said.and_then(|said| shown_code(self.status, said, masks));
        let mut text = format!("the authorization server answered {}", self.status);
        if let Some(code) = &code {
            text += &format!(", {code}");
        }
        if !self.status.is_success() && !holds_a_token {
            let shown = match said.map(|said| &said.text) {
                Some(said) if !said.is_empty() => masks.excerpt(said),
                _ if code.is_some() => String::new(),
                _ => masks.excerpt(&String::from_utf8_lossy(self.body)),
            };
            if !shown.is_empty() {
                text += &format!(" (it says: {shown})");
            }
        }
        text += "; ";
        text += &masks.advise(judged.advice);
        let error = judged.of(EndpointError { status: Some(self.status), code, text, acted });
        match self.retry_after() {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    /// Envoy and what is built on it answer 503 when the server breaks off, too, and say how far it came.
    fn is_broken_off_behind_a_proxy(&self) -> bool {
        let says = |text: &[u8]| self.body.windows(text.len()).any(|window| window == text);
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && says(b"reset before headers")
            && ![&b"connection failure"[..], b"overflow"].into_iter().any(says)
    }

    /// By the server's own clock, if it says what that is: ours may be wrong.
    fn server_time(&self) -> SystemTime {
        let date = self.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.unwrap_or(self.now)
    }

    /// RFC 9110 §10.2.3: seconds, or a date.
    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(self.server_time()).ok(),
        }
    }
}

/// The last refresh token in a text that looks like the answer of a token endpoint, and not like a page about it.
fn salvaged(body: &[u8]) -> Option<SecretString> {
    let begins = |text: &[u8]| body.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    if begins(b"<!doctype") || begins(b"<html") {
        return None;
    }
    let holds = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
    if !begins(b"{") && !begins(b"[") && !BESIDE.iter().any(|name| holds(name.as_bytes())) {
        return None;
    }
    let found = body.windows(REFRESH_TOKEN.len()).enumerate().filter(|(_, window)| *window == REFRESH_TOKEN);
    let mut values = found.rev().filter_map(|(at, _)| {
        let rest = &body[at + REFRESH_TOKEN.len()..];
        let before = at.checked_sub(1).and_then(|at| body.get(at)).copied();
        let is_end = |byte: &u8| *byte == b'&' || byte.is_ascii_whitespace();
        // A member of a form, and not of another name or of a sentence.
        let is_form = !begins(b"{") && !begins(b"[") && before.is_none_or(|byte| is_end(&byte) || byte == b'?');
        if is_form && let Some(form) = rest.strip_prefix(b"=") {
            // One that isn't ended may have been cut off.
            let end = form.iter().position(is_end)?;
            let (_, value) = form_urlencoded::parse(&body[at..at + REFRESH_TOKEN.len() + 1 + end]).next()?;
            return Some(SecretString::from(value.into_owned()));
        }
        if before != Some(b'"') {
            return None;
        }
        let rest = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        values.next()?.ok().map(SecretString::from)
    });
    values.find(is_some_token)
}

impl Brought {
    /// This, if its refresh token would be lost with the error.
    fn or_else(self, error: FetchError) -> Result<Self, FetchError> {
        match self.refresh_token {
            Some(_) => Ok(Self { flaw: Some(error), ..self }),
            None => Err(error),
        }
    }
}

/// A code as the specifications spell it, or the server's own if nothing in it was sent and it doesn't look like a token. Beside a
/// success, which may hold anything, only one that is made of known words.
fn shown_code(status: StatusCode, said: &Said, masks: &Masks) -> Option<String> {
    said.registered().or_else(|| {
        let code = said.codes.first()?;
        let is_known = || vocabulary::sort(code).is_some() && code.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        let is_shown = code.len() <= LONGEST_CODE && masks.excerpt(code) == *code;
        (is_shown && (!status.is_success() || is_known())).then(|| code.clone())
    })
}

impl Members {
    /// What it brings.
    ///
    /// # Errors
    /// What is wrong with its access token, and what it brings without that.
    fn check(self, now: SystemTime) -> Result<Brought, (String, Brought)> {
        let get = |name: &str| self.others.get(name);
        let mut brought = Brought {
            access_token: None,
            refresh_token: match self.refresh_token {
                Some(Text::Secret(secret)) if is_some_token(&secret) => Some(secret),
                _ => None,
            },
            lifetime: lifetime("expires_in", get("expires_in"))
                .or_else(|| left(get("expires_at")?, now))
                .or_else(|| left(get("expires_on")?, now)),
            // Of no standard, but sent by many. Nothing depends on it but a warning.
            refresh_lifetime: lifetime("refresh_expires_in", get("refresh_expires_in"))
                .or_else(|| lifetime("refresh_token_expires_in", get("refresh_token_expires_in"))),
            scope: get("scope").and_then(|scope| match scope {
                Value::String(scope) => Some(scope.clone()),
                // Against RFC 6749 §3.3, but seen.
                Value::Array(scopes) => Some(scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
                _ => None,
            }),
            flaw: None,
        };
        let flaw = match self.access_token {
            _ if !is_bearer(get("token_type")) => {
                "its `token_type` is not Bearer, the only one this client can send".to_owned()
            }
            // Checked here, where the answer can be named, and once more where it is used.
            Some(Text::Secret(secret)) => match AccessToken::new(secret.expose_secret()) {
                Ok(_) => {
                    brought.access_token = Some(secret);
                    return Ok(brought);
                }
                Err(invalid) => format!("its `access_token` can't be used: {invalid}"),
            },
            Some(Text::Number(_) | Text::Other) => "its `access_token` is no text".to_owned(),
            None => return Ok(brought),
        };
        Err((flaw, brought))
    }
}

/// RFC 6749 §7.1: a token isn't to be used if its type isn't understood. Several servers leave the type out and mean Bearer, or call
/// it otherwise: Slack's are `bot` and `user`.
fn is_bearer(kind: Option<&Value>) -> bool {
    match kind {
        None | Some(Value::Null) => true,
        Some(Value::String(kind)) => {
            let letters: String = kind.chars().filter(char::is_ascii_alphabetic).collect();
            BEARER.contains(&&*letters.to_ascii_lowercase())
        }
        Some(_) => false,
    }
}

/// What is left until a moment, which some servers name instead: in seconds since 1970, or in milliseconds (13 digits).
fn left(value: &Value, now: SystemTime) -> Option<Duration> {
    let at = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|at| *at > 0.0)?;
    let at = if at >= 1e11 { at / 1000.0 } else { at };
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at).ok()?)?;
    // One that is over says more of clocks than of the token.
    at.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// A lifetime as a number of any kind, or as text with one. `None` where it isn't known: missing, null, empty, 0, and what is no time
/// at all, which costs nobody their token.
fn lifetime(name: &'static str, value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Null => return None,
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(0.0) => None,
        Some(seconds) if seconds > 0.0 => Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => {
            contained(|| warn!(member = name, "a token's lifetime is no time in seconds: taken for unknown"));
            None
        }
    }
}

const REFRESH_TOKEN: &[u8] = b"refresh_token";

/// What stands beside a refresh token in an answer.
const BESIDE: [&str; 3] = ["access_token", "token_type", "expires_in"];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const BEARER: [&str; 5] = ["", "bearer", "bearertoken", "bot", "user"];

const LONGEST_CODE: usize = 64;

/// Where the JSON broke off. The error's own text could show a part of it.
fn position(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_refresh_token_is_none() {
        let body = br#"{"access_token":"a","refresh_token":""}"#;
        let answer = Answer { status: StatusCode::OK, headers: &HeaderMap::new(), body, now: SystemTime::UNIX_EPOCH };
        let brought = answer.read(GrantKind::RefreshToken { worked: false }, &Masks::new(std::iter::empty())).unwrap();
        assert!(brought.refresh_token.is_none(), "the old one would be lost");
    }

    #[test]
    fn a_date_to_wait_for_is_counted_by_the_servers_own_clock() {
        for (date, retry_after, expected) in [
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "Thu, 01 Jan 2026 00:00:03 GMT", Some(3)),
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "Wed, 31 Dec 2025 23:59:59 GMT", None),
            (Some("soon"), "Thu, 01 Jan 1970 00:00:07 GMT", Some(7)),
            (None, "Thu, 01 Jan 1970 00:00:07 GMT", Some(7)),
            (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "5", Some(5)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: &headers,
                body: b"",
                now: SystemTime::UNIX_EPOCH,
            };
            assert_eq!(answer.retry_after().map(|wait| wait.as_secs()), expected, "{date:?} {retry_after}");
        }
    }

    #[test]
    fn an_end_is_taken_for_a_lifetime_where_there_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (members, expected) in [
            (r#""expires_at":1700003600"#, Some(3600)),
            (r#""expires_on":"1700003600""#, Some(3600)),
            (r#""expires_at":1700003600000"#, Some(3600)),
            (r#""expires_in":60,"expires_at":1700003600"#, Some(60)),
            (r#""expires_at":null,"expires_on":1700003600"#, Some(3600)),
            (r#""expires_at":1600000000"#, None),
            (r#""expires_at":0"#, None),
            (r#""expires_at":"tomorrow""#, None),
        ] {
            let body = format!(r#"{{"access_token":"a",{members}}}"#);
            let headers = HeaderMap::new();
            let answer = Answer { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), now };
            let brought = answer.read(GrantKind::Repeatable, &Masks::new(std::iter::empty())).unwrap();
            assert_eq!(brought.lifetime.map(|left| left.as_secs()), expected, "{members}");
        }
    }
}
