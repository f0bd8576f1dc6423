//! Client authentication (RFC 6749 §2.3).

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::Form;
use crate::store::{Account, Credentials};

/// A method of client authentication, with the client's credentials.
#[derive(Clone)]
pub(crate) enum ClientAuth {
    /// None was chosen.
    Unset,
    /// HTTP Basic, id and secret form-encoded first (RFC 6749 §2.3.1).
    Basic(Client),
    /// HTTP Basic, id and secret not encoded. Many servers expect this, against the RFC.
    BasicRaw(Client),
    /// HTTP Basic with a value that the provider has encoded.
    BasicValue(SecretString),
    /// `client_id` and `client_secret` in the form.
    Post(Client),
    /// A public client: `client_id` alone in the form.
    Public { id: String },
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: SecretString,
}

/// A form and a header with the client's authentication.
pub(crate) struct Authenticated {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) form: Form,
}

impl ClientAuth {
    /// Adds the client's authentication to a form.
    ///
    /// # Errors
    /// Why that isn't possible, and what to do about it.
    pub(crate) fn authenticate(&self, form: Form) -> Result<Authenticated, &'static str> {
        let in_header = |value: Result<HeaderValue, &'static str>, form| {
            value.map(|value| Authenticated { authorization: Some(value), form })
        };
        match self {
            Self::Unset => {
                Err("no client authentication was chosen: call `client_secret_basic` or one of the methods beside it")
            }
            Self::BasicValue(value) => in_header(basic_of_value(value.expose_secret()), form),
            _ if self.id().is_empty() => Err("the client id is empty: is a setting missing?"),
            Self::Basic(client) => in_header(basic(&encode(&client.id), &encode(client.secret.expose_secret())), form),
            Self::BasicRaw(client) if client.id.contains(':') => {
                Err("a client id with a colon can't be sent in HTTP Basic as it is: call `client_secret_basic`")
            }
            Self::BasicRaw(client) => in_header(basic(&client.id, client.secret.expose_secret()), form),
            Self::Post(client) => {
                let form = form.param("client_id", &client.id).param("client_secret", client.secret.expose_secret());
                Ok(Authenticated { authorization: None, form })
            }
            Self::Public { id } => Ok(Authenticated { authorization: None, form: form.param("client_id", id) }),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Unset | Self::BasicValue(_) => "",
            Self::Basic(client) | Self::BasicRaw(client) | Self::Post(client) => &client.id,
            Self::Public { id } => id,
        }
    }

    /// The client's id, if it is known. It may have to be decoded from a Basic value.
    pub(crate) fn known_id(&self) -> Option<String> {
        match self {
            Self::BasicValue(value) => {
                let pair = pair(encoded(value.expose_secret()))?;
                // RFC 7617 §2: the first colon ends the id. The secret may be in any encoding.
                let id = &pair[..pair.iter().position(|byte| *byte == b':')?];
                String::from_utf8(id.to_owned()).ok()
            }
            other => Some(other.id().to_owned()).filter(|id| !id.is_empty()),
        }
    }

    /// A name for the client in an account: its id, or a hash of the Basic value that has none.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::BasicValue(value) => {
                self.known_id().unwrap_or_else(|| Account::new("", encoded(value.expose_secret())).id())
            }
            other => other.id().to_owned(),
        }
    }

    /// A hash of the method, the id and the secret.
    pub(crate) fn credentials(&self) -> Credentials {
        let of = |method: &str, client: &Client| {
            Credentials::of(method).with(&client.id).with(client.secret.expose_secret())
        };
        match self {
            Self::Unset => Credentials::of("unset"),
            Self::Basic(client) => of("client_secret_basic", client),
            Self::BasicRaw(client) => of("client_secret_basic_raw", client),
            Self::BasicValue(value) => Credentials::of("client_basic_value").with(encoded(value.expose_secret())),
            Self::Post(client) => of("client_secret_post", client),
            Self::Public { id } => Credentials::of("public_client").with(id),
        }
    }

    /// Calls `look` with the id and the secret: a name for people, and the value.
    pub(crate) fn for_each_part(&self, mut look: impl FnMut(&str, &str)) {
        match self {
            Self::Unset => {}
            Self::BasicValue(value) => {
                let Some(pair) = pair(encoded(value.expose_secret())) else { return };
                // RFC 7617 §2: the first colon ends the id. A value that isn't text is passed over.
                let Some((id, secret)) = std::str::from_utf8(&pair).ok().and_then(|pair| pair.split_once(':')) else {
                    return;
                };
                look("client id in the Basic value", id);
                look("client secret in the Basic value", secret);
            }
            Self::Basic(client) | Self::BasicRaw(client) | Self::Post(client) => {
                look("client id", &client.id);
                look("client secret", client.secret.expose_secret());
            }
            Self::Public { id } => look("client id", id),
        }
    }

    /// The id, if it consists of letters and isn't the secret as well. Such an id may be a part of other words (`client` in
    /// `invalid_client`), so it is masked only where it stands alone.
    pub(crate) fn id_like_a_word(&self) -> Option<Zeroizing<String>> {
        let id = Zeroizing::new(self.known_id()?);
        let is_word = id.trim().bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_.".contains(&byte));
        let mut is_secret = false;
        self.for_each_part(|name, value| is_secret |= name.starts_with("client secret") && value == *id);
        (is_word && !is_secret).then_some(id)
    }

    /// Everything that an error must not show: the id, the secret, and their encoded forms.
    pub(crate) fn secrets(&self) -> Vec<Zeroizing<String>> {
        match self {
            Self::Unset => Vec::new(),
            Self::BasicValue(value) => {
                let encoded = encoded(value.expose_secret());
                let pair = pair(encoded).map(|pair| Zeroizing::new(String::from_utf8_lossy(&pair).into_owned()));
                let parts = pair.iter().flat_map(|pair| pair.split(':')).map(|part| part.to_owned().into());
                parts.chain([encoded.to_owned().into()]).collect()
            }
            Self::Public { id } => vec![id.clone().into()],
            Self::Basic(client) | Self::BasicRaw(client) | Self::Post(client) => {
                let (id, secret) = (&client.id, client.secret.expose_secret());
                // HTTP Basic encodes the form-encoded values once more.
                let (form_id, form_secret) = (encode(id), encode(secret));
                let pairs = [format!("{id}:{secret}"), format!("{}:{}", *form_id, *form_secret)];
                let mut sent =
                    vec![Zeroizing::new(id.clone()), Zeroizing::new(secret.to_owned()), form_id, form_secret];
                sent.extend(pairs.map(Zeroizing::new));
                sent
            }
        }
    }
}

