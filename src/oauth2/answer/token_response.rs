//! Reading a token endpoint's answer, leniently where servers differ, strictly where it matters. Pure.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Answer, FORM, byte_search,
    lifetime::{left, lifetime},
    members::{Members, Text, kind_of},
    salvage::salvaged,
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
            let missing = || self.malformed(self.without_token(masks));
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
            Err(error) => return Err(self.malformed(self.unreadable(&error, masks))),
        };
        let said = members.said(self.status);
        if !self.status.is_success() {
            return Err(self.refused(grant, said.as_ref(), masks, self.is_beside_a_token(&members)));
        }
        // A server that answers 200 with an `error` has no token for us. Beside a token a warning is none, whatever it is called.
        let refusal = said.filter(|said| match members.access_token {
            // Nor are words that speak of nothing known, beside one that has another name or place.
            None => said.is_error || said.topic().is_some() || !self.may_hold_a_token(),
            Some(_) => said.registered().is_some(),
        });
        let refused = refusal.map(|said| {
            // Words alone may be those of anything but an error, if there is more in it.
            let is_unclear = !said.is_error && members.has_unknown;
            self.refused(grant, Some(&said), masks, members.hold_a_token() || is_unclear)
        });
        match (refused, members.check(self.server_time(), masks)) {
            (None, Ok(brought)) => Ok(brought),
            (None, Err((what, rest))) => rest.or_else(self.malformed(what)),
            (Some(error), Ok(brought)) => Brought { access_token: None, ..brought }.or_else(error),
            (Some(error), Err((_, rest))) => rest.or_else(error),
        }
    }

    /// The error in a success of an endpoint that brings no token; not one about `this`.
    pub(crate) fn error_in_success(&self, masks: &Masks, this: Option<Topic>) -> Option<FetchError> {
        let members = self.members().ok()?;
        let said = members.said(self.status).filter(ReportedError::is_refusal)?;
        let is_about_this = this.is_some() && said.topic().map(|(topic, _)| topic) == this;
        let is_hidden = self.is_beside_a_token(&members);
        (!is_about_this).then(|| self.refused(GrantKind::Repeatable, Some(&said), masks, is_hidden))
    }

    /// An answer that refuses, judged. `beside_a_token`: there is one in it, or may be.
    fn refused(
        &self,
        grant: GrantKind,
        said: Option<&ReportedError>,
        masks: &Masks,
        beside_a_token: bool,
    ) -> FetchError {
        let judged = verdict::judge(grant, self.status, said);
        let acted = beside_a_token || verdict::may_have_acted(self.status, said) || self.is_broken_off_behind_a_proxy();
        let shown = self.shown(said, masks, beside_a_token);
        let text = format!("{}; {}", shown.text, masks.advise(judged.advice));
        let error = judged.of(EndpointError { status: Some(self.status), code: shown.code, text, acted });
        match self.retry_after() {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    /// The refresh token in an answer that can't be read as a whole, or has it where nobody looks: warnings around it, an end that is
    /// missing, a level down, a text within the text.
    ///
    /// # Errors
    /// This one, if there is none.
    pub(crate) fn salvage(&self, error: FetchError) -> Result<Brought, FetchError> {
        let body = self.text().trim_ascii_start();
        let text = serde_json::from_slice::<String>(body).map(Zeroizing::new);
        let name = self.shape.name_of(AnswerMember::RefreshToken);
        let refresh_token = match &text {
            Ok(text) => salvaged(text.as_bytes(), name),
            Err(_) => salvaged(body, name),
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
        let body = self.text();
        let is_json = body.trim_ascii_start().starts_with(b"{");
        if self.content_type() == FORM && !is_json {
            return Ok(Members::of_form(self.shape, body));
        }
        Members::of_json::<true>(self.shape, body).or_else(|error| {
            // What is no object in any charset isn't read again.
            let first = body.iter().find(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control());
            if first != Some(&b'{') {
                return self.form_with_a_token().ok_or(error);
            }
            // Line ends within a string, and texts in Latin-1.
            let mut text = Zeroizing::new(String::from_utf8_lossy(body).into_owned().into_bytes());
            text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
            if **text != *body
                && let Ok(members) = Members::of_json::<true>(self.shape, &text)
            {
                return Ok(members);
            }
            // A number that is none, or what is nested too deep, beside the tokens.
            let names = [AnswerMember::AccessToken, AnswerMember::RefreshToken].map(|token| self.shape.name_of(token));
            let is_worth_it = names.iter().any(|name| byte_search::holds(&text, name.as_bytes()));
            let tokens = is_worth_it.then(|| Members::of_json::<false>(self.shape, &text).ok()).flatten();
            tokens.filter(Members::hold_a_token).or_else(|| self.form_with_a_token()).ok_or(error)
        })
    }

    /// Whether a token came with what is no success.
    fn is_beside_a_token(&self, members: &Members) -> bool {
        members.hold_a_token() || !self.shape.is_standard() && self.may_hold_a_token()
    }

    /// A form that doesn't say that it is one.
    fn form_with_a_token(&self) -> Option<Members> {
        let tokens = [AnswerMember::AccessToken, AnswerMember::RefreshToken].map(|token| self.shape.name_of(token));
        // Own names may be written otherwise in a form.
        let is_form = |name: &str| byte_search::holds(self.body, format!("{name}=").as_bytes());
        tokens.into_iter().any(is_form).then(|| Members::of_form(self.shape, self.body)).filter(Members::hold_a_token)
    }

    /// What an answer means that is no success.
    pub(crate) fn refusal(&self, grant: GrantKind, masks: &Masks) -> FetchError {
        let members = self.members().unwrap_or_default();
        self.refused(grant, members.said(self.status).as_ref(), masks, self.is_beside_a_token(&members))
    }
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

impl Members {
    /// What they say of an error, and what they are wrapped in.
    fn said(&self, status: StatusCode) -> Option<ReportedError> {
        ReportedError::of(status, self.wrappers.iter().chain([&self.others]))
    }

    /// What it brings.
    ///
    /// # Errors
    /// What is wrong with its access token, and what it brings without that.
    fn check(self, now: SystemTime, masks: &Masks) -> Result<Brought, (String, Brought)> {
        let get = |name: &str| self.others.get(name);
        let other_type = self.other_type(get("token_type"), masks);
        let mut brought = Brought {
            access_token: None,
            refresh_token: match self.refresh_token {
                // What is none was passed over when it was read.
                Some(Text::Secret(secret)) => Some(secret),
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
        let flaw = match (other_type, self.access_token) {
            (Some(kind), _) => format!("its `token_type` is {kind}, not Bearer, the only one this client can send"),
            // Checked here, where the answer can be named, and once more where it is used.
            (None, Some(Text::Secret(secret))) => match AccessToken::new(secret.expose_secret()) {
                Ok(_) => {
                    brought.access_token = Some(secret);
                    return Ok(brought);
                }
                Err(invalid) => format!("its `access_token` can't be used: {invalid}"),
            },
            (None, Some(Text::Number(_))) => "its `access_token` is a number, not a string".to_owned(),
            (None, Some(Text::Other(kind))) => format!("its `access_token` is {kind}, not a string"),
            (None, None) => match self.misplaced {
                Some(why) => why,
                None => return Ok(brought),
            },
        };
        Err((flaw, brought))
    }

    /// A token type that isn't Bearer: shown if it is a word and no copy of a token.
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

/// Longer than `Bearer` or `DPoP`, and shorter than tokens.
const LONGEST_TYPE: usize = 15;

const BEARER: [&str; 5] = ["", "bearer", "bearertoken", "bot", "user"];

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{super::shape::AnswerShape, *};
    use crate::FetchErrorKind;

    fn read(shape: &AnswerShape, status: u16, body: impl AsRef<[u8]>) -> Result<Brought, FetchError> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: &HeaderMap::new(),
            body: body.as_ref(),
            shape,
            now: SystemTime::UNIX_EPOCH,
        };
        answer.read(GrantKind::RefreshToken { worked: false }, &Masks::new(std::iter::empty()))
    }

    fn read_standard(status: u16, body: impl AsRef<[u8]>) -> Result<Brought, FetchError> {
        read(&AnswerShape::default(), status, body)
    }

    fn endpoint_error(error: &FetchError) -> &EndpointError {
        error.cause().downcast_ref().unwrap()
    }

    #[test]
    fn of_a_success_that_refuses_the_refresh_token_alone_is_kept() {
        let body = r#"{"error":"invalid_grant","access_token":"wz5q-kx8j","refresh_token":"zx7r-mq2k"}"#;
        let brought = read_standard(200, body).ok().unwrap();
        assert!(brought.access_token.is_none());
        assert_eq!(brought.refresh_token.unwrap().expose_secret(), "zx7r-mq2k");
        let flaw = brought.flaw.unwrap();
        assert_eq!(endpoint_error(&flaw).code(), Some("invalid_grant"));
        // What is no success brings nothing.
        let error = read_standard(400, body).err().unwrap();
        assert_eq!(error.kind(), FetchErrorKind::ReauthorizationRequired);
    }

    #[test]
    fn who_refuses_beside_a_token_or_breaks_off_may_have_acted() {
        let reset = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
        let own = &mut AnswerShape::default();
        own.call(AnswerMember::AccessToken, "jwt".into());
        let (standard, own) = (&AnswerShape::default(), &*own);
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
            let brought = read_standard(200, body).ok().unwrap();
            assert_eq!(brought.access_token.unwrap().expose_secret(), "a");
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
            let brought = read_standard(200, format!(r#"{{"access_token":"a","scope":{scope}}}"#)).ok().unwrap();
            assert_eq!(brought.scope.as_deref(), expected, "{scope}");
        }
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        let body = br#"{"access_token":"a","refresh_token":""}"#;
        let answer = Answer {
            status: StatusCode::OK,
            headers: &HeaderMap::new(),
            body,
            shape: &AnswerShape::default(),
            now: SystemTime::UNIX_EPOCH,
        };
        let brought = answer.read(GrantKind::RefreshToken { worked: false }, &Masks::new(std::iter::empty())).unwrap();
        assert!(brought.refresh_token.is_none(), "the old one would be lost");
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
            let shape = &AnswerShape::default();
            let answer = Answer { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), shape, now };
            let brought = answer.read(GrantKind::Repeatable, &Masks::new(std::iter::empty())).unwrap();
            assert_eq!(brought.lifetime.map(|left| left.as_secs()), expected, "{members}");
        }
    }
}
