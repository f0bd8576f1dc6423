//! White space at the ends of credentials. A mounted file, a variable or `echo … | base64` adds it, and nobody sees it. It may be meant, so
//! it is sent, and an error names it where it may be the reason. Pure.

/// Notes on values with white space at an end. They never hold the value itself.
#[derive(Default)]
pub(crate) struct WhiteSpace(Vec<(Part, String)>);

/// What a value belongs to, and a refusal may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Client,
    User,
    RefreshToken,
}

impl WhiteSpace {
    /// Adds a note if the value has white space at an end. `name`: a name for people.
    pub(crate) fn add(&mut self, part: Part, name: &str, value: &str) {
        let (begins, ends) = (value.chars().next().and_then(name_of), value.chars().next_back().and_then(name_of));
        let how = match (begins, ends) {
            (None, None) => return,
            (Some(begins), None) => format!("begins with {begins}"),
            (None, Some(ends)) => format!("ends with {ends}"),
            (Some(begins), Some(ends)) if begins == ends => format!("begins and ends with {begins}"),
            (Some(begins), Some(ends)) => format!("begins with {begins} and ends with {ends}"),
        };
        self.0.push((part, format!("the {name} {how}: is that meant?")));
    }

    /// The advice, with the notes on what it is about. That is found in its words, so no advice can forget its notes.
    pub(crate) fn add_to(&self, advice: &str) -> String {
        let is_about = |part: Part| advice.contains(part.word());
        self.0.iter().filter(|(part, _)| is_about(*part)).fold(advice.to_owned(), |text, (_, note)| text + "; " + note)
    }
}

impl Part {
    /// The word for it in advice.
    fn word(self) -> &'static str {
        match self {
            Self::Client => "secret",
            Self::User => "password",
            Self::RefreshToken => "refresh token",
        }
    }
}

/// A name for a white-space character.
pub(crate) fn name_of(c: char) -> Option<&'static str> {
    match c {
        '\n' | '\r' => Some("a line end"),
        // Some editors on Windows put it at the beginning of a UTF-8 file.
        '\u{feff}' => Some("a byte order mark"),
        c if c.is_whitespace() => Some("a blank"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth2::{
        endpoint_error::{reported_error::ReportedError, verdict::judge},
        grant::GrantKind,
    };

    /// `verdict` writes the advice, in words that this must find.
    #[test]
    fn the_advice_of_refusals_is_understood() {
        use GrantKind::{AuthorizationCode, Password, RefreshToken, Repeatable};
        let refresh = RefreshToken { worked: false };
        for (grant, status, code, expected) in [
            (Repeatable, 401, Some("invalid_client"), Some(Part::Client)),
            (refresh, 401, Some("invalid_client"), Some(Part::Client)),
            (AuthorizationCode, 401, Some("invalid_client"), Some(Part::Client)),
            (Password, 401, Some("invalid_client"), Some(Part::Client)),
            (Repeatable, 400, Some("invalid_grant"), Some(Part::Client)),
            (Repeatable, 401, None, Some(Part::Client)),
            (Repeatable, 403, None, Some(Part::Client)),
            (refresh, 401, None, Some(Part::Client)),
            (refresh, 400, Some("invalid_grant"), Some(Part::RefreshToken)),
            (refresh, 400, None, Some(Part::RefreshToken)),
            (RefreshToken { worked: true }, 400, Some("invalid_request"), Some(Part::RefreshToken)),
            (Password, 400, Some("invalid_grant"), Some(Part::User)),
            (Password, 401, None, Some(Part::User)),
            (Repeatable, 400, Some("invalid_scope"), None),
            (AuthorizationCode, 400, Some("invalid_grant"), None),
            (Repeatable, 503, None, None),
            (refresh, 429, None, None),
            (Password, 500, None, None),
        ] {
            let answer = code.map(|code| serde_json::Map::from_iter([("error".into(), code.into())]));
            let reported =
                answer.as_ref().and_then(|answer| ReportedError::of(http::StatusCode::BAD_REQUEST, [answer]));
            let advice = judge(grant, http::StatusCode::from_u16(status).unwrap(), reported.as_ref()).advice;
            let named: Vec<_> = [Part::Client, Part::User, Part::RefreshToken]
                .into_iter()
                .filter(|part| advice.contains(part.word()))
                .collect();
            assert_eq!(named, Vec::from_iter(expected), "{grant:?} {status} {code:?}: {advice}");
        }
    }
}
