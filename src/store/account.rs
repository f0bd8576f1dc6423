//! Whose tokens are kept, and what a client proves itself with.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whose tokens are kept in a store: the authorization server, the client, and the user (the *subject*) for whom it acts. A store
/// hands tokens only to the account that stored them.
///
/// [`TokenEndpoint::account`](crate::oauth2::TokenEndpoint::account) makes one of a token endpoint. It has no subject yet: say
/// [`for_client`](Self::for_client) where the client acts for itself, or whose tokens these are with [`subject`](Self::subject).
///
/// What may change without ending an authorization is no part of it: the client's secret, the path and the query of the token
/// endpoint, scope and parameters. [`asking`](Self::asking) names what of that the access tokens are for.
///
/// ```
/// use tower_bearer::oauth2::TokenEndpoint;
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let anna = endpoint.account().subject("anna").asking("read");
/// let ben = endpoint.account().subject("ben").asking("read");
/// assert_ne!(anna.id(), ben.id());
///
/// let moved = TokenEndpoint::new("https://id.example.com/v2/token")?.client_secret_basic("id", "another secret");
/// assert_eq!(anna.id(), moved.account().subject("anna").asking("write").id());
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    owner: Owner,
    /// Hashed: parameters may hold secrets.
    asks: Sha256Hex,
}

/// What of an account is stored, in words that people can compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owner {
    pub(crate) server: String,
    pub(crate) client: String,
    pub(crate) subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// Nobody has said.
    Unknown,
    /// The client itself.
    Client,
    User(String),
}

type Sha256Hex = String;

impl Account {
    /// The account of a client at an authorization server: its issuer, or another name that no other server has.
    pub fn new(server: impl Into<String>, client: impl Into<String>) -> Self {
        let owner = Owner { server: server.into(), client: client.into(), subject: Subject::Unknown };
        Self { owner, asks: String::new() }
    }

    /// Whose tokens these are: the user's id in your application, or whatever else tells those apart for whom this client acts.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.owner.subject = Subject::User(subject.into());
        self
    }

    /// The client acts for itself (RFC 6749 §4.4).
    #[must_use]
    pub fn for_client(mut self) -> Self {
        self.owner.subject = Subject::Client;
        self
    }

    /// One more thing that access tokens are asked for: a scope, a resource, a parameter. An access token that was asked for with others
    /// is not used; the refresh token of the account is. The order matters.
    #[must_use]
    pub fn asking(mut self, part: impl AsRef<[u8]>) -> Self {
        self.asks = chain(&self.asks, part.as_ref());
        self
    }

    /// As a part of keys and file names: 32 hexadecimal digits. Of clients that act for themselves, whose tokens can always be fetched
    /// again, another one for each scope and parameter.
    #[must_use]
    pub fn id(&self) -> String {
        let Owner { server, client, subject } = &self.owner;
        let id = chain(&chain("", server.as_bytes()), client.as_bytes());
        let mut id = match subject {
            Subject::Unknown => id,
            Subject::Client => chain(&id, self.asks.as_bytes()),
            Subject::User(subject) => chain(&chain(&id, b"user"), subject.as_bytes()),
        };
        // Half of a SHA-256 is enough to tell them apart, and keys stay short.
        id.truncate(32);
        id
    }

    /// A parameter, which may name a tenant.
    pub(crate) fn with_param(mut self, name: &str, value: &str) -> Self {
        self.owner.server += &tenant(name, value);
        self.asking(name).asking(value)
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(crate) fn asks(&self) -> &str {
        &self.asks
    }

    /// Whether somebody has said whose tokens these are.
    pub(crate) fn is_known(&self) -> bool {
        self.owner.subject != Subject::Unknown
    }
}

impl Owner {
    /// Whether both are about the same user, as far as that is known. Server and client may have changed.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        self.subject == other.subject || [self, other].iter().any(|owner| owner.subject == Subject::Unknown)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client `{}` at {}", self.client, self.server)?;
        match &self.subject {
            Subject::Unknown => Ok(()),
            Subject::Client => f.write_str(", for itself"),
            Subject::User(subject) => write!(f, ", for `{subject}`"),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.id()).finish()
    }
}

