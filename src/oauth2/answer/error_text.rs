//! What an error shows of an answer: that it refuses, or what it is instead of one that can be read. Pure.
//!
//! Something is shown only if there is no token in the answer, wherever in it: what stands beside a token may be a copy of it. And only what
//! stands in a member that is known. Otherwise its media type and its length are shown, the title of a page, and a short text without any
//! structure that comes with another status than a success: what proxies say ("upstream connect error") is often all there is to go by.

use http::header::CONTENT_ENCODING;

use super::{Answer, FORM, shape::AnswerMember, shape_hint, token_members};
use crate::{
    FetchError,
    oauth2::{
        EndpointError,
        endpoint_error::{codes, reported_error::ReportedError},
        masking::Masks,
    },
};

/// What is shown of an answer that refuses.
pub(super) struct Shown {
    pub(super) code: Option<String>,
    /// What the server answered.
    pub(super) text: String,
}

impl Answer<'_> {
    /// What is shown of it. `beside_a_token`: then nothing of it is, whatever its status.
    pub(super) fn shown(&self, said: Option<&ReportedError>, masks: &Masks, beside_a_token: bool) -> Shown {
        let is_hidden = beside_a_token || self.may_hold_a_token() || said.is_some_and(tells_a_token);
        // Neither half of what was sent is masked.
        let is_halved = said.is_some_and(|said| said.cuts.iter().any(|cut| masks.reach_over(&cut.before, &cut.after)));
        let code = said.and_then(|said| match is_halved {
            true => said.registered(),
            false => shown_code(said, masks, is_hidden),
        });
        let what = match said.map_or("", |said| &said.text) {
            _ if is_hidden || is_halved => None,
            text if !text.is_empty() => Some(masks.excerpt(text)).filter(|text| !text.is_empty()).map(it_says),
            _ if code.is_some() => None,
            _ => self.foreign_bytes(masks).or_else(|| self.page(masks)).or_else(|| self.plain_text(masks)),
        };
        // An empty one has no more to show.
        let is_unnamed = code.is_none() && (self.status.is_success() || !self.text().trim_ascii().is_empty());
        let what = what.or_else(|| is_unnamed.then(|| self.kind_and_length(masks)));
        let mut text = format!("the authorization server answered {}", self.status);
        text.extend(code.iter().flat_map(|code| [", ", code]));
        text.extend(what.iter().flat_map(|what| [" (", what, ")"]));
        Shown { code, text }
    }

    /// A success without a usable token.
    pub(crate) fn malformed(&self, what: String) -> FetchError {
        let advice = "check that the URL is the token endpoint's, and what stands before it";
        let text = format!("the authorization server answered {}, but {what}; {advice}", self.status);
        FetchError::try_again(EndpointError { status: Some(self.status), code: None, text, acted: true })
    }

    /// What a success is that can't be read.
    pub(super) fn unreadable(&self, error: &serde_json::Error, masks: &Masks) -> String {
        let body = self.text().trim_ascii();
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
        let kind_and_length = self.kind_and_length(masks);
        let title = if self.may_hold_a_token() { None } else { self.title(masks) };
        match (body.is_empty(), other, title) {
            (true, ..) => "it is empty".into(),
            (_, Some(other), _) => format!("it is {other}, not an object ({kind_and_length})"),
            (.., Some(title)) => format!("it is a page with the title \"{title}\" ({kind_and_length})"),
            // The error's own text could show a part of it.
            _ => format!(
                "it is no JSON object as far as line {} column {} ({kind_and_length})",
                error.line(),
                error.column(),
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
        let hint = elsewhere().then(|| shape_hint::that_fits(self.text())).flatten().map(|hint| format!(": {hint}"));
        format!("there is no `{name}` in {place} ({}){}", self.kind_and_length(masks), hint.unwrap_or_default())
    }

    /// Media type and length: all that is shown of an answer that says nothing in a known member.
    fn kind_and_length(&self, masks: &Masks) -> String {
        format!("{}, {} bytes", masks.excerpt(&self.content_type()), self.body.len())
    }

    fn page(&self, masks: &Masks) -> Option<String> {
        let title = self.title(masks)?;
        Some(format!("it is a page with the title \"{title}\", {}", self.kind_and_length(masks)))
    }

    /// A sentence. Not of a form or of JSON, whose members may hold anything.
    fn plain_text(&self, masks: &Masks) -> Option<String> {
        let text = self.text().trim_ascii();
        let is_plain = (1..=LONGEST_PLAIN).contains(&text.len()) && !matches!(text[0], b'{' | b'[' | b'<');
        let is_shown = is_plain && !self.status.is_success() && self.content_type() != FORM;
        is_shown.then(|| masks.excerpt_of_bytes(self.body)).filter(|text| !text.is_empty()).map(it_says)
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

    /// The title of a page, for those in which there is no token.
    fn title(&self, masks: &Masks) -> Option<String> {
        let body = self.text().trim_ascii();
        let head = String::from_utf8_lossy(&body[..body.len().min(LONGEST_HEAD)]);
        let lower = head.to_ascii_lowercase();
        if !lower.starts_with("<!doctype html") && !lower.starts_with("<html") {
            return None;
        }
        let start = lower.find("<title>")? + "<title>".len();
        let title = &head[start..start + lower[start..].find("</title>")?];
        // `Success code=…`: of a page that hands out codes.
        let is_plain = title.len() <= LONGEST_TITLE && !title.contains(['=', '<', ':', '"', '&', '%', '\\']);
        is_plain.then(|| masks.excerpt(title)).filter(|title| !title.is_empty())
    }
}

/// Whether there may be a token in what the server says.
fn tells_a_token(said: &ReportedError) -> bool {
    said.codes.iter().chain([&said.text]).any(|text| token_members::in_text(text))
}

fn it_says(excerpt: String) -> String {
    format!("it says: {excerpt}")
}

/// A code as the specifications spell it, or the server's own if nothing in it was sent and it doesn't look like a token. Beside a token
/// only one that is made of known words.
fn shown_code(said: &ReportedError, masks: &Masks, beside_a_token: bool) -> Option<String> {
    said.registered().or_else(|| {
        let code = said.codes.first()?;
        let is_known = || codes::sort(code).is_some() && code.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        let is_shown = code.len() <= LONGEST_CODE && masks.excerpt(code) == *code;
        (is_shown && (!beside_a_token || is_known())).then(|| code.clone())
    })
}

const LONGEST_CODE: usize = 64;

/// In bytes: a sentence or two.
const LONGEST_PLAIN: usize = 512;

/// Answers of this length are read again to find out how they would have to be read.
const LONGEST_HINTED: usize = 4 * 1024;

/// `compress` is the longest of those that are registered, apart from those for whole files.
const LONGEST_CODING: usize = 16;

/// Where a page has its title.
const LONGEST_HEAD: usize = 4096;

const LONGEST_TITLE: usize = 64;
