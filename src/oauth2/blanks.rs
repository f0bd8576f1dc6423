//! White space at an end of what was sent: a mounted file, a variable or `echo … | base64` brings it along, and nobody sees it. It may be
//! meant, so it is sent, and only named where a refusal may be about it. Pure.

use super::{Form, client_auth::ClientAuth};

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
    /// Of what a client proves itself with, and what a form holds.
    pub(crate) fn of(client: &ClientAuth, form: &Form) -> Self {
        let mut blanks = Self::default();
        client.look_at_parts(|name, value| blanks.look(Part::Client, name, value));
        for (field, part, name) in [
            ("username", Part::User, "user name"),
            ("password", Part::User, "password"),
            ("refresh_token", Part::RefreshToken, "refresh token"),
        ] {
            form.values(field).for_each(|value| blanks.look(part, name, value));
        }
        blanks
    }

    fn look(&mut self, part: Part, name: &str, value: &str) {
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
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::{
        super::{
            client_auth::Client,
            refusal::{GrantKind, judge},
            said::Said,
        },
        *,
    };

    fn client(id: &str, secret: &str) -> Client {
        Client { id: id.into(), secret: secret.into() }
    }

    fn said(client: &ClientAuth, form: Form, advice: &str) -> String {
        Blanks::of(client, &form).beside(advice)
    }

    #[test]
    fn what_begins_or_ends_with_white_space_is_named_and_never_shown() {
        let none = || Form::grant("client_credentials");
        let value = |pair: &str| ClientAuth::BasicValue(BASE64_STANDARD.encode(pair).into());
        for (client, expected) in [
            (ClientAuth::Basic(client("id", "marked\n")), "; the client secret ends with a line end: is that meant?"),
            (
                ClientAuth::BasicRaw(client("id", "marked\r\n")),
                "; the client secret ends with a line end: is that meant?",
            ),
            (ClientAuth::Post(client("id", " marked")), "; the client secret begins with a blank: is that meant?"),
            (
                ClientAuth::Post(client("id", "\tmarked ")),
                "; the client secret begins and ends with a blank: is that meant?",
            ),
            (
                ClientAuth::Post(client("id", "\u{feff}marked\n")),
                "; the client secret begins with a byte order mark and ends with a line end: is that meant?",
            ),
            (
                ClientAuth::Basic(client("id ", "marked\n")),
                "; the client id ends with a blank: is that meant?; the client secret ends with a line end: is that meant?",
            ),
            (ClientAuth::Public { id: "id\n".into() }, "; the client id ends with a line end: is that meant?"),
            // `echo id:secret | base64`
            (value("id:marked\n"), "; the client secret in the Basic value ends with a line end: is that meant?"),
            (value(" id:marked"), "; the client id in the Basic value begins with a blank: is that meant?"),
            // What stands around the value isn't sent.
            (ClientAuth::BasicValue(" aWQ6c2VjcmV0\n".into()), ""),
            (ClientAuth::BasicValue("opaque\n".into()), ""),
            (ClientAuth::Basic(client("id", "mar ked")), ""),
            (ClientAuth::Unset, ""),
        ] {
            let advice = "check client id and secret";
            assert_eq!(said(&client, none(), advice), format!("{advice}{expected}"));
        }
    }

    #[test]
    fn only_advice_about_it_names_it() {
        let client = ClientAuth::Basic(client("id", "s\n"));
        let form =
            || Form::grant("any").field("username", "ann ").field("password", "p\n").field("refresh_token", "r\n");
        let about = |advice| {
            let said = said(&client, form(), advice);
            ["client secret", "user name", "password", "refresh token"]
                .map(|name| said.contains(&format!("the {name} ends")))
        };
        assert_eq!(about("check client id and secret"), [true, false, false, false]);
        assert_eq!(about("check user name and password"), [false, true, true, false]);
        assert_eq!(about("the refresh token has expired"), [false, false, false, true]);
        assert_eq!(about("it has trouble"), [false; 4]);
    }

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
            let said = answer.as_ref().and_then(|answer| Said::of(http::StatusCode::BAD_REQUEST, [answer]));
            let advice = judge(grant, http::StatusCode::from_u16(status).unwrap(), said.as_ref()).advice;
            let named: Vec<_> = [Part::Client, Part::User, Part::RefreshToken]
                .into_iter()
                .filter(|part| advice.contains(part.named()))
                .collect();
            assert_eq!(named, Vec::from_iter(expected), "{grant:?} {status} {code:?}: {advice}");
        }
    }
}