/// RFC 7617 §2.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, &'static str> {
    let pair = Zeroizing::new(format!("{id}:{secret}"));
    let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| "the client's credentials don't fit into a header")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header with a value that the provider has encoded.
fn basic_of_value(value: &str) -> Result<HeaderValue, &'static str> {
    let encoded = encoded(value);
    if encoded.is_empty() {
        return Err("the Basic value is empty: is a setting missing?");
    }
    let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Basic {encoded}")))
        .map_err(|_| "the Basic value doesn't fit into a header: is it the encoded one?")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The value without the word `Basic`, which people may have pasted as well.
fn encoded(value: &str) -> &str {
    match value.trim().split_once(char::is_whitespace) {
        Some((word, rest)) if word.eq_ignore_ascii_case("basic") => rest.trim_start(),
        _ if value.trim().eq_ignore_ascii_case("basic") => "",
        _ => value.trim(),
    }
}

/// Decodes a Basic value to `id:secret`. Lenient, because some providers leave out the padding (RFC 4648 §3.2) or take the alphabet for
/// URLs (§5). The value itself is sent unchanged.
fn pair(encoded: &str) -> Option<Zeroizing<Vec<u8>>> {
    let standard = |byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let encoded: Zeroizing<Vec<u8>> = Zeroizing::new(encoded.bytes().map(standard).collect());
    LENIENT.decode(&*encoded).ok().map(Zeroizing::new)
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// RFC 6749 §2.3.1 and appendix B.
fn encode(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, secret: &str) -> Client {
        Client { id: id.into(), secret: secret.into() }
    }

    fn decoded(auth: &ClientAuth) -> String {
        let authenticated = auth.authenticate(Form::grant("g")).unwrap_or_else(|why| panic!("{why}"));
        let value = authenticated.authorization.unwrap();
        assert!(value.is_sensitive());
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn basic_encodes_first_and_raw_does_not() {
        assert_eq!(decoded(&ClientAuth::Basic(client("a:b c", "p%+/=&ü"))), "a%3Ab+c:p%25%2B%2F%3D%26%C3%BC");
        assert_eq!(decoded(&ClientAuth::BasicRaw(client("a b", "p:%+/=&"))), "a b:p:%+/=&");
        // Most ids and secrets are the same either way.
        assert_eq!(decoded(&ClientAuth::Basic(client("my-client_1.x", "S3cr3t"))), "my-client_1.x:S3cr3t");
    }

    #[test]
    fn form_fields() {
        let values = |auth: ClientAuth| {
            let authenticated = auth.authenticate(Form::empty()).unwrap_or_else(|why| panic!("{why}"));
            (format!("{:?}", authenticated.form), authenticated.form.secrets().map(str::to_owned).collect::<Vec<_>>())
        };
        let (names, sent) = values(ClientAuth::Post(client("id", "a&b")));
        assert_eq!(
            (names.as_str(), sent),
            (r#"Form(["client_id", "client_secret"])"#, vec!["id".into(), "a&b".into()])
        );
        let (names, sent) = values(ClientAuth::Public { id: "id".into() });
        assert_eq!((names.as_str(), sent), (r#"Form(["client_id"])"#, vec!["id".into()]));
    }

    #[test]
    fn a_ready_made_value_is_sent_as_it_is() {
        for value in ["aWQ6c2VjcmV0", " aWQ6c2VjcmV0\n", "Basic aWQ6c2VjcmV0", "basic  aWQ6c2VjcmV0"] {
            assert_eq!(decoded(&ClientAuth::BasicValue(value.into())), "id:secret", "{value:?}");
        }
        let sent = ClientAuth::BasicValue("aWQ6c2VjcmV0".into()).secrets();
        assert!(["id", "secret", "aWQ6c2VjcmV0"].iter().all(|part| sent.iter().any(|sent| sent.as_str() == *part)));
    }

    #[test]
    fn a_ready_made_value_is_read_however_it_was_encoded() {
        // "idé:s>c?r" with and without padding, in both alphabets.
        for value in ["aWTDqTpzPmM/cg==", "aWTDqTpzPmM/cg", "Basic aWTDqTpzPmM_cg", "aWTDqTpzPmM_cg=="] {
            let auth = ClientAuth::BasicValue(value.into());
            assert_eq!(auth.known_id().as_deref(), Some("idé"), "{value}");
            assert_eq!(auth.identity(), "idé", "{value}");
            let sent = auth.secrets();
            for part in ["idé", "s>c?r"] {
                assert!(sent.iter().any(|sent| sent.as_str() == part), "{part} of {value}");
            }
        }
        // The secret needn't be text.
        let auth = ClientAuth::BasicValue(BASE64_STANDARD.encode(b"id:\xff").into());
        assert_eq!(auth.known_id().as_deref(), Some("id"));
        for value in ["", "opaque", "b3BhcXVl", "id:secret", "a"] {
            assert_eq!(ClientAuth::BasicValue(value.into()).known_id(), None, "{value}");
        }
    }

    #[test]
    fn whatever_is_sent_is_known_as_a_secret() {
        for value in ["Basic aWQ6c2VjcmV0", " aWQ6c2VjcmV0\n", "basic  aWQ6c2VjcmV0"] {
            let sent = ClientAuth::BasicValue(value.into()).secrets();
            for part in ["id", "secret", "aWQ6c2VjcmV0"] {
                assert!(sent.iter().any(|sent| sent.as_str() == part), "{part} of {value:?}");
            }
        }
        // What Basic encodes are the encoded id and secret.
        let sent = ClientAuth::Basic(client("a", "p+q")).secrets();
        assert!(sent.iter().any(|sent| sent.as_str() == "a:p%2Bq"));
    }

    #[test]
    fn an_id_of_letters_is_a_word_if_it_is_no_secret() {
        for (id, secret, is_word) in [
            ("client", "s", true),
            ("my-client", "s", true),
            ("client\n", "s", true),
            ("client-7", "s", false),
            ("k9xv:q2zw", "s", false),
            ("client", "client", false),
        ] {
            let client = client(id, secret);
            assert_eq!(ClientAuth::Post(client).id_like_a_word().is_some(), is_word, "{id} {secret}");
        }
        assert!(ClientAuth::Unset.id_like_a_word().is_none());
    }

    #[test]
    fn what_cannot_work_says_what_to_do() {
        for (auth, hint) in [
            (ClientAuth::Unset, "client_secret_basic"),
            (ClientAuth::Basic(client("", "marked")), "empty"),
            (ClientAuth::Post(client("", "marked")), "empty"),
            (ClientAuth::Public { id: String::new() }, "empty"),
            (ClientAuth::BasicRaw(client("a:b", "marked")), "colon"),
            (ClientAuth::BasicValue("Basic ".into()), "empty"),
            (ClientAuth::BasicValue("mar\nked".into()), "header"),
        ] {
            let Err(why) = auth.authenticate(Form::grant("g")) else { panic!("no error about {hint}") };
            assert!(why.contains(hint), "{why}");
        }
    }
}
