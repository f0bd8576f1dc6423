//! What an error shows of an answer: that it refuses, or what it is instead of one that can be read. Pure.
//!
//! Of an answer with a success status something is shown only if it holds no token, wherever in it: what stands beside a token may be a
//! copy of it.

use http::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{
    answer_shape::{AnswerMember, AnswerShape},
    excerpt::Masks,
    find,
    refusal::{self, EndpointError, GrantKind},
    response::{Answer, BYTE_ORDER_MARK},
    said::Said,
    token_places, vocabulary,
};
use crate::FetchError;

impl Answer<'_> {
    /// A success without a usable token.
    pub(crate) fn malformed(&self, what: String) -> FetchError {
        let advice = "check that the URL is the token endpoint's, and what stands before it";
        let text = format!("the authorization server answered {}, but {what}; {advice}", self.status);
        FetchError::try_again(EndpointError { status: Some(self.status), code: None, text, acted: true })
    }

    /// `beside_a_token`: then nothing of it is shown, whatever its status.
    pub(super) fn refused(
        &self,
        grant: GrantKind,
        said: Option<&Said>,
        masks: &Masks,
        beside_a_token: bool,
    ) -> FetchError {
        let is_success = self.status.is_success();
        let is_hidden =
            beside_a_token || is_success && (self.may_hold_a_token() || said.is_some_and(Said::tells_a_token));
        let judged = refusal::judge(grant, self.status, said);
        let acted = beside_a_token || refusal::may_have_acted(self.status, said) || self.is_broken_off_behind_a_proxy();
        let code = said.and_then(|said| shown_code(said, masks, is_success && is_hidden));
        let mut text = format!("the authorization server answered {}", self.status);
        if let Some(code) = &code {
            text += &format!(", {code}");
        }
        if !is_hidden {
            let said = said.map_or("", |said| &said.text);
            text += &match (said, self.foreign_bytes(masks)) {
                (said, _) if !said.is_empty() => in_brackets(&masks.excerpt(said)),
                _ if code.is_some() => String::new(),
                (_, Some(why)) => format!(" ({why})"),
                _ if is_success => format!(" ({})", self.kind_and_length()),
                _ => in_brackets(&masks.excerpt_of_bytes(self.body)),
            };
        }
        text += "; ";
        text += &masks.advise(judged.advice);
        let error = judged.of(EndpointError { status: Some(self.status), code, text, acted });
        match self.retry_after() {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    /// What a success is that can't be read.
    pub(super) fn unreadable(&self, error: &serde_json::Error, masks: &Masks) -> String {
        let body = self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body).trim_ascii();
        if let Some(why) = self.foreign_bytes(masks) {
            return why;
        }
        // Of another type at its very beginning.
        let other = match body.first() {
            _ if !error.is_data() => None,
            Some(b'[') => Some("an array"),
            Some(b'"') => Some("a string"),
            Some(b't' | b'f') => Some("a boolean"),
            Some(b'n') => Some("null"),
            Some(b'-' | b'0'..=b'9') => Some("a number"),
            _ => None,
        };
        match (body.is_empty(), other, self.title(body, masks)) {
            (true, ..) => "it is empty".into(),
            (_, Some(other), _) => format!("it is {other}, not an object ({})", self.kind_and_length()),
            (.., Some(title)) => format!("it is a page with the title \"{title}\" ({})", self.kind_and_length()),
            // The error's own text could show a part of it.
            _ => format!(
                "it is no JSON object as far as line {} column {} ({})",
                error.line(),
                error.column(),
                self.kind_and_length()
            ),
        }
    }

    /// What a success is in which no access token was found.
    pub(super) fn without_token(&self, masks: &Masks) -> String {
        // UTF-16 with its zeros passed over may be JSON.
        if let Some(why) = self.foreign_bytes(masks) {
            return why;
        }
        let place = match &*self.shape.path {
            [] => "it".to_owned(),
            path => format!("its `{}`", path.join(".")),
        };
        let name = self.shape.name_of(AnswerMember::AccessToken);
        let elsewhere = || self.shape.is_standard() && self.body.len() <= LONGEST_HINTED && self.may_hold_a_token();
        let hint = elsewhere().then(|| AnswerShape::that_fits(self.body)).flatten().map(|hint| format!(": {hint}"));
        format!("there is no `{name}` in {place} ({}){}", self.kind_and_length(), hint.unwrap_or_default())
    }

    /// Media type and length: all that is shown of an answer that says nothing in a known member.
    fn kind_and_length(&self) -> String {
        format!("{}, {} bytes", self.content_type(), self.body.len())
    }

    /// Without its parameters; `no media type` if there is none that can be shown.
    pub(super) fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_one = kind.len() <= 64 && kind.chars().all(|c| c.is_ascii_alphanumeric() || "/+-.".contains(c));
        if is_one && kind.contains('/') { kind } else { "no media type".into() }
    }

    /// Why its bytes can't be text in UTF-8, if they are of a kind that is known.
    fn foreign_bytes(&self, masks: &Masks) -> Option<String> {
        let body = self.body;
        let is_utf16 =
            matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'<', ..] | [b'{' | b'<', 0, ..]);
        if is_utf16 {
            return Some("it is in UTF-16, and JSON is in UTF-8 (RFC 8259 §8.1)".into());
        }
        // A client that decodes may leave the header as it was.
        let is_encoded = || body.contains(&0) || std::str::from_utf8(body).is_err();
        let named = self.headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let named = named.flat_map(|value| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
        let is_name = |coding: &String| {
            let is_short = (1..=LONGEST_CODING).contains(&coding.len());
            is_short && coding != "identity" && coding.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        // RFC 1952 §2.3.1.
        let signed = body.starts_with(b"\x1f\x8b").then(|| "gzip".to_owned());
        let coding = named.rev().find(is_name).filter(|_| is_encoded()).or(signed)?;
        let coding = masks.excerpt(&coding);
        Some(format!("it is encoded as {coding}: let the HTTP client decode it, or remove its Accept-Encoding"))
    }

    /// The title of a page that doesn't look as if a token was in it.
    fn title(&self, body: &[u8], masks: &Masks) -> Option<String> {
        let head = String::from_utf8_lossy(&body[..body.len().min(LONGEST_HEAD)]);
        let lower = head.to_ascii_lowercase();
        if !lower.starts_with("<!doctype html") && !lower.starts_with("<html") || self.may_hold_a_token() {
            return None;
        }
        let start = lower.find("<title>")? + "<title>".len();
        let title = &head[start..start + lower[start..].find("</title>")?];
        // `Success code=…`: of a page that hands out codes.
        let is_plain = title.len() <= LONGEST_TITLE && !title.contains(['=', '<', ':', '"']);
        let title = masks.excerpt(title);
        (is_plain && !title.is_empty()).then_some(title)
    }

    /// Whether there may be a token in it, wherever.
    pub(super) fn may_hold_a_token(&self) -> bool {
        token_places::in_answer(self.body)
    }

    /// Envoy and what is built on it answer 503 when the server breaks off, too, and say how far it came.
    fn is_broken_off_behind_a_proxy(&self) -> bool {
        let says = |text: &[u8]| find::holds(self.body, text);
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && says(b"reset before headers")
            && ![&b"connection failure"[..], b"overflow"].into_iter().any(says)
    }
}

fn in_brackets(excerpt: &str) -> String {
    if excerpt.is_empty() { String::new() } else { format!(" (it says: {excerpt})") }
}

/// A code as the specifications spell it, or the server's own if nothing in it was sent and it doesn't look like a token. Beside a token
/// in a success only one that is made of known words.
fn shown_code(said: &Said, masks: &Masks, beside_a_token: bool) -> Option<String> {
    said.registered().or_else(|| {
        let code = said.codes.first()?;
        let is_known = || vocabulary::sort(code).is_some() && code.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        let is_shown = code.len() <= LONGEST_CODE && masks.excerpt(code) == *code;
        (is_shown && (!beside_a_token || is_known())).then(|| code.clone())
    })
}

const LONGEST_CODE: usize = 64;

/// Answers of this length are read again to find out how they would have to be read.
const LONGEST_HINTED: usize = 4 * 1024;

/// `compress` is the longest of those that are registered, apart from those for whole files.
const LONGEST_CODING: usize = 16;

/// Where a page has its title.
const LONGEST_HEAD: usize = 4096;

const LONGEST_TITLE: usize = 64;
