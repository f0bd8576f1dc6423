//! Whose tokens a store keeps, and hashes of the client's credentials.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whose tokens a store keeps: the authorization server, the client, and the user (the *subject*) for whom the client acts. A store returns
/// tokens only to the account that stored them.
///
/// [`TokenEndpoint::account`](crate::oauth2::TokenEndpoint::account) makes one for a token endpoint. It has no subject yet: call
/// [`subject`](Self::subject), or [`for_client`](Self::for_client) if the client acts for itself.
///
/// It leaves out what may change during an authorization: the client's secret, the endpoint's path and query, the scope and the parameters.
/// [`asking`](Self::asking) adds what access tokens are asked for, so that one for another scope isn't used.
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
    /// What access tokens are asked for. Hashed, because parameters may hold secrets.
    asks: Sha256Hex,
}

/// The part of an account that is stored as text, so that people can compare it.
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
    /// Not set.
    Unknown,
    /// The client itself.
    Client,
    User(String),
}

type Sha256Hex = String;

impl Account {
    /// The account of a client at an authorization server. `server`: its issuer, or another unique name.
    pub fn new(server: impl Into<String>, client: impl Into<String>) -> Self {
        let owner = Owner { server: server.into(), client: client.into(), subject: Subject::Unknown };
        Self { owner, asks: String::new() }
    }

    /// Whose tokens these are: the user's id in your application, or another name that no other user of this client has.
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

    /// Adds something that access tokens are asked for: a scope, a resource, a parameter. The order matters. A stored access token for
    /// anything else isn't used; the refresh token of the account is.
    #[must_use]
    pub fn asking(mut self, part: impl AsRef<[u8]>) -> Self {
        self.asks = chain(&self.asks, part.as_ref());
        self
    }

    /// An id for keys and file names: 32 hexadecimal digits. For a client that acts for itself, it differs for each scope and parameter,
    /// because such tokens can always be fetched again.
    #[must_use]
    pub fn id(&self) -> String {
        let Owner { server, client, subject } = &self.owner;
        let id = chain(&chain("", server.as_bytes()), client.as_bytes());
        let mut id = match subject {
            Subject::Unknown => id,
            Subject::Client => chain(&id, self.asks.as_bytes()),
            Subject::User(subject) => chain(&chain(&id, b"user"), subject.as_bytes()),
        };
        // Half of a SHA-256 is still unique, and keeps keys short.
        id.truncate(32);
        id
    }

    /// A hash of whose tokens these are, whatever they are asked for.
    #[cfg(feature = "sealed")]
    pub(crate) fn owner_hash(&self) -> String {
        let Owner { server, client, subject } = &self.owner;
        let (kind, user) = match subject {
            Subject::Unknown => ("unknown", ""),
            Subject::Client => ("client", ""),
            Subject::User(user) => ("user", user.as_str()),
        };
        let mut hash =
            [server, client, kind, user].iter().fold(String::new(), |hash, part| chain(&hash, part.as_bytes()));
        hash.truncate(32);
        hash
    }

    /// Adds a parameter of the token request, which may name a tenant.
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

    /// Whether it is known whose tokens these are.
    pub(crate) fn is_known(&self) -> bool {
        self.owner.subject != Subject::Unknown
    }
}

impl Owner {
    /// Whether both may have the same user. Server and client may differ.
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

/// The addition to a server's name for a parameter that may name a tenant or a user; empty for other parameters. The value is hashed,
/// because it may be a secret.
pub(crate) fn tenant(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // `p` is a policy of Azure AD B2C, `hd` a domain at Google, `resource` that of RFC 8707. Any id may be a tenant's.
    let names_tenant = has(&TENANTS)
        || lower.ends_with("_id")
        || name.ends_with("Id")
        || ["p", "hd", "tid", "resource"].contains(&&*lower);
    match names_tenant && !has(&SECRETS) {
        true => format!("?{name}={}", &chain("", value.as_bytes())[..16]),
        false => String::new(),
    }
}

/// Words in the names of parameters that may change without a change of the account.
const SECRETS: [&str; 5] = ["key", "secret", "token", "pass", "code"];

/// Words for tenants and users in the names of parameters. A word too many costs a new login, a missing one could mix up users' tokens.
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

/// A hash of the credentials that an exchange uses: the client's authentication method and secret, a user's password. When they change
/// after a refusal, the exchange is tried once more.
///
/// [`TokenEndpoint::credentials`](crate::oauth2::TokenEndpoint::credentials) returns those of a client.
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
    /// The hash of this part.
    pub fn of(part: impl AsRef<[u8]>) -> Self {
        Self(chain("", part.as_ref()))
    }

    /// Adds a part. The order matters.
    #[must_use]
    pub fn with(self, part: impl AsRef<[u8]>) -> Self {
        Self(chain(&self.0, part.as_ref()))
    }

    /// A short mark to be stored. It tells whether credentials have changed (with an error of one in a million), and is too short to find
    /// out what they are.
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

/// Hashes a part onto the hash before it. That has a fixed length, so different lists of parts never make the same bytes.
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
