//! The secrets that a request carries: what an error about its response must not show.

use http::Uri;

use super::{Form, TokenEndpoint, address, client_auth::ClientAuth};
use crate::oauth2::masking::{
    Masks,
    white_space::{Part, WhiteSpace},
};

impl TokenEndpoint {
    /// Masks what a request carries: `sent`, the client's id and secret, and the values in the query of its URL.
    pub(crate) fn masks<'a>(&self, to: &Uri, sent: impl Iterator<Item = &'a str>) -> Masks {
        let mut secrets = self.client.secrets();
        secrets.extend(address::query_values(to));
        secrets.extend(sent.map(|value| value.to_owned().into()));
        Masks::new(secrets.iter().map(|secret| secret.as_str()))
            .with_words(self.client.id_like_a_word().iter().map(|id| id.as_str()))
    }

    /// White space at an end of what the client and this form send.
    pub(crate) fn white_space(&self, form: &Form) -> WhiteSpace {
        white_space(&self.client, form)
    }
}

fn white_space(client: &ClientAuth, form: &Form) -> WhiteSpace {
    let mut notes = WhiteSpace::default();
    client.for_each_part(|name, value| notes.add(Part::Client, name, value));
    for (field, part, name) in [
        ("username", Part::User, "user name"),
        ("password", Part::User, "password"),
        ("refresh_token", Part::RefreshToken, "refresh token"),
    ] {
        form.values(field).for_each(|value| notes.add(part, name, value));
    }
    notes
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::{super::client_auth::Client, *};

    fn client(id: &str, secret: &str) -> Client {
        Client { id: id.into(), secret: secret.into() }
    }

    fn said(client: &ClientAuth, form: Form, advice: &str) -> String {
        white_space(client, &form).add_to(advice)
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
            || Form::grant("any").param("username", "ann ").param("password", "p\n").param("refresh_token", "r\n");
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
}
