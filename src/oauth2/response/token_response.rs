//! Reads the tokens out of a response (RFC 6749 §5.1). Lenient about what servers write differently, strict about the tokens. Pure.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    EndpointResponse, FORM, byte_search,
    lifetime::{left, lifetime},
    members::{Members, Text, kind_of},
    salvage::salvage_refresh_token,
    shape::AnswerMember,
};
use crate::{
    AccessToken, FetchError,
    oauth2::{
        EndpointError,
        endpoint_error::{codes::Topic, reported_error::ReportedError, verdict},
        grant::GrantKind,
        masking::Masks,
    },
};

/// The tokens of a response.
pub(crate) struct TokenResponse {
    pub(crate) access_token: Option<SecretString>,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_lifetime: Option<Duration>,
    pub(crate) scope: Option<String>,
    /// Why there is a refresh token without an access token. The refresh token must not be lost, whatever else is wrong.
    pub(crate) flaw: Option<FetchError>,
}

impl EndpointResponse<'_> {
    /// Reads a response that should bring an access token.
    ///
    /// # Errors
    /// Why it has none, judged. No error if a success has a refresh token: the one that was sent may be spent for it.
    pub(crate) fn read_tokens(&self, grant: GrantKind, masks: &Masks) -> Result<TokenResponse, FetchError> {
        let mut tokens = match self.read_about_token(grant, masks) {
            Err(error) if self.status.is_success() => return self.salvage(error),
            read => read?,
        };
        if tokens.access_token.is_none() {
            let missing = || self.malformed(self.without_token(masks));
            let flaw = tokens.flaw.take().unwrap_or_else(missing);
            if tokens.refresh_token.is_none() {
                return self.salvage(flaw);
            }
            tokens.flaw = Some(flaw);
        }
        Ok(tokens)
    }

    /// Reads a response about a token, which may or may not repeat the token.
    ///
    /// # Errors
    /// What the response reports, or what is wrong with it, judged.
    pub(crate) fn read_about_token(&self, grant: GrantKind, masks: &Masks) -> Result<TokenResponse, FetchError> {
        let members = match self.members() {
            Ok(members) => members,
            Err(_) if !self.status.is_success() => return Err(self.refused(grant, None, masks, false)),
            Err(error) => return Err(self.malformed(self.unreadable(&error, masks))),
        };
        let reported = members.reported_error(self.status);
        if !self.status.is_success() {
            return Err(self.refused(grant, reported.as_ref(), masks, self.is_beside_a_token(&members)));
        }
        // A success with an `error` and no token is a refusal. Beside a token only a registered code is one: others may be warnings.
        let refusal = reported.filter(|reported| match members.access_token {
            // Unknown words are no refusal either, if there may be a token under another name.
            None => reported.is_error || reported.topic().is_some() || !self.may_hold_a_token(),
            Some(_) => reported.registered_code().is_some(),
        });
        let refused = refusal.map(|reported| {
            // Words without a code may not be about an error, if there are unknown members as well.
            let is_unclear = !reported.is_error && members.has_unknown;
            self.refused(grant, Some(&reported), masks, members.hold_a_token() || is_unclear)
        });
        match (refused, members.into_tokens(self.server_time(), masks)) {
            (None, Ok(tokens)) => Ok(tokens),
            (None, Err((what, rest))) => rest.or_error(self.malformed(what)),
            (Some(error), Ok(tokens)) => TokenResponse { access_token: None, ..tokens }.or_error(error),
            (Some(error), Err((_, rest))) => rest.or_error(error),
        }
    }

    /// The error that a success reports, for endpoints that bring no token. `except`: not if it is about this.
    pub(crate) fn error_in_success(&self, masks: &Masks, except: Option<Topic>) -> Option<FetchError> {
        let members = self.members().ok()?;
        let reported = members.reported_error(self.status).filter(ReportedError::is_refusal)?;
        let is_excepted = except.is_some() && reported.topic().map(|(topic, _)| topic) == except;
        let is_hidden = self.is_beside_a_token(&members);
        (!is_excepted).then(|| self.refused(GrantKind::Repeatable, Some(&reported), masks, is_hidden))
    }

    /// Judges a response that refuses. `beside_a_token`: it has a token as well, or may have one.
    fn refused(
        &self,
        grant: GrantKind,
        reported: Option<&ReportedError>,
        masks: &Masks,
        beside_a_token: bool,
    ) -> FetchError {
        let judged = verdict::judge(grant, self.status, reported);
        let acted =
            beside_a_token || verdict::may_have_acted(self.status, reported) || self.is_broken_off_behind_a_proxy();
        let shown = self.shown(reported, masks, beside_a_token);
        let text = format!("{}; {}", shown.text, masks.advise(judged.advice));
        let error = judged.of(EndpointError { status: Some(self.status), code: shown.code, text, acted });
        match self.retry_after() {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    /// Looks for a refresh token in a response that can't be read: one with warnings around it, cut off, nested, or a text within a text.
    ///
    /// # Errors
    /// The given error, if there is no refresh token.
    pub(crate) fn salvage(&self, error: FetchError) -> Result<TokenResponse, FetchError> {
        let body = self.text().trim_ascii_start();
        let text = serde_json::from_slice::<String>(body).map(Zeroizing::new);
        let name = self.shape.name_of(AnswerMember::RefreshToken);
        let refresh_token = match &text {
            Ok(text) => salvage_refresh_token(text.as_bytes(), name),
            Err(_) => salvage_refresh_token(body, name),
        };
        let tokens = TokenResponse {
            access_token: None,
            refresh_token,
            lifetime: None,
            refresh_lifetime: None,
            scope: None,
            flaw: None,
        };
        tokens.or_error(error)
    }

    /// The members of a response: JSON (RFC 8259), also with some faults, or a form.
    fn members(&self) -> Result<Members, serde_json::Error> {
        let body = self.text();
        let is_json = body.trim_ascii_start().starts_with(b"{");
        if self.content_type() == FORM && !is_json {
            return Ok(Members::of_form(self.shape, body));
        }
        Members::of_json::<true>(self.shape, body).or_else(|error| {
            // A response that doesn't begin like an object isn't read again.
            let first = body.iter().find(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control());
            if first != Some(&b'{') {
                return self.form_with_a_token().ok_or(error);
            }
            // Again with two faults mended: line ends within strings, and bytes that are no UTF-8.
            let mut text = Zeroizing::new(String::from_utf8_lossy(body).into_owned().into_bytes());
            text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
            if **text != *body
                && let Ok(members) = Members::of_json::<true>(self.shape, &text)
            {
                return Ok(members);
            }
            // Again for the tokens alone: another member may have an invalid number, or be nested too deep.
            let names = [AnswerMember::AccessToken, AnswerMember::RefreshToken].map(|token| self.shape.name_of(token));
            let is_worth_it = names.iter().any(|name| byte_search::holds(&text, name.as_bytes()));
            let tokens = is_worth_it.then(|| Members::of_json::<false>(self.shape, &text).ok()).flatten();
            tokens.filter(Members::hold_a_token).or_else(|| self.form_with_a_token()).ok_or(error)
        })
    }

    /// Whether there is a token beside an error, or may be one.
    fn is_beside_a_token(&self, members: &Members) -> bool {
        members.hold_a_token() || !self.shape.is_standard() && self.may_hold_a_token()
    }

    /// Reads the response as a form, whatever its media type, if it has a token then.
    fn form_with_a_token(&self) -> Option<Members> {
        let tokens = [AnswerMember::AccessToken, AnswerMember::RefreshToken].map(|token| self.shape.name_of(token));
        // A cheap look first. Names that a form would encode are not found.
        let is_form = |name: &str| byte_search::holds(self.body, format!("{name}=").as_bytes());
        tokens.into_iter().any(is_form).then(|| Members::of_form(self.shape, self.body)).filter(Members::hold_a_token)
    }

    /// Judges a response that is no success.
    pub(crate) fn refusal(&self, grant: GrantKind, masks: &Masks) -> FetchError {
        let members = self.members().unwrap_or_default();
        self.refused(grant, members.reported_error(self.status).as_ref(), masks, self.is_beside_a_token(&members))
    }
}

impl TokenResponse {
    /// The refresh token with the error as its flaw; the error alone, if there is no refresh token.
    fn or_error(self, error: FetchError) -> Result<Self, FetchError> {
        match self.refresh_token {
            Some(_) => Ok(Self { flaw: Some(error), ..self }),
            None => Err(error),
        }
    }
}

impl Members {
    /// The error that these members report, or those of a wrapper.
    fn reported_error(&self, status: StatusCode) -> Option<ReportedError> {
        ReportedError::of(status, self.wrappers.iter().chain([&self.others]))
    }

    /// The tokens.
    ///
    /// # Errors
    /// What is wrong with the access token, and the rest without it.
    fn into_tokens(self, now: SystemTime, masks: &Masks) -> Result<TokenResponse, (String, TokenResponse)> {
        let get = |name: &str| self.others.get(name);
        let other_type = self.other_type(get("token_type"), masks);
        let mut tokens = TokenResponse {
            access_token: None,
            refresh_token: match self.refresh_token {
                // Placeholders were passed over when the members were read.
                Some(Text::Secret(secret)) => Some(secret),
                _ => None,
            },
            lifetime: lifetime("expires_in", get("expires_in"))
                .or_else(|| left(get("expires_at")?, now))
                .or_else(|| left(get("expires_on")?, now)),
            // Not in a standard, but many servers send one of these. It is used for a warning alone.
            refresh_lifetime: lifetime("refresh_expires_in", get("refresh_expires_in"))
                .or_else(|| lifetime("refresh_token_expires_in", get("refresh_token_expires_in"))),
            scope: get("scope").and_then(|scope| match scope {
                Value::String(scope) => Some(scope.clone()),
                // Against RFC 6749 §3.3, but some servers send a list.
                Value::Array(scopes) => Some(scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
                _ => None,
            }),
            flaw: None,
        };
        let flaw = match (other_type, self.access_token) {
            (Some(kind), _) => format!("its `token_type` is {kind}, not Bearer, the only one this client can send"),
            // Checked here as well as where it is used, because the error here can show what the response is.
            (None, Some(Text::Secret(secret))) => match AccessToken::new(secret.expose_secret()) {
                Ok(_) => {
                    tokens.access_token = Some(secret);
                    return Ok(tokens);
                }
                Err(invalid) => format!("its `access_token` can't be used: {invalid}"),
            },
            (None, Some(Text::Number(_))) => "its `access_token` is a number, not a string".to_owned(),
            (None, Some(Text::Other(kind))) => format!("its `access_token` is {kind}, not a string"),
            (None, None) => match self.misplaced {
                Some(why) => why,
                None => return Ok(tokens),
            },
        };
        Err((flaw, tokens))
    }

    /// A token type other than Bearer, to be shown: only if it is a word, and no copy of a token.
    fn other_type(&self, kind: Option<&Value>, masks: &Masks) -> Option<String> {
        let kind = match kind.filter(|kind| !is_bearer(Some(kind)))? {
            Value::String(kind) => kind,
            other => return Some(kind_of(other).to_owned()),
        };
        let tokens = [&self.access_token, &self.refresh_token].into_iter().flatten().filter_map(Text::secret);
        let shown = Masks::new(tokens.map(ExposeSecret::expose_secret)).excerpt(&masks.excerpt(kind.trim()));
        let is_word = shown.len() <= LONGEST_TYPE
            && shown.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte));
        Some(if is_word { format!("\"{shown}\"") } else { "another one".into() })
    }
}