/// What is added to a server's name for a parameter of a token request or of a URL that says which tenant, or which of the server's users,
/// it is about; nothing for others. The value is hashed: nobody knows what it holds.
pub(crate) fn tenant(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // `p` is a policy of Azure AD B2C, `hd` a domain of Google's, `resource` that of RFC 8707. Whatever has an id is somebody.
    let names_somebody = has(&TENANTS)
        || lower.ends_with("_id")
        || name.ends_with("Id")
        || ["p", "hd", "tid", "resource"].contains(&&*lower);
    match names_somebody && !has(&SECRETS) {
        true => format!("?{name}={}", &chain("", value.as_bytes())[..16]),
        false => String::new(),
    }
}

/// What is changed without a change of the account.
const SECRETS: [&str; 5] = ["key", "secret", "token", "pass", "code"];

/// Whatever servers call those whose tokens must not be mixed up. A word too many costs a question, one too few a leak.
const TENANTS: [&str; 29] = [
    "tenant",
    "realm",
    "organi",
    "org",
    "account",
    "customer",
    "workspace",
    "domain",
    "subject",
    "user",
    "login",
    "company",
    "site",
    "team",
    "entity",
    "directory",
    "instance",
    "installation",
    "enterprise",
    "project",
    "shop",
    "member",
    "merchant",
    "practice",
    "location",
    "branch",
    "database",
    "namespace",
    "environment",
];

/// What a client proves itself with, hashed: its authentication method and secret, a person's password. What was refused with one is
/// tried once more with another.
///
/// [`TokenEndpoint::credentials`](crate::oauth2::TokenEndpoint::credentials) has those of a client.
///
/// ```
/// use tower_bearer::oauth2::TokenEndpoint;
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?;
/// let before = endpoint.clone().client_secret_basic("id", "old secret").credentials();
/// assert_ne!(before, endpoint.client_secret_basic("id", "new secret").credentials());
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Sha256Hex);

impl Credentials {
    /// Of this.
    pub fn of(part: impl AsRef<[u8]>) -> Self {
        Self(chain("", part.as_ref()))
    }

    /// And of this. The order matters.
    #[must_use]
    pub fn with(self, part: impl AsRef<[u8]>) -> Self {
        Self(chain(&self.0, part.as_ref()))
    }

    /// What is stored of it: enough to tell another password from the same one (two in a million look alike), and too little to
    /// find out which one it is.
    pub(crate) fn mark(&self, salt: &str) -> String {
        let mut mark = chain(&chain("", salt.as_bytes()), self.0.as_bytes());
        mark.truncate(5);
        mark
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What was hashed before is of fixed length: whatever the parts are, no two lists of them are the same bytes.
fn chain(before: &str, part: &[u8]) -> Sha256Hex {
    hex(Sha256::new().chain_update(hex(Sha256::digest(before))).chain_update(part).finalize())
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
        text
    })
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account::new("https://id.test", "app")
    }

    #[test]
    fn accounts_are_told_apart_by_server_client_and_subject() {
        let ids = [
            account().subject("a"),
            account().subject("b"),
            account().for_client(),
            account(),
            account().subject(""),
            Account::new("https://other.test", "app").subject("a"),
            Account::new("https://id.test", "other").subject("a"),
            Account::new("https://id.testapp", "").subject("a"),
            Account::new("https://id.test", "appuser").subject("a"),
        ]
        .map(|account| account.id());
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 32);
            assert!(!ids[..at].contains(id), "{at}");
        }
    }

    #[test]
    fn what_is_asked_for_is_no_part_of_a_users_account() {
        let (one, other) = (account().asking("ab").asking("c"), account().asking("a").asking("bc"));
        assert_ne!(one.asks(), other.asks());
        assert_eq!(one.clone().subject("a").id(), other.clone().subject("a").id());
        assert_ne!(one.for_client().id(), other.for_client().id());
    }

    #[test]
    fn a_mark_differs_by_secret_and_salt_and_says_little() {
        let (one, other) = (Credentials::of("basic").with("secret"), Credentials::of("basic").with("another"));
        assert_ne!(one.mark("salt"), other.mark("salt"));
        assert_ne!(one.mark("salt"), one.mark("pepper"));
        assert_eq!(one.mark("salt").len(), 5);
        assert!(!format!("{one:?}").contains(&one.0[..5]));
    }
}
