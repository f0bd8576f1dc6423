//! Where an answer has its members, if not where RFC 6749 §5.1 puts them.

use super::{TokenEndpoint, find, members::Members};

/// A member of a token endpoint's answer, for [`TokenEndpoint::answer_member`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerMember {
    /// `access_token` (RFC 6749 §5.1).
    AccessToken,
    /// `refresh_token` (RFC 6749 §5.1).
    RefreshToken,
    /// `token_type` (RFC 6749 §5.1).
    TokenType,
    /// `expires_in` (RFC 6749 §5.1): a time in seconds.
    ExpiresIn,
    /// `expires_at`, of no standard: a moment, in seconds or milliseconds since 1970. Read where there is no `expires_in`.
    ExpiresAt,
    /// `refresh_expires_in`, of no standard: the refresh token's time in seconds.
    RefreshExpiresIn,
    /// `scope` (RFC 6749 §5.1).
    Scope,
}

impl TokenEndpoint {
    /// Reads the token out of a member of the answer, for servers that wrap it: `{"code":0,"msg":"success","data":{"access_token":…}}`.
    /// A path of members is joined by dots: `response.data`. Default: the answer itself, as RFC 6749 §5.1 has it.
    ///
    /// An access token anywhere else is not taken. What the wrapper says of an error (`"code":20003,"msg":…`, with `"data":null`) is read
    /// as one, and so is an error within. Answers to [`verify`](Self::verify) are read in the same way, those to
    /// [`introspect`](Self::introspect) as RFC 7662 has them.
    ///
    /// ```
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_post("id", "secret").answer_in("data");
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn answer_in(mut self, path: &str) -> Self {
        let names = path.split('.').filter(|name| !name.is_empty());
        self.shape_mut().path = names.map(str::to_owned).collect();
        self
    }

    /// Reads a member of the answer under another name, and no longer under its own. Default: the names of RFC 6749 §5.1.
    ///
    /// ```
    /// use tower_bearer::oauth2::{AnswerMember, TokenEndpoint};
    ///
    /// // {"code":0,"data":{"token":"…","refreshToken":"…","expiresIn":"1794211200000"}}
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?
    ///     .client_secret_post("id", "secret")
    ///     .answer_in("data")
    ///     .answer_member(AnswerMember::AccessToken, "token")
    ///     .answer_member(AnswerMember::RefreshToken, "refreshToken")
    ///     .answer_member(AnswerMember::ExpiresAt, "expiresIn"); // a moment, whatever it is called
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn answer_member(mut self, member: AnswerMember, name: impl Into<String>) -> Self {
        let names = &mut self.shape_mut().names;
        names.retain(|(known, _)| *known != member);
        names.push((member, name.into()));
        self
    }
}

/// Where the members are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerShape {
    pub(super) path: Vec<String>,
    names: Vec<(AnswerMember, String)>,
}

impl AnswerShape {
    /// As RFC 6749 has it.
    pub(super) fn is_standard(&self) -> bool {
        *self == Self::default()
    }

    /// The name that RFC 6749 has for what a server calls so. `None` if that member has another name.
    pub(super) fn standard<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.names.iter().find(|(_, own)| own == name) {
            Some((member, _)) => Some(member.name()),
            None => self.names.iter().all(|(member, _)| member.name() != name).then_some(name),
        }
    }

    /// What the server calls it.
    pub(super) fn name_of(&self, member: AnswerMember) -> &str {
        self.names.iter().find(|(known, _)| *known == member).map_or(member.name(), |(_, own)| own)
    }

    /// The call that would make a token of an answer in which none was found: a hint for people.
    pub(super) fn that_fits(body: &[u8]) -> Option<String> {
        let path = |path: &str| if path.is_empty() { Vec::new() } else { vec![path.to_owned()] };
        let is_there = |name: &str| name.is_empty() || find::holds(body, name.as_bytes());
        let mut shapes = WRAPPERS.iter().flat_map(|wrapper| NAMES.iter().map(move |name| (*wrapper, *name)));
        let (wrapper, name) = shapes.find(|(wrapper, name)| {
            let shape = Self { path: path(wrapper), names: vec![(AnswerMember::AccessToken, (*name).to_owned())] };
            let members = || Members::of_json::<false>(&shape, body);
            is_there(wrapper) && is_there(name) && members().is_ok_and(|members| members.access_token.is_some())
        })?;
        let within = if wrapper.is_empty() { String::new() } else { format!(".answer_in(\"{wrapper}\")") };
        let called = match name {
            "access_token" => String::new(),
            name => format!(".answer_member(AnswerMember::AccessToken, \"{name}\")"),
        };
        Some(format!("`TokenEndpoint{within}{called}` reads one"))
    }
}

impl AnswerMember {
    fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::TokenType => "token_type",
            Self::ExpiresIn => "expires_in",
            Self::ExpiresAt => "expires_at",
            Self::RefreshExpiresIn => "refresh_expires_in",
            Self::Scope => "scope",
        }
    }
}

/// Where servers wrap, for a hint.
const WRAPPERS: [&str; 7] = ["", "data", "body", "result", "response", "payload", "content"];

const NAMES: [&str; 3] = ["access_token", "accessToken", "token"];