/// RFC 6749 §7.1: a token of an unknown type must not be used. Several servers leave the type out and mean Bearer, or have another word
/// for it: Slack's are `bot` and `user`.
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

/// Longer than `Bearer` or `DPoP`, and shorter than a token.
const LONGEST_TYPE: usize = 15;

const BEARER: [&str; 5] = ["", "bearer", "bearertoken", "bot", "user"];

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{super::shape::ResponseShape, *};
    use crate::FetchErrorKind;

    fn read(shape: &ResponseShape, status: u16, body: impl AsRef<[u8]>) -> Result<TokenResponse, FetchError> {
        let response = EndpointResponse {
            endpoint: "https://id.test/token",
            status: StatusCode::from_u16(status).unwrap(),
            headers: &HeaderMap::new(),
            body: body.as_ref(),
            shape,
            now: SystemTime::UNIX_EPOCH,
        };
        response.read_tokens(GrantKind::RefreshToken { worked: false }, &Masks::new(std::iter::empty()))
    }

    fn read_standard(status: u16, body: impl AsRef<[u8]>) -> Result<TokenResponse, FetchError> {
        read(&ResponseShape::default(), status, body)
    }

    fn endpoint_error(error: &FetchError) -> &EndpointError {
        error.cause().downcast_ref().unwrap()
    }

    #[test]
    fn of_a_success_that_refuses_the_refresh_token_alone_is_kept() {
        let body = r#"{"error":"invalid_grant","access_token":"wz5q-kx8j","refresh_token":"zx7r-mq2k"}"#;
        let tokens = read_standard(200, body).ok().unwrap();
        assert!(tokens.access_token.is_none());
        assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "zx7r-mq2k");
        let flaw = tokens.flaw.unwrap();
        assert_eq!(endpoint_error(&flaw).code(), Some("invalid_grant"));
        // What is no success brings nothing.
        let error = read_standard(400, body).err().unwrap();
        assert_eq!(error.kind(), FetchErrorKind::ReauthorizationRequired);
    }

    #[test]
    fn who_refuses_beside_a_token_or_breaks_off_may_have_acted() {
        let reset = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
        let own = &mut ResponseShape::default();
        own.rename(AnswerMember::AccessToken, "jwt".into());
        let (standard, own) = (&ResponseShape::default(), &*own);
        for (shape, status, body, acted) in [
            (standard, 400, r#"{"error":"invalid_grant"}"#, false),
            (standard, 400, r#"{"error":"invalid_grant","access_token":"wz5q-kx8j"}"#, true),
            (standard, 200, r#"{"error":"invalid_grant","access_token":"wz5q-kx8j"}"#, true),
            (standard, 500, "", true),
            (standard, 503, "", false),
            (standard, 503, reset, true),
            // With names of its own, a token may be anywhere.
            (standard, 400, r#"{"error":"invalid_grant","data":{"access_token":"wz5q-kx8j"}}"#, false),
            (own, 400, r#"{"error":"invalid_grant","data":{"access_token":"wz5q-kx8j"}}"#, true),
            (own, 400, r#"{"error":"invalid_grant"}"#, false),
        ] {
            let error = read(shape, status, body).err().unwrap();
            assert_eq!(endpoint_error(&error).may_have_acted(), acted, "{status} {body}");
        }
    }

    #[test]
    fn an_object_is_one_in_any_charset_and_after_any_blank() {
        for body in [&b"{\"access_token\":\"a\",\"scope\":\"caf\xe9\"}"[..], b" \x1e{\"access_token\":\"a\"}"] {
            let tokens = read_standard(200, body).ok().unwrap();
            assert_eq!(tokens.access_token.unwrap().expose_secret(), "a");
        }
    }

    #[test]
    fn scopes_come_as_words_or_as_a_list() {
        for (scope, expected) in [
            (r#""read write""#, Some("read write")),
            (r#"["read","write"]"#, Some("read write")),
            ("7", None),
            ("null", None),
        ] {
            let tokens = read_standard(200, format!(r#"{{"access_token":"a","scope":{scope}}}"#)).ok().unwrap();
            assert_eq!(tokens.scope.as_deref(), expected, "{scope}");
        }
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        let body = br#"{"access_token":"a","refresh_token":""}"#;
        let response = EndpointResponse {
            endpoint: "https://id.test/token",
            status: StatusCode::OK,
            headers: &HeaderMap::new(),
            body,
            shape: &ResponseShape::default(),
            now: SystemTime::UNIX_EPOCH,
        };
        let tokens =
            response.read_tokens(GrantKind::RefreshToken { worked: false }, &Masks::new(std::iter::empty())).unwrap();
        assert!(tokens.refresh_token.is_none(), "the old one would be lost");
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
            let shape = &ResponseShape::default();
            let response = EndpointResponse {
                endpoint: "https://id.test/token",
                status: StatusCode::OK,
                headers: &headers,
                body: body.as_bytes(),
                shape,
                now,
            };
            let tokens = response.read_tokens(GrantKind::Repeatable, &Masks::new(std::iter::empty())).unwrap();
            assert_eq!(tokens.lifetime.map(|left| left.as_secs()), expected, "{members}");
        }
    }
}
