//! White space at an end of what was sent: a mounted file, a variable or `echo … | base64` brings it along, and nobody sees it. It may be
//! meant, so it is sent, and only named where a refusal may be about it. Pure.

/// What begins or ends with white space, and what of it to say. Never the value itself.
#[derive(Default)]
pub(crate) struct Blanks(Vec<(Part, String)>);

/// What a refusal may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Client,
    User,
    RefreshToken,
}

impl Blanks {
    /// Looks at a value that is sent; `name` is what people call it.
    pub(crate) fn look(&mut self, part: Part, name: &str, value: &str) {
        let (begins, ends) = (value.chars().next().and_then(blank), value.chars().next_back().and_then(blank));
        let how = match (begins, ends) {
            (None, None) => return,
            (Some(begins), None) => format!("begins with {begins}"),
            (None, Some(ends)) => format!("ends with {ends}"),
            (Some(begins), Some(ends)) if begins == ends => format!("begins and ends with {begins}"),
            (Some(begins), Some(ends)) => format!("begins with {begins} and ends with {ends}"),
        };
        self.0.push((part, format!("the {name} {how}: is that meant?")));
    }

    /// This advice, and what belongs beside it. Advice names what it is about, so no row of it can forget this.
    pub(crate) fn beside(&self, advice: &str) -> String {
        let is_about = |part: Part| advice.contains(part.named());
        self.0
            .iter()
            .filter(|(part, _)| is_about(*part))
            .fold(advice.to_owned(), |said, (_, blank)| said + "; " + blank)
    }
}

impl Part {
    /// As advice calls it.
    fn named(self) -> &'static str {
        match self {
            Self::Client => "secret",
            Self::User => "password",
            Self::RefreshToken => "refresh token",
        }
    }
}

/// What a character is, if it is white space.
pub(crate) fn blank(c: char) -> Option<&'static str> {
    match c {
        '\n' | '\r' => Some("a line end"),
        // Editors on Windows begin a file of UTF-8 with it.
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

    /// The advice is written in `refusal`, in words that this has to find.
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
            let said = answer.as_ref().and_then(|answer| ReportedError::of(http::StatusCode::BAD_REQUEST, [answer]));
            let advice = judge(grant, http::StatusCode::from_u16(status).unwrap(), said.as_ref()).advice;
            let named: Vec<_> = [Part::Client, Part::User, Part::RefreshToken]
                .into_iter()
                .filter(|part| advice.contains(part.named()))
                .collect();
            assert_eq!(named, Vec::from_iter(expected), "{grant:?} {status} {code:?}: {advice}");
        }
    }
}
