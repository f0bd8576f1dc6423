//! What an error shows of a response. Pure.
//!
//! A response that may hold a token is not shown at all, because any part of it may be a copy of the token. Otherwise only known members are
//! shown. If there is none, an error shows the media type and the length, the title of a page, or a short text without structure that came
//! with an error status: the text of a proxy ("upstream connect error") is often the only explanation.

use http::header::CONTENT_ENCODING;

use super::{EndpointResponse, FORM, shape::AnswerMember, shape_hint, token_members};
use crate::{
    FetchError,
    oauth2::{
        EndpointError,
        endpoint_error::{codes, reported_error::ReportedError},
        masking::Masks,
    },
};

/// What an error shows of a response that refuses.
pub(super) struct Shown {
    pub(super) code: Option<String>,
    /// The status, the code and the server's explanation.
    pub(super) text: String,
}

impl EndpointResponse<'_> {
    /// What is shown of a response that refuses. `beside_a_token`: it has a token as well, so nothing of it is shown.
    pub(super) fn shown(&self, reported: Option<&ReportedError>, masks: &Masks, beside_a_token: bool) -> Shown {
        let is_hidden = beside_a_token || self.may_hold_a_token() || reported.is_some_and(may_hold_a_token);
        // A secret that was cut in two would not be masked.
        let is_secret_cut = reported
            .is_some_and(|reported| reported.splits.iter().any(|split| masks.cross(&split.before, &split.after)));
        let code = reported.and_then(|reported| match is_secret_cut {
            true => reported.registered_code(),
            false => shown_code(reported, masks, is_hidden),
        });
        let what = match reported.map_or("", |reported| &reported.text) {
            _ if is_hidden || is_secret_cut => None,
            text if !text.is_empty() => Some(masks.excerpt(text)).filter(|text| !text.is_empty()).map(it_says),
            _ if code.is_some() => None,
            _ => self.foreign_bytes(masks).or_else(|| self.page(masks)).or_else(|| self.plain_text(masks)),
        };
        // An empty error response has nothing else to show.
        let is_unnamed = code.is_none() && (self.status.is_success() || !self.text().trim_ascii().is_empty());
        let what = what.or_else(|| is_unnamed.then(|| self.kind_and_length(masks)));
        let mut text = format!("the authorization server at {} answered {}", self.endpoint, self.status);
        text.extend(code.iter().flat_map(|code| [", ", code]));
        text.extend(what.iter().flat_map(|what| [" (", what, ")"]));
        Shown { code, text }
    }

    /// The error for a success without a usable token. `what`: what it is instead.
    pub(crate) fn malformed(&self, what: String) -> FetchError {
        let advice = "check that the URL is the token endpoint's, and what stands before it";
        let text =
            format!("the authorization server at {} answered {}, but {what}; {advice}", self.endpoint, self.status);
        FetchError::try_again(EndpointError { status: Some(self.status), code: None, text, acted: true })
    }

    /// Why a success can't be parsed.
    pub(super) fn unreadable(&self, error: &serde_json::Error, masks: &Masks) -> String {
        let body = self.text().trim_ascii();
        if let Some(why) = self.foreign_bytes(masks) {
            return why;
        }
        // Another JSON type, by its first character.
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
            // The parser's own text could show a part of the response.
            _ => format!(
                "it is no JSON object as far as line {} column {} ({kind_and_length})",
                error.line(),
                error.column(),
            ),
        }
    }

    /// Why a success has no access token.
    pub(super) fn without_token(&self, masks: &Masks) -> String {
        // UTF-16 may have been parsed as JSON with its zeros passed over.
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

    /// Media type and length, for a response without a known member.
    fn kind_and_length(&self, masks: &Masks) -> String {
        format!("{}, {} bytes", masks.excerpt(&self.content_type()), self.body.len())
    }

    fn page(&self, masks: &Masks) -> Option<String> {
        let title = self.title(masks)?;
        Some(format!("it is a page with the title \"{title}\", {}", self.kind_and_length(masks)))
    }

    /// A short text. Not of a form or JSON, whose members may hold secrets.
    fn plain_text(&self, masks: &Masks) -> Option<String> {
        let text = self.text().trim_ascii();
        let is_plain = (1..=LONGEST_PLAIN).contains(&text.len()) && !matches!(text[0], b'{' | b'[' | b'<');
        let is_shown = is_plain && !self.status.is_success() && self.content_type() != FORM;
        is_shown.then(|| masks.excerpt_of_bytes(self.body)).filter(|text| !text.is_empty()).map(it_says)
    }

    /// Why the bytes aren't UTF-8, if it is UTF-16 or a known content coding.
    fn foreign_bytes(&self, masks: &Masks) -> Option<String> {
        let body = self.body;
        let is_utf16 =
            matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'<', ..] | [b'{' | b'<', 0, ..]);
        if is_utf16 {
            return Some("it is in UTF-16, and JSON is in UTF-8 (RFC 8259 §8.1)".into());
        }
        // An HTTP client may decode the body and leave the header. So the body must look encoded, too.
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

    /// The title of an HTML page. Only for answers without a token.
    fn title(&self, masks: &Masks) -> Option<String> {
        let body = self.text().trim_ascii();
        let head = String::from_utf8_lossy(&body[..body.len().min(LONGEST_HEAD)]);
        let lower = head.to_ascii_lowercase();
        if !lower.starts_with("<!doctype html") && !lower.starts_with("<html") {
            return None;
        }
        let start = lower.find("<title>")? + "<title>".len();
        let title = &head[start..start + lower[start..].find("</title>")?];
        // Not a title like `Success code=…`, which has an authorization code.
        let is_plain = title.len() <= LONGEST_TITLE && !title.contains(['=', '<', ':', '"', '&', '%', '\\']);
        is_plain.then(|| masks.excerpt(title)).filter(|title| !title.is_empty())
    }
}

/// Whether there may be a token in the error that the server reports.
fn may_hold_a_token(reported: &ReportedError) -> bool {
    reported.codes.iter().chain([&reported.text]).any(|text| token_members::in_text(text))
}

fn it_says(excerpt: String) -> String {
    format!("it says: {excerpt}")
}

/// The code to show: a registered one, or the server's own if it holds nothing that was sent and doesn't look like a token. Beside a token
/// only one that consists of known words.
fn shown_code(reported: &ReportedError, masks: &Masks, beside_a_token: bool) -> Option<String> {
    reported.registered_code().or_else(|| {
        let code = reported.codes.first()?;
        let is_known =
            || codes::topic_of_code(code).is_some() && code.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        let is_shown = code.len() <= LONGEST_CODE && masks.excerpt(code) == *code;
        (is_shown && (!beside_a_token || is_known())).then(|| code.clone())
    })
}

const LONGEST_CODE: usize = 64;

/// In bytes: a sentence or two.
const LONGEST_PLAIN: usize = 512;

/// Responses up to this length are parsed again for a hint.
const LONGEST_HINTED: usize = 4 * 1024;

/// Longer than `compress`, the longest common content coding.
const LONGEST_CODING: usize = 16;

/// A page has its title within so many bytes.
const LONGEST_HEAD: usize = 4096;

const LONGEST_TITLE: usize = 64;
